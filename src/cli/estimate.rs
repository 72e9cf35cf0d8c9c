//! `plan --estimate`: what the stages will take, counted, and timed by a few seconds of trying this machine.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Value, json};

use super::devices;
use super::output::{self, Failure, note, table};
use super::rooms::Planned;
use crate::bench::{Rates, rates};
use crate::compute::DeviceName;
use crate::stage::estimate::{Amount, Estimate, Shape, Work, estimate};
use crate::stage::reason::Status;
use crate::store::Store;
use crate::units::duration;

/// The speed of a machine that is not at hand.
#[derive(Clone, Copy)]
pub(super) struct Tflops(Rates);

impl FromStr for Tflops {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<f64>> =
            text.split(',').map(|part| part.trim().parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0)).collect();
        match numbers.as_deref() {
            Some(&[trained, read, sampled]) => {
                Ok(Self(Rates { trained: trained * 1e12, read: read * 1e12, sampled: sampled * 1e12 }))
            }
            _ => Err(format!("expected three numbers above 0 as in `200,250,20`, found `{text}`")),
        }
    }
}

/// A stage's row, or that of a kind of stage.
#[derive(Clone, Copy, Default)]
struct Cost {
    stages: usize,
    work: Work,
    seconds: f64,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.stages += other.stages;
        self.work.read += other.work.read;
        self.work.trained += other.work.trained;
        self.work.sampled += other.work.sampled;
        self.work.memory = self.work.memory.max(other.work.memory);
        self.seconds += other.seconds;
    }
}

pub(super) fn print(
    planned: &Planned,
    statuses: &[Status],
    store: &Store,
    given: Option<Tflops>,
    each: bool,
    json: bool,
) -> Result<(), Failure> {
    let plan = &planned.plan;
    let estimates = estimate(plan, &planned.experiment, store).map_err(|error| usage(&error))?;
    let device = planned.experiment.points.first().map_or(DeviceName::Auto, |point| point.recipe.devices()[0]);
    let mut tried = Tried { device, given, rates: Vec::new() };
    let costs = estimates.iter().map(|estimate| tried.cost(estimate)).collect::<Result<Vec<Cost>, Failure>>()?;
    if json {
        let nodes = plan.nodes.iter().zip(statuses).zip(&costs);
        let rows = nodes.map(|((node, status), cost)| {
            let mut row = as_json(cost);
            row["label"] = node.label.clone().into();
            row["stage"] = json!(node.stage);
            row["key"] = json!(node.key);
            row["status"] = if is_run(status) { "run".into() } else { "cached".into() };
            row
        });
        let rates: Vec<&Rates> = tried.rates.iter().map(|(_, rates)| rates).collect();
        let document = json!({ "recipe": plan.recipe, "device": device.family().name(), "flops_per_second": rates, "nodes": rows.collect::<Vec<_>>() });
        return output::json(&document);
    }
    let (mut total, mut rows) = (Cost::default(), BTreeMap::<(usize, String), Cost>::new());
    for (i, ((node, status), cost)) in plan.nodes.iter().zip(statuses).zip(&costs).enumerate() {
        if is_run(status) {
            total.add(*cost);
            let kind = if each { (i, node.label.clone()) } else { (node.stage as usize, node.stage.to_string()) };
            rows.entry(kind).or_default().add(*cost);
        }
    }
    let rows: Vec<[String; 8]> = rows.iter().map(|((_, name), cost)| row(name, cost)).collect();
    let head = ["stage", "to run", "trained tokens", "read", "sampled", "TFLOP", "MiB", "time"];
    output::data(&table(&head, &rows))?;
    for (_, Rates { read, trained, sampled }) in &tried.rates {
        let [read, trained, sampled] = [read, trained, sampled].map(|rate| rate / 1e9);
        let on = if given.is_some() { "as given".to_owned() } else { format!("on `{}`", device.family()) };
        note(format!("{on}: {trained:.1} GFLOP/s in training, {read:.1} reading, {sampled:.1} sampling"));
    }
    note(format!(
        "{} to run: {:.3} TFLOP, about {} one after another",
        stages(total.stages),
        flops(&total.work) / 1e12,
        duration(total.seconds)
    ));
    Ok(())
}

fn usage(error: &anyhow::Error) -> Failure {
    Failure::usage(format!("{error:#}"))
}

fn stages(count: usize) -> String {
    if count == 1 { "1 stage".to_owned() } else { format!("{count} stages") }
}

const fn is_run(status: &Status) -> bool {
    matches!(status, Status::Run { .. })
}

fn flops(work: &Work) -> f64 {
    work.read.flops + work.trained.flops + work.sampled.flops
}

/// The networks whose speed is known.
struct Tried {
    device: DeviceName,
    given: Option<Tflops>,
    rates: Vec<(Shape, Rates)>,
}

impl Tried {
    fn cost(&mut self, estimate: &Estimate) -> Result<Cost, Failure> {
        let work = estimate.work;
        let Some(shape) = &estimate.shape else { return Ok(Cost { stages: 1, work, seconds: 0.0 }) };
        let Rates { read, trained, sampled } = self.rates(shape)?;
        let seconds = work.read.flops / read + work.trained.flops / trained + work.sampled.flops / sampled;
        Ok(Cost { stages: 1, work, seconds })
    }

    fn rates(&mut self, shape: &Shape) -> Result<Rates, Failure> {
        if let Some((_, rates)) = self.rates.iter().find(|(known, _)| known == shape) {
            return Ok(*rates);
        }
        let rates = if let Some(Tflops(rates)) = self.given {
            rates
        } else {
            note("measuring how fast this machine is: some seconds");
            devices::require(&[self.device]).map_err(|error| usage(&error))?;
            let device = self.device.open().map_err(|error| usage(&error))?;
            let threads = shape.shards.min(std::thread::available_parallelism().map_or(1, usize::from));
            rates(&shape.model, shape.vocab, shape.lengths, threads, shape.precision, &device)
        };
        self.rates.push((shape.clone(), rates));
        Ok(rates)
    }
}

fn row(name: &str, cost: &Cost) -> [String; 8] {
    let Work { read, trained, sampled, memory } = cost.work;
    let tokens = |amount: Amount| format!("{:.0}", amount.tokens);
    [
        name.to_owned(),
        cost.stages.to_string(),
        tokens(trained),
        tokens(read),
        tokens(sampled),
        format!("{:.3}", flops(&cost.work) / 1e12),
        format!("{:.0}", memory / f64::from(1 << 20)),
        duration(cost.seconds),
    ]
}

fn as_json(cost: &Cost) -> Value {
    let Work { read, trained, sampled, memory } = cost.work;
    json!({
        "read": read,
        "trained": trained,
        "sampled": sampled,
        "flops": flops(&cost.work),
        "memory_bytes": memory,
        "seconds": cost.seconds,
    })
}

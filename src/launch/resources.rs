//! What each node of a plan needs from a machine, and what a local run may use at once.
//!
//! Everything comes from the recipes as they are now, not as they were frozen: what a stage needs changes no result.

use anyhow::{Result, bail};

use crate::recipe::Experiment;
use crate::recipe::launch::{Config, Local, Resources};
use crate::stage::limits::{Limits, Load};
use crate::stage::node::{Demand, Node, Plan, Stage};
use crate::store::{Lookup, Store};
use crate::units::{Count, Memory};

/// What `node` needs, as the recipe of the first point says that it belongs to.
///
/// # Panics
/// When `node` is of another experiment's plan.
#[must_use]
pub fn resources(experiment: &Experiment, node: &Node) -> Resources {
    needs(&experiment.points[node.points[0]].recipe.launch, node.stage)
}

/// What stages of the kind `stage` need: their own entry, else the default entry, and what `[launch.slurm]` says for all.
#[must_use]
pub fn needs(launch: &Config, stage: Stage) -> Resources {
    let stages = &launch.stages;
    let own = match stage {
        Stage::Data => &stages.data,
        Stage::Tokenizer => &stages.tokenizer,
        Stage::Sft => &stages.sft,
        Stage::Preferences => &stages.preferences,
        Stage::Edits => &stages.edits,
        Stage::Labels => &stages.labels,
        Stage::Words => &stages.words,
        Stage::Spans => &stages.spans,
        Stage::Reward => &stages.reward,
        Stage::Ppo => &stages.ppo,
        Stage::Dpo => &stages.dpo,
        Stage::BestOfN => &stages.best_of_n,
        Stage::Responses => &stages.responses,
        Stage::Judgements => &stages.judgements,
        Stage::Opinions => &stages.opinions,
        Stage::Report => &stages.report,
    };
    let slurm = Resources { slurm: Some(launch.slurm.clone()), ..Resources::default() };
    own.clone().unwrap_or_default().or(stages.default.clone().unwrap_or_default()).or(slurm)
}

/// What a run of `plan` would do with each node, by a look at manifests and sizes.
#[must_use]
pub fn demand(plan: &Plan, store: &Store) -> Vec<Demand> {
    plan.demand(|index| {
        let node = &plan.nodes[index];
        matches!(store.find(node.stage.name(), &node.key), Lookup::Found(_))
    })
}

/// What holds back a local run of `plan`, where `own` (the command line) wins over the recipe's `[launch.local]`.
///
/// # Errors
/// When a stage that has to run needs more by itself than all stages may take together.
pub fn local_limits(experiment: &Experiment, plan: &Plan, store: &Store, own: Local, jobs: usize) -> Result<Limits> {
    let recipe = experiment.points.first().map(|point| point.recipe.launch.local.clone()).unwrap_or_default();
    let memory = own.memory.or(recipe.memory);
    let capacity = Load {
        cores: own.cores.or(recipe.cores).map_or(u64::MAX, |cores| cores.get() as u64),
        memory: memory.map_or(u64::MAX, |memory| memory.mebibytes()),
        devices: own.devices.or(recipe.devices).map_or(u64::MAX, |devices| devices as u64),
    };
    let loads: Vec<Load> = plan.nodes.iter().map(|node| load(&resources(experiment, node))).collect();
    for ((node, load), demand) in plan.nodes.iter().zip(&loads).zip(demand(plan, store)) {
        if demand == Demand::Run && !load.fits(capacity) {
            bail!("stage `{}` can never run: {}", node.label, excess(*load, capacity));
        }
    }
    let jobs = own.jobs.or(recipe.jobs).map_or(jobs, Count::get);
    Ok(Limits { jobs, loads, capacity, fail_fast: false })
}

fn load(resources: &Resources) -> Load {
    Load {
        cores: resources.cores.map_or(1, |cores| cores.get() as u64),
        memory: resources.memory.as_ref().map_or(0, Memory::mebibytes),
        devices: resources.devices.unwrap_or(0) as u64,
    }
}

fn excess(load: Load, capacity: Load) -> String {
    let kinds = [
        ("cores", "", load.cores, capacity.cores),
        ("memory", "M", load.memory, capacity.memory),
        ("devices", "", load.devices, capacity.devices),
    ];
    let beyond =
        kinds.into_iter().filter(|(_, _, needed, allowed)| needed > allowed).map(|(name, unit, needed, allowed)| {
            format!("it needs {needed}{unit} of `{name}`, and the limit of this run is {allowed}{unit}")
        });
    beyond.collect::<Vec<_>>().join("; ")
}

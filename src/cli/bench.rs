//! `runner bench`: the speed of the trainers on fixed work, as a table or as one line of JSON.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::devices;
use super::output::{self, Failure, note};
use crate::bench::{Bench, Measured, Part, Settings};
use crate::compute::{DeviceName, MOST_REPLICAS, Precision, peak_memory_bytes};
use crate::units::Count;

#[derive(Args)]
pub(super) struct BenchArgs {
    /// Model and amount of work; every other flag overrides one number of it
    #[arg(long, value_enum, default_value = "small")]
    size: Size,
    /// What to measure, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sft,rm,logprob,gen,ppo")]
    parts: Vec<PartName>,
    #[command(flatten)]
    overrides: Overrides,
    /// Threads, and shards of every batch
    #[arg(long, value_name = "N", default_value = "2", value_parser = threads)]
    threads: Count,
    /// Decides ids, weights and samples
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// As the recipe's `device`
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// As the recipe's `gradient_checkpointing`
    #[arg(long)]
    gradient_checkpointing: bool,
    /// As the recipe's `precision`
    #[arg(long, default_value_t)]
    precision: Precision,
    /// Write one line of JSON
    #[arg(long)]
    json: bool,
}

/// Numbers that replace those of the size.
#[derive(Args)]
struct Overrides {
    /// Decoder layers
    #[arg(long, value_parser = count)]
    layers: Option<Count>,
    /// Width of the residual stream
    #[arg(long, value_parser = count)]
    hidden: Option<Count>,
    /// Attention heads
    #[arg(long, value_parser = count)]
    heads: Option<Count>,
    /// Width of the SwiGLU layer
    #[arg(long, value_parser = count)]
    ff: Option<Count>,
    /// Ids
    #[arg(long, value_parser = count)]
    vocab: Option<Count>,
    /// Sequences, or pairs
    #[arg(long, value_parser = count)]
    batch: Option<Count>,
    /// Prompt tokens
    #[arg(long, value_parser = count)]
    prompt: Option<Count>,
    /// Sampled tokens
    #[arg(long, value_parser = count)]
    new: Option<Count>,
    /// PPO epochs
    #[arg(long, value_parser = count)]
    epochs: Option<Count>,
    /// PPO minibatches an epoch
    #[arg(long, value_parser = count)]
    minibatches: Option<Count>,
    /// Measured PPO iterations
    #[arg(long, value_parser = count)]
    iters: Option<Count>,
    /// Measured repetitions of every other part
    #[arg(long, value_parser = count)]
    reps: Option<Count>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Size {
    Tiny,
    Small,
    Medium,
    Large,
}

#[derive(Clone, Copy, ValueEnum)]
enum PartName {
    Matmul,
    Sft,
    Rm,
    Logprob,
    Gen,
    Ppo,
}

impl PartName {
    const fn part(self) -> (&'static str, Part) {
        match self {
            Self::Matmul => ("matmul", Part::Matmul),
            Self::Sft => ("sft", Part::Sft),
            Self::Rm => ("rm", Part::Rm),
            Self::Logprob => ("logprob", Part::Logprob),
            Self::Gen => ("gen", Part::Gen),
            Self::Ppo => ("ppo", Part::Ppo),
        }
    }
}

fn count(text: &str) -> Result<Count, String> {
    text.parse::<i64>().map_err(|_| format!("expected a whole number of at least 1, found `{text}`"))?.try_into()
}

/// No more than a recipe's `replicas`.
fn threads(text: &str) -> Result<Count, String> {
    let found = count(text)?;
    if found.get() > MOST_REPLICAS {
        return Err(format!("expected at most {MOST_REPLICAS} threads, found {}", found.get()));
    }
    Ok(found)
}

pub(super) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let settings = settings(args);
    let usage = |error: anyhow::Error| Failure::usage(format!("{error:#}"));
    devices::require(&[args.device]).map_err(usage)?;
    let device = args.device.open().map_err(usage)?;
    args.precision.require(args.device.family()).map_err(usage)?;
    let bench = Bench::new(settings.clone(), &device).map_err(usage)?;
    let bench = bench.recomputing(args.gradient_checkpointing).computing_in(args.precision);
    let mut measured = Vec::new();
    for (name, part) in args.parts.iter().map(|part| part.part()) {
        note(format!("measuring {name}"));
        measured.push((name, bench.measure(part)));
    }
    let memory = peak_memory_bytes();
    if args.json {
        let line = report(&settings, args.device, bench.parameters(), memory, &measured);
        return output::data(&line.to_string());
    }
    let mut rows: Vec<_> = measured.iter().map(|(name, measured)| row(name, measured)).collect();
    for (name, seconds) in measured.iter().flat_map(|(_, measured)| &measured.phases_s) {
        rows.push([format!("  {name}"), format!("{seconds:.4}"), String::new(), String::new(), String::new()]);
    }
    let memory = memory.map_or_else(String::new, |bytes| format!(", {} MiB at most", bytes >> 20));
    let threads = settings.threads.get();
    output::data(&format!(
        "{}\n{} parameters, {threads} threads{memory}",
        output::table(&["part", "median s", "fastest s", "tokens/s", "GFLOP/s"], &rows),
        bench.parameters(),
    ))
}

/// The sizes of the peers' table, with what the flags override.
fn settings(args: &BenchArgs) -> Settings {
    let (shape, [batch, new, minibatches, iters, reps]) = match args.size {
        Size::Tiny => ([2, 96, 4, 256, 512], [32, 64, 4, 3, 5]),
        Size::Small => ([4, 128, 4, 384, 512], [32, 64, 4, 3, 5]),
        Size::Medium => ([6, 256, 8, 704, 2048], [16, 64, 4, 2, 5]),
        Size::Large => ([8, 512, 8, 1408, 8192], [8, 32, 2, 2, 3]),
    };
    let [layers, hidden, heads, ff, vocab] = shape;
    let given = &args.overrides;
    let or = |given: Option<Count>, size: i64| given.unwrap_or_else(|| size.try_into().expect("at least one"));
    Settings {
        layers: or(given.layers, layers),
        hidden: or(given.hidden, hidden),
        heads: or(given.heads, heads),
        ff: or(given.ff, ff),
        vocab: or(given.vocab, vocab),
        batch: or(given.batch, batch),
        prompt: or(given.prompt, 32),
        new: or(given.new, new),
        epochs: or(given.epochs, 4),
        minibatches: or(given.minibatches, minibatches),
        iters: or(given.iters, iters),
        reps: or(given.reps, reps),
        threads: args.threads,
        seed: args.seed,
    }
}

fn report(
    settings: &Settings,
    device: DeviceName,
    parameters: usize,
    memory: Option<u64>,
    measured: &[(&'static str, Measured)],
) -> Value {
    let parts: Map<String, Value> =
        measured.iter().map(|(name, measured)| ((*name).to_owned(), json!(measured))).collect();
    json!({
        "bench": "runner",
        "version": env!("CARGO_PKG_VERSION"),
        "device": device.family().name(),
        "parameters": parameters,
        "peak_memory_bytes": memory,
        "settings": settings,
        "parts": parts,
    })
}

fn row(name: &str, measured: &Measured) -> [String; 5] {
    let Measured { median_s, min_s, tokens, tokens_per_s, flops, .. } = measured;
    let tokens = if *tokens == 0 { String::new() } else { format!("{tokens_per_s:.0}") };
    let rate = format!("{:.1}", flops / median_s / 1e9);
    [name.to_owned(), format!("{median_s:.4}"), format!("{min_s:.4}"), tokens, rate]
}

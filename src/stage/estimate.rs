//! What the stages of a plan will ask of a device, before any of them runs: tokens, floating-point operations, memory.
//!
//! Counted from the nodes' configs and the lengths of the data. Nothing is known of the models to come: a policy is taken to
//! answer as long as the demonstrations, and padding is what random batches of them have. How fast a device is, `bench` says.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::execute::{self, Inputs};
use super::node::{Node, Plan, Stage};
use super::policy::{Setting, dataset};
use super::responses::{BEST_OF, CALIBRATION_PROMPTS};
use super::reward::SINGLE_FAULT_PAIRS;
use super::stop::Stop;
use super::{best_of_n, dpo, opinions, ppo, preferences, responses, reward, sft};
use crate::compute::Precision;
use crate::data::world::FaultKind;
use crate::events::Memory;
use crate::judge::Judge;
use crate::model::flops::{FLOAT, Rows, activations, forward, kept, sampling, weights};
use crate::model::{Architecture, bucket};
use crate::recipe::{Experiment, PreferenceSource, Recipe};
use crate::reward::Kind;
use crate::sft::Example;
use crate::store::{Artefact, Lookup, Store};

/// Rows that are read together in passes without gradients, and the batches of like length that they are cut into.
const READ_ROWS: usize = 64;
const READ_SHARDS: usize = 4;

/// An amount of one kind of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Amount {
    /// Tokens, padding included.
    pub tokens: f64,
    /// Floating-point operations.
    pub flops: f64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.flops += other.flops;
    }
}

/// What a stage asks of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Work {
    /// Tokens that models read without gradients.
    pub read: Amount,
    /// Tokens that models are trained on, forwards and backwards.
    pub trained: Amount,
    /// Tokens that are sampled one by one.
    pub sampled: Amount,
    /// Weights, gradients, moments and activations at the highest, in bytes.
    pub memory: f64,
}

/// The network that does a stage's work, and what it works on: by these a device is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// The architecture.
    pub model: Architecture,
    /// Ids of the vocabulary.
    pub vocab: usize,
    /// A usual prompt and a usual response, in tokens.
    pub lengths: [usize; 2],
    /// Parts that a batch is cut into.
    pub shards: usize,
    /// The numbers that it computes in.
    pub precision: Precision,
}

/// One stage's work; without a network there is none to speak of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimate {
    /// How much.
    pub work: Work,
    /// By what.
    pub shape: Option<Shape>,
}

/// The work of every node of `plan`, in its order.
///
/// # Errors
/// When a dataset or a tokenizer cannot be read.
pub fn estimate(plan: &Plan, experiment: &Experiment, store: &Store) -> Result<Vec<Estimate>> {
    let sources = sources(plan, experiment, store)?;
    let mut corpora: BTreeMap<[usize; 2], Corpus> = BTreeMap::new();
    let mut estimates = Vec::new();
    for node in &plan.nodes {
        let input = |role: &str| node.inputs.iter().find(|input| input.role == role).map(|input| input.node);
        let (Some(data), Some(tokenizer), true) = (input("data"), input("tokenizer"), node.computes()) else {
            estimates.push(Estimate::default());
            continue;
        };
        let corpus = match corpora.entry([data, tokenizer]) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let source = |role: &str, index| (role.to_owned(), sources.artefacts[&index].clone());
                let inputs = Inputs::new(vec![source("data", data), source("tokenizer", tokenizer)]);
                place.insert(Corpus::of(node, &inputs)?)
            }
        };
        let rounds = node.inputs.iter().filter(|input| input.role.split('.').next() == Some("preferences"));
        let budgets = rounds.filter_map(|input| plan.nodes[input.node].config["budget"].as_u64());
        let budget = budgets.filter_map(|budget| usize::try_from(budget).ok()).sum();
        let recipe = &experiment.points[node.points[0]].recipe;
        estimates.push(corpus.estimate(node, budget, recipe)?);
    }
    Ok(estimates)
}

/// The results of the stages `data` and `tokenizer`, by their places in the plan.
struct Sources {
    artefacts: BTreeMap<usize, Artefact>,
    /// Where they lie, if not in the store.
    _scratch: Option<TempDir>,
}

/// From the store, or made once more in a place that is thrown away: an estimate changes nothing.
fn sources(plan: &Plan, experiment: &Experiment, store: &Store) -> Result<Sources> {
    let is_source = |node: &Node| matches!(node.stage, Stage::Data | Stage::Tokenizer);
    let indices: Vec<usize> = (0..plan.nodes.len()).filter(|&index| is_source(&plan.nodes[index])).collect();
    let stored = |&index: &usize| match store.find_verified(plan.nodes[index].stage.name(), &plan.nodes[index].key) {
        Lookup::Found(artefact) => Some((index, artefact)),
        Lookup::Missing | Lookup::Damaged(_) => None,
    };
    if let Some(artefacts) = indices.iter().map(stored).collect() {
        return Ok(Sources { artefacts, _scratch: None });
    }
    let mut part = Plan::new(plan.recipe.clone());
    for &index in &indices {
        let mut node = plan.nodes[index].clone();
        for input in &mut node.inputs {
            input.node = indices.iter().position(|&index| index == input.node).context("a source made of sources")?;
        }
        part.nodes.push(node);
    }
    let scratch = tempfile::tempdir()?;
    let (store, stop, sink) = (Store::open(scratch.path())?, Stop::default(), Memory::default());
    let summary = execute::execute(&part, &store, &sink, 1, &stop, &|node, inputs, workspace, emitter| {
        super::run(&experiment.points[node.points[0]].recipe, node, inputs, workspace, emitter, &stop)
    })?;
    if let Some((label, error)) = summary.failed.first() {
        bail!("stage `{label}`: {error}");
    }
    let artefacts = indices.into_iter().zip(summary.artefacts.into_iter().flatten()).collect();
    Ok(Sources { artefacts, _scratch: Some(scratch) })
}

/// What of a dataset decides the cost: how many rows, and how long in tokens.
struct Corpus {
    train: usize,
    validation: usize,
    test: usize,
    held_out: usize,
    vocab: usize,
    is_world: bool,
    /// Of each demonstration: prompt and response, end-of-sequence token included.
    lengths: Vec<[usize; 2]>,
}

impl Corpus {
    /// Cut to the lengths that `node` allows, which are those of all nodes on this data.
    fn of(node: &Node, inputs: &Inputs) -> Result<Self> {
        let setting = setting(node)?;
        let (tokenizer, data) = (setting.tokenizer(inputs)?, dataset(inputs)?);
        let lengths = data.demonstrations.iter().map(|demonstration| {
            let example =
                Example::new(demonstration, &tokenizer, setting.max_prompt_tokens, setting.max_response_tokens);
            [example.prompt.len(), example.response.len()]
        });
        Ok(Self {
            train: data.train.len(),
            validation: data.validation.len(),
            test: data.test.len(),
            held_out: data.held_out_preferences.len(),
            vocab: tokenizer.vocab_size(),
            is_world: super::data::world(inputs)?.is_some(),
            lengths: lengths.collect(),
        })
    }

    /// `count` rows in batches of `batch` cut into `shards`, padded as random ones are.
    fn rows(&self, count: usize, batch: usize, shards: usize) -> Rows {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let (mut rows, mut sum) = (0, [0, 0]);
        // A batch of more rows than this is padded as one of this many is.
        let batch = batch.clamp(1, MOST_DRAWN);
        for _ in 0..DRAWS {
            let drawn = (0..batch).filter_map(|_| self.lengths.choose(&mut rng).copied());
            for shard in bucket::shards(drawn.collect(), shards, |&lengths| lengths) {
                let longest = |side: usize| shard.iter().map(|lengths| lengths[side]).max().unwrap_or(0) * shard.len();
                sum = [sum[0] + longest(0), sum[1] + longest(1)];
                rows += shard.len();
            }
        }
        let [prompt, response] = sum.map(|sum| sum as f64 / rows.max(1) as f64);
        Rows { count: count as f64, prompt, response }
    }

    /// `budget`: how many prompts were annotated for `node`; `recipe` says how many replicas share the work.
    fn estimate(&self, node: &Node, budget: usize, recipe: &Recipe) -> Result<Estimate> {
        let setting = Setting { devices: recipe.devices(), replicas: recipe.replicas, ..setting(node)? };
        let model = setting.model.architecture()?;
        let mut tally = Tally { corpus: self, model: &model, setting: &setting, work: Work::default() };
        match node.stage {
            Stage::Sft => tally.sft(&config(node)?),
            Stage::Preferences => tally.preferences(&config(node)?),
            Stage::Reward => tally.reward(budget, &config(node)?),
            Stage::Ppo => tally.ppo(node, &config(node)?),
            Stage::Dpo => {
                let config: dpo::Config = config(node)?;
                let (pairs, table) = (budget.min(self.train), config.dpo);
                tally.read(self.vocab, 2 * pairs);
                tally.train(self.vocab, 2 * table.epochs.get() * pairs, 2 * table.batch_size.get());
                tally.sample(self.validation);
                tally.hold(1, 1);
            }
            Stage::BestOfN => {
                let config: best_of_n::Config = config(node)?;
                tally.sample(config.n * (self.test + self.validation));
                tally.read(1, config.n * (self.test + self.validation));
                tally.hold(2, 0);
            }
            Stage::Responses => tally.responses(&config(node)?),
            Stage::Judgements if node.inputs.iter().any(|input| input.role == "judge") => {
                tally.read(1, 2 * (self.test + self.validation));
            }
            Stage::Opinions => {
                let config: opinions::Config = config(node)?;
                let seeds: BTreeSet<u64> = config.runs.iter().map(|run| run.seed).collect();
                let asked = usize::from(matches!(config.judge, Judge::RewardModel(_)));
                tally.read(1, 2 * self.test * seeds.len() * asked);
            }
            _ => return Ok(Estimate::default()),
        }
        let work = tally.work;
        let usual = |side: usize| self.lengths.iter().map(|row| row[side]).sum::<usize>() / self.lengths.len().max(1);
        let lengths = [usual(0), usual(1)].map(|length| length.max(1));
        let (shards, precision) = (setting.shards, setting.precision);
        let shape = Shape { model, vocab: self.vocab, lengths, shards, precision };
        Ok(Estimate { work, shape: Some(shape) })
    }
}

/// Random batches that the mean padding is taken over, and the rows of one at most.
const DRAWS: usize = 32;
const MOST_DRAWN: usize = 1024;

/// What `node` says of its work.
fn config<T: DeserializeOwned>(node: &Node) -> Result<T> {
    serde_json::from_value(node.config.clone()).with_context(|| format!("config of stage `{}`", node.label))
}

/// The network that it works with.
fn setting(node: &Node) -> Result<Setting> {
    serde_json::from_value(node.config["setting"].clone()).with_context(|| format!("setting of stage `{}`", node.label))
}

/// The work of one stage, added up.
struct Tally<'a> {
    corpus: &'a Corpus,
    model: &'a Architecture,
    setting: &'a Setting,
    work: Work,
}

impl Tally<'_> {
    fn sft(&mut self, config: &sft::Config) {
        let batch = config.sft.batch_size.get();
        self.train(self.corpus.vocab, config.sft.steps.get() * batch, batch);
        self.hold(0, 1);
    }

    fn preferences(&mut self, config: &preferences::Config) {
        if matches!(config.source, PreferenceSource::Simulated(_) | PreferenceSource::Llm(_)) {
            self.sample(2 * (config.budget.min(self.corpus.train) + self.corpus.validation));
            self.hold(1, 0);
        }
    }

    fn reward(&mut self, budget: usize, config: &reward::Config) {
        let corpus = self.corpus;
        let pairs = if config.held_out { corpus.held_out.max(corpus.validation) } else { budget.min(corpus.train) };
        let sides = if matches!(config.kind, Kind::Sequence(_) | Kind::Token(_)) { 2 } else { 1 };
        let batch = sides * config.reward.batch_size.get();
        self.train(1, sides * config.reward.epochs.get() * pairs, batch);
        // Preferences and edits that it has not seen, and the tokens of the edits once more.
        let held_out = corpus.held_out.max(corpus.validation);
        let tokens = if matches!(config.kind, Kind::Sequence(_)) { 0 } else { 3 * held_out };
        let of_world = if corpus.is_world {
            corpus.validation.min(BEST_OF.0) * BEST_OF.1 + 2 * FaultKind::ALL.len() * SINGLE_FAULT_PAIRS
        } else {
            0
        };
        self.read(1, 4 * held_out + tokens + of_world);
        self.hold(0, 1);
    }

    fn ppo(&mut self, node: &Node, config: &ppo::Config) {
        let (corpus, table) = (self.corpus, &config.ppo);
        let (steps, batch, epochs) = (table.steps.get(), table.batch_size.get(), table.epochs.get());
        let is_reward = |role: &str| role == "mix" || role.split('.').next() == Some("reward");
        let rewards = node.inputs.iter().filter(|input| is_reward(&input.role)).count();
        let snapshots = steps.div_ceil(table.eval_every.get());
        self.sample(steps * batch + snapshots * corpus.validation);
        self.read(corpus.vocab, 2 * steps * batch);
        self.read(1, (1 + rewards) * steps * batch + rewards * corpus.train.min(CALIBRATION_PROMPTS));
        let minibatch = batch / table.minibatches.get();
        self.train(1, steps * epochs * batch, minibatch);
        self.train(corpus.vocab, steps.saturating_sub(table.value_warmup_steps) * epochs * batch, minibatch);
        self.hold(1 + rewards, 2);
    }

    fn responses(&mut self, config: &responses::Config) {
        let corpus = self.corpus;
        if config.reference {
            let best_of = if corpus.is_world { corpus.validation.min(BEST_OF.0) * BEST_OF.1 } else { 0 };
            self.sample(corpus.test + corpus.validation + corpus.train.min(CALIBRATION_PROMPTS) + best_of);
            self.hold(1, 0);
        } else {
            self.sample(corpus.test);
            self.read(corpus.vocab, 2 * corpus.test);
            self.read(1, corpus.test);
            self.hold(3, 0);
        }
    }

    /// `count` rows through a model with that many outputs.
    fn read(&mut self, outputs: usize, count: usize) {
        let rows = self.corpus.rows(count, READ_ROWS, READ_SHARDS);
        self.work.read += Amount { tokens: rows.tokens(), flops: self.forward(outputs, rows) };
        let at_once = (READ_ROWS / READ_SHARDS * self.replicas()) as f64;
        self.reach(activations(self.model, outputs, Rows { count: at_once, ..rows }, 1.0));
    }

    /// The same with a backward pass; every shard of a batch is padded for itself.
    fn train(&mut self, outputs: usize, count: usize, batch: usize) {
        let longest = self.corpus.lengths.iter().map(|row| row.iter().sum::<usize>()).max().unwrap_or(0);
        let row = Rows { count: 1.0, prompt: 0.0, response: longest as f64 };
        let [shards, _] = self.setting.cut().sizes(self.model, outputs, batch, row);
        let rows = self.corpus.rows(count, batch, shards);
        let recomputes = self.setting.gradient_checkpointing;
        let passes = if recomputes { 4.0 } else { 3.0 };
        self.work.trained += Amount { tokens: rows.tokens(), flops: passes * self.forward(outputs, rows) };
        let at_once = batch as f64 * (self.replicas() as f64 / shards as f64).min(1.0);
        self.reach(kept(self.model, outputs, Rows { count: at_once, ..rows }, recomputes));
    }

    /// `count` responses: rows leave a batch when they end, so only prompts are padded.
    fn sample(&mut self, count: usize) {
        let (padded, usual) = (self.corpus.rows(count, READ_ROWS, 1), self.corpus.rows(count, 1, 1));
        let (model, vocab) = (self.model, self.corpus.vocab);
        let prompts = Rows { response: 0.0, ..padded };
        self.work.read += Amount { tokens: prompts.tokens(), flops: self.forward(vocab, prompts) };
        let rows = Rows { prompt: padded.prompt, ..usual };
        self.work.sampled += Amount { tokens: rows.count * rows.response, flops: sampling(model, vocab, rows) };
    }

    fn forward(&self, outputs: usize, rows: Rows) -> f64 {
        forward(self.model, self.corpus.vocab, outputs, rows)
    }

    fn reach(&mut self, activations: f64) {
        self.work.memory = self.work.memory.max(activations);
    }

    /// Shards that are worked on at once.
    fn replicas(&self) -> usize {
        self.setting.replicas.count(self.setting.shards, self.setting.devices.len())
    }

    /// Adds models that are only read, and models that are trained: weights, two moments, and of gradients those of the shards
    /// that are worked on and the sum of those before.
    fn hold(&mut self, read: usize, trained: usize) {
        let weights = weights(self.model, self.corpus.vocab, self.corpus.vocab);
        let gradients = (self.replicas() + 1).min(self.setting.shards);
        self.work.memory += FLOAT * weights * (read + trained * (3 + gradients)) as f64;
    }
}

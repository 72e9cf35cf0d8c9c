//! `runner bench`: seconds and tokens per second on fixed work.
//!
//! The work is that of the peers' scripts (plain `PyTorch`, TRL), so that the numbers can be laid side by side: token
//! ids from a fixed generator, rows of equal length, no padding, no stop token, everything in `f32`. It is done by the
//! trainers' own functions, so that what is measured is what runs. How numbers are shown is left to `cli`.

mod parts;
mod ppo;
mod rates;

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use serde::Serialize;

pub use rates::{Rates, rates};

use crate::compute::{Crew, Precision};
use crate::model::flops::{Rows, forward, sampling};
use crate::model::{Architecture, Config, Model};
use crate::units::Count;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Products of square matrices, on every thread its own: what nothing else can be faster than.
    Matmul,
    /// An optimiser step on the next-token loss.
    Sft,
    /// An optimiser step of a sequence reward model on pairs.
    Rm,
    /// Log-probabilities without gradients.
    Logprob,
    /// Sampling.
    Gen,
    /// A whole PPO iteration.
    Ppo,
}

/// Size and amount of the work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Decoder layers.
    pub layers: Count,
    /// Width of the residual stream.
    pub hidden: Count,
    /// Attention heads; there are as many key and value heads.
    pub heads: Count,
    /// Width of the SwiGLU layer.
    pub ff: Count,
    /// Ids, the four special ones included.
    pub vocab: Count,
    /// Sequences (pairs for [`Part::Rm`]).
    pub batch: Count,
    /// Prompt tokens.
    pub prompt: Count,
    /// Sampled tokens.
    pub new: Count,
    /// PPO epochs.
    pub epochs: Count,
    /// PPO minibatches an epoch; divides `batch`.
    pub minibatches: Count,
    /// Measured PPO iterations.
    pub iters: Count,
    /// Measured repetitions of every other part.
    pub reps: Count,
    /// Threads, and shards of every batch.
    pub threads: Count,
    /// Decides ids, weights and samples.
    pub seed: u64,
}

/// One part's numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Median of all repetitions.
    pub median_s: f64,
    /// The fastest repetition.
    pub min_s: f64,
    /// Every measured repetition.
    pub all_s: Vec<f64>,
    /// Tokens of one repetition: those that the peers count.
    pub tokens: usize,
    /// `tokens / median_s`.
    pub tokens_per_s: f64,
    /// Floating-point operations of one repetition: those of products and attention, as estimates count them.
    pub flops: f64,
    /// Medians of the phases of a PPO iteration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub phases_s: BTreeMap<&'static str, f64>,
    /// Numbers by which the work can be recognised: losses, mean log-probability.
    pub checks: BTreeMap<&'static str, f64>,
}

/// The work, ready to be measured part by part.
pub struct Bench {
    settings: Settings,
    model: Model,
    crew: Crew,
}

impl Bench {
    /// Draws the model: matrices N(0, 0.02), norms one, untied output matrix.
    ///
    /// # Errors
    /// When sizes do not divide as they must, or the vocabulary has no ordinary id.
    pub fn new(settings: Settings, device: &Device) -> Result<Self> {
        let Settings { layers, hidden, heads, ff, vocab, batch, minibatches, .. } = settings;
        divides("hidden size", hidden, "twice the heads", heads.get() * 2)?;
        divides("batch", batch, "minibatches", minibatches.get())?;
        ensure!(
            vocab.get() > FIRST_ORDINARY,
            "expected a vocabulary of more than {FIRST_ORDINARY} ids, found {}",
            vocab.get()
        );
        Ok(Self::of(&Architecture::from(&architecture([layers, hidden, heads, ff])), settings, device))
    }

    /// The same with an architecture of its own, whatever `settings` say of its sizes.
    fn of(architecture: &Architecture, settings: Settings, device: &Device) -> Self {
        let model = random_model(architecture, settings.vocab.get(), settings.seed, device);
        Self { crew: Crew::new(settings.threads.get()), settings, model }
    }

    /// The same work; if `recomputes`, with gradient checkpointing.
    #[must_use]
    pub fn recomputing(self, recomputes: bool) -> Self {
        Self { crew: self.crew.recomputing(recomputes), ..self }
    }

    /// The same work, in `precision`.
    #[must_use]
    pub fn computing_in(self, precision: Precision) -> Self {
        Self { crew: self.crew.computing_in(precision), ..self }
    }

    /// Numbers in the language model's weights.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.model.parameters()
    }

    /// Does the work of `part` and takes the time.
    #[must_use]
    pub fn measure(&self, part: Part) -> Measured {
        self.crew.install(|| match part {
            Part::Matmul => self.matmul(),
            Part::Sft => self.sft(),
            Part::Rm => self.rm(),
            Part::Logprob => self.logprob(),
            Part::Gen => self.generation(),
            Part::Ppo => self.ppo(),
        })
    }

    /// Prompt and sampled tokens together, T.
    const fn length(&self) -> usize {
        self.settings.prompt.get() + self.settings.new.get()
    }

    /// Operations of a pass with `outputs` at `response` positions after `prompt` ones, over `rows` rows.
    fn forward(&self, rows: usize, [prompt, response]: [usize; 2], outputs: usize) -> f64 {
        let [count, prompt, response] = [rows, prompt, response].map(|n| n as f64);
        forward(&self.model.config, self.settings.vocab.get(), outputs, Rows { count, prompt, response })
    }

    /// Operations of reading the prompts and sampling after them.
    fn sampling(&self) -> f64 {
        let Settings { batch, prompt, new, vocab, .. } = &self.settings;
        let [count, prompt, response] = [batch, prompt, new].map(|n| n.get() as f64);
        let rows = Rows { count, prompt, response };
        let prompts = forward(&self.model.config, vocab.get(), vocab.get(), Rows { response: 0.0, ..rows });
        prompts + sampling(&self.model.config, vocab.get(), rows)
    }

    fn ids(&self, length: usize, seed: u64) -> Vec<Vec<u32>> {
        token_rows(self.settings.batch.get(), length, self.settings.vocab.get(), seed)
    }
}

/// A Llama without grouped-query attention, rotary base 10000.
fn architecture([layers, hidden, heads, ff]: [Count; 4]) -> Config {
    Config {
        hidden_size: hidden,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: heads,
        intermediate_size: ff,
        rope_theta: 10_000_f64.try_into().expect("above zero"),
        rms_norm_eps: 1e-5_f64.try_into().expect("above zero"),
    }
}

fn divides(what: &str, number: Count, by: &str, divisor: usize) -> Result<()> {
    let number = number.get();
    ensure!(number.is_multiple_of(divisor), "expected a {what} that is a multiple of {by} ({divisor}), found {number}");
    Ok(())
}

/// Ids below are special tokens and never drawn.
const FIRST_ORDINARY: usize = 4;

/// `rows` lists of `length` ordinary ids, one after another from
/// `s = s * 6364136223846793005 + 1442695040888963407 (mod 2^64)`, `id = 4 + (s >> 33) % (vocab - 4)`, from `s = seed`.
fn token_rows(rows: usize, length: usize, vocab: usize, seed: u64) -> Vec<Vec<u32>> {
    let (mut state, span) = (seed, (vocab - FIRST_ORDINARY) as u64);
    let mut id = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(FIRST_ORDINARY as u64 + (state >> 33) % span).unwrap_or(u32::MAX)
    };
    (0..rows).map(|_| (0..length).map(|_| id()).collect()).collect()
}

fn random_model(config: &Architecture, vocab: usize, seed: u64, device: &Device) -> Model {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let normal = Normal::new(0.0_f32, 0.02).expect("a finite deviation");
    let weights = config.shapes(vocab, vocab).into_iter().map(|(name, shape)| {
        if name.ends_with("norm") {
            return Tensor::ones(shape, device);
        }
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| normal.sample(&mut rng)).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    });
    Model { config: config.clone(), weights: weights.collect(), adapter: None }
}

/// Seconds of `reps` calls of `work`, after `warmup` calls that are not counted.
fn timed(warmup: usize, reps: Count, mut work: impl FnMut()) -> Vec<f64> {
    let call = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..warmup + reps.get()).map(call).skip(warmup).collect()
}

impl Measured {
    fn new(all_s: Vec<f64>, tokens: usize, flops: f64, checks: impl IntoIterator<Item = (&'static str, f64)>) -> Self {
        let median_s = median(&all_s);
        let min_s = all_s.iter().copied().fold(f64::INFINITY, f64::min);
        let checks = checks.into_iter().collect();
        Self {
            median_s,
            min_s,
            all_s,
            tokens,
            tokens_per_s: tokens as f64 / median_s,
            flops,
            phases_s: BTreeMap::new(),
            checks,
        }
    }
}

/// The middle value; the mean of both where there are two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[middle - 1], sorted[middle]) } else { sorted[middle] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `token_rows(2, 3, 512, 1)` of the peers' `common.py`.
    #[test]
    fn ids_are_those_of_the_peers() {
        assert_eq!(token_rows(2, 3, 512, 1), PEER_IDS);
    }

    const PEER_IDS: [[u32; 3]; 2] = [[426, 193, 68], [462, 78, 191]];

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(
            [median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])].map(f64::to_bits),
            [2.0, 2.5].map(f64::to_bits)
        );
    }

    #[test]
    fn warm_up_is_done_and_not_counted() {
        let mut calls = 0;
        assert_eq!(timed(2, 3_i64.try_into().unwrap(), || calls += 1).len(), 3);
        assert_eq!(calls, 5);
    }

    #[test]
    fn the_tiny_model_has_the_peers_parameters() {
        let sizes = [2, 96, 4, 256].map(|n: i64| Count::try_from(n).unwrap());
        assert_eq!(
            random_model(&Architecture::from(&architecture(sizes)), 512, 0, &Device::flex()).parameters(),
            319_968
        );
    }
}

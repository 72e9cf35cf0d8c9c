//! How many floating-point operations a second a device does on a given network: seconds of trying, for estimates.

use burn::tensor::Device;
use serde::Serialize;

use super::{Bench, Measured, Part, Settings};
use crate::compute::Precision;
use crate::model::Architecture;
use crate::model::flops::{Rows, forward, sampling};
use crate::units::Count;

/// Floating-point operations a second, by kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Of passes without gradients.
    pub read: f64,
    /// Of training steps.
    pub trained: f64,
    /// Of sampling.
    pub sampled: f64,
}

/// Seconds that each kind of work is tried for.
const SECONDS: f64 = 1.5;

/// Measures `model` with a vocabulary of `vocab` ids on rows of `lengths` (prompt, response) tokens, computing in `precision`.
#[must_use]
pub fn rates(
    model: &Architecture,
    vocab: usize,
    lengths: [usize; 2],
    threads: usize,
    precision: Precision,
    device: &Device,
) -> Rates {
    let count = |n: usize| Count::try_from(i64::try_from(n.max(1)).unwrap_or(i64::MAX)).expect("at least one");
    let settings = Settings {
        layers: count(model.num_hidden_layers),
        hidden: count(model.hidden_size),
        heads: count(model.num_attention_heads),
        ff: count(model.intermediate_size),
        vocab: count(vocab.max(super::FIRST_ORDINARY + 1)),
        batch: count(16 * threads),
        prompt: count(lengths[0]),
        new: count(lengths[1]),
        epochs: count(1),
        minibatches: count(1),
        iters: count(1),
        reps: count(1),
        threads: count(threads),
        seed: 0,
    };
    let [prompt, response] = lengths.map(|length| length as f64);
    let rows = Rows { count: settings.batch.get() as f64, prompt, response };
    let seconds = |part: Part| {
        let measure = |reps: usize| -> Measured {
            let bench = Bench::of(model, Settings { reps: count(reps), ..settings.clone() }, device);
            bench.computing_in(precision).measure(part)
        };
        let first = measure(1).median_s;
        let fitting = (2..=25_u8).take_while(|&reps| f64::from(reps) * first <= SECONDS).last();
        fitting.map_or(first, |reps| measure(reps.into()).median_s)
    };
    // The bench reads and trains with outputs at every position.
    let everywhere = forward(model, vocab, vocab, Rows { prompt: 0.0, response: prompt + response, ..rows });
    let read = everywhere / seconds(Part::Logprob);
    // Before it samples, it reads the prompts.
    let sampling_s = seconds(Part::Gen);
    let reading_s = forward(model, vocab, vocab, Rows { response: 0.0, ..rows }) / read;
    Rates {
        read,
        trained: 3.0 * everywhere / seconds(Part::Sft),
        sampled: sampling(model, vocab, rows) / (sampling_s - reading_s).max(sampling_s / 2.0),
    }
}

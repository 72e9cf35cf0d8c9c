//! Sampling responses, with a key-value cache, in batches that are kept full from a list of prompts.
//!
//! Every row draws from its own random stream, so a response does not depend on which rows it shares a batch with.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::draw::{Drawn, draw, stream};
use super::slots::{Row, Slots};
use super::{Model, bucket};
use crate::compute::fused::shares_products;
use crate::compute::{Crew, is_card};

/// How to draw the next token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; zero takes the most probable token.
    pub temperature: f64,
    /// Keep only this many most probable tokens.
    pub top_k: Option<usize>,
    /// Keep only the most probable tokens that together reach this probability.
    pub top_p: Option<f64>,
    /// Tokens at most, end-of-sequence token included.
    pub max_new: usize,
}

impl Sampling {
    /// The model's own distribution at `temperature`.
    #[must_use]
    pub const fn plain(temperature: f64, max_new: usize) -> Self {
        Self { temperature, top_k: None, top_p: None, max_new }
    }
}

/// Ids that generation treats specially.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Special {
    /// Fills rectangles; never attended to.
    pub pad: u32,
    /// Ends a response.
    pub eos: u32,
}

/// Ids that end a response, where there may be several; and what fills rectangles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stops<'a> {
    /// Fills rectangles; never attended to.
    pub pad: u32,
    /// Each of them ends a response.
    pub ends: &'a [u32],
}

/// A response, the end-of-sequence token included where one was drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampled {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// The log-probability of each under the model at the sampling temperature (at 1 for the most probable token),
    /// nothing truncated: what [`Model::log_probs`] gives for it.
    pub log_probs: Vec<f64>,
}

/// Rows sampled together on a processor: more would fall out of its caches.
const ROWS: usize = 64;

/// Prompts that one thread answers before it takes the next ones; a card samples all of them together.
const PROMPTS: usize = 256;

/// Prompts that are answered by all threads together, if the model has as many bytes as `LARGE`: more than caches hold.
const FEW: usize = 16;
const LARGE: u64 = 64 << 20;

/// Samples one response to each prompt.
///
/// Row `i` draws from stream `i` of `seed`. `done` is called with the number of finished prompts.
pub fn sample(
    model: &Model,
    prompts: &[&[u32]],
    special: Special,
    sampling: Sampling,
    seed: u64,
    crew: &Crew,
    done: &(dyn Fn(usize) + Sync),
) -> Vec<Sampled> {
    let stops = Stops { pad: special.pad, ends: &[special.eos] };
    sample_until(model, prompts, stops, sampling, seed, crew, done)
}

/// [`sample`] until any of several ids.
pub fn sample_until(
    model: &Model,
    prompts: &[&[u32]],
    stops: Stops,
    sampling: Sampling,
    seed: u64,
    crew: &Crew,
    done: &(dyn Fn(usize) + Sync),
) -> Vec<Sampled> {
    let finished = AtomicUsize::new(0);
    let indexed: Vec<(u64, &[u32])> = (0..).zip(prompts.iter().copied()).collect();
    // A large model is read from memory for every token: once for all rows is better than once for each thread's.
    let together =
        prompts.len() <= FEW && model.bytes().iter().sum::<u64>() >= LARGE && shares_products(&model.device());
    // Cards share the prompts, each given all of its rows at once; so do threads, but never in lists that depend on how many there are.
    let least = match (together, is_card(&model.device())) {
        (true, _) => 1,
        (false, true) => crew.devices(),
        (false, false) => 2,
    };
    let lists = prompts.len().div_ceil(PROMPTS).max(least.min(prompts.len()));
    let lists = bucket::runs(indexed, lists, |(_, prompt)| prompt.len());
    let sampled = crew.map_on(
        &lists,
        |place| model.on(place),
        |model, list| {
            let work = || {
                sample_list(model, list, stops, sampling, seed, &|rows| {
                    done(finished.fetch_add(rows, Ordering::Relaxed) + rows);
                })
            };
            if together { crew.together(work) } else { work() }
        },
    );
    let mut responses: Vec<(u64, Sampled)> =
        lists.into_iter().flatten().map(|(row, _)| row).zip(sampled.into_iter().flatten()).collect();
    responses.sort_by_key(|(row, _)| *row);
    responses.into_iter().map(|(_, response)| response).collect()
}

/// Responses to a list of prompts, the longest first, each with the number of its stream.
fn sample_list(
    model: &Model,
    prompts: &[(u64, &[u32])],
    stops: Stops,
    sampling: Sampling,
    seed: u64,
    done: &dyn Fn(usize),
) -> Vec<Sampled> {
    let mut responses = vec![Sampled::default(); prompts.len()];
    let mut waiting = prompts.iter().enumerate();
    let mut slots = Slots::new(model, stops.pad, sampling.max_new);
    let most = if is_card(&model.device()) { PROMPTS } else { ROWS };
    // The logits of the rows from `first` on, which have yet to draw.
    let (mut logits, mut first) = (Vec::new(), 0);
    loop {
        let rows = &mut slots.rows[first..];
        let (width, mut ended) = (logits.len() / rows.len().max(1), 0);
        for (row, logits) in rows.iter_mut().zip(logits.chunks_exact_mut(width.max(1))).filter(|(row, _)| row.live) {
            let Drawn { id, log_prob } = draw(logits, sampling, &mut row.rng);
            let response = &mut responses[row.index];
            response.ids.push(id);
            response.log_probs.push(log_prob);
            row.ids.push(id);
            row.live = !stops.ends.contains(&id) && response.ids.len() < sampling.max_new;
            ended += usize::from(!row.live);
        }
        if ended > 0 {
            done(ended);
        }
        if slots.are_sparse() {
            slots.compact();
            first = slots.rows.len();
            let joining = waiting.by_ref().take(most - first);
            let joining: Vec<Row> =
                joining.map(|(index, &(number, prompt))| Row::new(index, stream(seed, number), prompt)).collect();
            if !joining.is_empty() {
                logits = slots.join(joining);
                continue;
            }
        }
        if slots.rows.is_empty() {
            return responses;
        }
        (logits, first) = (slots.advance(), 0);
    }
}

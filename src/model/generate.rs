//! Sampling responses, with a key-value cache, in batches.
//!
//! Every row draws from its own random stream, so a response does not depend on which rows it shares a batch with.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::batch::cached_bias;
use super::decoder::Cache;
use super::weights::host;
use super::{Batch, Model, Pair, bucket};
use crate::compute::Crew;

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

/// Rows sampled together; more would fall out of the processor's caches.
const ROWS: usize = 128;

/// Samples one response to each prompt, the end-of-sequence token included where one was drawn.
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
) -> Vec<Vec<u32>> {
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
) -> Vec<Vec<u32>> {
    let finished = std::sync::atomic::AtomicUsize::new(0);
    let indexed: Vec<(u64, &[u32])> = (0..).zip(prompts.iter().copied()).collect();
    let chunks = prompts.len().div_ceil(ROWS.min(prompts.len().div_ceil(2)).max(1));
    let chunks = bucket::shards(indexed, chunks, |(_, prompt)| prompt.len());
    let sampled = crew.map(&chunks, |chunk| {
        let responses = sample_rows(model, chunk, stops, sampling, seed);
        done(finished.fetch_add(chunk.len(), std::sync::atomic::Ordering::Relaxed) + chunk.len());
        responses
    });
    let mut responses: Vec<(u64, Vec<u32>)> =
        chunks.into_iter().flatten().map(|(row, _)| row).zip(sampled.into_iter().flatten()).collect();
    responses.sort_by_key(|(row, _)| *row);
    responses.into_iter().map(|(_, response)| response).collect()
}

/// One unfinished row.
struct Row {
    index: usize,
    rng: ChaCha8Rng,
    position: i64,
    real: Vec<bool>,
    token: u32,
}

fn sample_rows(model: &Model, prompts: &[(u64, &[u32])], stops: Stops, sampling: Sampling, seed: u64) -> Vec<Vec<u32>> {
    let device = model.device();
    let rows: Vec<&[u32]> = prompts.iter().map(|(_, prompt)| *prompt).collect();
    let (mut cache, real, mut logits) = begun(model, &rows, stops.pad, sampling.max_new);
    let mut responses = vec![Vec::new(); prompts.len()];
    let mut rows: Vec<Row> = prompts
        .iter()
        .zip(real)
        .enumerate()
        .map(|(index, (&(stream, prompt), real))| Row {
            index,
            rng: stream_rng(seed, stream),
            position: position(prompt.len()),
            real,
            token: stops.pad,
        })
        .collect();
    for step in 1..=sampling.max_new {
        let width = logits.len() / rows.len();
        for (row, logits) in rows.iter_mut().zip(logits.chunks_exact_mut(width)) {
            row.token = draw(logits, sampling, &mut row.rng);
            row.real.push(true);
            responses[row.index].push(row.token);
        }
        let goes_on = |row: &Row| !stops.ends.contains(&row.token);
        if !rows.iter().all(goes_on) {
            let keep: Vec<usize> = (0..rows.len()).filter(|&i| goes_on(&rows[i])).collect();
            rows.retain(goes_on);
            if !rows.is_empty() {
                keep_rows(&mut cache, &keep, &device);
            }
        }
        if rows.is_empty() || step == sampling.max_new {
            break;
        }
        let switch = model.config.switches_after().map(position);
        logits = if rows.iter().any(|row| Some(row.position) == switch) {
            // All wavelengths of that row change with this token: what is cached of the tokens before is computed anew.
            let whole = |row: &Row| [prompts[row.index].1, &responses[row.index]].concat();
            let whole: Vec<Vec<u32>> = rows.iter().map(whole).collect();
            let whole: Vec<&[u32]> = whole.iter().map(Vec::as_slice).collect();
            let (fresh, real, next) = begun(model, &whole, stops.pad, sampling.max_new - step);
            cache = fresh;
            for (row, real) in rows.iter_mut().zip(real) {
                row.real = real;
                row.position += 1;
            }
            next
        } else {
            advance(model, &mut rows, &mut cache, &device)
        };
    }
    responses
}

/// Feeds whole `rows`: a cache with room for `more` columns, which columns of each row are real, and the next logits.
fn begun(model: &Model, rows: &[&[u32]], pad: u32, more: usize) -> (Cache, Vec<Vec<bool>>, Vec<f32>) {
    let pairs: Vec<Pair> = rows.iter().map(|prompt| Pair { prompt, response: &[] }).collect();
    let batch = Batch::new(&pairs, pad, &model.device());
    let q = batch.prompt_columns;
    let mut cache = model.cache(rows.len(), q + more);
    let hidden = model.extend(&batch.ids, &batch.positions, &batch.attention_bias, &mut cache);
    let logits = last_logits(model, hidden.narrow(1, q - 1, 1));
    (cache, batch.real.chunks_exact(q).map(<[bool]>::to_vec).collect(), logits)
}

fn position(tokens: usize) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

/// Feeds each row's newest token and returns its next logits, row by row.
fn advance(model: &Model, rows: &mut [Row], cache: &mut Cache, device: &Device) -> Vec<f32> {
    let column = |values: Vec<i64>| Tensor::<2, Int>::from_data(TensorData::new(values, [rows.len(), 1]), device);
    let ids = column(rows.iter().map(|row| i64::from(row.token)).collect());
    let positions = column(rows.iter().map(|row| row.position).collect());
    let real: Vec<Vec<bool>> = rows.iter().map(|row| row.real.clone()).collect();
    let bias = cached_bias(&real, cache.columns + 1, device);
    for row in rows {
        row.position += 1;
    }
    last_logits(model, model.extend(&ids, &positions, &bias, cache))
}

fn last_logits(model: &Model, hidden: Tensor<3>) -> Vec<f32> {
    host(&model.project(hidden))
}

/// Finished rows leave the batch, so that the last long response does not pay for all the short ones.
fn keep_rows(cache: &mut Cache, keep: &[usize], device: &Device) {
    let index: Vec<i64> = keep.iter().map(|&i| i64::try_from(i).unwrap_or(i64::MAX)).collect();
    let index = Tensor::<1, Int>::from_data(TensorData::new(index, [keep.len()]), device);
    for (keys, values) in &mut cache.layers {
        *keys = keys.extract().select(0, index.clone());
        *values = values.extract().select(0, index.clone());
    }
}

/// The random stream of one row.
fn stream_rng(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Draws a token by inverting the cumulative distribution; overwrites `logits`.
fn draw(logits: &mut [f32], sampling: Sampling, rng: &mut ChaCha8Rng) -> u32 {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap_or(0);
    if sampling.temperature == 0.0 {
        return u32::try_from(best).unwrap_or(u32::MAX);
    }
    let top = logits[best];
    for x in logits.iter_mut() {
        *x = (f64::from(*x - top) / sampling.temperature).exp() as f32;
    }
    truncate(logits, sampling);
    let total: f64 = logits.iter().map(|&p| f64::from(p)).sum();
    let mut left = rng.random::<f64>() * total;
    for (id, &p) in logits.iter().enumerate() {
        left -= f64::from(p);
        if left < 0.0 && p > 0.0 {
            return u32::try_from(id).unwrap_or(u32::MAX);
        }
    }
    u32::try_from(best).unwrap_or(u32::MAX)
}

/// Zeroes the weights that `top_k` and `top_p` exclude.
fn truncate(weights: &mut [f32], sampling: Sampling) {
    if sampling.top_k.is_none() && sampling.top_p.is_none() {
        return;
    }
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
    let total: f64 = weights.iter().map(|&p| f64::from(p)).sum();
    let mut mass = 0.0;
    for (rank, &id) in order.iter().enumerate() {
        let beyond_k = sampling.top_k.is_some_and(|k| rank >= k);
        let beyond_p = sampling.top_p.is_some_and(|p| mass >= p * total);
        mass += f64::from(weights[id]);
        if beyond_k || beyond_p {
            weights[id] = 0.0;
        }
    }
}

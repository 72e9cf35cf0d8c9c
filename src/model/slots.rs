//! Rows that are sampled together: some end, others take their places, and all share one cache.
//!
//! All rows fill the cache up to the same column, each from a first column of its own.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::batch::{aligned, cached_bias};
use super::decoder::Cache;
use super::joined::Joined;
use super::weights::host;
use super::{Batch, Model, Pair};
use crate::compute::is_card;

/// A row that has been given a prompt.
pub(super) struct Row {
    /// Its place among all prompts.
    pub(super) index: usize,
    /// What it draws from.
    pub(super) rng: ChaCha8Rng,
    /// Whether its response goes on.
    pub(super) live: bool,
    /// Its prompt, and what it has drawn.
    pub(super) ids: Vec<u32>,
    /// Its first column in the cache.
    start: usize,
}

impl Row {
    pub(super) fn new(index: usize, rng: ChaCha8Rng, prompt: &[u32]) -> Self {
        Self { index, rng, live: true, ids: prompt.to_vec(), start: 0 }
    }
}

/// Rows and their cache.
pub(super) struct Slots<'a> {
    model: &'a Model,
    device: Device,
    pad: u32,
    max_new: usize,
    /// Those that are live, and those that have ended and not been taken out yet.
    pub(super) rows: Vec<Row>,
    /// None while there are no rows.
    cache: Option<Cache>,
    /// None until it is needed for these rows in these columns.
    sent_bias: Option<Tensor<4>>,
    /// Where it pays.
    joined: Option<Arc<[Joined]>>,
}

impl<'a> Slots<'a> {
    pub(super) fn new(model: &'a Model, pad: u32, max_new: usize) -> Self {
        let device = model.device();
        let joined = if is_card(&device) { model.joined() } else { None };
        Self { model, device, pad, max_new, rows: Vec::new(), cache: None, sent_bias: None, joined }
    }

    /// Whether so many rows have ended that taking them out is worth a copy of the cache.
    pub(super) fn are_sparse(&self) -> bool {
        4 * self.rows.iter().filter(|row| !row.live).count() >= self.rows.len()
    }

    /// Takes out the rows that have ended.
    pub(super) fn compact(&mut self) {
        let live: Vec<usize> = (0..self.rows.len()).filter(|&i| self.rows[i].live).collect();
        self.rows.retain(|row| row.live);
        self.sent_bias = None;
        if self.rows.is_empty() {
            self.cache = None;
        } else if let Some(cache) = &mut self.cache {
            pick(cache, &live, &self.device);
        }
    }

    /// Reads the prompts of new rows, each prompt once, and gives the new rows' logits, row by row.
    pub(super) fn join(&mut self, mut newcomers: Vec<Row>) -> Vec<f32> {
        let mut prompts: Vec<&[u32]> = Vec::new();
        let mut prompt_of = Vec::new();
        for row in &newcomers {
            let known = prompts.iter().position(|known| *known == row.ids);
            prompt_of.push(known.unwrap_or(prompts.len()));
            if known.is_none() {
                prompts.push(&row.ids);
            }
        }
        let (mut read, logits) = self.read(&prompts);
        let logits = if prompts.len() == newcomers.len() {
            host(&logits)
        } else {
            pick(&mut read, &prompt_of, &self.device);
            host(&logits.select(0, indices(&prompt_of, &self.device)))
        };
        self.sent_bias = None;
        for row in &mut newcomers {
            row.start = read.columns - row.ids.len();
        }
        self.cache = Some(match self.cache.take() {
            None => read,
            Some(cache) => self.merged(&cache, &read, &mut newcomers),
        });
        self.rows.append(&mut newcomers);
        logits
    }

    fn cache(&self, rows: usize, capacity: usize) -> Cache {
        self.model.cache_with(rows, capacity, self.joined.clone())
    }

    /// Feeds whole rows: a cache with room for the tokens to come, and the next logits, `[B, 1, vocabulary]`.
    fn read(&self, rows: &[&[u32]]) -> (Cache, Tensor<3>) {
        let rows: Vec<Pair> = rows.iter().map(|prompt| Pair { prompt, response: &[] }).collect();
        let batch = Batch::new(&rows, self.pad, &self.device);
        let columns = batch.prompt_columns;
        let mut cache = self.cache(rows.len(), columns + self.max_new);
        let hidden = self.model.extend(&batch.ids, &batch.positions, &batch.attention_bias, &mut cache);
        (cache, self.model.project(hidden.narrow(1, columns - 1, 1)))
    }

    /// One cache of the rows that are here and of `newcomers`, all ending in the same column.
    fn merged(&mut self, here: &Cache, new: &Cache, newcomers: &mut [Row]) -> Cache {
        // What no row needs any more is left behind.
        let unused = self.rows.iter().map(|row| row.start).min().unwrap_or(0);
        let used = here.columns - unused;
        let columns = used.max(new.columns);
        let mut cache = self.cache(self.rows.len() + newcomers.len(), columns + self.max_new);
        cache.columns = columns;
        let placed = |room: &mut Tensor<4>, here: &Tensor<4>, new: &Tensor<4>, new_columns: usize| {
            let ([b, heads, _, d], [all, ..]) = (here.dims(), room.dims());
            let here = here.clone().narrow(2, unused, used);
            let new = new.clone().narrow(2, 0, new_columns);
            *room = room.extract().slice_assign([0..b, 0..heads, columns - used..columns, 0..d], here);
            *room = room.extract().slice_assign([b..all, 0..heads, columns - new_columns..columns, 0..d], new);
        };
        for (room, (here, read)) in cache.layers.iter_mut().zip(here.layers.iter().zip(&new.layers)) {
            placed(&mut room.0, &here.0, &read.0, new.columns);
            placed(&mut room.1, &here.1, &read.1, new.columns);
        }
        for row in &mut self.rows {
            row.start = row.start + columns - used - unused;
        }
        for row in newcomers {
            row.start += columns - new.columns;
        }
        cache
    }

    /// Feeds each row's newest token and gives the next logits, row by row.
    pub(super) fn advance(&mut self) -> Vec<f32> {
        let switch = self.model.config.switches_after();
        if self.rows.iter().any(|row| row.live && switch.is_some_and(|after| row.ids.len() == after + 1)) {
            return self.read_again();
        }
        let ids = self.rows.iter().map(|row| row.ids.last().map_or(0, |&id| i64::from(id)));
        let positions = self.rows.iter().map(|row| i64::try_from(row.ids.len() - 1).unwrap_or(i64::MAX));
        // Sent to the device as one.
        let rows = TensorData::new(ids.chain(positions).collect(), [2, self.rows.len()]);
        let rows = Tensor::<2, Int>::from_data(rows, &self.device);
        let [ids, positions] = [0, 1].map(|i| rows.clone().narrow(0, i, 1).reshape([-1, 1]));
        let bias = self.bias();
        let cache = self.cache.as_mut().expect("rows have a cache");
        let hidden = self.model.extend(&ids, &positions, &bias, cache);
        host(&self.model.project(hidden))
    }

    /// What each row sees of the columns so far and of the next one. A card is sent the bias of all columns, once for the same rows.
    fn bias(&mut self) -> Tensor<4> {
        let cache = self.cache.as_ref().expect("rows have a cache");
        let starts: Vec<usize> = self.rows.iter().map(|row| row.start).collect();
        let columns = cache.columns + 1;
        if !is_card(&self.device) {
            return cached_bias(&starts, columns, &self.device);
        }
        let all = || cached_bias(&starts, aligned(cache.capacity(), &self.device), &self.device);
        self.sent_bias.get_or_insert_with(all).clone().narrow(3, 0, columns)
    }

    /// As [`Slots::advance`], where all wavelengths of a row change with its newest token: what is cached of the tokens before
    /// is computed anew.
    fn read_again(&mut self) -> Vec<f32> {
        let rows: Vec<&[u32]> = self.rows.iter().map(|row| row.ids.as_slice()).collect();
        let (cache, logits) = self.read(&rows);
        self.sent_bias = None;
        for row in &mut self.rows {
            row.start = cache.columns - row.ids.len();
        }
        self.cache = Some(cache);
        host(&logits)
    }
}

/// Leaves those rows of a cache, in that order.
fn pick(cache: &mut Cache, rows: &[usize], device: &Device) {
    let rows = indices(rows, device);
    for (keys, values) in &mut cache.layers {
        *keys = keys.extract().select(0, rows.clone());
        *values = values.extract().select(0, rows.clone());
    }
}

fn indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.iter().map(|&i| i64::try_from(i).unwrap_or(i64::MAX)).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

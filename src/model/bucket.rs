//! Rows of like length together, so that little of a batch is padding.

use burn::tensor::Device;

use super::flops::{Rows, activations};
use super::{Model, Pair};
use crate::compute::Crew;

/// Rows of a pass without gradients.
const ROWS: usize = 16;

/// How a batch is cut into shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Shards at least, as far as there are rows.
    pub shards: usize,
    /// Bytes at most that what a shard's forward pass keeps may take, where that is limited.
    pub bytes: Option<u64>,
}

impl From<usize> for Cut {
    fn from(shards: usize) -> Self {
        Self { shards, bytes: None }
    }
}

impl Cut {
    /// Cuts `items`, each of them `rows` rows of at most `length` tokens, into shards for a training step of `model`: more than
    /// asked for where fewer would take more memory than allowed.
    #[must_use]
    pub fn apply<T>(self, model: &Model, items: Vec<T>, rows: usize, length: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
        let longest = items.iter().map(&length).max().unwrap_or(0);
        let columns = Rows { count: rows as f64, prompt: 0.0, response: longest as f64 };
        let item = activations(&model.config, model.outputs(), columns, model.config.num_hidden_layers as f64);
        let fits =
            |shards: usize| self.bytes.is_none_or(|bytes| items.len().div_ceil(shards) as f64 * item <= bytes as f64);
        let fewest = (self.shards.max(1)..items.len()).find(|&shards| fits(shards)).unwrap_or(items.len());
        shards(items, fewest.max(self.shards), length)
    }
}

/// Cuts `items` into at most `shards` runs of nearly equal number, the longest items first, equally long ones in their order.
///
/// The longest first: who works on several at once is then done with all at nearly the same time.
#[must_use]
pub fn shards<T>(mut items: Vec<T>, shards: usize, length: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    items.sort_by_key(|item| std::cmp::Reverse(length(item)));
    let size = items.len().div_ceil(shards.max(1)).max(1);
    let mut items = items.into_iter();
    let mut cut = Vec::new();
    loop {
        let shard: Vec<T> = items.by_ref().take(size).collect();
        if shard.is_empty() {
            return cut;
        }
        cut.push(shard);
    }
}

/// Applies `pass` to batches of rows of like length, with the models that `replicate` puts on each of the crew's devices,
/// and gives its results in the rows' order.
///
/// # Panics
/// When `pass` does not give one result a row.
pub fn map<R: Send + Sync, T: Send>(
    rows: &[Pair],
    crew: &Crew,
    replicate: impl Fn(Option<&Device>) -> R,
    pass: impl Fn(&R, &[Pair]) -> Vec<T> + Sync,
) -> Vec<T> {
    let batches = shards((0..rows.len()).collect(), rows.len().div_ceil(ROWS), |&i| tokens(rows[i]));
    let found = crew.map_on(&batches, replicate, |replica, indices| {
        let rows: Vec<Pair> = indices.iter().map(|&i| rows[i]).collect();
        let results = pass(replica, &rows);
        assert_eq!(results.len(), rows.len(), "a result for every row");
        results
    });
    let mut results: Vec<(usize, T)> = batches.into_iter().flatten().zip(found.into_iter().flatten()).collect();
    results.sort_by_key(|(row, _)| *row);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The length that decides a row's company.
#[must_use]
pub fn tokens(row: Pair) -> usize {
    row.response.len() + row.prompt.len()
}

/// The share of padded `batches` that is no token.
#[must_use]
pub fn padding<'a>(batches: impl IntoIterator<Item: IntoIterator<Item = Pair<'a>>>) -> f64 {
    let (mut all, mut real) = (0, 0);
    for batch in batches {
        let (mut rows, mut prompt, mut response) = (0, 0, 0);
        for row in batch {
            rows += 1;
            prompt = prompt.max(row.prompt.len());
            response = response.max(row.response.len());
            real += tokens(row);
        }
        all += rows * (prompt + response);
    }
    if all == 0 { 0.0 } else { 1.0 - real as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [u32; 9] = [5; 9];

    fn row(prompt: usize, response: usize) -> Pair<'static> {
        Pair { prompt: &IDS[..prompt], response: &IDS[..response] }
    }

    #[test]
    fn every_item_is_in_one_shard_and_the_longest_are_together() {
        let cut = shards(vec![3, 9, 1, 4, 9, 2, 5], 3, |&n| n);
        assert_eq!(cut, [vec![9, 9, 5], vec![4, 3, 2], vec![1]]);
        assert_eq!(shards(vec![1, 2], 8, |&n: &usize| n), [vec![2], vec![1]]);
        assert!(shards(Vec::<usize>::new(), 2, |&n| n).is_empty());
    }

    #[test]
    fn a_limit_on_memory_makes_more_shards_of_a_batch() {
        let table = serde_json::json!({
            "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 10,
        });
        let model = Model::init(&serde_json::from_value(table).unwrap(), 20, 20, 0, &Device::flex());
        let cut = |shards, bytes| Cut { shards, bytes }.apply(&model, vec![7; 12], 1, |&length| length).len();
        assert_eq!([cut(3, None), cut(3, Some(1 << 30)), cut(3, Some(1))], [3, 3, 12]);
        let row = Rows { count: 1.0, prompt: 0.0, response: 7.0 };
        assert!((activations(&model.config, 20, row, 2.0) - 9184.0).abs() < 1e-9);
        let row = 9184;
        assert_eq!([cut(1, Some(12 * row + 12)), cut(1, Some(6 * row + 6)), cut(1, Some(5 * row + 5))], [1, 2, 3]);
    }

    #[test]
    fn results_come_in_the_rows_order_although_batches_do_not() {
        let rows: Vec<Pair> = (0..300).map(|i| row(1 + i % 3, i * 7 % 9)).collect();
        let found = map(&rows, &Crew::new(2), |_| (), |(), rows| rows.iter().map(|row| tokens(*row)).collect());
        assert_eq!(found, rows.iter().map(|row| tokens(*row)).collect::<Vec<_>>());
    }

    #[test]
    fn padding_is_what_a_rectangle_has_beyond_its_tokens() {
        let mixed = padding([vec![row(1, 3), row(2, 1)]]);
        assert!((mixed - 0.3).abs() < 1e-12, "7 tokens of 2 rows x 5 columns, found {mixed}");
        assert!(padding([vec![row(1, 3)], vec![row(2, 1)]]).abs() < 1e-12);
    }
}

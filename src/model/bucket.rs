//! Rows of like length together, so that little of a batch is padding.

use burn::tensor::{Int, Tensor, TensorData};

use super::flops::{Rows, kept};
use super::{Architecture, Batch, Model, Pair};
use crate::compute::{Crew, Place};

/// Rows of a pass without gradients, in the mean.
const ROWS: usize = 12;

/// Rows of like length among which the batches of such a pass are chosen: the search grows with their square.
const LIST: usize = 512;

/// How a batch is cut into shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Shards at least, as far as there are rows.
    pub shards: usize,
    /// Bytes at most that what a shard's forward pass keeps may take, where that is limited.
    pub bytes: Option<u64>,
    /// Whether the backward pass computes layers again, so that one of them at a time is kept.
    pub recomputes: bool,
}

impl From<usize> for Cut {
    fn from(shards: usize) -> Self {
        Self { shards, bytes: None, recomputes: false }
    }
}

impl Cut {
    /// Cuts `items`, each of them `rows` rows of at most `size` tokens (prompt and response), into shards for a training step
    /// of `model`: more than asked for where fewer would take more memory than allowed.
    #[must_use]
    pub fn apply<T>(self, model: &Model, items: Vec<T>, rows: usize, size: impl Fn(&T) -> [usize; 2]) -> Vec<Vec<T>> {
        let longest = items.iter().map(|item| size(item).iter().sum::<usize>()).max().unwrap_or(0);
        let item = Rows { count: rows as f64, prompt: 0.0, response: longest as f64 };
        let [count, most] = self.sizes(&model.config, model.outputs(), items.len(), item);
        least_padding(items, count, most, size)
    }

    /// Into how many shards it cuts `items`, the largest of them of as many rows and columns as `item`, and how many of them a
    /// shard has at most.
    #[must_use]
    pub fn sizes(self, model: &Architecture, outputs: usize, items: usize, item: Rows) -> [usize; 2] {
        let fitting = self.bytes.map_or(items.max(1), |bytes| {
            let item = kept(model, outputs, item, self.recomputes);
            (1..=items).rev().find(|&count| count as f64 * item <= bytes as f64).unwrap_or(1)
        });
        let count = self.shards.max(items.div_ceil(fitting));
        [count, fitting.min(half_again(items, count))]
    }
}

/// Cuts `items` into `shards` of like size, as far as there are items: so that the least is padding, where a shard is a
/// rectangle of its longest prompt and its longest response. None has more than half again the mean number of items, so
/// that those who work on them are done at nearly the same time. The longest come first, equally long ones in their order.
#[must_use]
pub fn shards<T>(items: Vec<T>, shards: usize, size: impl Fn(&T) -> [usize; 2]) -> Vec<Vec<T>> {
    let most = half_again(items.len(), shards);
    least_padding(items, shards, most, size)
}

fn half_again(items: usize, shards: usize) -> usize {
    (3 * items).div_ceil(2 * shards.max(1))
}

/// By dynamic programming over where the last of the first `n` shards begins.
fn least_padding<T>(mut items: Vec<T>, shards: usize, most: usize, size: impl Fn(&T) -> [usize; 2]) -> Vec<Vec<T>> {
    items.sort_by_cached_key(|item| std::cmp::Reverse(size(item).iter().sum::<usize>()));
    let sizes: Vec<[usize; 2]> = items.iter().map(&size).collect();
    // The least area of the first items, by their number; as yet without a shard, so of none.
    let mut least: Vec<Option<usize>> = (0..=items.len()).map(|number| (number == 0).then_some(0)).collect();
    let mut begins = Vec::new();
    for _ in 0..shards.max(1).min(items.len()) {
        let best = |end: usize| {
            let mut widest = [0, 0];
            let from = |start: usize| {
                widest = [widest[0].max(sizes[start][0]), widest[1].max(sizes[start][1])];
                Some((least[start]? + (end - start) * (widest[0] + widest[1]), start))
            };
            (end.saturating_sub(most)..end).rev().filter_map(from).min()
        };
        let found: Vec<Option<(usize, usize)>> = (0..=items.len()).map(best).collect();
        least = found.iter().map(|found| found.map(|(area, _)| area)).collect();
        begins.push(found);
    }
    let mut cut: Vec<Vec<T>> =
        begins.iter().rev().map(|found| items.split_off(found[items.len()].map_or(0, |(_, start)| start))).collect();
    cut.reverse();
    cut
}

/// Cuts `items` into at most `runs` runs of nearly equal number, the longest items first, equally long ones in their order.
#[must_use]
pub fn runs<T>(mut items: Vec<T>, runs: usize, length: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    items.sort_by_key(|item| std::cmp::Reverse(length(item)));
    let size = items.len().div_ceil(runs.max(1)).max(1);
    let mut items = items.into_iter();
    let mut cut = Vec::new();
    loop {
        let run: Vec<T> = items.by_ref().take(size).collect();
        if run.is_empty() {
            return cut;
        }
        cut.push(run);
    }
}

/// Two batches of like length that have all of `rows`, each row with its number.
#[must_use]
pub fn halves<'a>(rows: &[Pair<'a>]) -> Vec<Vec<(usize, Pair<'a>)>> {
    least_padding(rows.iter().copied().enumerate().collect(), 2, rows.len(), |(_, row)| size(*row))
}

/// Outputs at the response tokens of `rows`, which are read in two batches of like length; beyond a row's response they
/// mean nothing.
///
/// # Shapes
/// `[N, R, outputs]`.
#[must_use]
pub fn at_response(model: &Model, rows: &[Pair], pad: u32) -> Tensor<3> {
    let columns = rows.iter().map(|row| row.response.len()).max().unwrap_or(0);
    let (mut parts, mut order, mut done) = (Vec::new(), vec![0_i64; rows.len()], 0);
    for half in halves(rows) {
        for (number, _) in &half {
            order[*number] = done;
            done += 1;
        }
        let half: Vec<Pair> = half.into_iter().map(|(_, row)| row).collect();
        let outputs = model.at_response(&Batch::new(&half, pad, &model.device()));
        let [n, r, width] = outputs.dims();
        parts.push(if r == columns {
            outputs
        } else {
            let rest = Tensor::zeros([n, columns - r, width], &outputs.device());
            Tensor::cat(vec![outputs, rest], 1)
        });
    }
    let order: Tensor<1, Int> = Tensor::from_data(TensorData::new(order, [rows.len()]), &model.device());
    Tensor::cat(parts, 0).select(0, order)
}

/// Applies `pass` to batches of rows of like length, with the models that `replicate` puts on each of the crew's devices,
/// and gives its results in the rows' order.
///
/// # Panics
/// When `pass` does not give one result a row.
pub fn map<R: Send + Sync, T: Send>(
    rows: &[Pair],
    crew: &Crew,
    replicate: impl Fn(Place) -> R,
    pass: impl Fn(&R, &[Pair]) -> Vec<T> + Sync,
) -> Vec<T> {
    let batches = batches(rows);
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

/// The batches in which [`map`] reads `rows`, as their numbers: of like length, so that the least is padding.
#[must_use]
pub fn batches(rows: &[Pair]) -> Vec<Vec<usize>> {
    let lists = runs((0..rows.len()).collect(), rows.len().div_ceil(LIST), |&i| tokens(rows[i]));
    let cut = |list: Vec<usize>| {
        let count = list.len().div_ceil(ROWS);
        shards(list, count, |&i| size(rows[i]))
    };
    lists.into_iter().flat_map(cut).collect()
}

/// The length that decides a row's company.
#[must_use]
pub fn tokens(row: Pair) -> usize {
    row.response.len() + row.prompt.len()
}

/// Prompt and response, in tokens.
#[must_use]
pub fn size(row: Pair) -> [usize; 2] {
    [row.prompt.len(), row.response.len()]
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
    use burn::tensor::Device;

    use super::*;

    const IDS: [u32; 9] = [5; 9];

    fn row(prompt: usize, response: usize) -> Pair<'static> {
        Pair { prompt: &IDS[..prompt], response: &IDS[..response] }
    }

    #[test]
    fn every_item_is_in_one_run_and_the_longest_are_together() {
        let cut = runs(vec![3, 9, 1, 4, 9, 2, 5], 3, |&n| n);
        assert_eq!(cut, [vec![9, 9, 5], vec![4, 3, 2], vec![1]]);
        assert_eq!(runs(vec![1, 2], 8, |&n: &usize| n), [vec![2], vec![1]]);
        assert!(runs(Vec::<usize>::new(), 2, |&n| n).is_empty());
    }

    #[test]
    fn shards_have_the_least_padding_of_all_ways_to_cut() {
        let cut = shards(vec![3, 9, 1, 4, 9, 2, 5], 3, |&n| [n, 0]);
        assert_eq!(cut, [vec![9, 9], vec![5, 4], vec![3, 2, 1]]);
        assert_eq!(shards(vec![1, 2], 8, |&n: &usize| [0, n]), [vec![2], vec![1]]);
        assert!(shards(Vec::<usize>::new(), 2, |&n| [n, n]).is_empty());
        // Every way to cut 12 items into 3, none larger than 6.
        let sizes: Vec<[usize; 2]> = (0..12).map(|i| [1 + i * 5 % 7, 1 + i * i * 3 % 31]).collect();
        let area = |shard: &[[usize; 2]]| {
            shard.len() * (0..2).map(|side| shard.iter().map(|size| size[side]).max().unwrap_or(0)).sum::<usize>()
        };
        let found = shards(sizes.clone(), 3, |&size| size);
        let sorted = found.concat();
        let ways = (1..11).flat_map(|a| (a + 1..12).map(move |b| (a, b)));
        let ways = ways.filter(|&(a, b)| a.max(b - a).max(12 - b) <= 6);
        let best = ways.map(|(a, b)| area(&sorted[..a]) + area(&sorted[a..b]) + area(&sorted[b..])).min();
        assert_eq!(Some(found.iter().map(|shard| area(shard)).sum()), best);
        assert_eq!(sorted.len(), 12);
    }

    #[test]
    fn a_limit_on_memory_makes_more_shards_of_a_batch() {
        let model = model();
        let cut = |shards: usize, bytes| {
            Cut { bytes, ..shards.into() }.apply(&model, vec![7; 12], 1, |&length| [0, length]).len()
        };
        assert_eq!([cut(3, None), cut(3, Some(1 << 30)), cut(3, Some(1))], [3, 3, 12]);
        let row = Rows { count: 1.0, prompt: 0.0, response: 7.0 };
        assert!((kept(&model.config, 20, row, false) - 9184.0).abs() < 1e-9);
        let row = 9184;
        assert_eq!([cut(1, Some(12 * row + 12)), cut(1, Some(6 * row + 6)), cut(1, Some(5 * row + 5))], [1, 2, 3]);
    }

    fn model() -> Model {
        let table = serde_json::json!({
            "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 10,
        });
        Model::init(&serde_json::from_value(table).unwrap(), 20, 20, 0, &Device::flex())
    }

    #[test]
    fn what_is_read_in_two_batches_is_what_is_read_in_one_with_its_gradients() {
        let (model, rows) = (model().tracked(), [row(2, 7), row(1, 2), row(3, 6), row(2, 3)]);
        let outcome = |outputs: Tensor<3>| {
            let real = Batch::new(&rows, 0, &model.device()).response_mask.reshape([4, 7, 1]);
            let outputs = outputs * real;
            let mut gradients = outputs.clone().square().sum().backward();
            let gradient = model.weights[3].grad_remove(&mut gradients).expect("a gradient");
            [outputs.inner().reshape([4 * 7, 20]), gradient]
        };
        assert_eq!(halves(&rows).iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
        let halves = outcome(at_response(&model, &rows, 0));
        let whole = outcome(model.at_response(&Batch::new(&rows, 0, &model.device())));
        for (halves, whole) in halves.into_iter().zip(whole) {
            let tolerance = burn::tensor::Tolerance::rel_abs(1e-4, 1e-5);
            halves.into_data().assert_approx_eq::<f32>(&whole.into_data(), tolerance);
        }
    }

    #[test]
    fn results_come_in_the_rows_order_although_batches_do_not() {
        let rows: Vec<Pair> = (0..300).map(|i| row(1 + i % 3, i * 7 % 9)).collect();
        let found = map(&rows, &Crew::new(2), |_| (), |(), rows| rows.iter().map(|row| tokens(*row)).collect());
        assert_eq!(found, rows.iter().map(|row| tokens(*row)).collect::<Vec<_>>());
    }

    /// Prompts and responses of an iteration as in the recipe `finegrained`: 6 to 8 and 9 to 64 tokens.
    #[test]
    fn passes_read_less_than_a_tenth_of_padding() {
        const IDS: [u32; 64] = [5; 64];
        let rows: Vec<Pair> =
            (0..64).map(|i| Pair { prompt: &IDS[..6 + i % 3], response: &IDS[..9 + i * i * 7 % 56] }).collect();
        let batches = batches(&rows);
        let mut seen = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..64).collect::<Vec<_>>(), "every row once");
        let padding = padding(batches.iter().map(|batch| batch.iter().map(|&i| rows[i])));
        assert!(padding < 0.1, "{padding}");
    }

    #[test]
    fn padding_is_what_a_rectangle_has_beyond_its_tokens() {
        let mixed = padding([vec![row(1, 3), row(2, 1)]]);
        assert!((mixed - 0.3).abs() < 1e-12, "7 tokens of 2 rows x 5 columns, found {mixed}");
        assert!(padding([vec![row(1, 3)], vec![row(2, 1)]]).abs() < 1e-12);
    }
}

//! Ragged prompts and responses as one rectangle: prompts padded on the left, responses on the right.
//!
//! So every row's response starts in the same column, and a model's outputs at response positions are one slice.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::compute::is_card;

/// A prompt and a response, as ids.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The prompt.
    pub prompt: &'a [u32],
    /// The response; empty where only the prompt is fed.
    pub response: &'a [u32],
}

/// What attention may not see is moved this far down before the softmax; finite, so that a row of padding stays a
/// number.
pub(super) const MASKED: f32 = -1e9;

/// B rows of T = Q + R ids with positions and masks.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Token ids, `[B, T]`.
    pub ids: Tensor<2, Int>,
    /// Positions counted from each row's first real token, `[B, T]`.
    pub positions: Tensor<2, Int>,
    /// Zero where a query (row) may see a key (column), a large negative number elsewhere, `[B, 1, T, T]`.
    pub attention_bias: Tensor<4>,
    /// Which columns hold real tokens, row by row, `B * T`.
    pub real: Vec<bool>,
    /// Response ids, padded, `[B, R]`.
    pub response_ids: Tensor<2, Int>,
    /// One at response tokens, zero at padding, `[B, R]`.
    pub response_mask: Tensor<2>,
    /// Each row's response length.
    pub lengths: Vec<usize>,
    /// Longest prompt, Q.
    pub prompt_columns: usize,
    /// Longest response, R.
    pub response_columns: usize,
}

impl Batch {
    /// Pads `rows` with `pad` and puts them on `device`.
    ///
    /// # Panics
    /// On an empty list and on an empty prompt: there is nothing to condition on.
    #[must_use]
    pub fn new(rows: &[Pair], pad: u32, device: &Device) -> Self {
        assert!(!rows.is_empty() && rows.iter().all(|row| !row.prompt.is_empty()), "a batch needs rows with prompts");
        let (b, q) = (rows.len(), rows.iter().map(|row| row.prompt.len()).max().unwrap_or(0));
        let r = rows.iter().map(|row| row.response.len()).max().unwrap_or(0);
        let t = q + r;
        let mut ids = vec![i64::from(pad); b * t];
        let mut real = vec![false; b * t];
        let mut positions = vec![0_i64; b * t];
        let mut response_ids = vec![i64::from(pad); b * r];
        let mut response_mask = vec![0_f32; b * r];
        for (i, row) in rows.iter().enumerate() {
            let start = i * t + q - row.prompt.len();
            for (j, &id) in row.prompt.iter().chain(row.response).enumerate() {
                ids[start + j] = i64::from(id);
                real[start + j] = true;
            }
            // Padding repeats the last position, which learned and dynamic positions are sure to have.
            let last = row.prompt.len() + row.response.len() - 1;
            for (j, position) in positions[start..(i + 1) * t].iter_mut().enumerate() {
                *position = i64::try_from(j.min(last)).unwrap_or(i64::MAX);
            }
            for (j, &id) in row.response.iter().enumerate() {
                response_ids[i * r + j] = i64::from(id);
                response_mask[i * r + j] = 1.0;
            }
        }
        let stride = aligned(t, device);
        let attention_bias = TensorData::new(causal_bias(&real, b, t, stride), [b, 1, t, stride]);
        let int = |data, columns| Tensor::<2, Int>::from_data(TensorData::new(data, [b, columns]), device);
        Self {
            ids: int(ids, t),
            positions: int(positions, t),
            attention_bias: Tensor::<4>::from_data(attention_bias, device).narrow(3, 0, t),
            real,
            response_ids: int(response_ids, r),
            response_mask: Tensor::from_data(TensorData::new(response_mask, [b, r]), device),
            lengths: rows.iter().map(|row| row.response.len()).collect(),
            prompt_columns: q,
            response_columns: r,
        }
    }
}

/// How far apart rows of `columns` numbers begin on `device`: cards read those fastest that begin at multiples of 16 bytes, also in
/// half the precision.
pub(super) fn aligned(columns: usize, device: &Device) -> usize {
    if is_card(device) { columns.next_multiple_of(8) } else { columns }
}

/// A query sees the real tokens up to itself, and always itself, so that a padded query has something to attend to. Rows begin
/// every `stride` numbers.
fn causal_bias(real: &[bool], b: usize, t: usize, stride: usize) -> Vec<f32> {
    let mut bias = vec![MASKED; b * t * stride];
    for row in 0..b {
        for query in 0..t {
            let line = &mut bias[(row * t + query) * stride..][..t];
            for (key, cell) in line.iter_mut().enumerate().take(query + 1) {
                if key == query || real[row * t + key] {
                    *cell = 0.0;
                }
            }
        }
    }
    bias
}

/// The bias of one new query a row against `columns` cached keys, of which a row's own begin at its `starts`:
/// `[B, 1, 1, columns]`.
#[must_use]
pub fn cached_bias(starts: &[usize], columns: usize, device: &Device) -> Tensor<4> {
    let mut bias = vec![0.0; starts.len() * columns];
    for (row, &start) in bias.chunks_exact_mut(columns).zip(starts) {
        row[..start].fill(MASKED);
    }
    Tensor::from_data(TensorData::new(bias, [starts.len(), 1, 1, columns]), device)
}

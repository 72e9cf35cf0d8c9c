//! How many floating-point operations a pass takes, and how much memory.
//!
//! A product of `[n, K]` and `[K, M]` counts `2 n K M`; attention counts every column that is looked at, masked or not, since
//! the kernels compute them all. Norms, activations and the optimiser are left out: they are few beside the products.

use super::Architecture;

/// Rows of one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rows {
    /// How many.
    pub count: f64,
    /// Columns of prompt, padding included.
    pub prompt: f64,
    /// Columns of response, padding included.
    pub response: f64,
}

impl Rows {
    /// Tokens, padding included.
    #[must_use]
    pub fn tokens(self) -> f64 {
        self.count * (self.prompt + self.response)
    }
}

/// Operations of a forward pass with outputs at the response; a training step takes three times as many.
#[must_use]
pub fn forward(config: &Architecture, vocab: usize, outputs: usize, rows: Rows) -> f64 {
    let columns = rows.prompt + rows.response;
    rows.tokens() * (trunk(config, vocab) + attention(config, columns))
        + rows.count * rows.response * head(config, outputs)
}

/// Operations of sampling the responses one token at a time after the prompts have been read.
#[must_use]
pub fn sampling(config: &Architecture, vocab: usize, rows: Rows) -> f64 {
    let columns = rows.prompt + rows.response / 2.0;
    rows.count * rows.response * (trunk(config, vocab) + attention(config, columns) + head(config, vocab))
}

/// Bytes of what a pass over `rows` keeps of `layers` layers, and of outputs and probabilities.
#[must_use]
pub fn activations(config: &Architecture, outputs: usize, rows: Rows, layers: f64) -> f64 {
    let scores = config.num_attention_heads as f64 * (rows.prompt + rows.response);
    let layer = 10.0 * config.hidden_size as f64 + 4.0 * config.intermediate_size as f64 + scores;
    FLOAT * (rows.tokens() * layer * layers + 3.0 * rows.count * rows.response * outputs as f64)
}

/// Bytes that a training step over `rows` keeps for its backward pass: of all layers; or, if that computes them again, of one of
/// them at a time and what each was given.
#[must_use]
pub fn kept(config: &Architecture, outputs: usize, rows: Rows, recomputes: bool) -> f64 {
    let layers = config.num_hidden_layers as f64;
    if recomputes {
        return activations(config, outputs, rows, 1.0) + FLOAT * rows.tokens() * config.hidden_size as f64 * layers;
    }
    activations(config, outputs, rows, layers)
}

/// Numbers in all weights, for a vocabulary and a head of that size.
#[must_use]
pub fn weights(config: &Architecture, vocab: usize, outputs: usize) -> f64 {
    config.shapes(vocab, outputs).iter().map(|&(_, [rows, columns])| rows as f64 * columns as f64).sum()
}

/// Bytes of an `f32`.
pub const FLOAT: f64 = 4.0;

/// Of the layers' matrices, a token.
fn trunk(config: &Architecture, vocab: usize) -> f64 {
    let shapes = config.shapes(vocab, 1);
    let layers = &shapes[config.embeddings()..shapes.len() - config.head_weights()];
    2.0 * layers.iter().map(|(_, [rows, columns])| (rows * columns) as f64).sum::<f64>()
}

/// Of scores and weighted values, a token that looks at `columns`.
fn attention(config: &Architecture, columns: f64) -> f64 {
    let width = config.num_attention_heads * config.head_dim * config.num_hidden_layers;
    4.0 * columns * width as f64
}

/// Of the head, a position.
fn head(config: &Architecture, outputs: usize) -> f64 {
    2.0 * (config.hidden_size * outputs) as f64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Config;

    #[test]
    fn a_pass_counted_by_hand() {
        let config: Config = serde_json::from_value(json!({
            "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 10,
        }))
        .unwrap();
        // A layer: q 8x8, k and v 8x4, o 8x8, three of 8x10; two norms of 8.
        let layer = 64 + 32 + 32 + 64 + 3 * 80 + 2 * 8;
        let per_token = 2 * (2 * layer + 8) + 4 * 5 * 8 * 2;
        let expected = 3 * 5 * per_token + 3 * 2 * 2 * 8 * 20;
        let found = forward(&Architecture::from(&config), 20, 20, Rows { count: 3.0, prompt: 3.0, response: 2.0 });
        assert!((found - f64::from(expected)).abs() < 1e-6, "expected {expected}, found {found}");
    }
}

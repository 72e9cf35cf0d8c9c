//! A model small enough to check by hand, and its vocabulary.

use burn::tensor::Device;
use runner::compute::DeviceName;
use runner::model::generate::Special;
use runner::model::{Config, Model};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Ids of the vocabulary, the special ones among them.
pub const VOCAB: usize = 12;

pub const SPECIAL: Special = Special { pad: 0, eos: 1 };

/// The device that the numbers are to be computed on: `flex`, or what `RUNNER_TEST_DEVICE` says.
pub fn device() -> Device {
    let name = std::env::var("RUNNER_TEST_DEVICE").unwrap_or_else(|_| "flex".to_owned());
    name.parse::<DeviceName>().unwrap().open().unwrap()
}

/// A recipe's table.
pub fn table<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Two layers, four query heads on two key-value heads of width 4.
pub fn architecture() -> Config {
    table(json!({
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 24,
        "rope_theta": 100.0,
    }))
}

/// A language model whose logits are `spread` or so apart.
pub fn language_model(seed: u64, spread: f32) -> Model {
    Model::init(&architecture(), VOCAB, VOCAB, seed, &device()).with_head(VOCAB, spread / 4.0, seed + 1)
}

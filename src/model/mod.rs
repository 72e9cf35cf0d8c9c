//! The network: a decoder and its variations, its heads, sampling with a key-value cache, weights in and out.
//!
//! A model here is a list of weight matrices and pure functions of them: what a trainer optimises, a checkpoint stores
//! and a test compares is that list. Losses and the order of training are left to the trainers.

pub mod adapter;
pub mod architecture;
pub mod batch;
pub mod bucket;
pub mod checkpoint;
pub mod decoder;
pub mod descent;
mod draw;
pub mod flops;
pub mod generate;
pub mod gradient;
mod joined;
mod layer;
mod mapped;
pub mod optim;
mod position;
pub mod pretrained;
mod recompute;
mod slots;
pub mod weights;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use architecture::Architecture;
pub use batch::{Batch, Pair};
pub use decoder::Model;

use crate::units::{Count, Positive};

/// The recipe's `[model]` table: the decoder's architecture, keys as in a Llama `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Width of the residual stream, H.
    pub hidden_size: Count,
    /// Number of decoder layers.
    pub num_hidden_layers: Count,
    /// Query heads; `hidden_size` must be a multiple.
    pub num_attention_heads: Count,
    /// Key and value heads (grouped-query attention); must divide `num_attention_heads`.
    pub num_key_value_heads: Count,
    /// Width of the SwiGLU layer.
    pub intermediate_size: Count,
    /// Base of the rotary position embedding.
    #[serde(default = "default_rope_theta")]
    pub rope_theta: Positive,
    /// Added to the mean square in RMSNorm.
    #[serde(default = "default_rms_norm_eps")]
    pub rms_norm_eps: Positive,
}

impl Config {
    /// Width of one attention head.
    #[must_use]
    pub const fn head_dim(&self) -> usize {
        self.hidden_size.get() / self.num_attention_heads.get()
    }
}

fn default_rope_theta() -> Positive {
    Positive::try_from(10_000.0).expect("above zero")
}

fn default_rms_norm_eps() -> Positive {
    Positive::try_from(1e-5).expect("above zero")
}

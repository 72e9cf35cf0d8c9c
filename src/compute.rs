//! Where tensors live: a recipe's device name becomes a burn device.
//!
//! All knowledge of burn's backends stands here, so that adding or dropping one touches this file and `Cargo.toml`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The recipe's `device` key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceName {
    /// The fastest device that this binary was built with.
    #[default]
    Auto,
    /// burn's pure-Rust CPU backend.
    Flex,
    /// LibTorch on the CPU; needs the cargo feature `tch`.
    LibTorch,
}

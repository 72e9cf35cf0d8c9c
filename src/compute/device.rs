//! The names of devices in recipes, and the burn devices behind them.

use anyhow::{Result, bail};
use burn::tensor::Device;
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

impl DeviceName {
    /// The burn device of that name.
    ///
    /// # Errors
    /// When this binary was built without the backend.
    pub fn device(self) -> Result<Device> {
        match self {
            Self::Auto | Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "tch")]
            #[allow(
                deprecated,
                reason = "burn 0.22 marks burn-tch as deprecated; dropping it will touch this line only"
            )]
            Self::LibTorch => Ok(Device::libtorch()),
            #[cfg(not(feature = "tch"))]
            Self::LibTorch => bail!("device `libtorch` is not in this binary: build it with `--features tch`"),
        }
    }

    /// The backend family that decides the last bits of every number: part of every key.
    #[must_use]
    pub const fn family(self) -> &'static str {
        match self {
            Self::Auto | Self::Flex => "flex",
            Self::LibTorch => "libtorch",
        }
    }
}

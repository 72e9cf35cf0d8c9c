//! In which numbers networks compute.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use anyhow::{Result, ensure};
use burn::tensor::FloatDType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DeviceName, Family};

/// The numbers of a network's forward and backward passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, of which as many are exponent as in `f32`, for weights, activations and their gradients. Norms, softmax,
    /// outputs, losses, the optimiser and the weights that it updates keep 32.
    Bf16,
}

impl Precision {
    const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// As a recipe writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// As burn calls it.
    #[must_use]
    pub const fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
        }
    }

    /// Whether it is the default, so that it need not be written.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether devices of that family compute in it.
    const fn is_known_to(self, family: Family) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 => matches!(family, Family::LibTorch | Family::LibTorchCuda | Family::LibTorchMps),
        }
    }

    /// # Errors
    /// When devices of that family do not compute in it: those that do are named.
    pub fn require(self, family: Family) -> Result<()> {
        let known = || Family::ALL.into_iter().filter(|&family| self.is_known_to(family));
        let names = || known().map(|family| format!("`{}`", DeviceName::from(family))).collect::<Vec<_>>().join(", ");
        ensure!(
            self.is_known_to(family),
            "`precision` `{self}` is for the devices {}: found `{}`",
            names(),
            DeviceName::from(family)
        );
        Ok(())
    }
}

impl Display for Precision {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|precision| precision.name() == text);
        known.ok_or_else(|| format!("expected `f32` or `bf16`, found `{text}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_that_a_device_has_not_is_refused_with_those_that_have_it() {
        assert_eq!("bf16".parse(), Ok(Precision::Bf16));
        assert!("BF16".parse::<Precision>().is_err());
        for family in Family::ALL {
            assert!(Precision::F32.require(family).is_ok());
        }
        assert!(Precision::Bf16.require(Family::LibTorchCuda).is_ok());
        let message = Precision::Bf16.require(Family::Flex).unwrap_err().to_string();
        let expected =
            "`precision` `bf16` is for the devices `libtorch`, `libtorch:cuda:0`, `libtorch:mps`: found `flex`";
        assert_eq!(message, expected);
    }
}

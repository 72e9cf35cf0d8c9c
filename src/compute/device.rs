//! The names of devices, as recipes and commands write them.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::sync::OnceLock;

use anyhow::Result;
use burn::tensor::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Family;

/// A device by name: a family, and of several alike an index that counts from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(
    with = "String",
    description = "a device: `auto`, `flex`, `libtorch`, `libtorch:cuda:0`, `libtorch:mps`, `vulkan`, `wgpu`, `metal`, `cuda:0` or `rocm:0`"
)]
pub enum DeviceName {
    /// The first accelerator that binary and machine have (see [`DeviceName::family`]), else `flex`.
    #[default]
    Auto,
    /// This one.
    Of(Family, usize),
}

/// What `auto` looks for: LibTorch's devices first, which have fused kernels and were tried. Vulkan and wgpu are left out: a
/// driver in software cannot be told from a card.
const ACCELERATORS: [Family; 5] =
    [Family::LibTorchCuda, Family::LibTorchMps, Family::Cuda, Family::Rocm, Family::Metal];

impl DeviceName {
    /// The backend family that decides the last bits of every number, part of every key; the index decides none.
    #[must_use]
    pub fn family(self) -> Family {
        static AUTO: OnceLock<Family> = OnceLock::new();
        match self {
            Self::Auto => *AUTO.get_or_init(|| {
                ACCELERATORS.into_iter().find(|family| family.count().is_ok_and(|n| n > 0)).unwrap_or(Family::Flex)
            }),
            Self::Of(family, _) => family,
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// When this binary was built without the backend, or the machine has no such device.
    pub fn open(self) -> Result<Device> {
        let index = if let Self::Of(_, index) = self { index } else { 0 };
        self.family().open(index)
    }
}

impl From<Family> for DeviceName {
    fn from(family: Family) -> Self {
        Self::Of(family, 0)
    }
}

impl Display for DeviceName {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Of(family, index) if family.is_indexed() => write!(f, "{family}:{index}"),
            Self::Of(family, _) => write!(f, "{family}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let family = |name: &str| Family::ALL.into_iter().find(|family| family.name() == name);
        let indexed = |(name, index): (&str, &str)| {
            let index = index.bytes().all(|b| b.is_ascii_digit()).then(|| index.parse().ok())??;
            family(name).filter(|family| family.is_indexed()).map(|family| Self::Of(family, index))
        };
        family(text).map(Self::from).or_else(|| text.rsplit_once(':').and_then(indexed)).ok_or_else(|| {
            let names = Family::ALL.map(|family| format!("`{}`", Self::from(family))).join(", ");
            format!("expected a device: `auto`, {names}; found `{text}`")
        })
    }
}

impl TryFrom<String> for DeviceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let names = "auto flex libtorch libtorch:cuda:0 libtorch:cuda:3 libtorch:mps vulkan wgpu metal cuda:0 rocm:1";
        for name in names.split(' ') {
            assert_eq!(name.parse::<DeviceName>().map(|parsed| parsed.to_string()), Ok(name.to_owned()));
        }
        assert_eq!("cuda".parse(), Ok(DeviceName::Of(Family::Cuda, 0)));
        for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "flex:0", "libtorch:0", "FLEX", "auto:0"] {
            let message = name.parse::<DeviceName>().unwrap_err();
            assert!(message.ends_with(&format!("found `{name}`")), "{message}");
        }
    }

    #[test]
    fn the_index_is_no_part_of_the_family() {
        assert_eq!("cuda:3".parse::<DeviceName>().unwrap().family().name(), "cuda");
    }
}

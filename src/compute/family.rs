//! The backends of burn that a device can come from: what each needs, and how it is opened.

use std::any::Any;
use std::cell::Cell;
use std::fmt::{self, Display, Formatter};
use std::panic::{self, UnwindSafe, catch_unwind};
use std::sync::Once;

use anyhow::{Result, bail, ensure};
use burn::tensor::Device;

/// Devices that compute the same bits: a backend, and where it has several kinds of device, the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// burn's pure-Rust CPU backend, with the kernels of [`super::fused`].
    Flex,
    /// LibTorch on the CPU.
    LibTorch,
    /// LibTorch on NVIDIA cards.
    LibTorchCuda,
    /// LibTorch on Apple's GPUs.
    LibTorchMps,
    /// Any GPU with a Vulkan driver.
    Vulkan,
    /// Any GPU, by the graphics interface that wgpu picks.
    Wgpu,
    /// Apple's GPUs.
    Metal,
    /// NVIDIA cards by burn's own kernels.
    Cuda,
    /// AMD cards by burn's own kernels.
    Rocm,
}

impl Family {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Flex,
        Self::LibTorch,
        Self::LibTorchCuda,
        Self::LibTorchMps,
        Self::Vulkan,
        Self::Wgpu,
        Self::Metal,
        Self::Cuda,
        Self::Rocm,
    ];

    /// As a recipe writes it, without an index.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::LibTorch => "libtorch",
            Self::LibTorchCuda => "libtorch:cuda",
            Self::LibTorchMps => "libtorch:mps",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
            Self::Metal => "metal",
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
        }
    }

    /// Whether one of several is meant by its index.
    #[must_use]
    pub const fn is_indexed(self) -> bool {
        matches!(self, Self::LibTorchCuda | Self::Cuda | Self::Rocm)
    }

    /// The cargo feature that it needs; none for what is always there.
    #[must_use]
    pub const fn feature(self) -> Option<&'static str> {
        match self {
            Self::Flex => None,
            Self::LibTorch | Self::LibTorchCuda | Self::LibTorchMps => Some("tch"),
            Self::Vulkan => Some("vulkan"),
            Self::Wgpu => Some("wgpu"),
            Self::Metal => Some("metal"),
            Self::Cuda => Some("cuda"),
            Self::Rocm => Some("rocm"),
        }
    }

    /// Whether this binary has it.
    #[must_use]
    pub const fn is_built(self) -> bool {
        match self {
            Self::Flex => true,
            Self::LibTorch | Self::LibTorchCuda | Self::LibTorchMps => cfg!(feature = "tch"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Rocm => cfg!(feature = "rocm"),
        }
    }

    /// What a machine lacks that has no device of this family.
    const fn requirement(self) -> &'static str {
        match self {
            Self::Flex | Self::LibTorch => "a CPU",
            Self::LibTorchCuda => "an NVIDIA card, its driver, and a LibTorch that was built for CUDA",
            Self::LibTorchMps | Self::Metal => "macOS on Apple's chips",
            Self::Vulkan => "a GPU's Vulkan driver",
            Self::Wgpu => "a driver for Vulkan, Metal or DirectX 12 (on Debian without a GPU: `mesa-vulkan-drivers`)",
            Self::Cuda => "an NVIDIA card and the CUDA toolkit",
            Self::Rocm => "an AMD card and ROCm",
        }
    }

    /// How many of them this machine has.
    ///
    /// # Errors
    /// When this binary was built without the backend, or its driver does not answer.
    pub fn count(self) -> Result<usize> {
        if !self.is_built() {
            bail!(
                "device `{self}` is not in this binary: build it with `--features {}`",
                self.feature().expect("only optional backends can be missing")
            );
        }
        // A backend without its driver does not always say so by an error.
        caught(|| self.enumerated()).or_else(|_| bail!("no answer from the driver of device `{self}`"))
    }

    /// Opens the device of that index.
    ///
    /// # Errors
    /// When this binary was built without the backend, or the machine has no such device: feature or driver are named.
    pub fn open(self, index: usize) -> Result<Device> {
        let count = self.count()?;
        ensure!(count > 0, "this machine has no device `{self}`: it needs {}", self.requirement());
        ensure!(index < count, "expected an index below {count} for device `{self}`, found {index}");
        Ok(self.device(index))
    }

    fn enumerated(self) -> usize {
        match self {
            #[cfg(feature = "tch")]
            Self::LibTorchCuda => usize::try_from(tch::Cuda::device_count()).unwrap_or(0),
            #[cfg(feature = "tch")]
            Self::LibTorchMps => usize::from(tch::utils::has_mps()),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => listed(burn::tensor::DeviceType::Vulkan).min(1),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => listed(burn::tensor::DeviceType::Wgpu).min(1),
            #[cfg(feature = "metal")]
            Self::Metal => listed(burn::tensor::DeviceType::Metal).min(1),
            #[cfg(feature = "cuda")]
            Self::Cuda => listed(burn::tensor::DeviceType::Cuda),
            #[cfg(feature = "rocm")]
            Self::Rocm => listed(burn::tensor::DeviceType::Rocm),
            _ => 1,
        }
    }

    #[allow(unused_variables, reason = "an index is for backends that are not in every binary")]
    #[allow(deprecated, reason = "burn 0.22 marks burn-tch as deprecated; what goes with it is in this file")]
    fn device(self, index: usize) -> Device {
        match self {
            #[cfg(feature = "tch")]
            Self::LibTorch => Device::libtorch(),
            #[cfg(feature = "tch")]
            Self::LibTorchCuda => Device::libtorch_cuda(index),
            #[cfg(feature = "tch")]
            Self::LibTorchMps => Device::libtorch_mps(),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Device::vulkan(burn::tensor::DeviceKind::default()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Device::wgpu(burn::tensor::DeviceKind::default()),
            #[cfg(feature = "metal")]
            Self::Metal => Device::metal(burn::tensor::DeviceKind::default()),
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::cuda(index),
            #[cfg(feature = "rocm")]
            Self::Rocm => Device::rocm(index),
            _ => Device::flex(),
        }
    }
}

#[cfg(any(feature = "vulkan", feature = "wgpu", feature = "metal", feature = "cuda", feature = "rocm"))]
fn listed(kind: burn::tensor::DeviceType) -> usize {
    Device::enumerate(kind).into_vec().len()
}

thread_local! {
    /// How many calls of [`caught`] this thread is in.
    static CAUGHT: Cell<usize> = const { Cell::new(0) };
}

/// What `work` gives, or what it panicked with: backends panic where a driver fails. The panic itself prints nothing.
pub(super) fn caught<T>(work: impl FnOnce() -> T + UnwindSafe) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if CAUGHT.get() == 0 {
                hook(panic);
            }
        }));
    });
    CAUGHT.set(CAUGHT.get() + 1);
    let outcome = catch_unwind(work).map_err(|panic| said(&*panic));
    CAUGHT.set(CAUGHT.get() - 1);
    outcome
}

/// The first line of a panic's message, without what `unwrap` says and without an escaped backtrace.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("the driver gave up");
    let text = text.strip_prefix("called `Result::unwrap()` on an `Err` value: ").unwrap_or(text);
    text.lines().next().and_then(|line| line.split("\\n").next()).unwrap_or_default().to_owned()
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Has LibTorch's operations stay on the thread that calls them, as those of `flex` do in a [`super::Crew`].
pub(super) fn stay_on_this_thread() {
    #[cfg(feature = "tch")]
    tch::set_num_threads(1);
}

/// Whether it is one of LibTorch's, of whatever kind.
#[allow(unused_variables, reason = "LibTorch is not in every binary")]
pub(super) fn is_libtorch(device: &Device) -> bool {
    #[cfg(feature = "tch")]
    let found = matches!(device.clone().without_autodiff().as_dispatch(), burn::backend::DispatchDevice::LibTorch(_));
    #[cfg(not(feature = "tch"))]
    let found = false;
    found
}

/// Whether its numbers lie in memory of its own: every operation has to be sent there, which takes longer than a small one.
#[must_use]
#[allow(deprecated, reason = "burn 0.22 marks burn-tch as deprecated; what goes with it is in this file")]
pub fn is_card(device: &Device) -> bool {
    let device = device.clone().without_autodiff();
    #[cfg(feature = "tch")]
    if device == Device::libtorch() {
        return false;
    }
    device != Device::flex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_in_one_line() {
        let failed = || -> Result<(), String> { Err("Torch(\"no storage\nframe #0\")".to_owned()) };
        assert_eq!(caught(|| failed().unwrap()), Err("\"Torch(\\\"no storage".to_owned()));
        assert_eq!(caught(|| panic!("no card\nat all")), Err::<(), _>("no card".to_owned()));
        assert_eq!(caught(|| caught(|| 3)), Ok(Ok(3)), "one in another");
    }

    #[test]
    fn a_device_that_is_not_there_says_what_it_needs() {
        for family in Family::ALL.into_iter().filter(|family| !family.is_built()) {
            let message = family.open(0).unwrap_err().to_string();
            let feature = family.feature().unwrap();
            assert_eq!(
                message,
                format!("device `{family}` is not in this binary: build it with `--features {feature}`")
            );
        }
        let message = Family::Flex.open(1).unwrap_err().to_string();
        assert_eq!(message, "expected an index below 1 for device `flex`, found 1");
    }
}

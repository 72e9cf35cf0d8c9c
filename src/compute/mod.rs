//! Where tensors live, which threads work on them, and operations with kernels of our own.
//!
//! All knowledge of burn's backends stands here, so that adding or dropping one touches this room and `Cargo.toml`.
//! What is computed is left to everyone else.

mod crew;
mod device;
mod family;
pub mod fused;
mod memory;
mod precision;
mod replicas;
mod self_test;

pub use crew::{Crew, Place};
pub use device::DeviceName;
pub use family::{Family, is_card};
pub use memory::{MemoryWatch, peak_memory_bytes};
pub use precision::Precision;
pub use replicas::{MOST_REPLICAS, Replicas};
pub use self_test::self_test;

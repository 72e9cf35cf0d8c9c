//! From an experiment to work in progress: the run as it was submitted, and who carries it out.
//!
//! A run is frozen when it is submitted, so that editing the recipe afterwards changes nothing that is queued. What a stage
//! does is `stage`'s.

pub mod slurm;

mod arrays;
mod frozen;
mod resources;
mod tasks;

pub use arrays::{Array, arrays};
pub use frozen::{Frozen, Submission, host};
pub use resources::{demand, local_limits, needs, resources};
pub use tasks::{Keeper, State, Task, remember};

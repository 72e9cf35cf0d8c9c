//! From an experiment to work in progress: the run as it was submitted, and who carries it out.
//!
//! A run is frozen when it is submitted, so that editing the recipe afterwards changes nothing that is queued. What a stage
//! does is `stage`'s.

mod frozen;
mod resources;

pub use frozen::{Frozen, Submission};
pub use resources::{demand, local_limits, resources};

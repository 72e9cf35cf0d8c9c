//! From an experiment to work in progress: the run as it was submitted, and who carries it out; then living with many of
//! them.
//!
//! A run is frozen when it is submitted, so that editing the recipe afterwards changes nothing that is queued. What a stage
//! does is `stage`'s, how things are shown `cli`'s.

pub mod archive;
pub mod gc;
pub mod hyperqueue;
pub mod kubernetes;
pub mod names;
pub mod skypilot;
pub mod slurm;

mod arrays;
mod board;
mod command;
mod difference;
mod frozen;
mod history;
mod outcome;
mod resources;
mod summary;
mod tasks;
mod template;

pub use arrays::{Array, arrays};
pub use board::{Board, Standing};
pub use difference::{Change, Difference, difference};
pub use frozen::{Frozen, Submission, host};
pub use history::{History, Phase, StageHistory};
pub use outcome::{Headline, Outcome};
pub use resources::{demand, local_limits, needs, resources};
pub use summary::{State, Summaries, Summary};
pub use tasks::{Keeper, Task, TaskState, remember, skip_heirs, withdraw};

//! From an experiment to work in progress: the run as it was submitted, and who carries it out; then living with many of
//! them.
//!
//! A run is frozen when it is submitted, so that editing the recipe afterwards changes nothing that is queued. What a stage
//! does is `stage`'s, how things are shown `cli`'s.

pub mod archive;
mod board;
mod difference;
mod frozen;
pub mod gc;
mod history;
pub mod names;
mod outcome;
mod summary;

pub use board::{Board, Standing};
pub use difference::{Change, Difference, Values, difference};
pub use frozen::{Frozen, Submission};
pub use history::{History, Phase, StageHistory};
pub use outcome::Headline;
pub use summary::{State, Summaries, Summary};

//! The closed list of stages: what a recipe becomes, in which order, and why a stage would run.

pub mod execute;
pub mod node;
pub mod reason;

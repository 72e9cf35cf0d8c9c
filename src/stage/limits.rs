//! What may run at the same time on one machine.
//!
//! Counts what stages declare; what they really take is not measured.

use std::ops::{Add, Sub};

/// An amount of what a machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Processor cores.
    pub cores: u64,
    /// Memory in mebibytes.
    pub memory: u64,
    /// Accelerators.
    pub devices: u64,
}

impl Load {
    /// More than anything takes.
    pub const UNLIMITED: Self = Self { cores: u64::MAX, memory: u64::MAX, devices: u64::MAX };

    /// Whether `self` is no more than `other` in any respect.
    #[must_use]
    pub const fn fits(self, other: Self) -> bool {
        self.cores <= other.cores && self.memory <= other.memory && self.devices <= other.devices
    }
}

impl Add for Load {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cores: self.cores.saturating_add(other.cores),
            memory: self.memory.saturating_add(other.memory),
            devices: self.devices.saturating_add(other.devices),
        }
    }
}

impl Sub for Load {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            cores: self.cores.saturating_sub(other.cores),
            memory: self.memory.saturating_sub(other.memory),
            devices: self.devices.saturating_sub(other.devices),
        }
    }
}

/// What holds a run of a plan back.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Stages at once.
    pub jobs: usize,
    /// What each node takes while it runs, in the plan's order; a node beyond the list takes nothing.
    pub loads: Vec<Load>,
    /// What all that run may take together. A node that takes more by itself never runs beside another.
    pub capacity: Load,
    /// Whether nothing new starts after the first failure.
    pub fail_fast: bool,
}

impl From<usize> for Limits {
    /// So many stages at once, whatever they take.
    fn from(jobs: usize) -> Self {
        Self { jobs, loads: Vec::new(), capacity: Load::UNLIMITED, fail_fast: false }
    }
}

impl Limits {
    /// What the node at `index` takes.
    #[must_use]
    pub fn load(&self, index: usize) -> Load {
        self.loads.get(index).copied().unwrap_or_default()
    }
}

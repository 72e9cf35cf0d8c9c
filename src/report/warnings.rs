//! What training warned of.

use serde::{Deserialize, Serialize};

use super::sentence::defined;

/// A suspicion of reward hacking: a limit that a policy passed in training, told once at the iteration where it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// The run's variant.
    pub variant: String,
    /// Its annotations.
    pub budget: usize,
    /// Its KL coefficient.
    pub kl_coef: f64,
    /// Its round of annotation, where there are several.
    pub round: Option<usize>,
    /// Whether that KL coefficient was chosen for its variant.
    pub chosen: bool,
    /// Its seed.
    pub seed: u64,
    /// The iteration, counted from 1.
    pub iteration: usize,
    /// Which limit: `length`, `kl_nats` or `repeats`.
    pub metric: String,
    /// What was seen.
    pub message: String,
}

impl Warning {
    /// The run and what was seen of it.
    #[must_use]
    pub fn sentence(&self) -> String {
        let note = match self.round {
            Some(round) => format!(", round {}", defined("rounds", round)),
            None if self.chosen => String::new(),
            None => ", not chosen".to_owned(),
        };
        let (budget, kl_coef) = (defined("annotations", self.budget), defined("kl_coef", self.kl_coef));
        format!("{} at {budget} annotations, KL coefficient {kl_coef}{note}: {}", self.variant, self.suspicion())
    }

    /// What was seen.
    #[must_use]
    pub fn suspicion(&self) -> String {
        let (seed, iteration) = (defined("seeds", self.seed), defined("iteration", self.iteration));
        let message = defined(&self.metric, &self.message);
        format!("reward hacking suspected (seed {seed}, iteration {iteration}): {message}")
    }
}

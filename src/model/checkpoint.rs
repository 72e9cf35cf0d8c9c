//! What a training run needs to go on after a kill: weights, optimiser moments and the step.
//!
//! Random states and the place in the data are functions of (seed, step) in every trainer, so they need no storing.
//! Where checkpoints go is the caller's concern.

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::optim::{self, AdamW};
use super::{Model, weights};
use crate::compute::Crew;
use crate::units::{Count, Positive};

/// The recipe's `[checkpoints]` table: how much a kill may cost. It changes no result and is in no key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Steps (in PPO iterations) between checkpoints from which a killed run continues.
    pub every_steps: Count,
    /// Minutes after which a checkpoint is written although `every_steps` have not passed.
    pub every_minutes: Positive,
    /// Checkpoints that are kept: should the last one be damaged, the one before serves.
    pub keep: Count,
}

impl Default for Config {
    fn default() -> Self {
        let count = |n| Count::try_from(n).expect("at least one");
        Self { every_steps: count(100), every_minutes: Positive::try_from(2.0).expect("above zero"), keep: count(2) }
    }
}

impl Config {
    /// Whether every key has its default, so that the table need not be written.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A checkpoint read back: the step after which it was saved, and its files.
pub type Saved = (usize, Vec<(String, Vec<u8>)>);

/// A place for checkpoints, which also decides when there is one.
pub trait Checkpoints: Sync {
    /// Whether the state after `step` is to be saved; a trainer asks after every step.
    fn due(&self, step: usize) -> bool;

    /// Stores the named files as the state after `step`, replacing older ones only once it is complete.
    ///
    /// # Errors
    /// When they cannot be stored, and when training is to end here: the trainer passes the error on.
    fn save(&self, step: usize, files: &[(String, Vec<u8>)]) -> Result<()>;

    /// The newest complete state.
    fn latest(&self) -> Result<Option<Saved>>;
}

/// A place that forgets: for benchmarks and tests.
pub struct Nowhere;

impl Checkpoints for Nowhere {
    fn due(&self, _: usize) -> bool {
        false
    }

    fn save(&self, _: usize, _: &[(String, Vec<u8>)]) -> Result<()> {
        Ok(())
    }

    fn latest(&self) -> Result<Option<Saved>> {
        Ok(None)
    }
}

/// A model in training.
#[derive(Clone, Debug)]
pub struct Learner {
    /// Its current weights.
    pub model: Model,
    /// Its optimiser.
    pub optimizer: AdamW,
}

impl Learner {
    /// A model about to be trained.
    #[must_use]
    pub fn new(model: Model, config: &optim::Config) -> Self {
        Self { optimizer: AdamW::new(config, &model.weights), model }
    }

    /// One clipped AdamW update; returns the gradient's norm before clipping.
    pub fn update(&mut self, gradients: Vec<burn::tensor::Tensor<2>>, rate: f64, crew: &Crew) -> f64 {
        self.optimizer.update(&mut self.model.weights, gradients, rate, crew)
    }

    /// Refuses weights that are no numbers: going on from there would be in vain, and a result with them no result.
    ///
    /// # Errors
    /// When the norm of the weights, called `name`, is no number.
    pub fn check(&self, name: &str) -> Result<()> {
        let norm = optim::global_norm(&self.model.weights);
        ensure!(
            norm.is_finite(),
            "the norm of the weights `{name}` is {norm}: expected a number; a lower learning rate may help (the \
             checkpoint before is kept)"
        );
        Ok(())
    }

    /// The files that [`Self::restore`] reads, their names starting with `name`.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn files(&self, name: &str) -> Result<[(String, Vec<u8>); 2]> {
        self.check(name)?;
        let moments: Vec<_> = moment_names(&self.model).into_iter().zip(self.optimizer.moments()).collect();
        Ok([
            (format!("{name}.safetensors"), self.model.to_bytes()),
            (format!("{name}-adamw-{}.safetensors", self.optimizer.steps()), weights::to_bytes(&moments)),
        ])
    }

    /// Reads back what [`Self::files`] stored.
    ///
    /// # Errors
    /// When a file is missing or does not fit the architecture.
    pub fn restore(
        &self,
        name: &str,
        config: &optim::Config,
        files: &[(String, Vec<u8>)],
        device: &Device,
    ) -> Result<Self> {
        let find = |prefix: &str| {
            files
                .iter()
                .find(|(file, _)| file.starts_with(prefix))
                .with_context(|| format!("checkpoint has no `{prefix}`"))
        };
        let model = self.model.with_weights(&find(&format!("{name}.safetensors"))?.1)?;
        let prefix = format!("{name}-adamw-");
        let (file, bytes) = find(&prefix)?;
        let step = file
            .trim_start_matches(&prefix)
            .trim_end_matches(".safetensors")
            .parse()
            .with_context(|| format!("checkpoint file `{file}`"))?;
        let moments = weights::from_bytes(bytes, &moment_names(&model), device)?;
        Ok(Self { optimizer: AdamW::resume(config, step, moments), model })
    }
}

fn moment_names(model: &Model) -> Vec<String> {
    let names = model.names();
    ["m", "v"].iter().flat_map(|moment| names.iter().map(move |name| format!("{moment}.{name}"))).collect()
}

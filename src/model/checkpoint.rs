//! What a training run needs to go on after a kill: weights, optimiser moments and the step.
//!
//! Random states and the place in the data are functions of (seed, step) in every trainer, so they need no storing.
//! Where checkpoints go is the caller's concern.

use anyhow::{Context, Result};
use burn::tensor::Device;

use super::optim::{self, AdamW};
use super::{Model, weights};

/// A checkpoint read back: the step after which it was saved, and its files.
pub type Saved = (usize, Vec<(String, Vec<u8>)>);

/// A place for checkpoints.
pub trait Checkpoints: Sync {
    /// Stores the named files as the state after `step`, replacing older ones only once it is complete.
    fn save(&self, step: usize, files: &[(String, Vec<u8>)]) -> Result<()>;

    /// The newest complete state.
    fn latest(&self) -> Result<Option<Saved>>;
}

/// A place that forgets: for benchmarks and tests.
pub struct Nowhere;

impl Checkpoints for Nowhere {
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
    pub fn update(&mut self, gradients: Vec<burn::tensor::Tensor<2>>, rate: f64) -> f64 {
        self.optimizer.update(&mut self.model.weights, gradients, rate)
    }

    /// Whether every weight is a number: what a checkpoint must be able to say of itself.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        optim::global_norm(&self.model.weights).is_finite()
    }

    /// The files that [`Self::restore`] reads, their names starting with `name`.
    #[must_use]
    pub fn files(&self, name: &str) -> [(String, Vec<u8>); 2] {
        let moments: Vec<_> = moment_names(&self.model).into_iter().zip(self.optimizer.moments()).collect();
        [
            (format!("{name}.safetensors"), self.model.to_bytes()),
            (format!("{name}-adamw-{}.safetensors", self.optimizer.steps()), weights::to_bytes(&moments)),
        ]
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
        let model = Model::from_bytes(&find(&format!("{name}.safetensors"))?.1, &self.model.config, device)?;
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

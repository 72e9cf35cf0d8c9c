//! Low-rank adapters [LORA]: a linear layer `x W` becomes `x W + (alpha / rank) dropout(x) A B`, where W is a base's, which
//! stays as it is and is shared by all that is made from it, and A and B are trained.
//!
//! Which modules of a checkpoint a recipe's names mean is left to `pretrained`.

use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Model;
use super::architecture::{Architecture, Norm, Role};
use crate::compute::fused::matmul;
use crate::units::{Count, Fraction, Positive};

/// The recipe's `[policy.lora]` table: the policy, the value model and all reward models are adapters of one base, the
/// checkpoint (fine-tuned first, if `fine_tune` says so); the reference is the base without any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Columns of A and rows of B.
    pub rank: Count,
    /// What the product of A and B is multiplied by, times `rank` [LORA].
    pub alpha: Positive,
    /// Share of an adapter's inputs that is dropped in supervised training. PPO drops none: it compares log-probabilities of
    /// one model before and after an update.
    #[serde(default = "none")]
    pub dropout: Fraction,
    /// Linear layers by the checkpoint's names (`q_proj`, `c_attn`, ...), or `all-linear`: all but the head.
    pub target_modules: Vec<String>,
}

fn none() -> Fraction {
    Fraction::try_from(0.0).expect("in range")
}

/// Adapters of a network: to which linear layers they belong, and how they are used.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// In every layer: what shares one A because it shares one module, in order.
    pub modules: Vec<Vec<Role>>,
    /// Columns of A.
    pub rank: usize,
    /// The factor of the product.
    pub scale: f64,
    /// Share of inputs that is dropped where a model is [`Model::noisy`].
    pub dropout: f64,
}

/// What an adapted model has beside the weights that are trained.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// The weights that it is built on.
    pub base: Vec<Tensor<2>>,
    /// Where the trained ones belong.
    pub lora: Lora,
    /// Whether the head is trained, as a whole, beside the adapters.
    pub own_head: bool,
    /// Decides which inputs are dropped; none are without it.
    noise: Option<u64>,
}

impl Lora {
    /// Weights of one layer.
    fn weights(&self) -> usize {
        self.modules.iter().map(|roles| 1 + roles.len()).sum()
    }

    /// Name and shape of every adapter of a network: of each module its A, then a B for each of its parts.
    #[must_use]
    pub fn shapes(&self, architecture: &Architecture) -> Vec<(String, [usize; 2])> {
        let layer = architecture.layer();
        let size =
            |role: Role| layer.iter().find(|(part, _)| *part == (role, false)).map_or([0, 0], |(_, shape)| *shape);
        let mut shapes = Vec::new();
        for i in 0..architecture.num_hidden_layers {
            for roles in &self.modules {
                let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
                shapes.push((format!("layers.{i}.{}.lora_a", names.join("+")), [size(roles[0])[0], self.rank]));
                let parts = roles
                    .iter()
                    .map(|&role| (format!("layers.{i}.{}.lora_b", role.name()), [self.rank, size(role)[1]]));
                shapes.extend(parts);
            }
        }
        shapes
    }
}

impl Model {
    /// This model as the base of fresh adapters: A uniform within `1 / sqrt(inputs)`, B zero, so that nothing changes yet.
    #[must_use]
    pub fn adapt(&self, lora: &Lora, seed: u64) -> Self {
        let device = self.device();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let weights = lora.shapes(&self.config).into_iter().map(|(name, [rows, columns])| {
            if name.ends_with("lora_b") {
                return Tensor::zeros([rows, columns], &device);
            }
            let bound = (rows as f32).sqrt().recip();
            let values: Vec<f32> = (0..rows * columns).map(|_| rng.random_range(-bound..bound)).collect();
            Tensor::from_data(TensorData::new(values, [rows, columns]), &device)
        });
        let adapter = Adapter { base: self.weights.clone(), lora: lora.clone(), own_head: false, noise: None };
        Self { weights: weights.collect(), config: self.config.clone(), adapter: Some(adapter) }
    }

    /// This model with inputs of its adapters dropped as `seed` decides: for a step of training.
    #[must_use]
    pub fn noisy(&self, seed: u64) -> Self {
        let adapter = self.adapter.clone().map(|adapter| Adapter { noise: Some(seed), ..adapter });
        Self { adapter, ..self.clone() }
    }

    /// The same function as a model without adapters: the products are added to what they belong to.
    #[must_use]
    pub fn merged(&self) -> Self {
        let Some(Adapter { base, lora, .. }) = &self.adapter else { return self.clone() };
        let layer = self.config.layer();
        let mut weights = base.clone();
        weights.truncate(self.config.trunk_weights());
        for (i, adapters) in self.weights.chunks_exact(lora.weights()).take(self.config.num_hidden_layers).enumerate() {
            let mut rest = adapters;
            for roles in &lora.modules {
                let (parts, after) = rest.split_at(1 + roles.len());
                rest = after;
                for (&role, b) in roles.iter().zip(&parts[1..]) {
                    let Some(place) = layer.iter().position(|(part, _)| *part == (role, false)) else { continue };
                    let weight = &mut weights[self.config.embeddings() + i * layer.len() + place];
                    *weight = weight.clone() + matmul(parts[0].clone(), b.clone()) * lora.scale;
                }
            }
        }
        weights.extend(self.head().iter().cloned());
        Self { config: self.config.clone(), weights, adapter: None }
    }

    /// Bytes of the base that this model shares with others, and of what is its own.
    #[must_use]
    pub fn bytes(&self) -> [u64; 2] {
        let count = |weights: &[Tensor<2>]| {
            weights.iter().map(|w| (w.dims().iter().product::<usize>() * size_of::<f32>()) as u64).sum()
        };
        [self.adapter.as_ref().map_or(0, |adapter| count(&adapter.base)), count(&self.weights)]
    }

    /// The weights of embeddings, layers and final norm.
    pub(super) fn trunk(&self) -> &[Tensor<2>] {
        let weights = self.adapter.as_ref().map_or(&self.weights, |adapter| &adapter.base);
        &weights[..self.config.trunk_weights()]
    }

    /// The weights of the head; none where it is the embedding.
    pub(super) fn head(&self) -> &[Tensor<2>] {
        let weights = match &self.adapter {
            Some(adapter) if !adapter.own_head => &adapter.base,
            _ => &self.weights,
        };
        &weights[weights.len() - self.config.head_weights()..]
    }

    /// This model's adapters under a trained head.
    pub(super) fn adapter_headed(&self, adapter: &Adapter, head: Tensor<2>) -> Self {
        let own = if adapter.own_head { self.config.head_weights() } else { 0 };
        let weights = self.weights[..self.weights.len() - own].iter().cloned().chain([head]).collect();
        let mut base = adapter.base.clone();
        base.truncate(self.config.trunk_weights());
        let adapter = Adapter { base, own_head: true, ..adapter.clone() };
        Self { config: self.config.headed(), weights, adapter: Some(adapter) }
    }

    /// Name and shape of every weight that is trained, in order.
    #[must_use]
    pub fn shapes(&self) -> Vec<(String, [usize; 2])> {
        let all = self.config.shapes(self.vocab_size(), self.outputs());
        let Some(adapter) = &self.adapter else { return all };
        let head = if adapter.own_head { &all[self.config.trunk_weights()..] } else { &[] };
        adapter.lora.shapes(&self.config).into_iter().chain(head.iter().cloned()).collect()
    }

    /// What of the adapters belongs to layer `index`.
    pub(super) fn layer_adapter(&self, index: usize) -> Option<LayerAdapter<'_>> {
        let Adapter { lora, noise, .. } = self.adapter.as_ref()?;
        let weights = &self.weights[index * lora.weights()..][..lora.weights()];
        Some(LayerAdapter { lora, weights, noise: *noise, layer: index })
    }
}

/// The adapters of one layer.
pub(super) struct LayerAdapter<'a> {
    lora: &'a Lora,
    weights: &'a [Tensor<2>],
    noise: Option<u64>,
    layer: usize,
}

impl LayerAdapter<'_> {
    /// What the adapter of `role`, if there is one, adds to its outputs.
    pub(super) fn added(&self, role: Role, x: &Tensor<2>) -> Option<Tensor<2>> {
        let mut rest = self.weights;
        for (module, roles) in self.lora.modules.iter().enumerate() {
            let (parts, after) = rest.split_at(1 + roles.len());
            rest = after;
            let Some(place) = roles.iter().position(|known| *known == role) else { continue };
            let x = self.dropped(x.clone(), module);
            let low = matmul(x, parts[0].clone());
            return Some(matmul(low, parts[1 + place].clone()) * self.lora.scale);
        }
        None
    }

    /// Parts of one module see the same inputs, so the mask is the module's.
    fn dropped(&self, x: Tensor<2>, module: usize) -> Tensor<2> {
        let (Some(seed), true) = (self.noise, self.lora.dropout > 0.0) else { return x };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream((self.layer * self.lora.modules.len() + module) as u64);
        let mask = mask(&mut rng, x.dims(), self.lora.dropout, &x.device());
        let mask = mask.cast(x.dtype());
        x * mask
    }
}

/// Zeros for a share of entries, and for the others what keeps the mean.
fn mask(rng: &mut ChaCha8Rng, [rows, columns]: [usize; 2], dropout: f64, device: &Device) -> Tensor<2> {
    let kept = (1.0 / (1.0 - dropout)) as f32;
    let values: Vec<f32> = (0..rows * columns).map(|_| if rng.random_bool(dropout) { 0.0 } else { kept }).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

impl Architecture {
    /// Weights of embeddings, layers and final norm.
    #[must_use]
    pub fn trunk_weights(&self) -> usize {
        let norm = if self.norm == Norm::Layer { 2 } else { 1 };
        self.embeddings() + self.num_hidden_layers * self.layer().len() + norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_keeps_the_mean_and_is_the_same_for_the_same_seed() {
        let values = |seed| {
            let mask = mask(&mut ChaCha8Rng::seed_from_u64(seed), [100, 100], 0.25, &Device::flex());
            crate::model::weights::host(&mask)
        };
        let first = values(1);
        let mean = first.iter().sum::<f32>() / 1e4;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!(first.iter().all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6));
        assert_eq!(first, values(1));
        assert_ne!(first, values(2));
    }
}

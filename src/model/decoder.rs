//! A decoder: norms, positions, grouped-query attention, an MLP, and one linear head; the variations are
//! `architecture`'s.
//!
//! The head decides what the model is: V outputs a language model, one output a value or reward model, two outputs a
//! token classifier.

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::adapter::Adapter;
use super::architecture::{Architecture, Norm, Part, Positions};
use super::joined::Joined;
use super::layer::{Cached, Layer, Views, layer_norm};
use super::position::Rotations;
use super::{Batch, Config, recompute};
use crate::compute::fused::{self, matmul, rms_norm};
use crate::compute::{Place, Precision};

/// A decoder with a head.
#[derive(Clone, Debug)]
pub struct Model {
    /// What it is made of.
    pub config: Architecture,
    /// What is trained: embeddings, the layers, final norm, head; of an adapted model the adapters, and its head if that is
    /// its own. Linear layers are `[inputs, outputs]`, norms and biases `[1, n]`.
    pub weights: Vec<Tensor<2>>,
    /// What an adapted model is built on.
    pub adapter: Option<Adapter>,
}

/// Keys and values of the tokens seen so far, one pair a layer, each `[B, kv heads, capacity, head_dim]`.
#[derive(Clone, Debug)]
pub struct Cache {
    /// One (keys, values) pair a layer.
    pub layers: Vec<(Tensor<4>, Tensor<4>)>,
    /// Columns filled.
    pub columns: usize,
    /// Of all positions that there is room for, where they are the same for every sequence.
    rotations: Option<Rotations>,
    joined: Option<Arc<[Joined]>>,
}

impl Cache {
    /// Columns that there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.layers.first().map_or(self.columns, |(keys, _)| keys.dims()[2])
    }
}

impl Model {
    /// A freshly initialised model: embedding and head N(0, 0.02), matrices N(0, 1/inputs), those that write to the
    /// residual stream divided by sqrt(2 layers), norms one.
    #[must_use]
    pub fn init(config: &Config, vocab_size: usize, outputs: usize, seed: u64, device: &Device) -> Self {
        let config = Architecture::from(config);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let residual = (2.0 * config.num_hidden_layers as f32).sqrt().recip();
        let weights = config
            .shapes(vocab_size, outputs)
            .into_iter()
            .map(|(name, [rows, columns])| {
                let std = match name.as_str() {
                    "embed_tokens" | "head" => 0.02,
                    name if name.ends_with("norm") => 0.0,
                    name if name.ends_with("o_proj") || name.ends_with("down_proj") => residual / (rows as f32).sqrt(),
                    _ => (rows as f32).sqrt().recip(),
                };
                if std == 0.0 {
                    Tensor::ones([rows, columns], device)
                } else {
                    normal(&mut rng, [rows, columns], std, device)
                }
            })
            .collect();
        Self { config, weights, adapter: None }
    }

    /// The same trunk under a new head of `outputs` columns, drawn from N(0, `std`); zero for `std` zero.
    #[must_use]
    pub fn with_head(&self, outputs: usize, std: f32, seed: u64) -> Self {
        let device = self.device();
        let shape = [self.config.hidden_size, outputs];
        let head = if std == 0.0 {
            Tensor::zeros(shape, &device)
        } else {
            normal(&mut ChaCha8Rng::seed_from_u64(seed), shape, std, &device)
        };
        if let Some(adapter) = &self.adapter {
            return self.adapter_headed(adapter, head);
        }
        let weights = self.trunk().iter().cloned().chain([head]).collect();
        Self { config: self.config.headed(), weights, adapter: None }
    }

    /// The names of the weights that are trained, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.shapes().into_iter().map(|(name, _)| name).collect()
    }

    /// Ids that the embedding knows, V.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.trunk()[0].dims()[0]
    }

    /// Columns of the head.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.head().first().map_or_else(|| self.vocab_size(), |head| head.dims()[1])
    }

    /// Numbers in all weights that are trained.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.weights.iter().map(|w| w.dims().iter().product::<usize>()).sum()
    }

    /// Where the weights live.
    #[must_use]
    pub fn device(&self) -> Device {
        self.trunk()[0].device().without_autodiff()
    }

    /// The same model as a replica at `place`.
    #[must_use]
    pub fn on(&self, place: Place) -> Self {
        let moved = |weights: &[Tensor<2>]| weights.iter().map(|w| placed(w, place)).collect();
        let mut adapter = self.adapter.clone();
        if let Some(adapter) = &mut adapter {
            adapter.base = moved(&adapter.base);
        }
        Self { config: self.config.clone(), weights: moved(&self.weights), adapter }
    }

    /// The same, for a step of training: embeddings that are trained stay in `f32`, since their gradients are sums over many
    /// tokens.
    #[must_use]
    pub fn learning_on(&self, place: Place) -> Self {
        let mut replica = self.on(place);
        if self.adapter.is_none() {
            let own = replica.weights.iter_mut().zip(&self.weights).take(self.config.embeddings());
            own.for_each(|(replica, own)| *replica = placed(own, Place { precision: Precision::F32, ..place }));
        }
        replica
    }

    /// What activations are made of.
    fn dtype(&self) -> DType {
        self.trunk().last().expect("a model ends in a norm").dtype()
    }

    /// The same model with gradients recorded for every weight that is trained.
    #[must_use]
    pub fn tracked(&self) -> Self {
        let weights = self.weights.iter().map(|w| w.clone().autodiff().require_grad()).collect();
        Self { weights, ..self.clone() }
    }

    /// The same model without gradients.
    #[must_use]
    pub fn untracked(&self) -> Self {
        let weights = self.weights.iter().map(|w| w.clone().inner()).collect();
        Self { weights, ..self.clone() }
    }

    /// Hidden states after the final norm at every position.
    ///
    /// # Shapes
    /// `[B, T, H]`.
    #[must_use]
    pub fn hidden(&self, batch: &Batch) -> Tensor<3> {
        self.run(&batch.ids, &batch.positions, &batch.attention_bias, None)
    }

    /// Outputs at the positions that *predict* the response tokens, Q - 1 to T - 2: logits or values.
    ///
    /// # Shapes
    /// `[B, R, outputs]`.
    #[must_use]
    pub fn before_response(&self, batch: &Batch) -> Tensor<3> {
        self.outputs_from(batch, batch.prompt_columns - 1)
    }

    /// Outputs at the positions *of* the response tokens, Q to T - 1: rewards.
    ///
    /// # Shapes
    /// `[B, R, outputs]`.
    #[must_use]
    pub fn at_response(&self, batch: &Batch) -> Tensor<3> {
        self.outputs_from(batch, batch.prompt_columns)
    }

    /// Log-probabilities of the response tokens at `temperature`; padding holds numbers without meaning.
    ///
    /// # Shapes
    /// `[B, R]`.
    #[must_use]
    pub fn log_probs(&self, batch: &Batch, temperature: f64) -> Tensor<2> {
        let logits = self.before_response(batch);
        let logits = if temperature.to_bits() == 1_f64.to_bits() { logits } else { logits / temperature };
        gather_log_probs(logits, batch.response_ids.clone())
    }

    fn outputs_from(&self, batch: &Batch, first: usize) -> Tensor<3> {
        self.project(self.hidden(batch).narrow(1, first, batch.response_columns))
    }

    /// The head's outputs for hidden states, `[B, n, H]` to `[B, n, outputs]`, in `f32`.
    #[must_use]
    pub fn project(&self, hidden: Tensor<3>) -> Tensor<3> {
        let [b, n, h] = hidden.dims();
        let hidden = hidden.reshape([b * n, h]);
        let outputs = match self.head() {
            [] => matmul(hidden, self.trunk()[0].clone().cast(self.dtype()).transpose()),
            [head, biases @ ..] => {
                let outputs = matmul(hidden, head.clone());
                biases.iter().fold(outputs, |outputs, bias| outputs + bias.clone())
            }
        };
        let outputs = outputs.cast(DType::F32);
        let outputs = match self.config.logit_softcap {
            Some(cap) => (outputs / cap).tanh() * cap,
            None => outputs,
        };
        outputs.reshape([b, n, self.outputs()])
    }

    /// An empty cache for `rows` rows of at most `capacity` tokens.
    #[must_use]
    pub fn cache(&self, rows: usize, capacity: usize) -> Cache {
        self.cache_with(rows, capacity, None)
    }

    /// The same; with `joined`, which is this model's, products are done with that.
    pub(super) fn cache_with(&self, rows: usize, capacity: usize, joined: Option<Arc<[Joined]>>) -> Cache {
        let shape = [rows, self.config.num_key_value_heads, capacity, self.config.head_dim];
        let zeros = || Tensor::zeros(shape, (&self.device(), self.dtype()));
        let layers = (0..self.config.num_hidden_layers).map(|_| (zeros(), zeros())).collect();
        let divisor = if joined.is_some() { 1.0 } else { self.config.attention_divisor };
        let rotations = Rotations::of_all(&self.config, divisor, capacity, &self.device());
        Cache { layers, columns: 0, rotations, joined }
    }

    /// Feeds the next columns of every row, reading and extending the cache; hidden states of the new columns.
    ///
    /// # Shapes
    /// `ids` and `positions` (below the cache's capacity) `[B, n]`, `bias` `[B, 1, n, columns + n]`; result `[B, n, H]`.
    #[must_use]
    pub fn extend(
        &self,
        ids: &Tensor<2, Int>,
        positions: &Tensor<2, Int>,
        bias: &Tensor<4>,
        cache: &mut Cache,
    ) -> Tensor<3> {
        let hidden = self.run(ids, positions, bias, Some(cache));
        cache.columns += ids.dims()[1];
        hidden
    }

    fn run(
        &self,
        ids: &Tensor<2, Int>,
        positions: &Tensor<2, Int>,
        bias: &Tensor<4>,
        mut cache: Option<&mut Cache>,
    ) -> Tensor<3> {
        let ([b, t], config) = (ids.dims(), &self.config);
        let mut x = self.embedded(ids, positions);
        let rotations = match cache.as_deref().and_then(|cache| cache.rotations.as_ref()) {
            Some(all) => all.at(positions),
            None => Rotations::new(config, config.attention_divisor, positions, &self.device()),
        };
        let views = Views::new(config, rotations, bias, &self.device());
        if cache.is_none() && recompute::is_recording(self) {
            x = recompute::forward(self, views, x);
        } else {
            let parts = self.parts();
            for layer in self.layers(&parts) {
                let cached = cache.as_deref_mut().map(|cache| Cached {
                    columns: cache.columns,
                    layer: &mut cache.layers[layer.index],
                    joined: cache.joined.as_ref().map(|joined| &joined[layer.index]),
                });
                x = layer.run(x, views.of(config, layer.index), cached);
            }
        }
        let normed = match (config.norm, self.trunk()) {
            (Norm::Rms, [.., weight]) => rms_norm(x, weight.clone(), config.norm_eps),
            (Norm::Layer, [.., weight, bias]) => layer_norm(x, weight.clone(), bias.clone(), config.norm_eps),
            _ => unreachable!("a model ends in a norm"),
        };
        normed.reshape([b, t, config.hidden_size])
    }

    /// What every layer has, in order.
    pub(super) fn parts(&self) -> Vec<Part> {
        self.config.layer().into_iter().map(|(part, _)| part).collect()
    }

    /// The layers, which have `parts`.
    pub(super) fn layers<'a>(&'a self, parts: &'a [Part]) -> impl Iterator<Item = Layer<'a>> {
        let config = &self.config;
        let layers = self.trunk()[config.embeddings()..].chunks_exact(parts.len()).take(config.num_hidden_layers);
        layers.enumerate().map(move |(index, weights)| Layer {
            config,
            index,
            parts,
            weights,
            adapter: self.layer_adapter(index),
        })
    }

    fn embedded(&self, ids: &Tensor<2, Int>, positions: &Tensor<2, Int>) -> Tensor<2> {
        let rows = ids.dims().iter().product::<usize>();
        let trunk = self.trunk();
        let x = trunk[0].clone().select(0, ids.clone().reshape([rows]));
        let x = match self.config.padding_id.filter(|_| trunk[0].is_require_grad()) {
            Some(padding) => {
                let learns_nothing = ids.clone().reshape([rows, 1]).equal_elem(padding).expand([rows, x.dims()[1]]);
                x.clone().mask_where(learns_nothing.autodiff(), x.detach())
            }
            None => x,
        };
        let scale = self.config.embedding_scale;
        let x = if scale.to_bits() == 1_f64.to_bits() { x } else { x * scale };
        let x = match self.config.positions {
            Positions::Learned(_) => x + trunk[1].clone().select(0, positions.clone().reshape([rows])),
            Positions::Rotary { .. } => x,
        };
        x.cast(self.dtype())
    }
}

/// `log_softmax(logits)[id]` at every position.
///
/// # Shapes
/// `logits` `[B, R, V]`, `ids` `[B, R]`; result `[B, R]`.
#[must_use]
pub fn gather_log_probs(logits: Tensor<3>, ids: Tensor<2, Int>) -> Tensor<2> {
    let [b, r, v] = logits.dims();
    fused::gather_log_probs(logits.reshape([b * r, v]), ids.reshape([b * r])).reshape([b, r])
}

/// A weight as a replica at `place` has it.
fn placed(weight: &Tensor<2>, place: Place) -> Tensor<2> {
    let weight = weight.clone().cast(place.precision.dtype());
    match place.device {
        Some(device) if *device != weight.device() => weight.to_device(device),
        _ => weight,
    }
}

fn normal(rng: &mut ChaCha8Rng, [rows, columns]: [usize; 2], std: f32, device: &Device) -> Tensor<2> {
    let normal = Normal::new(0.0, std).expect("a finite deviation");
    let data: Vec<f32> = (0..rows * columns).map(|_| normal.sample(rng)).collect();
    Tensor::from_data(TensorData::new(data, [rows, columns]), device)
}

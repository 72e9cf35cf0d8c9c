//! A Llama-style decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU, and one linear head.
//!
//! The head decides what the model is: V outputs a language model, one output a value or reward model, two outputs a
//! token classifier.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::{Batch, Config};
use crate::compute::fused::{self, attention, matmul, rms_norm, rotate, swiglu};

/// Weight matrices of one layer, in the order in which they stand in [`Model::weights`].
const LAYER: [&str; 9] = [
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// A decoder with a head.
#[derive(Clone, Debug)]
pub struct Model {
    /// The architecture.
    pub config: Config,
    /// Embedding, nine matrices a layer, final norm, head. Linear layers are `[inputs, outputs]`, norms `[1, H]`.
    pub weights: Vec<Tensor<2>>,
}

/// Keys and values of the tokens seen so far, one pair a layer, each `[B, kv heads, capacity, head_dim]`.
#[derive(Clone, Debug)]
pub struct Cache {
    /// One (keys, values) pair a layer.
    pub layers: Vec<(Tensor<4>, Tensor<4>)>,
    /// Columns filled.
    pub columns: usize,
}

/// One layer of a cache.
struct Cached<'a> {
    columns: usize,
    layer: &'a mut (Tensor<4>, Tensor<4>),
}

impl Cached<'_> {
    /// Writes the keys and values of new columns and returns those of all columns so far.
    fn extend(self, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let (keys, values) = self.layer;
        let [b, heads, t, d] = k.dims();
        let range = [0..b, 0..heads, self.columns..self.columns + t, 0..d];
        *keys = keys.extract().slice_assign(range.clone(), k);
        *values = values.extract().slice_assign(range, v);
        let columns = self.columns + t;
        (keys.clone().narrow(2, 0, columns), values.clone().narrow(2, 0, columns))
    }
}

impl Model {
    /// A freshly initialised model: embedding and head N(0, 0.02), matrices N(0, 1/inputs), those that write to the
    /// residual stream divided by sqrt(2 layers), norms one.
    #[must_use]
    pub fn init(config: &Config, vocab_size: usize, outputs: usize, seed: u64, device: &Device) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let residual = (2.0 * config.num_hidden_layers.get() as f32).sqrt().recip();
        let weights = Self::shapes(config, vocab_size, outputs)
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
        Self { config: config.clone(), weights }
    }

    /// The same trunk under a new head of `outputs` columns, drawn from N(0, `std`); zero for `std` zero.
    #[must_use]
    pub fn with_head(&self, outputs: usize, std: f32, seed: u64) -> Self {
        let mut model = self.clone();
        let device = self.device();
        let shape = [self.config.hidden_size.get(), outputs];
        let head = if std == 0.0 {
            Tensor::zeros(shape, &device)
        } else {
            normal(&mut ChaCha8Rng::seed_from_u64(seed), shape, std, &device)
        };
        *model.weights.last_mut().expect("a model has a head") = head;
        model
    }

    /// Name and shape of every weight, in order.
    #[must_use]
    pub fn shapes(config: &Config, vocab_size: usize, outputs: usize) -> Vec<(String, [usize; 2])> {
        let (h, f) = (config.hidden_size.get(), config.intermediate_size.get());
        let (q, kv) = (
            config.num_attention_heads.get() * config.head_dim(),
            config.num_key_value_heads.get() * config.head_dim(),
        );
        let layer = [[1, h], [h, q], [h, kv], [h, kv], [q, h], [1, h], [h, f], [h, f], [f, h]];
        let mut shapes = vec![("embed_tokens".to_owned(), [vocab_size, h])];
        for i in 0..config.num_hidden_layers.get() {
            shapes.extend(LAYER.iter().zip(layer).map(|(name, shape)| (format!("layers.{i}.{name}"), shape)));
        }
        shapes.extend([("norm".to_owned(), [1, h]), ("head".to_owned(), [h, outputs])]);
        shapes
    }

    /// The names of this model's weights, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        Self::shapes(&self.config, self.vocab_size(), self.outputs()).into_iter().map(|(name, _)| name).collect()
    }

    /// Ids that the embedding knows, V.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.weights[0].dims()[0]
    }

    /// Columns of the head.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.head().dims()[1]
    }

    /// Numbers in all weights.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.weights.iter().map(|w| w.dims().iter().product::<usize>()).sum()
    }

    /// Where the weights live.
    #[must_use]
    pub fn device(&self) -> Device {
        self.weights[0].device()
    }

    /// The same model with gradients recorded for every weight.
    #[must_use]
    pub fn tracked(&self) -> Self {
        let weights = self.weights.iter().map(|w| w.clone().autodiff().require_grad()).collect();
        Self { config: self.config.clone(), weights }
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

    /// The head's outputs for hidden states, `[B, n, H]` to `[B, n, outputs]`.
    #[must_use]
    pub fn project(&self, hidden: Tensor<3>) -> Tensor<3> {
        let [b, n, h] = hidden.dims();
        matmul(hidden.reshape([b * n, h]), self.head().clone()).reshape([b, n, self.outputs()])
    }

    fn head(&self) -> &Tensor<2> {
        self.weights.last().expect("a model has a head")
    }

    /// An empty cache for `rows` rows of at most `capacity` tokens.
    #[must_use]
    pub fn cache(&self, rows: usize, capacity: usize) -> Cache {
        let shape = [rows, self.config.num_key_value_heads.get(), capacity, self.config.head_dim()];
        let zeros = || Tensor::zeros(shape, &self.device());
        Cache { layers: (0..self.config.num_hidden_layers.get()).map(|_| (zeros(), zeros())).collect(), columns: 0 }
    }

    /// Feeds the next columns of every row, reading and extending the cache; hidden states of the new columns.
    ///
    /// # Shapes
    /// `ids` and `positions` `[B, n]`, `bias` `[B, 1, n, columns + n]`; result `[B, n, H]`.
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
        let [b, t] = ids.dims();
        let h = self.config.hidden_size.get();
        let rotary = Rotary::new(&self.config, positions, &self.device());
        let mut x = self.weights[0].clone().select(0, ids.clone().reshape([b * t]));
        for (i, layer) in
            self.weights[1..].chunks_exact(LAYER.len()).take(self.config.num_hidden_layers.get()).enumerate()
        {
            let normed = self.norm(x.clone(), &layer[0]);
            let cached =
                cache.as_deref_mut().map(|cache| Cached { columns: cache.columns, layer: &mut cache.layers[i] });
            x = x + self.attention(&normed, &layer[1..5], &rotary, bias, cached);
            let normed = self.norm(x.clone(), &layer[5]);
            let gated = swiglu(matmul(normed.clone(), layer[6].clone()), matmul(normed, layer[7].clone()));
            x = x + matmul(gated, layer[8].clone());
        }
        self.norm(x, &self.weights[self.weights.len() - 2]).reshape([b, t, h])
    }

    fn norm(&self, x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
        rms_norm(x, weight.clone(), self.config.rms_norm_eps.get())
    }

    fn attention(
        &self,
        x: &Tensor<2>,
        projections: &[Tensor<2>],
        rotary: &Rotary,
        bias: &Tensor<4>,
        cached: Option<Cached>,
    ) -> Tensor<2> {
        let (heads, kv_heads, d) =
            (self.config.num_attention_heads.get(), self.config.num_key_value_heads.get(), self.config.head_dim());
        let [b, _, t, _] = bias.dims();
        let split = |w: &Tensor<2>, n: usize| matmul(x.clone(), w.clone()).reshape([b * t, n, d]);
        let turn = |w, n, [cos, sin]: &[Tensor<3>; 2]| rotate(split(w, n), cos.clone(), sin.clone());
        let by_head = |x: Tensor<3>, n: usize| x.reshape([b, t, n, d]).swap_dims(1, 2);
        let q = by_head(turn(&projections[0], heads, &rotary.queries), heads);
        let mut k = by_head(turn(&projections[1], kv_heads, &rotary.keys), kv_heads);
        let mut v = by_head(split(&projections[2], kv_heads), kv_heads);
        if let Some(cached) = cached {
            (k, v) = cached.extend(k, v);
        }
        matmul(attention(q, k, v, bias.clone()), projections[3].clone())
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

/// Cosines and sines of the rotary position embedding [ROPE], each `[B * T, 1, d]`.
struct Rotary {
    keys: [Tensor<3>; 2],
    /// Divided by `sqrt(d)`, so that the (large) scores need not be.
    queries: [Tensor<3>; 2],
}

impl Rotary {
    fn new(config: &Config, positions: &Tensor<2, Int>, device: &Device) -> Self {
        let d = config.head_dim();
        let frequencies: Vec<f32> =
            (0..d).map(|i| config.rope_theta.get().powf(-2.0 * ((i % (d / 2)) as f64) / d as f64) as f32).collect();
        let rows = positions.dims().iter().product::<usize>();
        let angles = positions.clone().reshape([rows, 1, 1]).float()
            * Tensor::<3>::from_data(TensorData::new(frequencies, [1, 1, d]), device);
        let keys = [angles.clone().cos(), angles.sin()];
        let queries = keys.clone().map(|x| x / (d as f64).sqrt());
        Self { keys, queries }
    }
}

fn normal(rng: &mut ChaCha8Rng, [rows, columns]: [usize; 2], std: f32, device: &Device) -> Tensor<2> {
    let normal = Normal::new(0.0, std).expect("a finite deviation");
    let data: Vec<f32> = (0..rows * columns).map(|_| normal.sample(rng)).collect();
    Tensor::from_data(TensorData::new(data, [rows, columns]), device)
}

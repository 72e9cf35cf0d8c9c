//! One layer of a decoder: attention and MLP between norms, in the variations that `architecture` lists.

use burn::tensor::activation::{gelu, gelu_approximate, relu, sigmoid, silu, softmax};
use burn::tensor::{DType, Device, Tensor};

use super::adapter::LayerAdapter;
use super::architecture::{Activation, Architecture, Block, Part, Role};
use super::joined::Joined;
use super::position::{Rotary, Rotations, window_bias};
use crate::compute::fused::{attention, matmul, rms_norm, swiglu};

/// One layer of a cache.
pub(super) struct Cached<'a> {
    pub(super) columns: usize,
    pub(super) layer: &'a mut (Tensor<4>, Tensor<4>),
    pub(super) joined: Option<&'a Joined>,
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

/// What a layer sees and how it is turned, for every kind of layer.
pub(super) struct Views {
    global: View,
    /// For layers with a window, of which all have the same.
    local: Option<View>,
}

pub(super) struct View {
    rotary: Option<Rotary>,
    bias: Tensor<4>,
}

impl Views {
    pub(super) fn new(config: &Architecture, rotations: Rotations, bias: &Tensor<4>, device: &Device) -> Self {
        let [_, _, queries, columns] = bias.dims();
        let local = config.windows.iter().flatten().next().map(|&window| {
            let bias = if window < columns {
                bias.clone() + window_bias(window, queries, columns, device)
            } else {
                bias.clone()
            };
            View { rotary: rotations.local, bias }
        });
        Self { global: View { rotary: rotations.global, bias: bias.clone() }, local }
    }

    pub(super) fn of(&self, config: &Architecture, layer: usize) -> &View {
        config.window(layer).and(self.local.as_ref()).unwrap_or(&self.global)
    }
}

/// One layer's weights by what they do.
pub(super) struct Layer<'a> {
    pub(super) config: &'a Architecture,
    pub(super) index: usize,
    pub(super) parts: &'a [Part],
    pub(super) weights: &'a [Tensor<2>],
    pub(super) adapter: Option<LayerAdapter<'a>>,
}

impl Layer<'_> {
    pub(super) fn run(&self, x: Tensor<2>, view: &View, cached: Option<Cached>) -> Tensor<2> {
        let joined = cached.as_ref().and_then(|cached| cached.joined);
        let normed = self.norm(Role::AttentionNorm, x.clone());
        let attended = self.attention(&normed, view, cached);
        match self.config.block {
            Block::Sequential => {
                let x = x + attended;
                let normed = self.norm(Role::MlpNorm, x.clone());
                x + self.mlp(normed, joined)
            }
            Block::Parallel => {
                let normed = self.norm(Role::MlpNorm, x.clone());
                x + attended + self.mlp(normed, joined)
            }
            Block::Sandwich => {
                let x = x + self.norm(Role::AfterAttentionNorm, attended);
                let normed = self.norm(Role::MlpNorm, x.clone());
                x + self.norm(Role::AfterMlpNorm, self.mlp(normed, joined))
            }
        }
    }

    pub(super) fn weight(&self, part: Part) -> Option<Tensor<2>> {
        self.parts.iter().position(|&known| known == part).map(|i| self.weights[i].clone())
    }

    pub(super) fn own(&self, role: Role) -> Tensor<2> {
        self.weight((role, false)).expect("the architecture lists what its layers use")
    }

    fn linear(&self, role: Role, x: Tensor<2>) -> Tensor<2> {
        let added = self.adapter.as_ref().and_then(|adapter| adapter.added(role, &x));
        let y = matmul(x, self.own(role));
        let y = match added {
            Some(added) => y + added,
            None => y,
        };
        match self.weight((role, true)) {
            Some(bias) => y + bias,
            None => y,
        }
    }

    fn norm(&self, role: Role, x: Tensor<2>) -> Tensor<2> {
        let eps = self.config.norm_eps;
        match self.weight((role, true)) {
            Some(bias) => layer_norm(x, self.own(role), bias, eps),
            None => rms_norm(x, self.own(role), eps),
        }
    }

    fn mlp(&self, x: Tensor<2>, joined: Option<&Joined>) -> Tensor<2> {
        let activation = self.config.activation;
        if !self.config.gated {
            return self.linear(Role::Down, activate(self.linear(Role::Up, x), activation));
        }
        let [gate, up] = match joined.and_then(|joined| joined.gate_and_up(&x)) {
            Some(both) => both,
            None => [self.linear(Role::Gate, x.clone()), self.linear(Role::Up, x)],
        };
        let inner = if activation == Activation::Silu { swiglu(gate, up) } else { activate(gate, activation) * up };
        self.linear(Role::Down, inner)
    }

    fn attention(&self, x: &Tensor<2>, view: &View, cached: Option<Cached>) -> Tensor<2> {
        let [b, _, t, _] = view.bias.dims();
        let by_head = |x: Tensor<3>| {
            let [_, heads, d] = x.dims();
            x.reshape([b, t, heads, d]).swap_dims(1, 2)
        };
        let [q, mut k, mut v] = match (cached.as_ref().and_then(|cached| cached.joined), &view.rotary) {
            (Some(joined), Some(rotary)) => joined.projections(x.clone(), rotary),
            _ => self.projections(x, view),
        }
        .map(by_head);
        if let Some(cached) = cached {
            (k, v) = cached.extend(k, v);
        }
        let bias = view.bias.clone();
        let attended = match self.config.attention_softcap {
            Some(cap) => capped_attention(q, k, v, bias, cap),
            None => attention(q, k, v, bias),
        };
        self.linear(Role::Output, attended)
    }

    /// Queries, divided as scores are to be, and keys, both turned, and values, each `[n, heads, d]`.
    fn projections(&self, x: &Tensor<2>, view: &View) -> [Tensor<3>; 3] {
        let (heads, kv_heads, d) =
            (self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim);
        let split = |role, heads: usize| self.linear(role, x.clone()).reshape([x.dims()[0], heads, d]);
        let q = self.head_norm(Role::QueryNorm, split(Role::Query, heads));
        let k = self.head_norm(Role::KeyNorm, split(Role::Key, kv_heads));
        let (q, k) = match &view.rotary {
            Some(rotary) => (rotary.queries(q), rotary.keys(k)),
            None => (q / self.config.attention_divisor, k),
        };
        let q = if self.config.divide_by_layer { q / (self.index as f64 + 1.0) } else { q };
        [q, k, split(Role::Value, kv_heads)]
    }

    fn head_norm(&self, role: Role, x: Tensor<3>) -> Tensor<3> {
        let Some(weight) = self.weight((role, false)) else { return x };
        let [n, heads, d] = x.dims();
        rms_norm(x.reshape([n * heads, d]), weight, self.config.norm_eps).reshape([n, heads, d])
    }
}

fn activate(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    match activation {
        Activation::Silu => silu(x),
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => gelu_approximate(x),
        Activation::QuickGelu => x.clone() * sigmoid(x * 1.702),
        Activation::Relu => relu(x),
    }
}

/// `(x - mean) / sqrt(variance + eps) * w + b` over the last dimension.
pub(super) fn layer_norm(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<2>, eps: f64) -> Tensor<2> {
    let dtype = x.dtype();
    let [x, weight, bias] = [x, weight, bias].map(|x| x.cast(DType::F32));
    let centred = x.clone() - x.mean_dim(1);
    let scale = (centred.clone().square().mean_dim(1) + eps).sqrt().recip();
    (centred * scale * weight + bias).cast(dtype)
}

/// [`attention`] whose scores are `cap tanh(score / cap)`.
fn capped_attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Tensor<4>, cap: f64) -> Tensor<2> {
    let [b, heads, t, d] = q.dims();
    let repeated = |x: Tensor<4>| {
        let [_, kv_heads, columns, _] = x.dims();
        let times = heads / kv_heads;
        x.reshape([b, kv_heads, 1, columns, d]).expand([b, kv_heads, times, columns, d]).reshape([b, heads, columns, d])
    };
    let dtype = q.dtype();
    let scores = q.matmul(repeated(k).swap_dims(2, 3)).cast(DType::F32);
    let p = softmax((scores / cap).tanh() * cap + bias, 3).cast(dtype);
    p.matmul(repeated(v)).swap_dims(1, 2).reshape([b * t, heads * d])
}

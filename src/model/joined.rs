//! Matrices that multiply the same numbers, side by side: while a card decodes, to send it an operation takes longer than to do
//! it, and one product is sent for three.

use std::sync::Arc;

use burn::tensor::{DType, Tensor};

use super::Model;
use super::architecture::{Architecture, Positions, Role};
use super::layer::Layer;
use super::position::Rotary;
use crate::compute::fused::matmul;

/// Numbers at most of what is joined: the copies of larger matrices would take more memory than they save time.
const MOST: usize = 1 << 22;

/// A layer's matrices for attention and, if they are small enough, those before its activation.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    /// Queries, divided as scores are to be, keys and values.
    attention: Linear,
    /// Gate and up.
    gate_up: Option<Linear>,
    heads: usize,
    kv_heads: usize,
}

#[derive(Clone, Debug)]
struct Linear {
    weight: Tensor<2>,
    bias: Option<Tensor<2>>,
}

impl Model {
    /// The joined matrices of every layer; none where layers differ from the plain scheme: adapters, norms of heads, rotations of
    /// a part of a head, large matrices.
    pub(super) fn joined(&self) -> Option<Arc<[Joined]>> {
        let parts = self.parts();
        self.layers(&parts).map(|layer| Joined::of(&layer)).collect()
    }
}

impl Joined {
    fn of(layer: &Layer) -> Option<Self> {
        let Architecture { attention_divisor, num_attention_heads, num_key_value_heads, head_dim, .. } = *layer.config;
        let Positions::Rotary { global, local } = &layer.config.positions else { return None };
        let whole = [Some(global), local.as_ref()].into_iter().flatten().all(|rope| rope.dims == head_dim);
        let plain = layer.adapter.is_none() && layer.weight((Role::QueryNorm, false)).is_none();
        // In 16 bits queries would be rounded once more than in training, but by a power of two.
        let exact = layer.own(Role::Query).dtype() == DType::F32 || attention_divisor.log2().fract() == 0.0;
        if !whole || !plain || !exact || layer.config.divide_by_layer {
            return None;
        }
        let gate_up = || Linear::of(layer, &[(Role::Gate, None), (Role::Up, None)]);
        Some(Self {
            attention: Linear::of(
                layer,
                &[(Role::Query, Some(attention_divisor)), (Role::Key, None), (Role::Value, None)],
            )?,
            gate_up: if layer.config.gated { gate_up() } else { None },
            heads: num_attention_heads,
            kv_heads: num_key_value_heads,
        })
    }

    /// Queries and keys, turned, and values, each `[n, heads, d]`. Queries come divided; `rotary` is not to divide them.
    pub(super) fn projections(&self, x: Tensor<2>, rotary: &Rotary) -> [Tensor<3>; 3] {
        let y = self.attention.of_rows(x);
        let [n, columns] = y.dims();
        let (turned, all) = (self.heads + self.kv_heads, self.heads + 2 * self.kv_heads);
        let by_head = y.reshape([n, all, columns / all]);
        let queries_and_keys = rotary.keys(by_head.clone().narrow(1, 0, turned));
        let queries = queries_and_keys.clone().narrow(1, 0, self.heads);
        let keys = queries_and_keys.narrow(1, self.heads, self.kv_heads);
        [queries, keys, by_head.narrow(1, turned, self.kv_heads)]
    }

    /// What the MLP's gate and its first half make of `x`, `[n, F]` each.
    pub(super) fn gate_and_up(&self, x: &Tensor<2>) -> Option<[Tensor<2>; 2]> {
        let y = self.gate_up.as_ref()?.of_rows(x.clone());
        let width = y.dims()[1] / 2;
        Some([0, width].map(|first| y.clone().narrow(1, first, width)))
    }
}

impl Linear {
    /// The matrices and biases of `roles`, divided by what stands beside them; none if they are too large.
    fn of(layer: &Layer, roles: &[(Role, Option<f64>)]) -> Option<Self> {
        let divided = |bias: bool| -> Vec<Tensor<2>> {
            let weights = roles.iter().filter_map(|&(role, divisor)| Some((layer.weight((role, bias))?, divisor)));
            weights.map(|(w, divisor)| if let Some(divisor) = divisor { w / divisor } else { w }).collect()
        };
        let (weights, biases) = (divided(false), divided(true));
        let size: usize = weights.iter().map(|w| w.dims().iter().product::<usize>()).sum();
        if size > MOST || ![0, weights.len()].contains(&biases.len()) {
            return None;
        }
        let bias = (!biases.is_empty()).then(|| Tensor::cat(biases, 1));
        Some(Self { weight: Tensor::cat(weights, 1), bias })
    }

    fn of_rows(&self, x: Tensor<2>) -> Tensor<2> {
        let y = matmul(x, self.weight.clone());
        match &self.bias {
            Some(bias) => y + bias.clone(),
            None => y,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int, TensorData};

    use super::super::batch::cached_bias;
    use super::super::pretrained::describe;
    use super::super::{Batch, Pair};
    use super::*;

    /// A model of grouped queries, with biases if `biased`.
    fn model(biased: bool) -> Model {
        let config = serde_json::json!({
            "architectures": [if biased { "Qwen2ForCausalLM" } else { "LlamaForCausalLM" }], "vocab_size": 23, "hidden_size": 16,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 20,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 100.0, "tie_word_embeddings": false,
        });
        let config = describe(&config).unwrap().architecture;
        let device = Device::flex();
        let weights = config.shapes(23, 23).into_iter().zip(1..).map(|((_, [rows, columns]), seed)| {
            let number = |i: usize| ((i * 131 + seed * 977) % 613) as f32 / 900.0 - 0.3;
            let numbers: Vec<f32> = (0..rows * columns).map(number).collect();
            Tensor::from_data(TensorData::new(numbers, [rows, columns]), &device)
        });
        Model { weights: weights.collect(), config, adapter: None }
    }

    #[test]
    fn joined_matrices_decode_as_single_ones_do() {
        let device = Device::flex();
        for biased in [false, true] {
            let model = model(biased);
            let joined = model.joined().expect("the plain scheme");
            assert_eq!(joined[0].attention.bias.is_some(), biased);
            let rows = [[3, 1, 4], [1, 5, 9]].map(|ids: [u32; 3]| ids.to_vec());
            let rows: Vec<Pair> = rows.iter().map(|prompt| Pair { prompt, response: &[] }).collect();
            let batch = Batch::new(&rows, 0, &device);
            let decoded = |joined: Option<Arc<[Joined]>>| {
                let mut cache = model.cache_with(2, 5, joined);
                let prompt = model.extend(&batch.ids, &batch.positions, &batch.attention_bias, &mut cache);
                let column = |n: i64| Tensor::<2, Int>::from_data(TensorData::new(vec![n, n], [2, 1]), &device);
                let next = model.extend(&column(7), &column(3), &cached_bias(&[0, 0], 4, &device), &mut cache);
                Tensor::cat(vec![prompt, next], 1).into_data()
            };
            let tolerance = burn::tensor::Tolerance::rel_abs(1e-5, 1e-5);
            decoded(Some(joined)).assert_approx_eq::<f32>(&decoded(None), tolerance);
        }
    }
}

//! Operations of a decoder that are worth one pass over memory instead of many.
//!
//! Each has kernels for `flex` and LibTorch with a backward pass of its own, and a composition of burn's operations for every
//! other device, which is what the tests hold the kernels against. Which of them pay is in `docs/PERFORMANCE.md`.
#![allow(clippy::similar_names, reason = "`dx` and `dw`, `dgate` and `dup` are what they are called everywhere")]
#![cfg_attr(feature = "tch", allow(deprecated, reason = "burn 0.22 marks burn-tch as deprecated"))]

#[cfg(feature = "tch")]
mod aten;
mod autodiff;
mod composed;
mod flex;
mod gemm;
mod host;
#[cfg(feature = "tch")]
mod libtorch;
mod rows;

use burn::backend::{
    Backend, Dispatch, backend_extension,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{DType, Device, Int, Tensor};

use super::family::is_libtorch;

pub use rows::exponentials;

/// What a backend with kernels of its own does; shapes as in the functions of the same names.
#[backend_extension(Flex, LibTorch: cfg(feature = "tch"), Autodiff)]
trait Fused: Backend {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f32) -> FloatTensor<Self>;
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    fn rotate(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, sign: f32) -> FloatTensor<Self>;
    fn matmul(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self>;
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    fn gather_log_probs(logits: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self>;
}

/// The same for what needs no gradient.
#[backend_extension(Flex, LibTorch: cfg(feature = "tch"))]
trait FusedUpdate: Backend {
    fn adamw(
        w: FloatTensor<Self>,
        g: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        adam: Adam,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The numbers of one AdamW update, the same for all weights.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// Factor of the gradient.
    pub clip: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// `1 - beta1^t`.
    pub correction1: f64,
    /// `1 - beta2^t`.
    pub correction2: f64,
    /// Learning rate.
    pub rate: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// What weight decay leaves of a weight.
    pub keep: f64,
}

/// Whether `x` lives where the kernels are.
fn has_kernels<const D: usize>(x: &Tensor<D>) -> bool {
    let device = x.device();
    device == Device::flex() && x.dtype() == DType::F32 || is_libtorch(&device)
}

/// Whether products of few rows and a large matrix on `device` are shared among the threads of a pool.
#[must_use]
pub fn shares_products(device: &Device) -> bool {
    *device == Device::flex()
}

/// `x / sqrt(mean(x^2) + eps) * w` over the last dimension [RMSNORM].
///
/// # Shapes
/// `x` `[n, H]`, `weight` `[1, H]`; result `[n, H]`.
#[must_use]
pub fn rms_norm(x: Tensor<2>, weight: Tensor<2>, eps: f64) -> Tensor<2> {
    if has_kernels(&x) {
        return Tensor::from_dispatch(Dispatch::rms_norm(x.into_dispatch(), weight.into_dispatch(), eps as f32));
    }
    composed::rms_norm(x, weight, eps)
}

/// `silu(gate) * up` [SWIGLU].
///
/// # Shapes
/// All `[n, F]`.
#[must_use]
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    if has_kernels(&gate) {
        return Tensor::from_dispatch(Dispatch::swiglu(gate.into_dispatch(), up.into_dispatch()));
    }
    composed::swiglu(gate, up)
}

/// Rotary position embedding [ROPE]: `x cos + swapped(x) sin`, where the halves of every head have changed places.
///
/// # Shapes
/// `x` `[n, heads, d]`, `cos` and `sin` `[n, 1, d]`: the halves of `cos` are equal, those of `sin` of opposite signs, so that the
/// first is subtracted; result as `x`.
#[must_use]
pub fn rotate(x: Tensor<3>, cos: Tensor<3>, sin: Tensor<3>) -> Tensor<3> {
    if has_kernels(&x) {
        return Tensor::from_dispatch(Dispatch::rotate(
            x.into_dispatch(),
            cos.into_dispatch(),
            sin.into_dispatch(),
            1.0,
        ));
    }
    composed::rotate(x, cos, sin)
}

/// A linear layer: `x w`.
///
/// # Shapes
/// `x` `[n, K]`, `w` `[K, M]`; result `[n, M]`.
#[must_use]
pub fn matmul(x: Tensor<2>, w: Tensor<2>) -> Tensor<2> {
    if has_kernels(&x) {
        return Tensor::from_dispatch(Dispatch::matmul(x.into_dispatch(), w.into_dispatch()));
    }
    x.matmul(w)
}

/// Grouped-query attention [GQA]: `softmax(q k' + bias) v`; every key-value head serves `heads / kv_heads` neighbouring
/// query heads. Queries come scaled.
///
/// # Shapes
/// `q` `[B, heads, t, d]`, `k` and `v` `[B, kv_heads, T, d]`, `bias` `[B, 1, t, T]`; result `[B * t, heads * d]`.
#[must_use]
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Tensor<4>) -> Tensor<2> {
    if has_kernels(&q) {
        return Tensor::from_dispatch(Dispatch::attend(
            q.into_dispatch(),
            k.into_dispatch(),
            v.into_dispatch(),
            bias.into_dispatch(),
        ));
    }
    composed::attention(q, k, v, bias)
}

/// `log_softmax(logits)[id]` of every row.
///
/// # Shapes
/// `logits` `[n, V]`, `ids` `[n]`; result `[n]`.
#[must_use]
pub fn gather_log_probs(logits: Tensor<2>, ids: Tensor<1, Int>) -> Tensor<1> {
    if has_kernels(&logits) {
        return Tensor::from_dispatch(Dispatch::gather_log_probs(logits.into_dispatch(), ids.into_dispatch()));
    }
    composed::gather_log_probs(logits, ids)
}

/// Weights and moments after one AdamW update with gradient `g` [ADAMW]:
/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, `w = keep w - rate (m / c1) / (sqrt(v / c2) + eps)`.
///
/// # Shapes
/// All the same.
#[must_use]
pub fn adamw(w: Tensor<2>, g: Tensor<2>, m: Tensor<2>, v: Tensor<2>, adam: Adam) -> [Tensor<2>; 3] {
    if has_kernels(&w) {
        let (w, m, v) =
            Dispatch::adamw(w.into_dispatch(), g.into_dispatch(), m.into_dispatch(), v.into_dispatch(), adam);
        return [w, m, v].map(Tensor::from_dispatch);
    }
    composed::adamw(w, g, m, v, adam)
}

/// The sum of all numbers' squares, `[1]`.
#[must_use]
pub fn sum_of_squares(x: &Tensor<2>) -> Tensor<1> {
    if has_kernels(x) {
        return Tensor::from_dispatch(Dispatch::sum_of_squares(x.clone().into_dispatch()));
    }
    x.clone().square().sum()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use burn::tensor::TensorData;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Normal};

    use super::*;
    use crate::compute::DeviceName;

    /// Where the kernels are that are tested: `flex`, or what `RUNNER_TEST_DEVICE` says.
    fn device() -> Device {
        let name = std::env::var("RUNNER_TEST_DEVICE").unwrap_or_else(|_| "flex".to_owned());
        name.parse::<DeviceName>().unwrap().open().unwrap()
    }

    thread_local! {
        /// Every test's own, so that it draws the same each time: of few numbers some are so small that a norm's gradient cancels.
        static RNG: RefCell<ChaCha8Rng> = RefCell::new(ChaCha8Rng::seed_from_u64(0));
    }

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        let normal = Normal::new(0.0_f32, 1.5).unwrap();
        let values = RNG.with_borrow_mut(|rng| normal.sample_iter(rng).take(shape.iter().product()).collect());
        Tensor::from_data(TensorData::new::<f32, _>(values, shape), &device())
    }

    /// Result and gradients of `f`, weighted with random numbers so that no gradient is trivially alike.
    fn outcome<const D: usize, const N: usize>(
        inputs: &[Tensor<D>; N],
        f: impl Fn([Tensor<D>; N]) -> Tensor<D>,
        weights: &Tensor<D>,
    ) -> Vec<TensorData> {
        let inputs = inputs.each_ref().map(|x| x.clone().autodiff().require_grad());
        let out = f(inputs.clone());
        let mut gradients = (out.clone() * weights.clone().autodiff()).sum().backward();
        let gradients = inputs.iter().map(|x| x.grad_remove(&mut gradients).expect("a gradient").into_data());
        std::iter::once(out.inner().into_data()).chain(gradients.collect::<Vec<_>>()).collect()
    }

    fn agree<const D: usize, const N: usize>(
        inputs: &[Tensor<D>; N],
        shape: [usize; D],
        kernel: impl Fn([Tensor<D>; N]) -> Tensor<D>,
        composed: impl Fn([Tensor<D>; N]) -> Tensor<D>,
    ) {
        let weights = random(shape);
        let (ours, theirs) = (outcome(inputs, &kernel, &weights), outcome(inputs, composed, &weights));
        assert_eq!(ours.len(), N + 1);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            // Small entries come from large ones that cancel: rounding goes with the largest.
            let largest = theirs.iter::<f32>().fold(1.0, |a: f32, b| a.max(b.abs()));
            ours.assert_approx_eq::<f32>(theirs, burn::tensor::Tolerance::rel_abs(2e-5, 2e-6 * largest));
        }
        let plain = kernel(inputs.clone()).into_data();
        assert_eq!(plain, ours[0], "the same with and without a graph");
    }

    #[test]
    fn kernels_agree_with_the_compositions_forwards_and_backwards() {
        for (n, width) in [(1, 1), (3, 5), (7, 16), (4, 33), (5, 168)] {
            let rows = [random([n, width]), random([n, width])];
            agree(&rows, [n, width], |[a, b]| swiglu(a, b), |[a, b]| composed::swiglu(a, b));
            let x = [random([n, width])];
            let weight = random([1, width]);
            let with = |f: fn(Tensor<2>, Tensor<2>, f64) -> Tensor<2>| {
                let weight = weight.clone();
                move |[x]: [Tensor<2>; 1]| f(x, weight.clone(), 1e-5)
            };
            agree(&x, [n, width], with(rms_norm), with(composed::rms_norm));
        }
    }

    #[test]
    fn attention_agrees_with_the_composition_in_training_and_with_cached_keys() {
        for (b, heads, kv_heads, t, columns, d) in [(1, 1, 1, 1, 1, 2), (2, 4, 2, 5, 5, 8), (3, 6, 1, 17, 17, 4)] {
            // Heads and rows swapped, as projections come: the numbers do not stand in order.
            let inputs =
                [random([b, t, heads, d]), random([b, columns, kv_heads, d]), random([b, columns, kv_heads, d])];
            let mut bias = vec![0.0_f32; b * t * columns];
            bias.iter_mut().skip(1).step_by(4).for_each(|b| *b = -1e9);
            let bias: Tensor<4> = Tensor::from_data(TensorData::new(bias, [b, 1, t, columns]), &device());
            let with = |f: fn(Tensor<4>, Tensor<4>, Tensor<4>, Tensor<4>) -> Tensor<2>| {
                let bias = bias.clone();
                move |inputs: [Tensor<4>; 3]| {
                    let [q, k, v] = inputs.map(|x| x.swap_dims(1, 2));
                    f(q, k, v, bias.clone()).reshape([b, t, heads, d])
                }
            };
            agree(&inputs, [b, t, heads, d], with(attention), with(composed::attention));
        }
        // One new query against a part of the room for keys.
        let [q, room, bias] = [random([3, 4, 1, 8]), random([3, 2, 9, 8]), random([3, 1, 1, 5])];
        let keys = room.narrow(2, 0, 5);
        let ours = attention(q.clone(), keys.clone(), keys.clone(), bias.clone());
        let theirs = composed::attention(q, keys.clone(), keys, bias);
        ours.into_data().assert_approx_eq::<f32>(&theirs.into_data(), burn::tensor::Tolerance::rel_abs(2e-5, 2e-6));
    }

    #[test]
    fn linear_layers_agree_on_tensors_that_are_views() {
        let inputs = [random([6, 6]), random([6, 6])];
        let with = |f: fn(Tensor<2>, Tensor<2>) -> Tensor<2>| move |[x, w]: [Tensor<2>; 2]| f(x.transpose(), w);
        agree(&inputs, [6, 6], with(matmul), with(Tensor::matmul));
    }

    #[test]
    fn the_norms_weight_has_the_compositions_gradient() {
        let x = random([9, 20]);
        let with = |f: fn(Tensor<2>, Tensor<2>, f64) -> Tensor<2>| {
            let x = x.clone();
            move |[w]: [Tensor<2>; 1]| f(x.clone(), w, 1e-5)
        };
        let inputs = [random([1, 20])];
        let weights = random([9, 20]);
        let (ours, theirs) =
            (outcome(&inputs, with(rms_norm), &weights), outcome(&inputs, with(composed::rms_norm), &weights));
        ours[1].assert_approx_eq::<f32>(&theirs[1], burn::tensor::Tolerance::rel_abs(2e-5, 2e-6));
    }

    #[test]
    fn rotations_agree_on_tensors_that_are_views() {
        let angles = random([6, 1, 4]);
        let angles = Tensor::cat(vec![angles.clone().neg(), angles], 2);
        let (cos, sin) = (angles.clone().cos(), angles.sin());
        // Heads and rows swapped: the numbers do not stand in order.
        let inputs = [random([3, 6, 8])];
        let with = |f: fn(Tensor<3>, Tensor<3>, Tensor<3>) -> Tensor<3>| {
            let (cos, sin) = (cos.clone(), sin.clone());
            move |[x]: [Tensor<3>; 1]| f(x.swap_dims(0, 1), cos.clone(), sin.clone())
        };
        agree(&inputs, [6, 3, 8], with(rotate), with(composed::rotate));
    }

    #[test]
    fn updates_agree_over_several_steps() {
        let adam = |t: i32| Adam {
            clip: 0.4,
            beta1: 0.9,
            beta2: 0.99,
            correction1: 1.0 - 0.9_f64.powi(t),
            correction2: 1.0 - 0.99_f64.powi(t),
            rate: 0.03,
            epsilon: 1e-8,
            keep: 0.997,
        };
        let start = [random([5, 33]), Tensor::zeros([5, 33], &device()), Tensor::zeros([5, 33], &device())];
        let (mut ours, mut theirs) = (start.clone(), start);
        for t in 1..5 {
            let gradient = random([5, 33]);
            let [w, m, v] = ours;
            ours = adamw(w, gradient.clone(), m, v, adam(t));
            let [w, m, v] = theirs;
            theirs = composed::adamw(w, gradient, m, v, adam(t));
        }
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            ours.into_data().assert_approx_eq::<f32>(&theirs.into_data(), burn::tensor::Tolerance::rel_abs(2e-5, 2e-6));
        }
    }

    #[test]
    fn log_probs_of_ids_agree_even_for_huge_logits() {
        for (n, vocab) in [(1, 1), (4, 19), (5, 300)] {
            let inputs = [random([n, vocab]) * 40.0];
            let ids: Vec<i64> = (0..n).map(|i| i64::try_from(i * 7 % vocab).unwrap()).collect();
            let ids: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [n]), &device());
            let with = |f: fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>| {
                let ids = ids.clone();
                move |[x]: [Tensor<2>; 1]| f(x, ids.clone()).reshape([n, 1])
            };
            agree(&inputs, [n, 1], with(gather_log_probs), with(composed::gather_log_probs));
        }
    }
}

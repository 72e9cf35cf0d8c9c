//! Whether a device computes what `flex` computes: one small forward and backward pass.

use std::panic::AssertUnwindSafe;

use anyhow::{Context, Result, anyhow, ensure};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::Family;
use super::family::caught;
use super::fused::{self, Adam};

const ROWS: usize = 12;
const WIDTH: usize = 16;
const VOCAB: usize = 24;
/// Columns of a head: two for queries, one for keys and values.
const HEAD: usize = WIDTH / 2;

/// The weights of the pass.
const WEIGHTS: [&str; 5] = ["embeddings", "norm", "projections", "gates", "head"];

/// Differences above this are no rounding.
const ROUNDING: f64 = 1e-2;

/// The largest difference between `device` and `flex`, relative to the largest number of the same tensor, over the
/// results and gradients of a pass through norm, products, rotation, attention, SwiGLU and log-probabilities, and the weights
/// after an AdamW update.
///
/// # Errors
/// When the device gives numbers that are not finite or not those of `flex`, or its driver fails.
pub fn self_test(device: &Device) -> Result<f64> {
    let compared = || -> Result<f64> {
        let (mut worst, mut wrong): (f64, _) = (0.0, Vec::new());
        for ((what, ours), (_, theirs)) in pass(&Family::Flex.open(0)?).iter().zip(&pass(device)) {
            ensure!(theirs.iter().all(|x| x.is_finite()), "{what}: numbers that are not finite");
            let largest = ours.iter().fold(f64::MIN_POSITIVE, |a, b| a.max(b.abs()));
            let apart = ours.iter().zip(theirs).fold(0.0, |worst: f64, (a, b)| worst.max((a - b).abs() / largest));
            if apart > ROUNDING {
                wrong.push(format!("{what} by {apart:.1e}"));
            }
            worst = worst.max(apart);
        }
        ensure!(wrong.is_empty(), "it does not compute what `flex` computes: it differs in {}", wrong.join(", "));
        Ok(worst)
    };
    caught(AssertUnwindSafe(compared)).unwrap_or_else(|panic| Err(anyhow!(panic))).context("self-test")
}

/// The log-probabilities of the pass, and the gradients of its weights and what these become, each with its name.
fn pass(device: &Device) -> Vec<(String, Vec<f64>)> {
    let weight = |seed, shape: [usize; 2]| numbers(seed, shape, device).autodiff().require_grad();
    let weights = [
        weight(1, [ROWS, WIDTH]),
        weight(2, [1, WIDTH]),
        weight(3, [WIDTH, 4 * HEAD]),
        weight(4, [WIDTH, 2 * WIDTH]),
        weight(5, [WIDTH, VOCAB]),
    ];
    let [x, norm, qkv, gate_up, head] = weights.clone();
    let x = fused::rms_norm(x, norm, 1e-5);
    let projected = fused::matmul(x, qkv).reshape([ROWS, 4, HEAD]);
    let angles = numbers(6, [ROWS, HEAD / 2], device);
    let angles = Tensor::cat(vec![angles.clone().neg(), angles], 1).reshape([ROWS, 1, HEAD]);
    let (cos, sin) = (angles.clone().cos().autodiff(), angles.sin().autodiff());
    let rotated = |first, heads| fused::rotate(projected.clone().narrow(1, first, heads), cos.clone(), sin.clone());
    let by_head = |x: Tensor<3>| {
        let [_, heads, d] = x.dims();
        x.reshape([2, ROWS / 2, heads, d]).swap_dims(1, 2)
    };
    let [q, k, v] = [rotated(0, 2), rotated(2, 1), projected.clone().narrow(1, 3, 1)].map(by_head);
    let bias = Tensor::zeros([2, 1, ROWS / 2, ROWS / 2], device).autodiff();
    let x = fused::attention(q, k, v, bias);
    let gates = fused::matmul(x, gate_up);
    let x = fused::swiglu(gates.clone().narrow(1, 0, WIDTH), gates.narrow(1, WIDTH, WIDTH));
    let ids: Vec<i64> = (0..ROWS).map(|row| i64::try_from(row * 5 % VOCAB).expect("a small number")).collect();
    let ids: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [ROWS]), device);
    let out = fused::gather_log_probs(fused::matmul(x, head), ids);
    let mut gradients = out.clone().sum().backward();
    let adam = Adam {
        clip: 0.5,
        beta1: 0.9,
        beta2: 0.99,
        correction1: 0.1,
        correction2: 0.01,
        rate: 0.1,
        epsilon: 0.1,
        keep: 0.99,
    };
    let mut tensors = vec![("log-probabilities".to_owned(), out.inner())];
    for (name, w) in WEIGHTS.into_iter().zip(weights) {
        let gradient = w.grad_remove(&mut gradients).expect("every weight is used");
        let (m, v) = (gradient.zeros_like(), gradient.zeros_like());
        let [updated, ..] = fused::adamw(w.inner(), gradient.clone(), m, v, adam);
        let size: usize = gradient.dims().iter().product();
        tensors.push((format!("the gradient of {name}"), gradient.reshape([size])));
        tensors.push((format!("the update of {name}"), updated.reshape([size])));
    }
    tensors.into_iter().map(|(what, tensor)| (what, tensor.into_data().iter::<f64>().collect())).collect()
}

/// Fixed numbers between -1 and 1, the same on every device.
fn numbers(seed: usize, shape: [usize; 2], device: &Device) -> Tensor<2> {
    let values = (0..shape[0] * shape[1]).map(|i| ((i * 131 + seed * 977) % 613) as f32 / 306.0 - 1.0).collect();
    Tensor::from_data(TensorData::new::<f32, _>(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flex_agrees_with_itself_and_the_pass_is_not_trivial() {
        let device = Family::Flex.open(0).unwrap();
        assert!(self_test(&device).unwrap() < 1e-12);
        for (_, numbers) in pass(&device) {
            assert!(numbers.iter().any(|x| x.abs() > 1e-3));
        }
    }
}

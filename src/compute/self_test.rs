//! Whether a device computes what `flex` computes: one small forward and backward pass.

use std::panic::AssertUnwindSafe;

use anyhow::{Context, Result, anyhow, ensure};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::family::caught;
use super::{Family, fused};

const ROWS: usize = 12;
const WIDTH: usize = 16;
const VOCAB: usize = 24;

/// The largest difference between `device` and `flex`, relative to the largest number of the same tensor, over the
/// results and gradients of a pass through norm, products, SwiGLU, attention and log-probabilities.
///
/// # Errors
/// When the device gives numbers that are not finite, or its driver fails.
pub fn self_test(device: &Device) -> Result<f64> {
    let compared = || -> Result<f64> {
        let theirs = pass(device);
        let ours = pass(&Family::Flex.open(0)?);
        let mut worst: f64 = 0.0;
        for (ours, theirs) in ours.iter().zip(&theirs) {
            ensure!(theirs.iter().all(|x| x.is_finite()), "results that are not finite");
            let largest = ours.iter().fold(f64::MIN_POSITIVE, |a, b| a.max(b.abs()));
            worst = ours.iter().zip(theirs).fold(worst, |worst, (a, b)| worst.max((a - b).abs() / largest));
        }
        Ok(worst)
    };
    caught(AssertUnwindSafe(compared)).unwrap_or_else(|panic| Err(anyhow!(panic))).context("self-test")
}

/// The log-probabilities of the pass, and the gradients of its weights.
fn pass(device: &Device) -> Vec<Vec<f64>> {
    let weight = |seed, shape: [usize; 2]| numbers(seed, shape, device).autodiff().require_grad();
    let weights = [
        weight(1, [ROWS, WIDTH]),
        weight(2, [1, WIDTH]),
        weight(3, [WIDTH, 3 * WIDTH]),
        weight(4, [WIDTH, 2 * WIDTH]),
        weight(5, [WIDTH, VOCAB]),
    ];
    let [x, norm, qkv, gate_up, head] = weights.clone();
    let x = fused::rms_norm(x, norm, 1e-5);
    let heads = |x: Tensor<2>| x.reshape([2, ROWS / 2, 2, WIDTH / 2]).swap_dims(1, 2);
    let [q, k, v] = thirds(&fused::matmul(x, qkv)).map(heads);
    let bias = Tensor::zeros([2, 1, ROWS / 2, ROWS / 2], device).autodiff();
    let x = fused::attention(q, k, v, bias);
    let gates = fused::matmul(x, gate_up);
    let x = fused::swiglu(gates.clone().narrow(1, 0, WIDTH), gates.narrow(1, WIDTH, WIDTH));
    let ids: Vec<i64> = (0..ROWS).map(|row| i64::try_from(row * 5 % VOCAB).expect("a small number")).collect();
    let ids: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [ROWS]), device);
    let out = fused::gather_log_probs(fused::matmul(x, head), ids);
    let mut gradients = out.clone().sum().backward();
    let gradients = weights.iter().map(|w| w.grad_remove(&mut gradients).expect("every weight is used").into_data());
    let tensors: Vec<TensorData> = std::iter::once(out.inner().into_data()).chain(gradients).collect();
    tensors.iter().map(|data| data.iter::<f64>().collect()).collect()
}

fn thirds(x: &Tensor<2>) -> [Tensor<2>; 3] {
    [0, 1, 2].map(|i| x.clone().narrow(1, i * WIDTH, WIDTH))
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
        for numbers in pass(&device) {
            assert!(numbers.iter().any(|x| x.abs() > 1e-3));
        }
    }
}

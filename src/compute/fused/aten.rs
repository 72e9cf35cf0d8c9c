//! The fused operations by LibTorch's own, on whatever device the tensors lie and in whatever precision; norms, softmax
//! and log-probabilities in `f32`. Shapes as in the parent's functions.
//!
//! Each writes over what nobody else sees, so that little is allocated and few kernels are launched.

use burn::backend::LibTorch;
use tch::{Kind, Tensor};

use super::Adam;
use super::autodiff::Attended;
use super::libtorch::Native;

/// At least as precise as `f32`.
fn wide(x: &Tensor) -> Tensor {
    if x.kind() == Kind::Double { x.shallow_clone() } else { x.to_kind(Kind::Float) }
}

/// `f` of `x`, in place where nobody else sees it.
fn over(x: Native, f: impl FnOnce(&mut Tensor)) -> Native {
    let mut x = if x.can_mut() { x } else { Native::new(x.tensor.copy()) };
    f(&mut x.tensor);
    x
}

/// `x / sqrt(mean(x^2) + eps)` of every row, and of each the factor, `[n, 1]`.
fn normed(x: &Tensor, weight: Option<&Tensor>, eps: f32) -> (Tensor, Tensor) {
    let width = x.size()[1];
    x.internal_fused_rms_norm(width, weight.map(|weight| weight.reshape([width])).as_ref(), f64::from(eps))
}

pub fn rms_norm(x: &Native, weight: &Native, eps: f32) -> Native {
    if x.tensor.kind() == weight.tensor.kind() {
        return Native::new(normed(&x.tensor, Some(&weight.tensor), eps).0);
    }
    let (out, _) = normed(&wide(&x.tensor), Some(&wide(&weight.tensor)), eps);
    Native::new(out.to_kind(x.tensor.kind()))
}

/// With `s` the scale, `y = x s` and `h = g w`: `dx = s (h - y mean(h y))` and `dw = sum(g y)` over the rows.
pub fn rms_norm_backward(x: &Native, weight: &Native, eps: f32, grad: &Native) -> (Native, Native) {
    let ([x_wide, grad], kinds) = ([x, grad].map(|x| wide(&x.tensor)), [x, weight].map(|x| x.tensor.kind()));
    let (mut normed, scales) = normed(&x_wide, None, eps);
    let dw = (&grad * &normed).sum_dim_intlist([0_i64].as_slice(), true, None);
    let mut dx = grad * &weight.tensor;
    let mean = (&dx * &normed).mean_dim([1_i64].as_slice(), true, None);
    let _ = dx.g_sub_(&normed.g_mul_(&mean)).g_mul_(&scales);
    (Native::new(dx.to_kind(kinds[0])), Native::new(dw.to_kind(kinds[1])))
}

pub fn swiglu(gate: &Native, up: &Native) -> Native {
    let mut out = gate.tensor.silu();
    let _ = out.g_mul_(&up.tensor);
    Native::new(out)
}

pub fn swiglu_backward(gate: &Native, up: &Native, grad: Native) -> (Native, Native) {
    let mut dup = gate.tensor.silu();
    let _ = dup.g_mul_(&grad.tensor);
    let of_silu = over(grad, |grad| {
        let _ = grad.g_mul_(&up.tensor);
    });
    (Native::new(gate.tensor.silu_backward(&of_silu.tensor)), Native::new(dup))
}

pub fn rotate(x: &Native, cos: &Native, sin: &Native, sign: f32) -> Native {
    let (kind, x) = (x.tensor.kind(), wide(&x.tensor));
    let mut out = &x * &cos.tensor;
    let half = x.size()[2] / 2;
    let swapped = Tensor::cat(&[x.narrow(2, half, half), x.narrow(2, 0, half)], 2);
    let _ = if sign < 0.0 { out.g_sub_(&(swapped * &sin.tensor)) } else { out.addcmul_(&swapped, &sin.tensor) };
    Native::new(out.to_kind(kind))
}

fn dims(x: &Tensor) -> [i64; 4] {
    x.size().try_into().expect("four dimensions")
}

/// Every key-value head as often as query heads share it.
fn repeated(x: &Tensor, heads: i64) -> Tensor {
    let [b, kv_heads, columns, d] = dims(x);
    if kv_heads == heads {
        return x.shallow_clone();
    }
    let times = heads / kv_heads;
    x.unsqueeze(2).expand([b, kv_heads, times, columns, d], false).reshape([b, heads, columns, d])
}

/// The gradient of what [`repeated`] was given.
fn gathered(grad: Tensor, kv_heads: i64) -> Tensor {
    let [b, heads, columns, d] = dims(&grad);
    if kv_heads == heads {
        return grad;
    }
    grad.reshape([b, kv_heads, heads / kv_heads, columns, d]).sum_dim_intlist([2_i64].as_slice(), false, None)
}

/// The result, and what the backward pass wants to know of the softmax: on an NVIDIA card the logarithm of every row's sum,
/// `[B, heads, rows]`; elsewhere its weights, `[B, heads, t, T]`.
pub fn attention([q, k, v]: [&Native; 3], bias: &Native) -> (Native, Native) {
    let [b, heads, t, d] = dims(&q.tensor);
    let (k, v) = (repeated(&k.tensor, heads), repeated(&v.tensor, heads));
    if let Some(bias) = fitting(&q.tensor, &bias.tensor) {
        let (out, sums, ..) = Tensor::internal_scaled_dot_product_efficient_attention(
            &q.tensor,
            &k,
            &v,
            Some(&bias),
            true,
            0.0,
            false,
            1.0,
        );
        return (Native::new(out.transpose(1, 2).reshape([b * t, heads * d])), Native::new(sums));
    }
    let kind = q.tensor.kind();
    let mut scores = wide(&q.tensor.matmul(&k.transpose(2, 3)));
    let p = scores.g_add_(&bias.tensor).softmax(-1, None).to_kind(kind);
    let out = p.matmul(&v).transpose(1, 2).reshape([b * t, heads * d]);
    (Native::new(out), Native::new(p))
}

/// The bias as LibTorch's attention in one kernel wants it, where there is that kernel: for all heads, and with rows that begin at
/// multiples of 16 bytes.
fn fitting(q: &Tensor, bias: &Tensor) -> Option<Tensor> {
    let [b, heads, t, d] = dims(q);
    if !q.device().is_cuda() || d % ALIGNED != 0 {
        return None;
    }
    let [.., columns] = dims(bias);
    let bias = bias.to_kind(q.kind());
    let aligned = bias.stride()[..3].iter().all(|stride| stride % ALIGNED == 0);
    let bias = if aligned {
        bias
    } else {
        bias.constant_pad_nd([
            0,
            columns.cast_unsigned().next_multiple_of(ALIGNED.cast_unsigned()).cast_signed() - columns,
        ])
        .narrow(3, 0, columns)
    };
    Some(bias.expand([b, heads, t, columns], false))
}

/// Numbers that fill 16 bytes, in the shortest format.
const ALIGNED: i64 = 8;

pub fn attention_backward(attention: &Attended<LibTorch>, grad: &Native) -> [Native; 3] {
    let Attended { q, k, v, bias, out, kept } = attention;
    let ([b, heads, t, d], kv_heads, kind) = (dims(&q.tensor), dims(&k.tensor)[1], q.tensor.kind());
    let grad = grad.tensor.reshape([b, t, heads, d]);
    let (k, v) = (repeated(&k.tensor, heads), repeated(&v.tensor, heads));
    let [dq, dk, dv] = if let Some(bias) = fitting(&q.tensor, &bias.tensor) {
        let [q, k, v] = [&q.tensor, &k, &v].map(|x| x.transpose(1, 2));
        let undrawn = Tensor::zeros([1], (Kind::Int64, tch::Device::Cpu));
        let (dq, dk, dv, _) = Tensor::internal_efficient_attention_backward(
            &grad,
            &q,
            &k,
            &v,
            Some(&bias),
            &out.tensor.reshape([b, t, heads, d]),
            None,
            None,
            t,
            k.size()[1],
            &kept.tensor,
            0.0,
            &undrawn,
            &undrawn,
            0,
            false,
            1.0,
            1,
            None,
            false,
        );
        [dq, dk, dv].map(|x| x.transpose(1, 2))
    } else {
        let grad = grad.transpose(1, 2);
        let dv = kept.tensor.transpose(2, 3).matmul(&grad);
        let dp = wide(&grad.matmul(&v.transpose(2, 3)));
        let dscores = Tensor::internal_softmax_backward_data(&dp, &wide(&kept.tensor), -1, Kind::Float).to_kind(kind);
        [dscores.matmul(&k), dscores.transpose(2, 3).matmul(&q.tensor), dv]
    };
    [dq, gathered(dk, kv_heads), gathered(dv, kv_heads)].map(Native::new)
}

pub fn gather_log_probs(logits: &Native, ids: &Native) -> Native {
    let n = ids.tensor.size()[0];
    let all = logits.tensor.log_softmax(1, Kind::Float);
    Native::new(all.gather(1, &ids.tensor.reshape([n, 1]), false).reshape([n]))
}

/// `g (one - softmax)`, where one stands at the row's id.
pub fn gather_log_probs_backward(logits: &Native, ids: &Native, grad: &Native) -> Native {
    let grad = grad.tensor.reshape([-1, 1]);
    let mut all = logits.tensor.softmax(1, Kind::Float).g_mul_(&grad.neg());
    let all = all.scatter_add_(1, &ids.tensor.reshape([-1, 1]), &grad);
    Native::new(all.to_kind(logits.tensor.kind()))
}

pub fn adamw([w, g, m, v]: [Native; 4], adam: &Adam) -> (Native, Native, Native) {
    let g = over(g, |g| {
        let _ = g.g_mul_scalar_(adam.clip);
    });
    let m = over(m, |m| {
        let _ = m.lerp_(&g.tensor, 1.0 - adam.beta1);
    });
    let v = over(v, |v| {
        let _ = v.lerp_(&(&g.tensor * &g.tensor), 1.0 - adam.beta2);
    });
    let mut root = v.tensor.sqrt();
    let _ = root.g_div_scalar_(adam.correction2.sqrt()).g_add_scalar_(adam.epsilon);
    let step = &m.tensor * (-adam.rate / adam.correction1);
    let w = over(w, |w| {
        let _ = w.g_mul_scalar_(adam.keep).addcdiv_(&step, &root);
    });
    (w, m, v)
}

pub fn sum_of_squares(x: &Native) -> Native {
    Native::new(x.tensor.norm().square().reshape([1]))
}

#[cfg(test)]
mod tests {
    use super::super::autodiff::Derivatives;
    use super::super::{Fused, FusedUpdate};
    use super::*;

    fn random(size: &[i64]) -> Native {
        Native::new(Tensor::randn(size, (Kind::Float, tch::Device::Cpu)))
    }

    /// That both are the same up to rounding, which goes with the largest number.
    fn agree<const N: usize>(found: [&Native; N], expected: [&Native; N]) {
        for (found, expected) in found.into_iter().zip(expected) {
            assert_eq!(found.tensor.size(), expected.tensor.size());
            let largest = expected.tensor.abs().max().double_value(&[]);
            let apart = (&found.tensor - &expected.tensor).abs().max().double_value(&[]);
            assert!(largest > 0.0 && apart < 2e-5 * largest.max(1.0), "{apart} of {largest}");
        }
    }

    /// On a CPU and in `f32` the kernels do what these do elsewhere; they are held against the compositions themselves.
    #[test]
    fn all_agree_with_the_kernels() {
        let [x, y, grad] = [(); 3].map(|()| random(&[7, 24]));
        let weight = random(&[1, 24]);
        agree([&rms_norm(&x, &weight, 1e-5)], [&LibTorch::rms_norm(x.clone(), weight.clone(), 1e-5)]);
        let (dx, dw) = rms_norm_backward(&x, &weight, 1e-5, &grad);
        let (kernel_dx, kernel_dw) = LibTorch::rms_norm_backward(x.clone(), weight, 1e-5, grad.clone());
        agree([&dx, &dw], [&kernel_dx, &kernel_dw]);
        agree([&swiglu(&x, &y)], [&LibTorch::swiglu(x.clone(), y.clone())]);
        let (dgate, dup) = swiglu_backward(&x, &y, grad.clone());
        let (kernel_dgate, kernel_dup) = LibTorch::swiglu_backward(x.clone(), y.clone(), grad.clone());
        agree([&dgate, &dup], [&kernel_dgate, &kernel_dup]);

        let heads = random(&[5, 3, 8]);
        let angles = Tensor::randn([5, 1, 4], (Kind::Float, tch::Device::Cpu));
        let angles = Tensor::cat(&[&angles.neg(), &angles], 2);
        let (cos, sin) = (Native::new(angles.cos()), Native::new(angles.sin()));
        for sign in [1.0, -1.0] {
            let kernel = LibTorch::rotate(heads.clone(), cos.clone(), sin.clone(), sign);
            agree([&rotate(&heads, &cos, &sin, sign)], [&kernel]);
        }

        let ids = Native::new(Tensor::from_slice(&[3_i64, 0, 23, 7, 7, 1, 12]));
        let large = Native::new(&x.tensor * 40.0);
        let (kernel, kept) = LibTorch::log_probs_kept(&large, &ids);
        agree([&gather_log_probs(&large, &ids)], [&kernel]);
        let of_rows = random(&[7]);
        let kernel = LibTorch::gather_log_probs_backward(large.clone(), kept, ids.clone(), of_rows.clone());
        agree([&gather_log_probs_backward(&large, &ids, &of_rows)], [&kernel]);

        agree([&sum_of_squares(&x)], [&LibTorch::sum_of_squares(x.clone())]);
        let numbers = Adam {
            clip: 0.4,
            beta1: 0.9,
            beta2: 0.99,
            correction1: 0.19,
            correction2: 0.02,
            rate: 0.03,
            epsilon: 1e-8,
            keep: 0.997,
        };
        let v = Native::new(&y.tensor * &y.tensor);
        let (w, m, v_after) = adamw([x.clone(), grad.clone(), y.clone(), v.clone()], &numbers);
        let (kernel_w, kernel_m, kernel_v) = LibTorch::adamw(x, grad, y, v, numbers);
        agree([&w, &m, &v_after], [&kernel_w, &kernel_m, &kernel_v]);
    }
}

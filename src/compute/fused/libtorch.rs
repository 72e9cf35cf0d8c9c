//! The fused operations on LibTorch: where `f32` lies in this machine's memory by the kernels that `flex` has, with products
//! and attention by LibTorch's, elsewhere by [`aten`].
#![allow(unsafe_code)]

use burn::backend::LibTorch;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::Shape;
use tch::{Device, Kind, Tensor};

use super::autodiff::{Attended, Derivatives};
use super::host::{self, Host};
use super::{Adam, Fused, FusedUpdate, aten};

/// What burn calls a tensor of LibTorch.
pub type Native = FloatTensor<LibTorch>;

/// Whether the kernels can read and write it.
fn is_here(x: &Native) -> bool {
    x.tensor.device() == Device::Cpu && x.tensor.kind() == Kind::Float
}

/// Whether LibTorch's flash attention for CPUs can read it.
fn is_on_cpu(x: &Native) -> bool {
    x.tensor.device() == Device::Cpu
}

/// Numbers that stand in order in this machine's memory.
///
/// # Panics
/// When they do not, or are no `f32`.
fn slice(x: &Native) -> &[f32] {
    assert!(is_here(x) && x.tensor.is_contiguous(), "a dense tensor of f32 on the CPU");
    if x.tensor.numel() == 0 {
        return &[];
    }
    // SAFETY: a contiguous `f32` tensor on the CPU is `numel` numbers from its data pointer on; it outlives the borrow, and
    // nothing writes to tensors that others can see (`numbers_mut`).
    unsafe { std::slice::from_raw_parts(x.tensor.data_ptr().cast::<f32>(), x.tensor.numel()) }
}

pub fn dims(x: &Tensor) -> [i64; 4] {
    x.size().try_into().expect("four dimensions")
}

/// Every key-value head as often as query heads share it.
pub fn repeated(x: &Tensor, heads: i64) -> Tensor {
    let [b, kv_heads, columns, d] = dims(x);
    if kv_heads == heads {
        return x.shallow_clone();
    }
    let times = heads / kv_heads;
    x.unsqueeze(2).expand([b, kv_heads, times, columns, d], false).reshape([b, heads, columns, d])
}

/// The gradient of what [`repeated`] was given.
pub fn gathered(grad: Tensor, kv_heads: i64) -> Tensor {
    let [b, heads, columns, d] = dims(&grad);
    if kv_heads == heads {
        return grad;
    }
    grad.reshape([b, kv_heads, heads / kv_heads, columns, d]).sum_dim_intlist([2_i64].as_slice(), false, None)
}

impl Host for LibTorch {
    fn dense(x: Native) -> Native {
        if x.tensor.is_contiguous() { x } else { Native::new(x.tensor.contiguous()) }
    }

    fn numbers(x: &Native) -> &[f32] {
        slice(x)
    }

    fn numbers_mut(x: &mut Native) -> &mut [f32] {
        if !x.can_mut() {
            *x = Native::new(x.tensor.copy());
        }
        let numbers = slice(x);
        // SAFETY: as in `slice`, and `x` is the only tensor on this memory, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(numbers.as_ptr().cast_mut(), numbers.len()) }
    }

    fn build(shape: Shape, fill: impl FnOnce(&mut [f32])) -> Native {
        let size: Vec<i64> = shape.iter().map(|&n| n.cast_signed() as i64).collect();
        let mut x = Native::new(Tensor::empty(size, (Kind::Float, Device::Cpu)));
        fill(Self::numbers_mut(&mut x));
        x
    }

    fn indices(ids: &IntTensor<Self>) -> Vec<usize> {
        let ids = Vec::<i64>::try_from(ids.tensor.reshape([-1])).expect("ids are i64");
        ids.into_iter().map(|id| usize::try_from(id).unwrap_or_else(|_| panic!("an id below zero"))).collect()
    }
}

impl Fused for LibTorch {
    fn rms_norm(x: Native, weight: Native, eps: f32) -> Native {
        if is_here(&x) { host::rms_norm::<Self>(x, weight, eps) } else { aten::rms_norm(&x, &weight, eps) }
    }

    fn swiglu(gate: Native, up: Native) -> Native {
        if is_here(&gate) { host::swiglu::<Self>(gate, up) } else { aten::swiglu(&gate, &up) }
    }

    fn rotate(x: Native, cos: Native, sin: Native, sign: f32) -> Native {
        if is_here(&x) { host::rotate::<Self>(x, cos, sin, sign) } else { aten::rotate(&x, &cos, &sin, sign) }
    }

    fn matmul(x: Native, w: Native) -> Native {
        Native::new(x.tensor.mm(&w.tensor))
    }

    fn attend(q: Native, k: Native, v: Native, bias: Native) -> Native {
        Self::attention_kept(&q, &k, &v, &bias).0
    }

    fn gather_log_probs(logits: Native, ids: IntTensor<Self>) -> Native {
        Self::log_probs_kept(&logits, &ids).0
    }
}

impl FusedUpdate for LibTorch {
    fn adamw(w: Native, g: Native, m: Native, v: Native, adam: Adam) -> (Native, Native, Native) {
        let all = [w, g, m, v];
        if all.iter().all(is_here) { host::adamw::<Self>(all, &adam) } else { aten::adamw(all, &adam) }
    }

    fn sum_of_squares(x: Native) -> Native {
        if is_here(&x) { host::sum_of_squares::<Self>(x) } else { aten::sum_of_squares(&x) }
    }
}

impl Derivatives for LibTorch {
    fn rms_norm_backward(x: Native, weight: Native, eps: f32, grad: Native) -> (Native, Native) {
        if is_here(&x) {
            host::rms_norm_backward::<Self>(x, weight, eps, grad)
        } else {
            aten::rms_norm_backward(&x, &weight, eps, &grad)
        }
    }

    fn swiglu_backward(gate: Native, up: Native, grad: Native) -> (Native, Native) {
        if is_here(&gate) {
            host::swiglu_backward::<Self>(gate, up, grad)
        } else {
            aten::swiglu_backward(&gate, &up, grad)
        }
    }

    fn matmul_backward(x: Option<Native>, w: Option<Native>, grad: Native) -> [Option<Native>; 2] {
        [w.map(|w| Native::new(grad.tensor.mm(&w.tensor.tr()))), x.map(|x| Native::new(x.tensor.tr().mm(&grad.tensor)))]
    }

    /// On the CPU by LibTorch's flash attention, which keeps the logarithm of each row's sum.
    fn attention_kept(q: &Native, k: &Native, v: &Native, bias: &Native) -> (Native, Native) {
        if !is_on_cpu(q) {
            return aten::attention([q, k, v], bias);
        }
        let [b, heads, t, d] = dims(&q.tensor);
        let (k, v) = (repeated(&k.tensor, heads), repeated(&v.tensor, heads));
        let bias = bias.tensor.to_kind(q.tensor.kind());
        let (out, log_sum_exp) =
            Tensor::internal_scaled_dot_product_flash_attention_for_cpu(&q.tensor, &k, &v, 0.0, false, Some(bias), 1.0);
        (Native::new(out.transpose(1, 2).reshape([b * t, heads * d])), Native::new(log_sum_exp))
    }

    fn attention_backward(attention: Attended<Self>, grad: Native) -> [Native; 3] {
        if !is_on_cpu(&attention.q) {
            return aten::attention_backward(&attention, &grad);
        }
        let Attended { q, k, v, bias, out, kept } = attention;
        let ([b, heads, t, d], kv_heads) = (dims(&q.tensor), dims(&k.tensor)[1]);
        let by_head = |x: &Tensor| x.reshape([b, t, heads, d]).transpose(1, 2);
        let (dq, dk, dv) = Tensor::internal_scaled_dot_product_flash_attention_for_cpu_backward(
            &by_head(&grad.tensor),
            &q.tensor,
            &repeated(&k.tensor, heads),
            &repeated(&v.tensor, heads),
            &by_head(&out.tensor),
            &kept.tensor,
            0.0,
            false,
            Some(bias.tensor.to_kind(q.tensor.kind())),
            1.0,
        );
        [dq, gathered(dk, kv_heads), gathered(dv, kv_heads)].map(Native::new)
    }

    fn log_probs_kept(logits: &Native, ids: &IntTensor<Self>) -> (Native, Option<Native>) {
        if is_here(logits) {
            let (out, kept) = host::log_probs_kept::<Self>(logits.clone(), ids);
            return (out, Some(kept));
        }
        (aten::gather_log_probs(logits, ids), None)
    }

    fn gather_log_probs_backward(logits: Native, kept: Option<Native>, ids: IntTensor<Self>, grad: Native) -> Native {
        match kept {
            Some(kept) => host::gather_log_probs_backward::<Self>(logits, &kept, &ids, grad),
            None => aten::gather_log_probs_backward(&logits, &ids, &grad),
        }
    }
}

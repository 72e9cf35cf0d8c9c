//! The fused operations on LibTorch: products and attention by its own operations, the others where `f32` lies in this machine's
//! memory by the kernels that `flex` has, elsewhere by [`aten`].
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

    fn attention_kept(q: &Native, k: &Native, v: &Native, bias: &Native) -> (Native, Native) {
        aten::attention([q, k, v], bias)
    }

    fn attention_backward(attention: Attended<Self>, grad: Native) -> [Native; 3] {
        aten::attention_backward(&attention, &grad)
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

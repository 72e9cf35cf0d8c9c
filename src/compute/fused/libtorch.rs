//! Tensors of LibTorch's CPU as slices; products and attention by LibTorch's own kernels.
#![allow(unsafe_code)]
#![allow(deprecated, reason = "burn 0.22 marks burn-tch as deprecated")]

use burn::backend::LibTorch;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::Shape;
use tch::{Device, Kind, Tensor};

use super::autodiff::Attended;
use super::host::Host;

/// What burn calls a tensor of LibTorch.
type Native = FloatTensor<LibTorch>;

fn size(shape: &Shape) -> Vec<i64> {
    shape.iter().map(|&n| n.cast_signed() as i64).collect()
}

/// Numbers that stand in order in this machine's memory.
///
/// # Panics
/// When they do not, or are no `f32`.
fn slice(x: &Tensor) -> &[f32] {
    assert!(
        x.device() == Device::Cpu && x.kind() == Kind::Float && x.is_contiguous(),
        "a dense tensor of f32 on the CPU"
    );
    if x.numel() == 0 {
        return &[];
    }
    // SAFETY: a contiguous `f32` tensor on the CPU is `numel` numbers from its data pointer on; it outlives the borrow, and
    // nothing writes to tensors that others can see (`numbers_mut`).
    unsafe { std::slice::from_raw_parts(x.data_ptr().cast::<f32>(), x.numel()) }
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
    grad.reshape([b, kv_heads, heads / kv_heads, columns, d]).sum_dim_intlist([2_i64].as_slice(), false, Kind::Float)
}

fn dims(x: &Tensor) -> [i64; 4] {
    x.size().try_into().expect("four dimensions")
}

impl Host for LibTorch {
    fn dense(x: Native) -> Native {
        if x.tensor.is_contiguous() { x } else { Native::new(x.tensor.contiguous()) }
    }

    fn numbers(x: &Native) -> &[f32] {
        slice(&x.tensor)
    }

    fn numbers_mut(x: &mut Native) -> &mut [f32] {
        if !x.can_mut() {
            *x = Native::new(x.tensor.copy());
        }
        let numbers = slice(&x.tensor);
        // SAFETY: as in `slice`, and `x` is the only tensor on this memory, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(numbers.as_ptr().cast_mut(), numbers.len()) }
    }

    fn build(shape: Shape, fill: impl FnOnce(&mut [f32])) -> Native {
        let mut x = Native::new(Tensor::empty(size(&shape), (Kind::Float, Device::Cpu)));
        fill(Self::numbers_mut(&mut x));
        x
    }

    fn indices(ids: &IntTensor<Self>) -> Vec<usize> {
        let ids = Vec::<i64>::try_from(ids.tensor.reshape([-1])).expect("ids are i64");
        ids.into_iter().map(|id| usize::try_from(id).unwrap_or_else(|_| panic!("an id below zero"))).collect()
    }

    fn product(x: &Native, w: &Native) -> Native {
        Native::new(x.tensor.mm(&w.tensor))
    }

    fn gradient_of_left(grad: &Native, w: &Native) -> Native {
        Native::new(grad.tensor.mm(&w.tensor.tr()))
    }

    fn gradient_of_right(x: &Native, grad: &Native) -> Native {
        Native::new(x.tensor.tr().mm(&grad.tensor))
    }

    fn softmax_product([q, k, v]: [&Native; 3], bias: &Native, _: bool) -> (Native, Option<Native>) {
        let [b, heads, t, d] = dims(&q.tensor);
        let (k, v) = (repeated(&k.tensor, heads), repeated(&v.tensor, heads));
        let mask = Some(&bias.tensor);
        let (out, log_sum_exp) =
            Tensor::internal_scaled_dot_product_flash_attention_for_cpu(&q.tensor, &k, &v, 0.0, false, mask, 1.0);
        let out = out.transpose(1, 2).reshape([b * t, heads * d]);
        (Native::new(out), Some(Native::new(log_sum_exp)))
    }

    fn gradients_of_attention(attention: Attended<Self>, grad: Native) -> [Native; 3] {
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
            Some(&bias.tensor),
            1.0,
        );
        [dq, gathered(dk, kv_heads), gathered(dv, kv_heads)].map(Native::new)
    }
}

//! The fused operations on backends whose tensors lie in this machine's memory: the kernels of `rows` on their slices.
//!
//! Products and attention are each backend's own.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

use super::autodiff::{Attended, Derivatives};
use super::{Adam, Fused, FusedUpdate, rows};

/// A backend whose `f32` tensors can be read and written as slices.
pub trait Host: Backend {
    /// The same numbers, standing in order.
    fn dense(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The numbers of a dense tensor.
    fn numbers(x: &FloatTensor<Self>) -> &[f32];

    /// The numbers of a dense tensor, copied first where others see them.
    fn numbers_mut(x: &mut FloatTensor<Self>) -> &mut [f32];

    /// A new tensor whose numbers `fill` writes, all of them: what stands there before means nothing.
    fn build(shape: Shape, fill: impl FnOnce(&mut [f32])) -> FloatTensor<Self>;

    /// Ids as positions.
    fn indices(ids: &IntTensor<Self>) -> Vec<usize>;

    /// As [`Fused::matmul`].
    fn product(x: &FloatTensor<Self>, w: &FloatTensor<Self>) -> FloatTensor<Self>;

    /// `grad w'`, the gradient of `x` in `x w`.
    fn gradient_of_left(grad: &FloatTensor<Self>, w: &FloatTensor<Self>) -> FloatTensor<Self>;

    /// `x' grad`, the gradient of `w` in `x w`.
    fn gradient_of_right(x: &FloatTensor<Self>, grad: &FloatTensor<Self>) -> FloatTensor<Self>;

    /// As [`Fused::attend`]; with `keep`, also what the backward pass needs.
    fn softmax_product(
        qkv: [&FloatTensor<Self>; 3],
        bias: &FloatTensor<Self>,
        keep: bool,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>);

    /// As [`Derivatives::attention_backward`].
    fn gradients_of_attention(attention: Attended<Self>, grad: FloatTensor<Self>) -> [FloatTensor<Self>; 3];
}

fn last<B: Host>(x: &FloatTensor<B>) -> usize {
    *x.shape().last().expect("at least one dimension")
}

/// A tensor `[n, 2]`, row by row.
fn pairs<B: Host>(x: &FloatTensor<B>) -> &[[f32; 2]] {
    B::numbers(x).as_chunks().0
}

impl<B: Host> Fused for B {
    fn rms_norm(x: FloatTensor<B>, weight: FloatTensor<B>, eps: f32) -> FloatTensor<B> {
        let (x, weight) = (B::dense(x), B::dense(weight));
        B::build(x.shape(), |out| rows::rms_norm(B::numbers(&x), B::numbers(&weight), eps, out))
    }

    fn swiglu(gate: FloatTensor<B>, up: FloatTensor<B>) -> FloatTensor<B> {
        let (gate, up) = (B::dense(gate), B::dense(up));
        B::build(up.shape(), |out| rows::swiglu(B::numbers(&gate), B::numbers(&up), out))
    }

    fn rotate(x: FloatTensor<B>, cos: FloatTensor<B>, sin: FloatTensor<B>, sign: f32) -> FloatTensor<B> {
        let (mut x, cos, sin) = (B::dense(x), B::dense(cos), B::dense(sin));
        let [_, heads, d] = x.shape().dims();
        rows::rotate(B::numbers_mut(&mut x), B::numbers(&cos), B::numbers(&sin), heads, d, sign);
        x
    }

    fn matmul(x: FloatTensor<B>, w: FloatTensor<B>) -> FloatTensor<B> {
        B::product(&x, &w)
    }

    fn attend(q: FloatTensor<B>, k: FloatTensor<B>, v: FloatTensor<B>, bias: FloatTensor<B>) -> FloatTensor<B> {
        B::softmax_product([&q, &k, &v], &bias, false).0
    }

    fn gather_log_probs(logits: FloatTensor<B>, ids: IntTensor<B>) -> FloatTensor<B> {
        let logits = B::dense(logits);
        let lse = B::log_sum_exp(logits.clone());
        B::log_probs(&logits, &lse, &ids)
    }
}

impl<B: Host> FusedUpdate for B {
    fn adamw(
        w: FloatTensor<B>,
        g: FloatTensor<B>,
        m: FloatTensor<B>,
        v: FloatTensor<B>,
        adam: Adam,
    ) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        let (mut w, g, mut m, mut v) = (B::dense(w), B::dense(g), B::dense(m), B::dense(v));
        let moments = [B::numbers_mut(&mut m), B::numbers_mut(&mut v)];
        rows::adamw(B::numbers_mut(&mut w), B::numbers(&g), moments, &adam);
        (w, m, v)
    }

    fn sum_of_squares(x: FloatTensor<B>) -> FloatTensor<B> {
        let x = B::dense(x);
        B::build(Shape::new([1]), |out| out[0] = rows::sum_of_squares(B::numbers(&x)))
    }
}

impl<B: Host> Derivatives for B {
    fn rms_norm_backward(
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        eps: f32,
        grad: FloatTensor<B>,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let (x, weight, mut grad) = (B::dense(x), B::dense(weight), B::dense(grad));
        let dw = B::build(weight.shape(), |dw| {
            dw.fill(0.0);
            rows::rms_norm_backward(B::numbers(&x), B::numbers(&weight), eps, B::numbers_mut(&mut grad), dw);
        });
        (grad, dw)
    }

    fn swiglu_backward(
        gate: FloatTensor<B>,
        up: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let (gate, up, mut grad) = (B::dense(gate), B::dense(up), B::dense(grad));
        let dgate = B::build(gate.shape(), |dgate| {
            rows::swiglu_backward(B::numbers(&gate), B::numbers(&up), B::numbers_mut(&mut grad), dgate);
        });
        (dgate, grad)
    }

    fn matmul_backward(
        x: Option<FloatTensor<B>>,
        w: Option<FloatTensor<B>>,
        grad: FloatTensor<B>,
    ) -> [Option<FloatTensor<B>>; 2] {
        [w.map(|w| B::gradient_of_left(&grad, &w)), x.map(|x| B::gradient_of_right(&x, &grad))]
    }

    fn attention_kept(
        q: &FloatTensor<B>,
        k: &FloatTensor<B>,
        v: &FloatTensor<B>,
        bias: &FloatTensor<B>,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let (out, kept) = B::softmax_product([q, k, v], bias, true);
        (out, kept.expect("what was asked for"))
    }

    fn attention_backward(attention: Attended<B>, grad: FloatTensor<B>) -> [FloatTensor<B>; 3] {
        B::gradients_of_attention(attention, B::dense(grad))
    }

    fn log_sum_exp(logits: FloatTensor<B>) -> FloatTensor<B> {
        let logits = B::dense(logits);
        let columns = last::<B>(&logits);
        let rows = B::numbers(&logits).len() / columns.max(1);
        B::build(Shape::new([rows, 2]), |lse| {
            rows::log_sum_exp(B::numbers(&logits), columns, lse.as_chunks_mut().0);
        })
    }

    fn log_probs(logits: &FloatTensor<B>, lse: &FloatTensor<B>, ids: &IntTensor<B>) -> FloatTensor<B> {
        let ids = B::indices(ids);
        B::build(Shape::new([ids.len()]), |out| {
            let rows = B::numbers(logits).chunks_exact(last::<B>(logits)).zip(pairs::<B>(lse)).zip(ids);
            for (out, ((row, [top, log_sum]), id)) in out.iter_mut().zip(rows) {
                *out = row[id] - top - log_sum;
            }
        })
    }

    fn gather_log_probs_backward(
        logits: FloatTensor<B>,
        lse: FloatTensor<B>,
        ids: IntTensor<B>,
        grad: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let (logits, grad, ids) = (B::dense(logits), B::dense(grad), B::indices(&ids));
        B::build(logits.shape(), |out| {
            rows::gather_log_probs_backward(B::numbers(&logits), pairs::<B>(&lse), &ids, B::numbers(&grad), out);
        })
    }
}

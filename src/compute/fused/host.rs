//! The kernels of `rows` on tensors that lie in this machine's memory, of whatever backend: products and attention are each
//! backend's own. Shapes as in the parent's functions.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

use super::{Adam, rows};

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
}

fn last<B: Host>(x: &FloatTensor<B>) -> usize {
    *x.shape().last().expect("at least one dimension")
}

/// A tensor `[n, 2]`, row by row.
fn pairs<B: Host>(x: &FloatTensor<B>) -> &[[f32; 2]] {
    B::numbers(x).as_chunks().0
}

pub fn rms_norm<B: Host>(x: FloatTensor<B>, weight: FloatTensor<B>, eps: f32) -> FloatTensor<B> {
    let (x, weight) = (B::dense(x), B::dense(weight));
    B::build(x.shape(), |out| rows::rms_norm(B::numbers(&x), B::numbers(&weight), eps, out))
}

pub fn rms_norm_backward<B: Host>(
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

pub fn swiglu<B: Host>(gate: FloatTensor<B>, up: FloatTensor<B>) -> FloatTensor<B> {
    let (gate, up) = (B::dense(gate), B::dense(up));
    B::build(up.shape(), |out| rows::swiglu(B::numbers(&gate), B::numbers(&up), out))
}

pub fn swiglu_backward<B: Host>(
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

pub fn rotate<B: Host>(x: FloatTensor<B>, cos: FloatTensor<B>, sin: FloatTensor<B>, sign: f32) -> FloatTensor<B> {
    let (mut x, cos, sin) = (B::dense(x), B::dense(cos), B::dense(sin));
    let [_, heads, d] = x.shape().dims();
    rows::rotate(B::numbers_mut(&mut x), B::numbers(&cos), B::numbers(&sin), heads, d, sign);
    x
}

/// Log-probabilities, and of each row the largest logit and `ln sum e^(logit - largest)`, `[n, 2]`.
pub fn log_probs_kept<B: Host>(logits: FloatTensor<B>, ids: &IntTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let (logits, ids) = (B::dense(logits), B::indices(ids));
    let columns = last::<B>(&logits);
    let lse = B::build(Shape::new([ids.len(), 2]), |lse| {
        rows::log_sum_exp(B::numbers(&logits), columns, lse.as_chunks_mut().0);
    });
    let out = B::build(Shape::new([ids.len()]), |out| {
        let rows = B::numbers(&logits).chunks_exact(columns).zip(pairs::<B>(&lse)).zip(ids);
        for (out, ((row, [top, log_sum]), id)) in out.iter_mut().zip(rows) {
            *out = row[id] - top - log_sum;
        }
    });
    (out, lse)
}

pub fn gather_log_probs_backward<B: Host>(
    logits: FloatTensor<B>,
    lse: &FloatTensor<B>,
    ids: &IntTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let (logits, grad, ids) = (B::dense(logits), B::dense(grad), B::indices(ids));
    B::build(logits.shape(), |out| {
        rows::gather_log_probs_backward(B::numbers(&logits), pairs::<B>(lse), &ids, B::numbers(&grad), out);
    })
}

pub fn adamw<B: Host>(
    [w, g, m, v]: [FloatTensor<B>; 4],
    adam: &Adam,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (mut w, g, mut m, mut v) = (B::dense(w), B::dense(g), B::dense(m), B::dense(v));
    let moments = [B::numbers_mut(&mut m), B::numbers_mut(&mut v)];
    rows::adamw(B::numbers_mut(&mut w), B::numbers(&g), moments, adam);
    (w, m, v)
}

pub fn sum_of_squares<B: Host>(x: FloatTensor<B>) -> FloatTensor<B> {
    let x = B::dense(x);
    B::build(Shape::new([1]), |out| out[0] = rows::sum_of_squares(B::numbers(&x)))
}

//! The fused operations on burn's `flex` backend, forwards and backwards.

use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{Bytes, DType, Shape};

use super::autodiff::Derivatives;
use super::gemm::Matrix;
use super::{Adam, Fused, FusedUpdate, gemm, rows};

/// A tensor whose numbers stand in order, the only user of its memory where `tensor` was.
fn dense(tensor: FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some_and(|slice| size_of_val(slice) == tensor.bytes().len()) {
        return tensor;
    }
    tensor.to_contiguous()
}

fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a dense tensor of f32")
}

fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}

/// Memory to be written to in full.
fn room(like: &FlexTensor) -> Vec<f32> {
    vec![0.0; like.layout().num_elements()]
}

fn shape(tensor: &FlexTensor) -> Shape {
    tensor.layout().shape().clone()
}

fn indices(ids: &FlexTensor) -> Vec<usize> {
    fn positions<I: Copy + TryInto<usize>>(ids: Option<&[I]>) -> Vec<usize> {
        let position = |&id: &I| id.try_into().unwrap_or_else(|_| panic!("an id below zero"));
        ids.into_iter().flatten().map(position).collect()
    }
    let ids = ids.to_contiguous();
    match ids.dtype() {
        DType::I64 => positions(ids.as_slice::<i64>()),
        DType::I32 => positions(ids.as_slice::<i32>()),
        other => unreachable!("ids are i64 or i32, not {other:?}"),
    }
}

/// A tensor `[n, 2]`, row by row.
fn pairs(tensor: &FlexTensor) -> &[[f32; 2]] {
    numbers(tensor).as_chunks().0
}

fn last(tensor: &FlexTensor) -> usize {
    *tensor.layout().shape().last().expect("at least one dimension")
}

/// A two-dimensional tensor as it stands in memory.
fn matrix(tensor: &FlexTensor) -> Matrix<'_> {
    let ([], strides) = strides(tensor);
    Matrix::new(&tensor.storage()[tensor.layout().start_offset()..], shape(tensor).dims(), strides)
}

/// The matrix of one row of the batch and one head, of a tensor `[B, heads, t, d]` as it stands in memory.
fn head(tensor: &FlexTensor, row: usize, head: usize) -> Matrix<'_> {
    let [_, _, t, d] = shape(tensor).dims();
    let ([down, across], strides) = strides(tensor);
    let start = tensor.layout().start_offset() + row * down + head * across;
    Matrix::new(&tensor.storage()[start..], [t, d], strides)
}

/// Strides of the leading dimensions and of the last two; nothing here is ever flipped.
fn strides<const N: usize>(tensor: &FlexTensor) -> ([usize; N], [usize; 2]) {
    let strides = tensor.layout().strides();
    let at = |i: usize| usize::try_from(strides[i]).expect("a stride that is not negative");
    (std::array::from_fn(at), [at(N), at(N + 1)])
}

fn product(a: Matrix, b: Matrix) -> FlexTensor {
    tensor(gemm::product(a, b), Shape::new([a.rows(), b.columns()]))
}

/// Attention row by row and head by head; with `keep`, also all the weights, `[B, heads, t, T]`.
fn attend(q: &FlexTensor, k: &FlexTensor, v: &FlexTensor, bias: &FlexTensor, keep: bool) -> (FlexTensor, Vec<f32>) {
    let [b, heads, t, d] = shape(q).dims();
    let [_, kv_heads, columns, _] = shape(k).dims();
    let (width, block) = (heads * d, t * columns);
    let mut out = vec![0.0; b * t * width];
    let mut weights = vec![0.0; if keep { b * heads * block } else { block }];
    for (row, bias) in numbers(bias).chunks_exact(block).enumerate() {
        for i in 0..heads {
            let p = &mut weights[if keep { (row * heads + i) * block } else { 0 }..][..block];
            let kv = i * kv_heads / heads;
            gemm::multiply(p, [columns, 1], head(q, row, i), head(k, row, kv).transposed(), false);
            rows::biased_softmax(p, bias, columns);
            let p = Matrix::new(p, [t, columns], [columns, 1]);
            gemm::multiply(&mut out[row * t * width + i * d..], [width, 1], p, head(v, row, kv), false);
        }
    }
    (tensor(out, Shape::new([b * t, width])), weights)
}

/// Numbers that stand as `[B, t, heads, d]`, as the tensor `[B, heads, t, d]`.
fn by_head(values: Vec<f32>, [b, heads, t, d]: [usize; 4]) -> FlexTensor {
    let layout = Layout::contiguous(Shape::new([b, t, heads, d])).transpose(1, 2);
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

impl Fused for Flex {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        let (x, weight) = (dense(x), dense(weight));
        let mut out = room(&x);
        rows::rms_norm(numbers(&x), numbers(&weight), eps, &mut out);
        tensor(out, shape(&x))
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let (gate, up) = (dense(gate), dense(up));
        let mut out = room(&up);
        rows::swiglu(numbers(&gate), numbers(&up), &mut out);
        tensor(out, shape(&up))
    }

    fn rotate(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, sign: f32) -> FloatTensor<Self> {
        let (mut x, cos, sin) = (dense(x), dense(cos), dense(sin));
        let [_, heads, d] = shape(&x).dims();
        rows::rotate(x.storage_mut(), numbers(&cos), numbers(&sin), heads, d, sign);
        x
    }

    fn matmul(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        product(matrix(&x), matrix(&w))
    }

    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        attend(&q, &k, &v, &dense(bias), false).0
    }

    fn gather_log_probs(logits: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let logits = dense(logits);
        let lse = Self::log_sum_exp(logits.clone());
        Self::log_probs(&logits, &lse, &ids)
    }
}

impl FusedUpdate for Flex {
    fn adamw(
        w: FloatTensor<Self>,
        g: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        adam: Adam,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (mut w, g, mut m, mut v) = (dense(w), dense(g), dense(m), dense(v));
        rows::adamw(w.storage_mut(), numbers(&g), m.storage_mut(), v.storage_mut(), &adam);
        (w, m, v)
    }
}

impl Derivatives for Flex {
    fn attention_with_weights(
        q: &FloatTensor<Self>,
        k: &FloatTensor<Self>,
        v: &FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (out, weights) = attend(q, k, v, &dense(bias), true);
        let [b, heads, t, _] = shape(q).dims();
        let [_, _, columns, _] = shape(k).dims();
        (out, tensor(weights, Shape::new([b, heads, t, columns])))
    }

    fn attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3] {
        let grad = dense(grad);
        let [b, heads, t, d] = shape(&q).dims();
        let [_, kv_heads, columns, _] = shape(&k).dims();
        let (width, kv_width) = (heads * d, kv_heads * d);
        let mut dq = vec![0.0; b * t * width];
        let [mut dk, mut dv] = [(); 2].map(|()| vec![0.0; b * columns * kv_width]);
        for (i, p) in numbers(&weights).chunks_exact(t * columns).enumerate() {
            let (row, i) = (i / heads, i % heads);
            let kv = i * kv_heads / heads;
            // Query heads that share a key-value head add up.
            let add = i > 0 && (i - 1) * kv_heads / heads == kv;
            let of_kv = row * columns * kv_width + kv * d;
            let start = row * t * width + i * d;
            let g = Matrix::new(&numbers(&grad)[start..], [t, d], [width, 1]);
            let weights = Matrix::new(p, [t, columns], [columns, 1]);
            gemm::multiply(&mut dv[of_kv..], [kv_width, 1], weights.transposed(), g, add);
            let mut dscores = gemm::product(g, head(&v, row, kv).transposed());
            rows::softmax_backward(p, &mut dscores, columns);
            let dscores = Matrix::new(&dscores, [t, columns], [columns, 1]);
            gemm::multiply(&mut dq[start..], [width, 1], dscores, head(&k, row, kv), false);
            gemm::multiply(&mut dk[of_kv..], [kv_width, 1], dscores.transposed(), head(&q, row, i), add);
        }
        let of_keys = [b, kv_heads, columns, d];
        [by_head(dq, [b, heads, t, d]), by_head(dk, of_keys), by_head(dv, of_keys)]
    }

    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f32,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (x, weight, mut grad) = (dense(x), dense(weight), dense(grad));
        let mut dw = room(&weight);
        rows::rms_norm_backward(numbers(&x), numbers(&weight), eps, grad.storage_mut(), &mut dw);
        (grad, tensor(dw, shape(&weight)))
    }

    fn matmul_backward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let grad = matrix(&grad);
        (product(grad, matrix(&w).transposed()), product(matrix(&x).transposed(), grad))
    }

    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (gate, up, mut grad) = (dense(gate), dense(up), dense(grad));
        let mut dgate = room(&gate);
        rows::swiglu_backward(numbers(&gate), numbers(&up), grad.storage_mut(), &mut dgate);
        (tensor(dgate, shape(&gate)), grad)
    }

    fn log_sum_exp(logits: FloatTensor<Self>) -> FloatTensor<Self> {
        let logits = dense(logits);
        let columns = last(&logits);
        let mut lse = vec![[0.0; 2]; logits.layout().num_elements() / columns.max(1)];
        rows::log_sum_exp(numbers(&logits), columns, &mut lse);
        let n = lse.len();
        tensor(lse.into_flattened(), Shape::new([n, 2]))
    }

    fn log_probs(logits: &FloatTensor<Self>, lse: &FloatTensor<Self>, ids: &IntTensor<Self>) -> FloatTensor<Self> {
        let rows = numbers(logits).chunks_exact(last(logits)).zip(pairs(lse)).zip(indices(ids));
        let log_probs: Vec<f32> = rows.map(|((row, [top, log_sum]), id)| row[id] - top - log_sum).collect();
        let n = log_probs.len();
        tensor(log_probs, Shape::new([n]))
    }

    fn gather_log_probs_backward(
        logits: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        ids: IntTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (logits, grad) = (dense(logits), dense(grad));
        let mut out = room(&logits);
        rows::gather_log_probs_backward(numbers(&logits), pairs(&lse), &indices(&ids), numbers(&grad), &mut out);
        tensor(out, shape(&logits))
    }
}

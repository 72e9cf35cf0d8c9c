//! Tensors of burn's `flex` backend as slices; products and attention by `gemm`.

use std::ops::Range;

use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::backend::tensor::IntTensor;
use burn::tensor::{Bytes, DType, Shape};

use super::autodiff::{Attended, Derivatives};
use super::gemm::Matrix;
use super::host::{self, Host};
use super::rows::Rows;
use super::{Adam, Fused, FusedUpdate, gemm, rows};

fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}

fn shape(tensor: &FlexTensor) -> Shape {
    tensor.layout().shape().clone()
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

/// Numbers that stand as `[B, t, heads, d]`, as the tensor `[B, heads, t, d]`.
fn by_head(values: Vec<f32>, [b, heads, t, d]: [usize; 4]) -> FlexTensor {
    let layout = Layout::contiguous(Shape::new([b, t, heads, d])).transpose(1, 2);
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

impl Host for Flex {
    fn dense(x: FlexTensor) -> FlexTensor {
        if x.as_slice::<f32>().is_some_and(|slice| size_of_val(slice) == x.bytes().len()) {
            return x;
        }
        x.to_contiguous()
    }

    fn numbers(x: &FlexTensor) -> &[f32] {
        x.as_slice().expect("a dense tensor of f32")
    }

    fn numbers_mut(x: &mut FlexTensor) -> &mut [f32] {
        x.storage_mut()
    }

    fn build(shape: Shape, fill: impl FnOnce(&mut [f32])) -> FlexTensor {
        let mut values = vec![0.0; shape.num_elements()];
        fill(&mut values);
        tensor(values, shape)
    }

    fn indices(ids: &IntTensor<Self>) -> Vec<usize> {
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
}

impl Fused for Flex {
    fn rms_norm(x: FlexTensor, weight: FlexTensor, eps: f32) -> FlexTensor {
        host::rms_norm::<Self>(x, weight, eps)
    }

    fn swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        host::swiglu::<Self>(gate, up)
    }

    fn rotate(x: FlexTensor, cos: FlexTensor, sin: FlexTensor, sign: f32) -> FlexTensor {
        host::rotate::<Self>(x, cos, sin, sign)
    }

    fn matmul(x: FlexTensor, w: FlexTensor) -> FlexTensor {
        product(matrix(&x), matrix(&w))
    }

    fn attend(q: FlexTensor, k: FlexTensor, v: FlexTensor, bias: FlexTensor) -> FlexTensor {
        attention([&q, &k, &v], &bias, false).0
    }

    fn gather_log_probs(logits: FlexTensor, ids: IntTensor<Self>) -> FlexTensor {
        host::log_probs_kept::<Self>(logits, &ids).0
    }
}

impl FusedUpdate for Flex {
    fn adamw(
        w: FlexTensor,
        g: FlexTensor,
        m: FlexTensor,
        v: FlexTensor,
        adam: Adam,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        host::adamw::<Self>([w, g, m, v], &adam)
    }

    fn sum_of_squares(x: FlexTensor) -> FlexTensor {
        host::sum_of_squares::<Self>(x)
    }
}

impl Derivatives for Flex {
    fn rms_norm_backward(x: FlexTensor, weight: FlexTensor, eps: f32, grad: FlexTensor) -> (FlexTensor, FlexTensor) {
        host::rms_norm_backward::<Self>(x, weight, eps, grad)
    }

    fn swiglu_backward(gate: FlexTensor, up: FlexTensor, grad: FlexTensor) -> (FlexTensor, FlexTensor) {
        host::swiglu_backward::<Self>(gate, up, grad)
    }

    fn matmul_backward(x: Option<FlexTensor>, w: Option<FlexTensor>, grad: FlexTensor) -> [Option<FlexTensor>; 2] {
        [
            w.map(|w| product(matrix(&grad), matrix(&w).transposed())),
            x.map(|x| product(matrix(&x).transposed(), matrix(&grad))),
        ]
    }

    fn attention_kept(q: &FlexTensor, k: &FlexTensor, v: &FlexTensor, bias: &FlexTensor) -> (FlexTensor, FlexTensor) {
        let (out, kept) = attention([q, k, v], bias, true);
        (out, kept.expect("what was asked for"))
    }

    fn attention_backward(attention: Attended<Self>, grad: FlexTensor) -> [FlexTensor; 3] {
        attention_backward(attention, &Self::dense(grad))
    }

    fn log_probs_kept(logits: &FlexTensor, ids: &IntTensor<Self>) -> (FlexTensor, Option<FlexTensor>) {
        let (out, kept) = host::log_probs_kept::<Self>(logits.clone(), ids);
        (out, Some(kept))
    }

    fn gather_log_probs_backward(
        logits: FlexTensor,
        kept: Option<FlexTensor>,
        ids: IntTensor<Self>,
        grad: FlexTensor,
    ) -> FlexTensor {
        host::gather_log_probs_backward::<Self>(logits, &kept.expect("what was kept"), &ids, grad)
    }
}

/// Row by row and head by head; what is kept is the weights of the softmax, `[B, heads, t, T]`.
fn attention([q, k, v]: [&FlexTensor; 3], bias: &FlexTensor, keep: bool) -> (FlexTensor, Option<FlexTensor>) {
    let bias = Flex::dense(bias.clone());
    let [b, heads, t, d] = shape(q).dims();
    let [_, kv_heads, columns, _] = shape(k).dims();
    let (width, size) = (heads * d, t * columns);
    let mut out = vec![0.0; b * t * width];
    let mut weights = vec![0.0; if keep { b * heads * size } else { size }];
    for (row, bias) in Flex::numbers(&bias).chunks_exact(size).enumerate() {
        let blocks = blocks(bias, columns);
        for i in 0..heads {
            let p = &mut weights[if keep { (row * heads + i) * size } else { 0 }..][..size];
            let kv = i * kv_heads / heads;
            let (q, k, v) = (head(q, row, i), head(k, row, kv), head(v, row, kv));
            for Block { queries, keys } in blocks.clone() {
                let rows = queries.start * columns..queries.end * columns;
                let p = &mut p[rows.clone()];
                let (q, k) = (q.part(queries.clone()), k.part(keys.clone()));
                gemm::multiply(&mut p[keys.start..], [columns, 1], q, k.transposed(), false);
                rows::biased_softmax(p, &bias[rows], columns, &keys);
                let p = Matrix::new(&p[keys.start..], [queries.len(), keys.len()], [columns, 1]);
                let at = (row * t + queries.start) * width + i * d;
                gemm::multiply(&mut out[at..], [width, 1], p, v.part(keys), false);
            }
        }
    }
    let kept = keep.then(|| tensor(weights, Shape::new([b, heads, t, columns])));
    (tensor(out, Shape::new([b * t, width])), kept)
}

fn attention_backward(attention: Attended<Flex>, grad: &FlexTensor) -> [FlexTensor; 3] {
    let Attended { q, k, v, bias, out, kept } = attention;
    let bias = Flex::dense(bias);
    let [b, heads, t, d] = shape(&q).dims();
    let [_, kv_heads, columns, _] = shape(&k).dims();
    let (width, kv_width, size) = (heads * d, kv_heads * d, t * columns);
    let mut dq = vec![0.0; b * t * width];
    let [mut dk, mut dv] = [(); 2].map(|()| vec![0.0; b * columns * kv_width]);
    let (grad, out) = (Flex::numbers(grad), Flex::numbers(&out));
    for (row, bias) in Flex::numbers(&bias).chunks_exact(size).enumerate() {
        let blocks = blocks(bias, columns);
        for i in 0..heads {
            let p = &Flex::numbers(&kept)[(row * heads + i) * size..][..size];
            let kv = i * kv_heads / heads;
            let (q, k, v) = (head(&q, row, i), head(&k, row, kv), head(&v, row, kv));
            for Block { queries, keys } in blocks.clone() {
                let at = (row * t + queries.start) * width + i * d;
                // Blocks of queries, and query heads that share a key-value head, add up.
                let of_kv = (row * columns + keys.start) * kv_width + kv * d;
                let [of_result, result] = [grad, out].map(|x| Rows { data: &x[at..], columns: d, stride: width });
                let p = &p[queries.start * columns + keys.start..queries.end * columns];
                let weights = Rows { data: p, columns: keys.len(), stride: columns };
                let g = Matrix::new(of_result.data, [queries.len(), d], [width, 1]);
                let p = Matrix::new(p, [queries.len(), keys.len()], [columns, 1]);
                gemm::multiply(&mut dv[of_kv..], [kv_width, 1], p.transposed(), g, true);
                let mut dscores = gemm::product(g, v.part(keys.clone()).transposed());
                rows::softmax_backward(weights, &mut dscores, result, of_result);
                let dscores = Matrix::new(&dscores, [queries.len(), keys.len()], [keys.len(), 1]);
                gemm::multiply(&mut dq[at..], [width, 1], dscores, k.part(keys), false);
                gemm::multiply(&mut dk[of_kv..], [kv_width, 1], dscores.transposed(), q.part(queries), true);
            }
        }
    }
    let of_keys = [b, kv_heads, columns, d];
    [by_head(dq, [b, heads, t, d]), by_head(dk, of_keys), by_head(dv, of_keys)]
}

/// Neighbouring queries, and the keys that any of them sees.
#[derive(Clone)]
struct Block {
    queries: Range<usize>,
    keys: Range<usize>,
}

/// Queries of a block. More of them look at keys in vain; fewer make small products.
const QUERIES: usize = 64;

/// The queries of one row of the batch in blocks; `bias` is as many lines of `columns` keys.
fn blocks(bias: &[f32], columns: usize) -> impl Iterator<Item = Block> + Clone {
    bias.chunks(QUERIES * columns).enumerate().map(move |(i, bias)| Block {
        queries: i * QUERIES..i * QUERIES + bias.len() / columns,
        keys: rows::visible(bias, columns),
    })
}

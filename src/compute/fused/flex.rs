//! Tensors of burn's `flex` backend as slices; products and attention by `gemm`.

use std::ops::Range;

use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::backend::tensor::IntTensor;
use burn::tensor::{Bytes, DType, Shape};

use super::autodiff::Attended;
use super::gemm::Matrix;
use super::host::Host;
use super::rows::Rows;
use super::{gemm, rows};

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

    fn product(x: &FlexTensor, w: &FlexTensor) -> FlexTensor {
        product(matrix(x), matrix(w))
    }

    fn gradient_of_left(grad: &FlexTensor, w: &FlexTensor) -> FlexTensor {
        product(matrix(grad), matrix(w).transposed())
    }

    fn gradient_of_right(x: &FlexTensor, grad: &FlexTensor) -> FlexTensor {
        product(matrix(x).transposed(), matrix(grad))
    }

    /// Row by row and head by head; what is kept is the weights of the softmax, `[B, heads, t, T]`.
    fn softmax_product([q, k, v]: [&FlexTensor; 3], bias: &FlexTensor, keep: bool) -> (FlexTensor, Option<FlexTensor>) {
        let bias = Self::dense(bias.clone());
        let [b, heads, t, d] = shape(q).dims();
        let [_, kv_heads, columns, _] = shape(k).dims();
        let (width, size) = (heads * d, t * columns);
        let mut out = vec![0.0; b * t * width];
        let mut weights = vec![0.0; if keep { b * heads * size } else { size }];
        for (row, bias) in Self::numbers(&bias).chunks_exact(size).enumerate() {
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

    fn gradients_of_attention(attention: Attended<Self>, grad: FlexTensor) -> [FlexTensor; 3] {
        let Attended { q, k, v, bias, out, kept } = attention;
        let bias = Self::dense(bias);
        let [b, heads, t, d] = shape(&q).dims();
        let [_, kv_heads, columns, _] = shape(&k).dims();
        let (width, kv_width, size) = (heads * d, kv_heads * d, t * columns);
        let mut dq = vec![0.0; b * t * width];
        let [mut dk, mut dv] = [(); 2].map(|()| vec![0.0; b * columns * kv_width]);
        let (grad, out) = (Self::numbers(&grad), Self::numbers(&out));
        for (row, bias) in Self::numbers(&bias).chunks_exact(size).enumerate() {
            let blocks = blocks(bias, columns);
            for i in 0..heads {
                let p = &Self::numbers(&kept)[(row * heads + i) * size..][..size];
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

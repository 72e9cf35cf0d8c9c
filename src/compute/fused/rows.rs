//! The arithmetic of the fused operations, on rows of `f32`.
//!
//! Sums run over sixteen lanes that are added in a fixed order, so a result is the same on every instruction set. `pulp`
//! compiles each operation once for every instruction set and chooses at run time.
#![allow(
    clippy::inline_always,
    reason = "what is not inlined into `dispatch` is compiled for the oldest instruction set"
)]

use std::ops::Range;

use pulp::Arch;

const LANES: usize = 16;

/// `sum f(a_i, b_i)` in lanes.
#[inline(always)]
fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0_f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a.remainder().iter().zip(b.remainder()).map(|(&a, &b)| f(a, b)).sum();
    for (a, b) in a.zip(b) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i]);
        }
    }
    lanes.iter().sum::<f32>() + tail
}

/// The largest value of a row; NaN does not count.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let tail = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    lanes.into_iter().fold(tail, f32::max)
}

/// `e^x` to about two units in the last place: `2^n` from the exponent's bits times a polynomial of degree six on
/// `[-ln 2 / 2, ln 2 / 2]` (the minimax coefficients of Cephes' `expf`). Zero below -87.3, where the result would be
/// subnormal; NaN stays NaN. Plain arithmetic, so that loops over it vectorise.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LARGEST: f32 = 88.37;
    const SMALLEST: f32 = -87.33;
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let bounded = if x > LARGEST { LARGEST } else { x };
    let bounded = if bounded < SMALLEST { SMALLEST } else { bounded };
    let shifted = bounded * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (bounded - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_65;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let e = y * power;
    if x < SMALLEST { 0.0 } else { e }
}

/// `out = x / sqrt(mean(x^2) + eps) * w` for rows of the length of `w`.
pub fn rms_norm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (x, out) in x.chunks_exact(w.len()).zip(out.chunks_exact_mut(w.len())) {
                let scale = (sum2(x, x, |a, b| a * b) / w.len() as f32 + eps).sqrt().recip();
                for ((out, &x), &w) in out.iter_mut().zip(x).zip(w) {
                    *out = x * scale * w;
                }
            }
        },
    );
}

/// Turns the gradient of [`rms_norm`]'s result into that of `x`, in place, and adds that of `w` to `dw`.
///
/// With `s = 1 / sqrt(mean(x^2) + eps)`: `dx = s (g w - x s^2 mean(g w x))`, `dw = sum over rows of g x s`.
pub fn rms_norm_backward(x: &[f32], w: &[f32], eps: f32, grad: &mut [f32], dw: &mut [f32]) {
    let n = w.len() as f32;
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (x, g) in x.chunks_exact(w.len()).zip(grad.chunks_exact_mut(w.len())) {
                let scale = (sum2(x, x, |a, b| a * b) / n + eps).sqrt().recip();
                for (((dw, g), &x), &w) in dw.iter_mut().zip(g.iter_mut()).zip(x).zip(w) {
                    *dw += *g * x * scale;
                    *g *= w;
                }
                let slope = sum2(g, x, |a, b| a * b) / n * scale * scale;
                for (g, &x) in g.iter_mut().zip(x) {
                    *g = scale * (*g - x * slope);
                }
            }
        },
    );
}

/// `out = gate / (1 + e^-gate) * up`.
pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate / (1.0 + exp(-gate)) * up;
            }
        },
    );
}

/// Turns the gradient of [`swiglu`]'s result into that of `up`, in place, and writes that of `gate`.
///
/// With `s = 1 / (1 + e^-gate)`: `dup = g gate s`, `dgate = g up s (1 + gate (1 - s))`.
pub fn swiglu_backward(gate: &[f32], up: &[f32], grad: &mut [f32], dgate: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (((dgate, g), &gate), &up) in dgate.iter_mut().zip(grad).zip(gate).zip(up) {
                let s = (1.0 + exp(-gate)).recip();
                *dgate = *g * up * s * (1.0 + gate * (1.0 - s));
                *g *= gate * s;
            }
        },
    );
}

/// Rotates the pairs `(x_i, x_{i + d/2})` of every head by its row's angles, in place; `sign` -1 turns back.
///
/// `x` is rows of heads of `d` numbers, `cos` and `sin` rows of `d` numbers of which the second half is read.
pub fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32], heads: usize, d: usize, sign: f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let rows = x.chunks_exact_mut(heads * d).zip(cos.chunks_exact(d).zip(sin.chunks_exact(d)));
            for (row, (cos, sin)) in rows {
                let (cos, sin) = (&cos[d / 2..], &sin[d / 2..]);
                for head in row.chunks_exact_mut(d) {
                    let (a, b) = head.split_at_mut(d / 2);
                    for (((a, b), &cos), &sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                        let sin = sign * sin;
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            }
        },
    );
}

/// The keys that a bias leaves visible to any of its queries, from the first to the last; all where it hides all of them.
pub fn visible(bias: &[f32], columns: usize) -> Range<usize> {
    /// Below this, nothing is left after the softmax, whatever the scores.
    const HIDDEN: f32 = -1e8;
    let mut highest = vec![f32::NEG_INFINITY; columns];
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for row in bias.chunks_exact(columns) {
                for (highest, &bias) in highest.iter_mut().zip(row) {
                    *highest = if bias > *highest { bias } else { *highest };
                }
            }
        },
    );
    let first = highest.iter().position(|&bias| bias > HIDDEN).unwrap_or(0);
    first..highest.iter().rposition(|&bias| bias > HIDDEN).map_or(columns, |last| last + 1)
}

/// `softmax(score + bias)` of every row over some of its columns, in place; the others stay as they are.
pub fn biased_softmax(scores: &mut [f32], bias: &[f32], columns: usize, seen: &Range<usize>) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (row, bias) in scores.chunks_exact_mut(columns).zip(bias.chunks_exact(columns)) {
                let (row, bias) = (&mut row[seen.clone()], &bias[seen.clone()]);
                for (x, &bias) in row.iter_mut().zip(bias) {
                    *x += bias;
                }
                let top = largest(row);
                for x in row.iter_mut() {
                    *x = exp(*x - top);
                }
                let scale = sum2(row, row, |a, _| a).recip();
                for x in row.iter_mut() {
                    *x *= scale;
                }
            }
        },
    );
}

/// Turns the gradients of a softmax into those of its arguments, in place, row by row: `p (g - m)`, where `m`, the sum of
/// `p g`, is what the row's result and its gradient have as their product.
///
/// Each is given as rows that stand `stride` numbers apart.
pub fn softmax_backward(p: Rows, grad: &mut [f32], result: Rows, of_result: Rows) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (((g, p), out), dout) in
                grad.chunks_exact_mut(p.columns).zip(p.iter()).zip(result.iter()).zip(of_result.iter())
            {
                let mean = sum2(out, dout, |a, b| a * b);
                for (g, &p) in g.iter_mut().zip(p) {
                    *g = p * (*g - mean);
                }
            }
        },
    );
}

/// Rows of `columns` numbers that stand `stride` numbers apart.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [f32],
    pub columns: usize,
    pub stride: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn iter(self) -> impl Iterator<Item = &'a [f32]> {
        self.data.chunks(self.stride).map(move |row| &row[..self.columns])
    }
}

/// Writes `x w` for few rows `x`: what stands in `w` is read once, in its order, which memory likes better than the tiles of a
/// product of many rows.
pub fn few_rows(x: Rows, w: Rows, out: &mut [f32]) {
    let (width, k) = (w.columns, x.columns);
    let row = |i: usize| &w.data[i * w.stride..][..width];
    Arch::new().dispatch(
        #[inline(always)]
        || {
            out.fill(0.0);
            for i in (0..k - k % 4).step_by(4) {
                let (w0, w1, w2, w3) = (row(i), row(i + 1), row(i + 2), row(i + 3));
                for (x, out) in x.iter().zip(out.chunks_exact_mut(width)) {
                    let (a, b, c, d) = (x[i], x[i + 1], x[i + 2], x[i + 3]);
                    for ((((out, &w0), &w1), &w2), &w3) in out.iter_mut().zip(w0).zip(w1).zip(w2).zip(w3) {
                        *out = *out + a * w0 + b * w1 + c * w2 + d * w3;
                    }
                }
            }
            for i in k - k % 4..k {
                for (x, out) in x.iter().zip(out.chunks_exact_mut(width)) {
                    for (out, &w) in out.iter_mut().zip(row(i)) {
                        *out += x[i] * w;
                    }
                }
            }
        },
    );
}

/// Turns every `x` into `e^(scale (x - largest))`.
pub fn exponentials(row: &mut [f32], scale: f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let top = largest(row);
            for x in row.iter_mut() {
                *x = exp((*x - top) * scale);
            }
        },
    );
}

/// The largest number of every row and `ln sum e^(x - largest)`; apart, because adding them would round away what is left
/// of logits much larger than their differences.
pub fn log_sum_exp(logits: &[f32], columns: usize, out: &mut [[f32; 2]]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (row, out) in logits.chunks_exact(columns).zip(out) {
                let top = largest(row);
                *out = [top, sum2(row, row, |x, _| exp(x - top)).ln()];
            }
        },
    );
}

/// Writes the gradient of a log-probability with respect to its row's logits: `g (1[id] - softmax)`.
pub fn gather_log_probs_backward(logits: &[f32], lse: &[[f32; 2]], ids: &[usize], grad: &[f32], out: &mut [f32]) {
    let columns = logits.len() / lse.len().max(1);
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let rows = logits.chunks_exact(columns).zip(out.chunks_exact_mut(columns));
            for ((((row, out), &[top, log_sum]), &id), &g) in rows.zip(lse).zip(ids).zip(grad) {
                for (out, &x) in out.iter_mut().zip(row) {
                    *out = -g * exp(x - top - log_sum);
                }
                out[id] += g;
            }
        },
    );
}

/// The sum of squares; blocks are added up in `f64`, so that many small numbers are not lost beside a large sum.
pub fn sum_of_squares(x: &[f32]) -> f32 {
    let block = |x: &[f32]| {
        Arch::new().dispatch(
            #[inline(always)]
            || f64::from(sum2(x, x, |a, b| a * b)),
        )
    };
    x.chunks(4096).map(block).sum::<f64>() as f32
}

/// One update of [`Adam`](super::Adam) in place.
pub fn adamw(w: &mut [f32], g: &[f32], [m, v]: [&mut [f32]; 2], adam: &super::Adam) {
    let [clip, b1, b2, rate1, c2, eps, keep] =
        [adam.clip, adam.beta1, adam.beta2, adam.rate / adam.correction1, adam.correction2, adam.epsilon, adam.keep]
            .map(|x| x as f32);
    let (rest1, rest2) = ((1.0 - adam.beta1) as f32, (1.0 - adam.beta2) as f32);
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                let g = g * clip;
                *m = *m * b1 + g * rest1;
                *v = *v * b2 + g * g * rest2;
                *w = *w * keep - *m * rate1 / ((*v / c2).sqrt() + eps);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_the_standard_library_to_float_precision() {
        for i in -8700..8800 {
            let x = i as f32 * 0.01 + 0.003;
            let (ours, theirs) = (exp(x), x.exp());
            assert!((ours - theirs).abs() <= 3e-7 * theirs, "e^{x}: {ours} instead of {theirs}");
        }
        assert_eq!(
            [exp(0.0), exp(-1e9), exp(f32::NEG_INFINITY)].map(f32::to_bits),
            [1.0_f32, 0.0, 0.0].map(f32::to_bits)
        );
        assert!(exp(f32::NAN).is_nan());
    }
}

//! Products of matrices that stand somewhere in a slice, by the `gemm` crate, on the calling thread; of few rows and a large
//! matrix on all threads of its pool.
//!
//! The only unsafe code of the library: `gemm` takes pointers and strides. Both are checked here against the slices.
#![allow(unsafe_code)]

use gemm::Parallelism;
use rayon::prelude::*;

use super::rows::{self, Rows};

/// A matrix within `data`: the entry (i, j) is `data[i * strides[0] + j * strides[1]]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    shape: [usize; 2],
    strides: [usize; 2],
}

/// Whether every entry of such a matrix stands within `length` numbers.
fn fits(length: usize, shape: [usize; 2], strides: [usize; 2]) -> bool {
    shape.contains(&0) || (shape[0] - 1) * strides[0] + (shape[1] - 1) * strides[1] < length
}

impl<'a> Matrix<'a> {
    /// # Panics
    /// When an entry would stand outside `data`.
    pub fn new(data: &'a [f32], shape: [usize; 2], strides: [usize; 2]) -> Self {
        assert!(fits(data.len(), shape, strides), "{shape:?} with strides {strides:?} in {} numbers", data.len());
        Self { data, shape, strides }
    }

    pub const fn rows(self) -> usize {
        self.shape[0]
    }

    pub const fn columns(self) -> usize {
        self.shape[1]
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// When there are not as many.
    pub fn part(self, rows: std::ops::Range<usize>) -> Self {
        assert!(rows.start < rows.end && rows.end <= self.shape[0], "{rows:?} of {:?}", self.shape);
        let data = &self.data[rows.start * self.strides[0]..];
        Self { data, shape: [rows.len(), self.shape[1]], strides: self.strides }
    }

    /// Rows and columns exchanged.
    pub fn transposed(self) -> Self {
        let ([rows, columns], [down, across]) = (self.shape, self.strides);
        Self { data: self.data, shape: [columns, rows], strides: [across, down] }
    }
}

/// Writes `a b` to the matrix with `strides` within `out`, or adds it to what stands there.
///
/// # Panics
/// When the shapes do not fit each other, or the product does not fit into `out`.
pub fn multiply(out: &mut [f32], strides: [usize; 2], a: Matrix, b: Matrix, add: bool) {
    let [m, k] = a.shape;
    let n = b.shape[1];
    assert!(k == b.shape[0] && fits(out.len(), [m, n], strides), "{:?} times {:?}", a.shape, b.shape);
    if k == 0 && !add {
        for i in 0..m {
            (0..n).for_each(|j| out[i * strides[0] + j * strides[1]] = 0.0);
        }
        return;
    }
    // SAFETY: all entries of the three matrices lie within their slices (asserted above and in `Matrix::new`), `out` is
    // borrowed alone, and its entries are distinct because callers lay it out by rows.
    unsafe { call(out.as_mut_ptr(), strides, a, b, add) }
}

/// `a b`, by rows.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn product(a: Matrix, b: Matrix) -> Vec<f32> {
    let ([m, k], n) = (a.shape, b.shape[1]);
    assert_eq!(k, b.shape[0], "{:?} times {:?}", a.shape, b.shape);
    if k == 0 {
        return vec![0.0; m * n];
    }
    if m <= FEW && k * n >= LARGE && a.strides[1] == 1 && b.strides[1] == 1 {
        return by_panels(a, b);
    }
    let mut out = Vec::with_capacity(m * n);
    // SAFETY: as in `multiply`; without `add`, `gemm` writes all `m n` numbers and reads none of them.
    unsafe {
        call(out.as_mut_ptr(), [n, 1], a, b, false);
        out.set_len(m * n);
    }
    out
}

/// Rows for which reading the second matrix is most of the work, if that has as many numbers as `LARGE`.
const FEW: usize = 16;
const LARGE: usize = 1 << 18;

/// Columns that one thread of the pool works on at a time, of a matrix with `n`: long enough for memory to be read in order,
/// short enough for the results to stay near. How many threads there are changes nothing.
fn panel_of(n: usize) -> usize {
    (n / 4).clamp(256, 512)
}

/// [`product`] of few rows and a large matrix, both by rows, shared among the threads of the pool that it is called in.
fn by_panels(a: Matrix, b: Matrix) -> Vec<f32> {
    let ([m, k], n) = (a.shape, b.shape[1]);
    let width = panel_of(n);
    let starts: Vec<usize> = (0..n).step_by(width).collect();
    let panel = |&start: &usize| {
        let columns = width.min(n - start);
        let mut out = vec![0.0; m * columns];
        let x = Rows { data: a.data, columns: k, stride: a.strides[0].max(k) };
        rows::few_rows(x, Rows { data: &b.data[start..], columns, stride: b.strides[0].max(n) }, &mut out);
        out
    };
    let panels: Vec<Vec<f32>> = starts.par_iter().map(panel).collect();
    let mut out = vec![0.0; m * n];
    for (start, panel) in starts.into_iter().zip(panels) {
        let columns = panel.len() / m.max(1);
        for (out, panel) in out.chunks_exact_mut(n).zip(panel.chunks_exact(columns.max(1))) {
            out[start..start + columns].copy_from_slice(panel);
        }
    }
    out
}

/// # Safety
/// Every entry of the `a.rows x b.columns` matrix at `out` can be written to, and read if `add`.
unsafe fn call(out: *mut f32, strides: [usize; 2], a: Matrix, b: Matrix, add: bool) {
    let [out_strides, a_strides, b_strides] = [strides, a.strides, b.strides].map(|s| s.map(usize::cast_signed));
    // SAFETY: what the callers promise.
    unsafe {
        gemm::gemm(
            a.shape[0],
            b.shape[1],
            a.shape[1],
            out,
            out_strides[1],
            out_strides[0],
            add,
            a.data.as_ptr(),
            a_strides[1],
            a_strides[0],
            b.data.as_ptr(),
            b_strides[1],
            b_strides[0],
            f32::from(u8::from(add)),
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, one entry at a time.
    fn entry(a: Matrix, b: Matrix, i: usize, j: usize) -> f32 {
        let at = |m: Matrix, i, j| m.data[i * m.strides[0] + j * m.strides[1]];
        (0..a.shape[1]).map(|k| at(a, i, k) * at(b, k, j)).sum()
    }

    #[test]
    fn products_of_matrices_in_any_layout_are_the_definition() {
        let data: Vec<f32> = (0..4000_i16).map(|i| f32::from(i * 37 % 11 - 5)).collect();
        for (m, k, n) in [(1, 1, 1), (1, 7, 3), (5, 4, 6), (17, 33, 9), (9, 0, 2), (0, 3, 2)] {
            let a = Matrix::new(&data, [m, k], [k + 2, 1]);
            let b = Matrix::new(&data[13..], [n, k], [k, 1]).transposed();
            let dense = product(a, b);
            // Written between other numbers, which stay, and added to.
            let mut wide = vec![7.0_f32; m * (n + 3)];
            multiply(&mut wide, [n + 3, 1], a, b, false);
            multiply(&mut wide, [n + 3, 1], a, b, true);
            for i in 0..m {
                for j in 0..n {
                    // Small whole numbers: exact in any order.
                    let found = [dense[i * n + j], wide[i * (n + 3) + j] / 2.0];
                    assert!(found.iter().all(|x| (x - entry(a, b, i, j)).abs() < 0.5), "{found:?} at {i}, {j}");
                }
                assert!(wide[i * (n + 3) + n..][..3].iter().all(|x| x.to_bits() == 7_f32.to_bits()));
            }
        }
    }

    #[test]
    fn a_few_rows_times_a_large_matrix_are_the_definition_on_any_number_of_threads() {
        let data: Vec<f32> = (0..700_000_u32).map(|i| (i * 37 % 1019) as f32 / 512.0 - 1.0).collect();
        for (m, k, n) in [(1, 513, 640), (3, 1024, 300), (16, 400, 700)] {
            let (a, b) = (Matrix::new(&data, [m, k], [k + 3, 1]), Matrix::new(&data[7..], [k, n], [n, 1]));
            assert!(k * n >= LARGE);
            let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool(1).install(|| product(a, b));
            assert_eq!(found, pool(3).install(|| product(a, b)));
            for (i, j) in [(0, 0), (m - 1, n - 1), (m / 2, 257), (0, n - 2)] {
                assert!((found[i * n + j] - entry(a, b, i, j)).abs() < 1e-2, "at {i}, {j} of {m} x {n}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "in 11 numbers")]
    fn a_matrix_that_reaches_beyond_its_slice_is_refused() {
        let _ = Matrix::new(&[0.0; 11], [3, 4], [4, 1]);
    }
}

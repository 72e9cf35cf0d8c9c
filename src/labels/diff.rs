//! Levenshtein alignment with one documented answer where several are optimal.
//!
//! Knows only equality; what the aligned things are (token ids, words) is left to the caller.

use serde::{Deserialize, Serialize};

use super::{Label, letters};

/// The minimal edit between two sequences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// Deletions, additions and substitutions in all.
    pub distance: usize,
    /// One of U, D, S for every original item.
    #[serde(with = "letters")]
    pub original: Vec<Label>,
    /// One of U, A, S for every edited item.
    #[serde(with = "letters")]
    pub edited: Vec<Label>,
}

/// Aligns `original` with `edited` at unit cost for deletion, addition and substitution.
///
/// With `d[i][j]` the distance between the first `i` original and the first `j` edited items, the alignment is traced
/// back from the ends: equal items are always U; else D where `d[i-1][j] + 1 = d[i][j]`; else A where
/// `d[i][j-1] + 1 = d[i][j]`; else S. The U and S of the two sides pair up in order.
///
/// Time and memory grow with length times distance (two bits a cell), not with the product of the lengths.
#[must_use]
pub fn diff<T: Eq>(original: &[T], edited: &[T]) -> Diff {
    // The trace-back takes every common suffix as U before it asks for a distance, so the suffix can go unmeasured. A
    // common prefix can't: in `a` -> `a a` it is the second `a` that is U.
    let suffix = original.iter().rev().zip(edited.iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&original[..original.len() - suffix], &edited[..edited.len() - suffix]);
    let (band, distance) = Band::of(a, b);
    let (mut original, mut edited) = band.trace(a.len(), b.len());
    original.extend(std::iter::repeat_n(Label::U, suffix));
    edited.extend(std::iter::repeat_n(Label::U, suffix));
    Diff { distance, original, edited }
}

/// The diagonals of the distance matrix that a path of cost at most `limit` can touch (Ukkonen's band).
///
/// A path through cell `(i, j)` costs at least `|j - i| + |(m - j) - (n - i)|`. So when the distance is within `limit`,
/// every cell of every optimal path lies in the band and gets its exact value, while the others get at least theirs. A
/// step of the trace-back leads from an optimal path's cell to another exactly when the two values differ by the step's
/// cost, and a value too high can't make that true: the trace-back is that of the full matrix.
struct Band {
    limit: usize,
    /// Columns of a row: column `c` of row `i` is cell `(i, i + c - below)`.
    width: usize,
    below: usize,
    /// Two bits a cell, rows at whole bytes: the label that the trace-back gives.
    steps: Vec<u8>,
}

const FAR: u32 = u32::MAX / 2;

impl Band {
    /// A band that holds every optimal path, filled, and the distance; at most twice as wide as it has to be.
    fn of<T: Eq>(a: &[T], b: &[T]) -> (Self, usize) {
        let mut band = Self::new(a.len(), b.len(), 15);
        loop {
            let distance = band.fill(a, b);
            if distance <= band.limit {
                return (band, distance);
            }
            band = Self::new(a.len(), b.len(), band.limit.saturating_mul(2));
        }
    }

    /// The band of half-width `limit`, widened to hold the corner cell `(n, m)`.
    fn new(n: usize, m: usize, limit: usize) -> Self {
        let skew = n.abs_diff(m);
        let limit = limit.clamp(skew, n + m);
        let slack = (limit - skew) / 2;
        let below = (slack + n.saturating_sub(m)).min(n);
        let above = (slack + m.saturating_sub(n)).min(m);
        let width = below + above + 1;
        Self { limit, width, below, steps: vec![0; n * width.div_ceil(4)] }
    }

    /// Fills the band row by row and returns the value of its last cell.
    fn fill<T: Eq>(&mut self, a: &[T], b: &[T]) -> usize {
        let (below, width) = (self.below, self.width);
        let mut row = vec![FAR; width + 1];
        for (j, cell) in row[below..width].iter_mut().enumerate() {
            *cell = u32::try_from(j).unwrap_or(FAR);
        }
        let mut labels = vec![0u8; width.next_multiple_of(4)];
        for (i, x) in a.iter().enumerate() {
            // Columns with 1 <= j <= m; column j = 0, if in the band, stands just before them.
            let first = below.saturating_sub(i);
            let end = (b.len() + below - i).min(width);
            let mut left = FAR;
            if i < below {
                left = u32::try_from(i + 1).unwrap_or(FAR);
                row[first - 1] = left;
                labels[first - 1] = Label::D as u8;
            }
            let b = &b[i + first - below..i + end - below];
            fill_row(x, b, left, &mut row[first..=end], &mut labels[first..end]);
            let bytes = width.div_ceil(4);
            for (byte, four) in self.steps[i * bytes..][..bytes].iter_mut().zip(labels.chunks_exact(4)) {
                *byte = four[0] | four[1] << 2 | four[2] << 4 | four[3] << 6;
            }
        }
        row[b.len() + below - a.len()] as usize
    }

    /// The label at cell `(i, j)`, both at least 1 or `j` 0.
    fn get(&self, i: usize, j: usize) -> Label {
        let column = j + self.below - i;
        let byte = self.steps[(i - 1) * self.width.div_ceil(4) + column / 4];
        [Label::U, Label::D, Label::S, Label::A][usize::from(byte >> (column % 4 * 2) & 3)]
    }

    /// Walks back from the last cell and returns the labels of both sides.
    fn trace(&self, n: usize, m: usize) -> (Vec<Label>, Vec<Label>) {
        let (mut i, mut j) = (n, m);
        let (mut original, mut edited) = (vec![Label::U; n], vec![Label::U; m]);
        while i > 0 || j > 0 {
            let step = if i == 0 { Label::A } else { self.get(i, j) };
            if step != Label::A {
                i -= 1;
                original[i] = step;
            }
            if step != Label::D {
                j -= 1;
                edited[j] = step;
            }
        }
        (original, edited)
    }
}

/// Computes a stretch of a row in place: `row[c]` holds the diagonal neighbour, `row[c + 1]` the one above.
///
/// Written without branches on the data, which no processor could foretell.
fn fill_row<T: Eq>(x: &T, b: &[T], mut left: u32, row: &mut [u32], labels: &mut [u8]) {
    let mut diagonal = row[0];
    for (c, (y, label)) in b.iter().zip(labels).enumerate() {
        let up = row[c + 1];
        let least = diagonal.min(up).min(left);
        let step = if left == least { Label::A as u8 } else { Label::S as u8 };
        let step = if up == least { Label::D as u8 } else { step };
        let equal = x == y;
        *label = if equal { Label::U as u8 } else { step };
        left = if equal { diagonal } else { least + 1 };
        row[c] = left;
        diagonal = up;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spell;
    use super::*;

    /// The rule as written, on the full matrix.
    fn naive(a: &[u8], b: &[u8]) -> Diff {
        let mut cost = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                cost[i][j] = match (i, j) {
                    (0, _) => j,
                    (_, 0) => i,
                    _ if a[i - 1] == b[j - 1] => cost[i - 1][j - 1],
                    _ => 1 + cost[i - 1][j - 1].min(cost[i - 1][j]).min(cost[i][j - 1]),
                };
            }
        }
        let (mut i, mut j, mut original, mut edited) = (a.len(), b.len(), vec![], vec![]);
        while i > 0 || j > 0 {
            if i > 0 && j > 0 && a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                original.push(Label::U);
                edited.push(Label::U);
            } else if i > 0 && cost[i - 1][j] + 1 == cost[i][j] {
                i -= 1;
                original.push(Label::D);
            } else if j > 0 && cost[i][j - 1] + 1 == cost[i][j] {
                j -= 1;
                edited.push(Label::A);
            } else {
                (i, j) = (i - 1, j - 1);
                original.push(Label::S);
                edited.push(Label::S);
            }
        }
        original.reverse();
        edited.reverse();
        Diff { distance: cost[a.len()][b.len()], original, edited }
    }

    /// Rebuilds the edited side from the original, the labels and the new items alone.
    fn apply(original: &[u8], new: &[u8], diff: &Diff) -> Vec<u8> {
        let mut kept = original.iter().zip(&diff.original).filter(|(_, l)| **l != Label::D).map(|(x, _)| *x);
        let mut new = new.iter().copied();
        let mut edited = vec![];
        for label in &diff.edited {
            edited.push(match label {
                Label::A => new.next().unwrap(),
                Label::S => kept.next().and(new.next()).unwrap(),
                _ => kept.next().unwrap(),
            });
        }
        assert_eq!((kept.next(), new.next()), (None, None), "items left over");
        edited
    }

    fn letters_of(a: &[u8], b: &[u8]) -> (usize, String, String) {
        let d = diff(a, b);
        (d.distance, spell(&d.original), spell(&d.edited))
    }

    #[test]
    fn hand_worked() {
        let expect = |d, o: &str, e: &str| (d, o.to_owned(), e.to_owned());
        assert_eq!(letters_of(b"", b""), expect(0, "", ""));
        assert_eq!(letters_of(b"a", b"aa"), expect(1, "U", "AU"));
        assert_eq!(letters_of(b"aa", b"a"), expect(1, "DU", "U"));
        assert_eq!(letters_of(b"ab", b"ba"), expect(2, "UD", "AU"));
        assert_eq!(letters_of(b"abc", b"xyz"), expect(3, "SSS", "SSS"));
        assert_eq!(letters_of(b"ababa", b"babab"), expect(2, "UUUUD", "AUUUU"));
    }

    #[test]
    fn long_texts_need_the_band_to_grow() {
        let a: Vec<u8> = (0..600u32).map(|i| (i * i % 7) as u8).collect();
        let b: Vec<u8> = (0..500u32).map(|i| (i * 3 % 5) as u8).collect();
        assert_eq!(diff(&a, &b), naive(&a, &b));
        assert_eq!(diff(&b, &a), naive(&b, &a));
    }

    #[test]
    fn the_table_is_as_wide_as_the_edit_and_two_bits_a_cell() {
        let text = |factor: u32| (0..2000u32).map(|i| i.wrapping_mul(factor) >> 7 & 255).collect::<Vec<_>>();
        let (a, unrelated) = (text(2_654_435_761), text(2_246_822_519));
        let mut edited = a.clone();
        edited.splice(900..903, [256, 257]);
        edited.remove(100);
        edited[1800] = 256;
        let bytes = |b: &[u32]| {
            let (band, distance) = Band::of(&a, b);
            (band.steps.len(), distance)
        };
        assert_eq!(bytes(&edited), (2000 * 4, 5));
        let (all, distance) = bytes(&unrelated);
        assert!(distance > 1000 && all <= 2000 * 4001_usize.div_ceil(4), "{all} bytes for a distance of {distance}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn agrees_with_the_full_matrix(
            a in prop::collection::vec(0u8..4, 0..70), b in prop::collection::vec(0u8..4, 0..70)
        ) {
            prop_assert_eq!(diff(&a, &b), naive(&a, &b));
        }

        #[test]
        fn agrees_on_small_edits_of_long_texts(
            a in prop::collection::vec(0u8..3, 60..160), at in 0usize..60, n in 0usize..12, new in prop::collection::vec(0u8..3, 0..12)
        ) {
            let mut b = a.clone();
            b.splice(at..(at + n).min(a.len()), new);
            prop_assert_eq!(diff(&a, &b), naive(&a, &b));
        }

        #[test]
        fn labels_rebuild_the_edited_side(
            a in prop::collection::vec(0u8..5, 0..40), b in prop::collection::vec(0u8..5, 0..40)
        ) {
            let d = diff(&a, &b);
            prop_assert_eq!((d.original.len(), d.edited.len()), (a.len(), b.len()));
            let new: Vec<u8> = b.iter().zip(&d.edited).filter(|(_, l)| **l != Label::U).map(|(x, _)| *x).collect();
            prop_assert_eq!(apply(&a, &new, &d), b);
            let count = |side: &[Label], l| side.iter().filter(|x| **x == l).count();
            prop_assert_eq!(count(&d.original, Label::S), count(&d.edited, Label::S));
            prop_assert_eq!(count(&d.original, Label::A) + count(&d.edited, Label::D), 0);
            let changes = count(&d.original, Label::D) + count(&d.original, Label::S) + count(&d.edited, Label::A);
            prop_assert_eq!(d.distance, changes);
        }

        #[test]
        fn distance_is_a_metric(
            a in prop::collection::vec(0u8..3, 0..30), b in prop::collection::vec(0u8..3, 0..30),
            c in prop::collection::vec(0u8..3, 0..30)
        ) {
            let d = |x: &[u8], y: &[u8]| diff(x, y).distance;
            prop_assert_eq!(d(&a, &b), d(&b, &a));
            prop_assert_eq!(d(&a, &b) == 0, a == b);
            prop_assert!(d(&a, &c) <= d(&a, &b) + d(&b, &c));
        }
    }
}

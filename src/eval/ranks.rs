//! The order of scores, and rank correlation.

use std::cmp::Ordering;

/// The order of numbers: the two zeros are one, which a negated score of zero counts on, and NaN has its place at the ends.
pub(super) fn order(a: f64, b: f64) -> Ordering {
    (a + 0.0).total_cmp(&(b + 0.0))
}

/// Spearman's rank correlation of pairs (x, y), equal values sharing their mean rank [SPEARMAN]; none below three pairs
/// or where one side has one value only.
#[must_use]
pub fn spearman(pairs: &[[f64; 2]]) -> Option<f64> {
    if pairs.len() < 3 {
        return None;
    }
    let [x, y] = [0, 1].map(|side| ranks(&pairs.iter().map(|pair| pair[side]).collect::<Vec<_>>()));
    let middle = (pairs.len() + 1) as f64 / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum::<f64>();
    let spread = product(&x, &x) * product(&y, &y);
    (spread > 0.0).then(|| product(&x, &y) / spread.sqrt())
}

/// Ranks from 1; equal values get the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<usize> = (0..values.len()).collect();
    sorted.sort_by(|&i, &j| order(values[i], values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for tied in sorted.chunk_by(|&i, &j| order(values[i], values[j]).is_eq()) {
        for &i in tied {
            ranks[i] = below as f64 + (tied.len() + 1) as f64 / 2.0;
        }
        below += tied.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_order_counts() {
        assert_eq!(spearman(&[[1.0, 0.1], [10.0, 0.2], [1e6, 0.9]]), Some(1.0));
        assert_eq!(spearman(&[[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), Some(-1.0));
    }

    #[test]
    fn ties_share_their_mean_rank() {
        // Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 x 5).
        let found = spearman(&[[1.0, 1.0], [2.0, 2.0], [2.0, 3.0], [3.0, 4.0]]).unwrap();
        assert!((found - 0.9_f64.sqrt()).abs() < 1e-12, "{found}");
    }

    #[test]
    fn both_zeros_are_one_value() {
        assert_eq!(spearman(&[[-0.0, 1.0], [0.0, 2.0], [1.0, 3.0]]), spearman(&[[0.0, 1.0], [-0.0, 2.0], [1.0, 3.0]]));
        assert_eq!(order(-0.0, 0.0), Ordering::Equal);
        assert_eq!([order(-1.0, 0.0), order(f64::NAN, f64::INFINITY)], [Ordering::Less, Ordering::Greater]);
    }

    #[test]
    fn too_little_to_rank_is_no_correlation() {
        assert_eq!(spearman(&[[1.0, 1.0], [2.0, 2.0]]), None);
        assert_eq!(spearman(&[[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]]), None);
    }
}

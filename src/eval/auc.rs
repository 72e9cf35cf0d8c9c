//! Area under the ROC curve.

use super::ranks::order;

/// Probability that a random member of `positive` exceeds a random member of `negative`, ties counted half [AUC];
/// none where one side is empty.
#[must_use]
pub fn auc(positive: &[f64], negative: &[f64]) -> Option<f64> {
    if positive.is_empty() || negative.is_empty() {
        return None;
    }
    let mut all: Vec<(f64, bool)> =
        positive.iter().map(|&x| (x, true)).chain(negative.iter().map(|&x| (x, false))).collect();
    all.sort_by(|a, b| order(a.0, b.0));
    let mut below = 0_usize;
    let mut sum = 0.0;
    for tied in all.chunk_by(|a, b| order(a.0, b.0).is_eq()) {
        let positives = tied.iter().filter(|(_, positive)| *positive).count();
        let negatives = tied.len() - positives;
        sum += positives as f64 * (below as f64 + negatives as f64 / 2.0);
        below += negatives;
    }
    Some(sum / (positive.len() as f64 * negative.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separated_mixed_and_tied_scores() {
        assert_eq!(auc(&[2.0, 3.0], &[0.0, 1.0]), Some(1.0));
        assert_eq!(auc(&[0.0, 3.0], &[1.0, 2.0]), Some(0.5));
        assert_eq!(auc(&[1.0], &[1.0]), Some(0.5));
        assert_eq!(auc(&[0.0], &[-0.0]), Some(0.5));
        assert_eq!(auc(&[], &[1.0]), None);
    }
}

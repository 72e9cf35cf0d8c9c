//! How far annotators agree who labelled the same items: Krippendorff's alpha, F1 of spans.
//!
//! Which labels and spans are compared is the caller's matter.

use std::collections::{BTreeMap, BTreeSet};

/// Krippendorff's alpha for nominal values [ALPHA]: one minus observed over expected disagreement. 1 is agreement, 0 is what
/// chance gives.
///
/// `units` are what was labelled, each with the values that annotators gave it; units with fewer than two values say nothing. None
/// where nothing can be said: no unit with two values, or only one value anywhere.
#[must_use]
pub fn alpha<T: Ord + Copy>(units: impl IntoIterator<Item = Vec<T>>) -> Option<f64> {
    let (mut totals, mut all, mut observed) = (BTreeMap::<T, f64>::new(), 0.0, 0.0);
    for values in units.into_iter().filter(|values| values.len() > 1) {
        let mut counts = BTreeMap::<T, f64>::new();
        for value in &values {
            *counts.entry(*value).or_default() += 1.0;
        }
        let n = values.len() as f64;
        let agreeing: f64 = counts.values().map(|count| count * (count - 1.0)).sum();
        observed += (n * (n - 1.0) - agreeing) / (n - 1.0);
        all += n;
        for (value, count) in counts {
            *totals.entry(value).or_default() += count;
        }
    }
    let same: f64 = totals.values().map(|total| total * (total - 1.0)).sum();
    let expected = (all * (all - 1.0) - same) / (all - 1.0);
    (totals.len() > 1).then(|| 1.0 - observed / expected)
}

/// What two annotators marked, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// Marked by both.
    pub both: usize,
    /// Marked by the one, and by the other.
    pub marked: [usize; 2],
}

impl Matches {
    /// Adds what two annotators marked in one item.
    pub fn add<T: Ord>(&mut self, one: &[T], other: &[T]) {
        let (one, other): (BTreeSet<&T>, BTreeSet<&T>) = (one.iter().collect(), other.iter().collect());
        self.both += one.intersection(&other).count();
        self.marked[0] += one.len();
        self.marked[1] += other.len();
    }

    /// F1 of the one against the other, which is the same both ways; none where nobody marked anything.
    #[must_use]
    pub fn f1(&self) -> Option<f64> {
        let marked: usize = self.marked.iter().sum();
        (marked > 0).then(|| 2.0 * self.both as f64 / marked as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Krippendorff's example of 2011 (nominal data, four observers, missing values): 0.743.
    #[test]
    fn the_published_example() {
        let rows: [[u8; 12]; 4] = [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
            [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
        ];
        let unit = |i: usize| rows.iter().map(|row| row[i]).filter(|value| *value > 0).collect::<Vec<_>>();
        let found = alpha((0..12).map(unit)).unwrap();
        assert!((found - 0.743).abs() < 5e-4, "{found}");
    }

    #[test]
    fn hand_worked() {
        let units = |pairs: &[(char, char)]| pairs.iter().map(|&(x, y)| vec![x, y]).collect::<Vec<_>>();
        assert_eq!(alpha(units(&[('a', 'a'), ('b', 'b')])), Some(1.0));
        // Observed 2 of 4; expected (4 * 3 - 2 * 2 * 1) / 3 = 8 / 3.
        assert_eq!(alpha(units(&[('a', 'a'), ('a', 'b')])), Some(1.0 - 2.0 / ((12.0 - 6.0) / 3.0)));
        assert_eq!(alpha(units(&[('a', 'a')])), None);
        assert_eq!(alpha(vec![vec!['a'], vec!['b']]), None);
        let mut matches = Matches::default();
        assert_eq!(matches.f1(), None);
        matches.add(&[1, 2], &[2, 3, 4]);
        assert_eq!(matches.f1(), Some(0.4));
    }
}

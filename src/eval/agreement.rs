//! How far judges agree who judged the same pairs.

/// Krippendorff's alpha for numbers (the interval metric) [KRIPPENDORFF]: one minus observed over expected squared difference. 1 is agreement,
/// 0 what chance gives. On outcomes 0, 0.5 and 1 a draw is half as far from a win as a loss is.
///
/// `units` are what was judged, each with the values that judges gave it; those with fewer than two say nothing. None where nothing
/// can be said: no unit with two values, or one value everywhere.
#[must_use]
pub fn interval_alpha(units: impl IntoIterator<Item = Vec<f64>>) -> Option<f64> {
    // The sum of (a - b)^2 over ordered pairs of different places.
    let spread = |n: f64, sum: f64, squares: f64| 2.0 * (n * squares - sum * sum);
    let (mut n, mut sum, mut squares, mut observed) = (0.0, 0.0, 0.0, 0.0);
    for values in units.into_iter().filter(|values| values.len() > 1) {
        let (m, own) = (values.len() as f64, values.iter().sum::<f64>());
        let own_squares: f64 = values.iter().map(|value| value * value).sum();
        observed += spread(m, own, own_squares) / (m - 1.0);
        n += m;
        sum += own;
        squares += own_squares;
    }
    let expected = spread(n, sum, squares) / (n - 1.0);
    (n > 0.0 && expected > 1e-12).then(|| 1.0 - observed / expected)
}

/// How two judges agree on pairs that both judged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Pairs that both judged.
    pub pairs: usize,
    /// Share of them with the same winner, or a draw by both.
    pub same: Option<f64>,
    /// Of those, pairs that both decided.
    pub decided: usize,
    /// Share of these with the same winner: one half is what chance gives.
    pub same_of_decided: Option<f64>,
    /// Krippendorff's alpha of the two.
    pub alpha: Option<f64>,
}

impl Agreement {
    /// Of outcomes in [0, 1], pair by pair.
    #[must_use]
    pub fn of(pairs: &[[f64; 2]]) -> Self {
        let winner = |outcome: f64| i8::from(outcome > 0.5) - i8::from(outcome < 0.5);
        let same = |pair: &&[f64; 2]| winner(pair[0]) == winner(pair[1]);
        let decided: Vec<[f64; 2]> =
            pairs.iter().filter(|pair| pair.iter().all(|&outcome| winner(outcome) != 0)).copied().collect();
        let share = |of: &[[f64; 2]]| (!of.is_empty()).then(|| of.iter().filter(same).count() as f64 / of.len() as f64);
        Self {
            pairs: pairs.len(),
            same: share(pairs),
            decided: decided.len(),
            same_of_decided: share(&decided),
            alpha: interval_alpha(pairs.iter().map(|pair| pair.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Krippendorff's example of 2011 (four observers, twelve units, missing values): 0.849 by the interval metric.
    #[test]
    fn the_published_example() {
        let rows: [[u8; 12]; 4] = [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
            [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
        ];
        let unit = |i: usize| rows.iter().map(|row| f64::from(row[i])).filter(|value| *value > 0.0).collect();
        let found = interval_alpha((0..12).map(unit)).unwrap();
        assert!((found - 0.849).abs() < 5e-4, "{found}");
        assert_eq!(interval_alpha([vec![1.0], vec![0.0]]), None);
        assert_eq!(interval_alpha([vec![1.0, 1.0]]), None);
    }

    #[test]
    fn draws_count_as_an_answer_of_their_own() {
        let found = Agreement::of(&[[1.0, 0.8], [0.5, 0.5], [0.0, 0.5], [1.0, 0.0]]);
        assert_eq!((found.pairs, found.same, found.decided, found.same_of_decided), (4, Some(0.5), 2, Some(0.5)));
        assert_eq!(Agreement::of(&[]), Agreement::default());
    }
}

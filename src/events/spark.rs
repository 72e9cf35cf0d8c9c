//! A curve in letters, for terminals and for texts without pictures.

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The finite ones of `values` as at most `width` letters, on a scale between the two ends of `range`, or of their own where there
/// is none. Each letter is the mean of the values that it stands for.
#[must_use]
pub fn sparkline(values: &[f64], width: usize, range: Option<[f64; 2]>) -> String {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let letters = finite.len().min(width);
    let means: Vec<f64> = (0..letters)
        .map(|i| &finite[i * finite.len() / letters..(i + 1) * finite.len() / letters])
        .map(|part| part.iter().sum::<f64>() / part.len() as f64)
        .collect();
    let own = || means.iter().fold([f64::MAX, f64::MIN], |[low, high], &x| [x.min(low), x.max(high)]);
    let [low, high] = range.unwrap_or_else(own);
    // The first letter whose upper end is not below the value.
    let letter = |x: f64| {
        let share = (x - low) / (high - low).max(f64::MIN_POSITIVE);
        LEVELS.into_iter().zip(1..).find(|(_, end)| share <= f64::from(*end) / 8.0).map_or('█', |(letter, _)| letter)
    };
    means.into_iter().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_as_high_as_its_values() {
        assert_eq!(sparkline(&[0.0, 0.5, 1.0], 9, None), "▁▄█");
        assert_eq!(sparkline(&[2.0, 2.0, f64::NAN], 9, None), "▁▁");
        assert_eq!(sparkline(&[0.5, 7.0], 9, Some([0.0, 1.0])), "▄█");
        assert_eq!(sparkline(&[], 9, None), "");
        let long: Vec<f64> = (0..1000).map(f64::from).collect();
        assert_eq!(sparkline(&long, 16, None).chars().count(), 16);
    }
}

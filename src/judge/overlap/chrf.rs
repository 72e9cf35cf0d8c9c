//! chrF: runs of characters.

use super::{ngrams, shared};

/// The longest runs that are counted.
const ORDER: usize = 6;
/// What recall weighs against precision, squared.
const BETA_SQUARED: f64 = 4.0;

/// chrF2 of `text` against one reference [CHRF]: F with beta = 2 of precision and recall of runs of 1 to 6 characters, each first
/// averaged over those lengths that both texts have runs of. White space does not count.
#[must_use]
pub fn chrf(text: &str, reference: &str) -> f64 {
    let plain = |text: &str| -> Vec<char> { text.chars().filter(|c| !c.is_whitespace()).collect() };
    let (text, reference) = (plain(text), plain(reference));
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for n in 1..=ORDER {
        let total = |chars: &[char]| (chars.len() + 1).saturating_sub(n) as f64;
        let (ours, theirs) = (total(&text), total(&reference));
        if ours > 0.0 && theirs > 0.0 {
            let right = shared(&ngrams(&text, n), &ngrams(&reference, n)) as f64;
            precision += right / ours;
            recall += right / theirs;
            orders += 1.0;
        }
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders, recall / orders);
    (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worked_example() {
        // Runs of one: 2 of 3 and 2 of 2. Runs of two: 1 of 2 and 1 of 1. Longer ones only the text has.
        let (precision, recall) = (f64::midpoint(2.0 / 3.0, 0.5), 1.0);
        let found = chrf("a b c", "ab");
        assert!((found - 5.0 * precision * recall / (4.0 * precision + recall)).abs() < 1e-12, "{found}");
        assert!((chrf("same", "sa me") - 1.0).abs() < 1e-12);
        assert!(chrf("", "x").abs() < 1e-12 && chrf("a", "b").abs() < 1e-12);
    }
}

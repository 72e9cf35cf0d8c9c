//! How numbers are written: the same in the terminal, Markdown, HTML and charts.
//!
//! What a number means is left to its column's heading and to `docs/METRICS.md`.

pub use crate::units::duration;

/// What stands in place of a number that is not known.
pub const UNKNOWN: &str = "–";

/// `x` with `digits` decimals; a negative zero loses its sign.
#[must_use]
pub fn fixed(x: f64, digits: usize) -> String {
    let text = format!("{x:.digits$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|b| b == b'0' || b == b'.') => rest.to_owned(),
        _ => text,
    }
}

/// As [`fixed`], with a plus sign above zero.
#[must_use]
pub fn signed(x: f64, digits: usize) -> String {
    let text = fixed(x, digits);
    if text.starts_with('-') || text.bytes().all(|b| b == b'0' || b == b'.') { text } else { format!("+{text}") }
}

/// As [`fixed`], or a dash where nothing is known.
#[must_use]
pub fn optional(x: Option<f64>, digits: usize) -> String {
    x.map_or_else(|| UNKNOWN.to_owned(), |x| fixed(x, digits))
}

/// A share as a percentage with one decimal, without the sign.
#[must_use]
pub fn percent(share: f64) -> String {
    fixed(100.0 * share, 1)
}

/// As [`percent`], or a dash where nothing is known.
#[must_use]
pub fn optional_percent(share: Option<f64>) -> String {
    share.map_or_else(|| UNKNOWN.to_owned(), percent)
}

/// A p-value with two significant digits: `0.031`, `0.0002`, `< 0.0001`.
#[must_use]
pub fn p_value(p: f64) -> String {
    match p {
        p if p < 1e-4 => "< 0.0001".to_owned(),
        p if p < 1e-3 => fixed(p, 4),
        p if p < 0.1 => fixed(p, 3),
        p => fixed(p, 2),
    }
}

/// `= 0.031` or `< 0.0001`, to stand after `p`.
#[must_use]
pub fn p_relation(p: f64) -> String {
    let text = p_value(p);
    if text.starts_with('<') { text } else { format!("= {text}") }
}

/// A coefficient as it stands in a recipe: the shortest decimal that reads back as `x`.
#[must_use]
pub fn shortest(x: f64) -> String {
    format!("{x}")
}

/// `one thing`, or `3 things`.
#[must_use]
pub fn plural(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_show_direction_and_never_stand_before_zero() {
        let found = [9.06, -3.0, 0.04, -0.04].map(|x| signed(x, 1));
        assert_eq!(found, ["+9.1", "-3.0", "0.0", "0.0"]);
        assert_eq!(fixed(-0.001, 2), "0.00");
    }

    #[test]
    fn p_values_keep_two_significant_digits() {
        let found = [0.6, 0.0312, 0.000_2, 0.000_04].map(p_relation);
        assert_eq!(found, ["= 0.60", "= 0.031", "= 0.0002", "< 0.0001"]);
    }

    #[test]
    fn what_is_unknown_is_a_dash() {
        assert_eq!([optional(None, 2), optional_percent(None), optional_percent(Some(0.812))], ["–", "–", "81.2"]);
    }
}

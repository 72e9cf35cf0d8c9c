//! Sparklines: a curve as small as a word, as SVG for pages and as bars for text.

use std::fmt::Write as _;

use crate::events::sparkline;

const WIDTH: f64 = 88.0;
const HEIGHT: f64 = 20.0;
/// Bars in a line of text at most.
const LONGEST: usize = 16;

/// `values` on a scale from `low` to `high`: as a text of bars, and as an SVG element that takes the colour of the text around it;
/// that needs two values.
pub fn spark(values: &[f64], low: f64, high: f64) -> (String, Option<String>) {
    let share = |value: f64| if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 };
    (sparkline(values, LONGEST, Some([low, high])), (values.len() > 1).then(|| line(values, share)))
}

fn line(values: &[f64], share: impl Fn(f64) -> f64) -> String {
    let step = (WIDTH - 8.0) / (values.len() - 1) as f64;
    let at = |(i, value): (usize, &f64)| (4.0 + step * i as f64, HEIGHT - 4.0 - share(*value) * (HEIGHT - 8.0));
    let points: Vec<(f64, f64)> = values.iter().enumerate().map(at).collect();
    let mut path = String::new();
    for (x, y) in &points {
        write!(path, "{x:.1},{y:.1} ").expect("a string takes all that is written to it");
    }
    let (x, y) = points[points.len() - 1];
    format!(
        "<svg class=\"spark\" viewBox=\"0 0 {WIDTH:.0} {HEIGHT:.0}\" width=\"{WIDTH:.0}\" height=\"{HEIGHT:.0}\" aria-hidden=\"true\">\
         <polyline points=\"{}\"/><circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\"/></svg>",
        path.trim_end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_scale_are_the_lowest_and_the_highest_bar() {
        let (text, svg) = spark(&[0.0, 0.5, 1.0, 7.0], 0.0, 1.0);
        assert_eq!(text, "▁▄██");
        assert!(svg.unwrap().contains("points=\"4.0,16.0 30.7,10.0 57.3,4.0 84.0,4.0\""));
    }

    #[test]
    fn one_value_is_no_curve_and_many_are_thinned() {
        assert_eq!(spark(&[0.3], 0.0, 1.0), ("▃".to_owned(), None));
        assert_eq!(spark(&vec![0.0; 100], 0.0, 1.0).0.chars().count(), 16);
        assert_eq!(spark(&[], 0.0, 0.0), (String::new(), None));
    }
}

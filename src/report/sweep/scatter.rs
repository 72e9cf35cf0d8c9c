//! The scatter plot of a sampled axis: its values against win rates or leads, a mark for each point.
//!
//! Values that span more than a factor of thirty stand on a logarithmic scale.

use super::schema::Trend;
use super::tables::quantity;
use crate::report::numbers::{optional, plural, shortest};
use crate::report::svg::{Anchor, COLOURS, Scale, Svg, shortened};

const WIDTH: f64 = 460.0;
const PLOT: [[f64; 2]; 2] = [[44.0, 446.0], [214.0, 34.0]];
/// Largest over smallest value from which on the scale is logarithmic.
const LOGARITHMIC: f64 = 30.0;

/// Values of `trends`, which are of one axis and one kind of quantity; none without values. `names` has all quantities
/// that take a colour.
pub fn chart(trends: &[&Trend], names: &[String]) -> Option<Svg> {
    let example = trends.iter().find(|trend| !trend.values.is_empty())?;
    let lead = example.quantity.against.is_some();
    let what = if lead { "lead (points)" } else { "win rate (%)" };
    let title = format!("{}: {what}", shortened(&example.axis, 40));
    let height = 254.0 + 16.0 * trends.len() as f64;
    let mut svg = Svg::new(WIDTH, height, &title, &describe(trends));
    svg.text("head", [6.0, 18.0], Anchor::Start, &title);
    let values = || trends.iter().flat_map(|trend| &trend.values);
    let x = Axis::over(values().map(|at| at.value));
    let even = if lead { 0.0 } else { 50.0 };
    let y = Scale::over(values().map(|at| at.mean_points).chain([even]), PLOT[1]);
    let [[left, right], [bottom, top]] = PLOT;
    for (value, label) in y.ticks() {
        svg.line("grid", [left, y.at(value)], [right, y.at(value)]);
        svg.text("", [left - 6.0, y.at(value) + 4.0], Anchor::End, &label);
    }
    for (value, label) in x.ticks() {
        svg.line("axis", [x.at(value), bottom], [x.at(value), bottom + 4.0]);
        svg.text("", [x.at(value), bottom + 16.0], Anchor::Middle, &label);
    }
    svg.line("axis", [left, bottom], [right, bottom]);
    svg.line("axis", [left, bottom], [left, top]);
    svg.line("guide", [left, y.at(even)], [right, y.at(even)]);
    for (row, trend) in trends.iter().enumerate() {
        let name = quantity(&trend.quantity);
        let index = names.iter().position(|known| *known == name).unwrap_or(names.len());
        trend.values.iter().for_each(|at| svg.mark(index, [x.at(at.value), y.at(at.mean_points)], 3.6));
        let below = 248.0 + 16.0 * row as f64;
        svg.line(&format!("interval s{}", index % COLOURS), [left, below - 4.0], [left + 18.0, below - 4.0]);
        svg.mark(index, [left + 9.0, below - 4.0], 3.0);
        svg.text("", [left + 24.0, below], Anchor::Start, &shortened(&legend(trend), 64));
    }
    Some(svg)
}

/// `token: rank correlation 0.62, 12 points`.
fn legend(trend: &Trend) -> String {
    let (rho, points) = (optional(trend.spearman, 2), plural(trend.values.len(), "point"));
    format!("{}: rank correlation {rho}, {points}", quantity(&trend.quantity))
}

fn describe(trends: &[&Trend]) -> String {
    let rows: Vec<String> = trends.iter().map(|trend| legend(trend)).collect();
    format!("A mark is a point of the sweep. {}.", rows.join("; "))
}

/// The horizontal axis.
struct Axis {
    scale: Scale,
    logarithmic: bool,
    ends: [f64; 2],
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.clone().fold(f64::NEG_INFINITY, f64::max);
        if low > 0.0 && high / low > LOGARITHMIC {
            let margin = 0.03 * (high / low).log10();
            let scale = Scale::between([low.log10() - margin, high.log10() + margin], PLOT[0]);
            return Self { scale, logarithmic: true, ends: [low, high] };
        }
        Self { scale: Scale::over(values, PLOT[0]), logarithmic: false, ends: [low, high] }
    }

    fn at(&self, value: f64) -> f64 {
        self.scale.at(if self.logarithmic { value.log10() } else { value })
    }

    /// Round numbers; on a logarithmic scale powers of ten, with what lies between them where there are few.
    fn ticks(&self) -> Vec<(f64, String)> {
        if !self.logarithmic {
            return self.scale.ticks();
        }
        let [low, high] = self.ends;
        let decades = || (-300..=300).map(|exponent| 10_f64.powi(exponent)).filter(|power| *power <= high);
        let between: &[f64] = if high / low < 1e4 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        decades()
            .flat_map(|power| between.iter().map(move |multiple| multiple * power))
            .filter(|value| (low..=high).contains(value))
            .map(|value| (value, shortest(round(value))))
            .collect()
    }
}

/// Without the noise that a power of ten brings.
fn round(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_values_are_logarithmic_with_round_ticks() {
        let labels = |values: &[f64]| -> Vec<String> {
            Axis::over(values.iter().copied()).ticks().into_iter().map(|(_, label)| label).collect()
        };
        assert_eq!(labels(&[1e-4, 8e-3]), ["0.0001", "0.0002", "0.0005", "0.001", "0.002", "0.005"]);
        assert_eq!(labels(&[1e-5, 1.0]).len(), 6, "only powers of ten");
        assert_eq!(labels(&[0.9, 1.0]), ["0.90", "0.92", "0.94", "0.96", "0.98", "1.00"]);
        let wide = Axis::over([0.001, 1.0].into_iter());
        let middle = f64::midpoint(wide.at(0.001), wide.at(1.0));
        assert!((wide.at(0.031_622_776_6) - middle).abs() < 1e-3, "the geometric mean lies in the middle");
    }
}

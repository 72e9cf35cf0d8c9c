//! What charts with two axes have in common: ticks, grid, heading, legend.

use super::svg::{Anchor, COLOURS, Scale, Svg, shortened};

/// Where a chart of one standard size has its plot: `[[left, right], [bottom, top]]`.
pub const PLOT: [[f64; 2]; 2] = [[46.0, 348.0], [198.0, 34.0]];
/// How wide such a chart is, and how high without a legend.
pub const SIZE: [f64; 2] = [360.0, 238.0];

/// Draws both axes with their ticks, the heading above and the name of the horizontal axis below.
pub fn axes(svg: &mut Svg, heading: &str, name: &str, x: Scale, y: Scale) {
    let [[left, right], [bottom, top]] = PLOT;
    svg.text("head", [6.0, 18.0], Anchor::Start, heading);
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
    svg.text("", [right, bottom + 31.0], Anchor::End, name);
}

/// Names series by their colours and marks, two a row below the plot.
pub fn legend<'a>(svg: &mut Svg, series: impl Iterator<Item = (usize, &'a str)>) {
    for (place, (index, name)) in series.enumerate() {
        let (left, top) = (PLOT[0][0] + 156.0 * (place % 2) as f64, 250.0 + 16.0 * (place / 2) as f64);
        svg.line(&format!("interval s{}", index % COLOURS), [left, top - 4.0], [left + 18.0, top - 4.0]);
        svg.mark(index, [left + 9.0, top - 4.0], 3.0);
        svg.text("", [left + 24.0, top], Anchor::Start, &shortened(name, 21));
    }
}

/// The height of a chart with a legend of `series`.
pub fn height(series: usize) -> f64 {
    SIZE[1] + 16.0 * series.div_ceil(2) as f64
}

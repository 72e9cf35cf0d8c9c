//! The dot plot of a factor: differences to its first level, every quantity with its interval.
//!
//! Shows what the factor's table says, for the eye; the estimates are left to `eval`.

use super::schema::{Effect, FactorLevel};
use super::tables::quantity;
use crate::report::numbers::signed;
use crate::report::svg::{Anchor, COLOURS, Scale, Svg, shortened};

const WIDTH: f64 = 460.0;
const PLOT: [f64; 2] = [172.0, 400.0];
const ROW: f64 = 22.0;
const GROUP: f64 = 22.0;

/// Differences of `levels`, which are levels of one axis and one kind of quantity, to the first level; none where no
/// level has a pair. `names` has all quantities that take a colour.
pub fn chart(levels: &[&FactorLevel], names: &[String]) -> Option<Svg> {
    let known: Vec<(&FactorLevel, &Effect)> =
        levels.iter().filter_map(|level| Some((*level, level.effect.as_ref()?))).collect();
    let example = known.first()?.0;
    let first = &example.first_level;
    let mut groups: Vec<&str> = Vec::new();
    for (level, _) in &known {
        if !groups.contains(&level.level.as_str()) {
            groups.push(&level.level);
        }
    }
    let what = if example.quantity.against.is_some() { "lead" } else { "win rate" };
    let title = format!("{}: effect on {what} (points)", shortened(&example.axis, 40));
    let height = 44.0 + GROUP * groups.len() as f64 + ROW * known.len() as f64 + 36.0;
    let mut svg = Svg::new(WIDTH, height, &title, &describe(&known, first));
    svg.text("head", [6.0, 18.0], Anchor::Start, &title);
    let x = Scale::over(known.iter().flat_map(|(_, effect)| effect.ci).chain([0.0]), PLOT);
    let bottom = height - 36.0;
    for (value, label) in x.ticks() {
        svg.line("grid", [x.at(value), 28.0], [x.at(value), bottom]);
        svg.text("", [x.at(value), bottom + 16.0], Anchor::Middle, &label);
    }
    svg.line("guide", [x.at(0.0), 28.0], [x.at(0.0), bottom]);
    let anchor = if x.at(0.0) > 330.0 { Anchor::End } else { Anchor::Middle };
    svg.text("", [x.at(0.0), bottom + 30.0], anchor, &format!("as at {}", shortened(first, 24)));
    let mut top = 34.0;
    for group in groups {
        svg.text("", [6.0, top + 14.0], Anchor::Start, &shortened(group, 30));
        top += GROUP;
        for (level, effect) in known.iter().filter(|(level, _)| level.level == group) {
            let name = quantity(&level.quantity);
            let index = names.iter().position(|known| *known == name).unwrap_or(names.len());
            row(&mut svg, effect, &name, index, x, top + ROW / 2.0);
            top += ROW;
        }
    }
    Some(svg)
}

fn row(svg: &mut Svg, effect: &Effect, name: &str, index: usize, x: Scale, y: f64) {
    svg.text("row", [PLOT[0] - 8.0, y + 4.0], Anchor::End, &shortened(name, 25));
    let [low, high] = effect.ci.map(|points| x.at(points));
    svg.line(&format!("interval s{}", index % COLOURS), [low, y], [high, y]);
    svg.mark(index, [x.at(effect.difference_points), y], 4.5);
    svg.text("row", [WIDTH - 8.0, y + 4.0], Anchor::End, &signed(effect.difference_points, 1));
}

fn describe(known: &[(&FactorLevel, &Effect)], first: &str) -> String {
    let row = |(level, effect): &(&FactorLevel, &Effect)| {
        let [low, high] = effect.ci.map(|points| signed(points, 1));
        let points = signed(effect.difference_points, 1);
        format!("{} at {}: {points} ({low} to {high})", quantity(&level.quantity), level.level)
    };
    let rows: Vec<String> = known.iter().map(row).collect();
    format!("Marks are differences to {first}, lines intervals. {}.", rows.join("; "))
}

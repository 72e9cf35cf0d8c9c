//! The dot plot of win rates: every variant at every budget with its interval and its seeds.
//!
//! Shows what the table says, for the eye; the estimates are left to `eval`.

use super::curves::position;
use super::numbers::{fixed, percent, plural};
use super::schema::{Report, VariantResult};
use super::svg::{Anchor, COLOURS, Scale, Svg, shortened};

const WIDTH: f64 = 460.0;
const PLOT: [f64; 2] = [128.0, 400.0];
const ROW: f64 = 24.0;
const GROUP: f64 = 22.0;

/// Win rates against the reference, one row a variant, in groups by budget; none without variants.
pub fn chart(report: &Report) -> Option<Svg> {
    if report.variants.is_empty() {
        return None;
    }
    let budgets = report.budgets();
    let height = 44.0 + GROUP * budgets.len() as f64 + ROW * report.variants.len() as f64 + 36.0;
    let mut svg = Svg::new(WIDTH, height, "Win rate against the reference", &describe(report));
    let confidence = fixed(100.0 * report.confidence, 0);
    let heading = format!("Win rate against the SFT reference (%), {confidence} % interval");
    svg.text("head", [6.0, 18.0], Anchor::Start, &heading);
    let ends = report.variants.iter().flat_map(|v| v.ci.into_iter().chain(v.win_rate_per_seed.iter().copied()));
    let x = Scale::over(ends.chain([0.5]).map(|share| 100.0 * share), PLOT);
    let bottom = height - 36.0;
    for (value, label) in x.ticks() {
        svg.line("grid", [x.at(value), 28.0], [x.at(value), bottom]);
        svg.text("", [x.at(value), bottom + 16.0], Anchor::Middle, &label);
    }
    svg.line("guide", [x.at(50.0), 28.0], [x.at(50.0), bottom]);
    svg.text("", [x.at(50.0), bottom + 30.0], Anchor::Middle, "as good as the reference");
    let names = report.names();
    let mut top = 34.0;
    for budget in budgets {
        svg.text("", [6.0, top + 14.0], Anchor::Start, &plural(budget, "annotation"));
        top += GROUP;
        for variant in report.at(budget) {
            row(&mut svg, variant, position(&names, &variant.name), x, top + ROW / 2.0);
            top += ROW;
        }
    }
    Some(svg)
}

fn row(svg: &mut Svg, variant: &VariantResult, index: usize, x: Scale, y: f64) {
    svg.text("row", [PLOT[0] - 8.0, y + 4.0], Anchor::End, &shortened(&variant.name, 18));
    let [low, high] = variant.ci.map(|share| x.at(100.0 * share));
    svg.line(&format!("interval s{}", index % COLOURS), [low, y], [high, y]);
    if variant.win_rate_per_seed.len() > 1 {
        for share in &variant.win_rate_per_seed {
            let at = x.at(100.0 * share);
            svg.line(&format!("interval faint s{}", index % COLOURS), [at, y - 7.0], [at, y - 2.0]);
        }
    }
    svg.mark(index, [x.at(100.0 * variant.win_rate), y], 4.5);
    svg.text("row", [WIDTH - 8.0, y + 4.0], Anchor::End, &percent(variant.win_rate));
}

fn describe(report: &Report) -> String {
    let rows: Vec<String> = report
        .variants
        .iter()
        .map(|v| {
            let [low, high] = v.ci.map(percent);
            let budget = plural(v.budget, "annotation");
            format!("{} at {budget}: {} ({low} to {high})", v.name, percent(v.win_rate))
        })
        .collect();
    format!("Large marks are means, lines intervals, small ticks seeds. {}.", rows.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    #[test]
    fn every_result_has_a_row_with_its_interval_and_number() {
        let report = report();
        let found = chart(&report).unwrap().inline();
        assert_eq!(found.matches("class=\"interval s").count(), report.variants.len());
        for variant in &report.variants {
            assert!(found.contains(&format!(">{}</text>", percent(variant.win_rate))), "{}", variant.name);
        }
        assert!(chart(&Report::default()).is_none());
    }
}

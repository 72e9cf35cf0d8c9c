//! Learning curves: one small chart for each metric and budget, all variants in it.
//!
//! A thin line is one seed, the thick line their mean, the band one sample standard deviation to each side. How a chart
//! becomes a file or part of a page is left to the renderings.

use std::collections::BTreeSet;

use super::learning::{Curve, CurvePoint, SeedCurve};
use super::numbers::{fixed, plural};
use super::schema::Report;
use super::svg::{Anchor, COLOURS, Scale, Svg, shortened};

const WIDTH: f64 = 360.0;
const PLOT: [[f64; 2]; 2] = [[44.0, 348.0], [198.0, 34.0]];

/// What a learning curve shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Win rate on validation prompts.
    WinRate,
    /// Sequence KL to the reference.
    Kl,
    /// Mean reward by the variant's own reward model.
    Reward,
    /// Mean response length.
    Length,
    /// The reward that is optimised, over the distance from the reference.
    RewardByKl,
    /// The judge's score over the same distance: where it falls and the reward rises, the reward is over-optimised.
    ScoreByKl,
}

impl Metric {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 6] = [Self::WinRate, Self::Kl, Self::Reward, Self::Length, Self::RewardByKl, Self::ScoreByKl];

    /// Its name in files.
    pub const fn key(self) -> &'static str {
        match self {
            Self::WinRate => "win_rate",
            Self::Kl => "kl_nats",
            Self::Reward => "mean_reward",
            Self::Length => "mean_length",
            Self::RewardByKl => "mean_reward-by-kl",
            Self::ScoreByKl => "mean_score-by-kl",
        }
    }

    /// Its heading, with the unit.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::WinRate => "Win rate on validation prompts (%)",
            Self::Kl => "KL to the reference (nats per response)",
            Self::Reward => "Mean reward (SD of the reference's return)",
            Self::Length => "Mean length (tokens)",
            Self::RewardByKl => "Optimised: mean reward (SD)",
            Self::ScoreByKl => "Wanted: mean score by the judge",
        }
    }

    fn of(self, point: &CurvePoint) -> Option<f64> {
        match self {
            Self::WinRate => point.win_rate.map(|share| 100.0 * share),
            Self::Kl => point.kl_nats,
            Self::Reward | Self::RewardByKl => point.mean_reward,
            Self::Length => point.mean_length,
            Self::ScoreByKl => point.mean_score,
        }
    }

    /// What it is drawn over.
    const fn axis(self) -> &'static str {
        if self.is_by_kl() { "square root of the KL (nats per response)" } else { "PPO steps" }
    }

    const fn is_by_kl(self) -> bool {
        matches!(self, Self::RewardByKl | Self::ScoreByKl)
    }

    /// Where a point stands on that axis. A KL that its estimator puts below zero is none.
    fn along(self, point: &CurvePoint) -> Option<f64> {
        if self.is_by_kl() { point.kl_nats.map(|kl| kl.max(0.0).sqrt()) } else { Some(point.step as f64) }
    }

    /// A level to measure by, where there is one.
    const fn guide(self, report: &Report) -> Option<f64> {
        match self {
            Self::WinRate => Some(50.0),
            Self::Length => report.sft.mean_length,
            Self::Kl | Self::Reward | Self::RewardByKl | Self::ScoreByKl => None,
        }
    }
}

/// The chart of `metric` at `budget`; none where nothing was measured.
pub fn chart(report: &Report, budget: usize, metric: Metric) -> Option<Svg> {
    let names = report.names();
    let series: Vec<(usize, Series)> = report
        .curves
        .iter()
        .filter(|curve| curve.budget == budget)
        .map(|curve| (position(&names, &curve.variant), Series::of(curve, metric)))
        .filter(|(_, series)| !series.mean.is_empty())
        .collect();
    if series.is_empty() {
        return None;
    }
    let [x, y] = scales(&series, metric.guide(report));
    let legend_rows = series.len().div_ceil(2);
    let height = 236.0 + 16.0 * legend_rows as f64;
    let title = format!("{}, {}", metric.heading(), plural(budget, "annotation"));
    let mut svg = Svg::new(WIDTH, height, &title, &describe(report, budget, metric, &series));
    axes(&mut svg, metric, x, y);
    if let Some(level) = metric.guide(report).filter(|&level| y.holds(level)) {
        svg.line("guide", [PLOT[0][0], y.at(level)], [PLOT[0][1], y.at(level)]);
    }
    for (index, series) in &series {
        series.draw(&mut svg, *index, x, y);
    }
    for (place, (index, series)) in series.iter().enumerate() {
        let (left, top) = (PLOT[0][0] + 156.0 * (place % 2) as f64, 246.0 + 16.0 * (place / 2) as f64);
        svg.line(&format!("interval s{}", index % COLOURS), [left, top - 4.0], [left + 18.0, top - 4.0]);
        svg.mark(*index, [left + 9.0, top - 4.0], 3.0);
        svg.text("", [left + 24.0, top], Anchor::Start, &shortened(&series.name, 21));
    }
    Some(svg)
}

/// The position of `name` in the recipe; what the results do not know comes last.
pub fn position(names: &[&str], name: &str) -> usize {
    names.iter().position(|n| *n == name).unwrap_or(names.len())
}

/// One variant's lines in data coordinates.
struct Series {
    name: String,
    seeds: Vec<Vec<[f64; 2]>>,
    mean: Vec<[f64; 2]>,
    band: Vec<(f64, [f64; 2])>,
}

impl Series {
    fn of(curve: &Curve, metric: Metric) -> Self {
        let line = |seed: &SeedCurve| -> Vec<(usize, [f64; 2])> {
            seed.points.iter().filter_map(|p| Some((p.step, [metric.along(p)?, metric.of(p)?]))).collect()
        };
        let seeds: Vec<Vec<(usize, [f64; 2])>> = curve.seeds.iter().map(line).collect();
        let steps: BTreeSet<usize> = seeds.iter().flatten().map(|(step, _)| *step).collect();
        let (mut mean, mut band) = (Vec::new(), Vec::new());
        for step in steps {
            let here = || seeds.iter().flatten().filter(|(other, _)| *other == step).map(|(_, point)| point);
            let (along, _) = mean_and_spread(&here().map(|[along, _]| *along).collect::<Vec<_>>());
            let (centre, spread) = mean_and_spread(&here().map(|[_, value]| *value).collect::<Vec<_>>());
            mean.push([along, centre]);
            if let Some(spread) = spread {
                band.push((along, [centre - spread, centre + spread]));
            }
        }
        let seeds = seeds.into_iter().map(|points| points.into_iter().map(|(_, point)| point).collect()).collect();
        Self { name: curve.variant.clone(), seeds, mean, band }
    }

    fn draw(&self, svg: &mut Svg, index: usize, x: Scale, y: Scale) {
        let place = |points: &[[f64; 2]]| points.iter().map(|[s, v]| [x.at(*s), y.at(*v)]).collect::<Vec<_>>();
        let upper = self.band.iter().map(|(step, [_, high])| [*step, *high]);
        let lower = self.band.iter().rev().map(|(step, [low, _])| [*step, *low]);
        let colour = index % COLOURS;
        svg.polygon(&format!("band s{colour}"), &place(&upper.chain(lower).collect::<Vec<_>>()));
        if self.seeds.len() > 1 {
            for seed in &self.seeds {
                svg.polyline(&format!("thin s{colour}"), &place(seed));
            }
        }
        let mean = place(&self.mean);
        svg.polyline(&format!("mean s{colour}"), &mean);
        // Every iteration measured would make a chain of marks out of the line.
        let stride = mean.len().div_ceil(12);
        mean.iter().step_by(stride).for_each(|point| svg.mark(index, *point, 2.6));
    }
}

/// The mean and, from two values on, the sample standard deviation.
fn mean_and_spread(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

fn scales(series: &[(usize, Series)], guide: Option<f64>) -> [Scale; 2] {
    let points = || series.iter().flat_map(|(_, s)| s.seeds.iter().flatten().chain(&s.mean));
    let bands = series.iter().flat_map(|(_, s)| s.band.iter().flat_map(|(_, ends)| *ends));
    let last = points().map(|[step, _]| *step).fold(0.0, f64::max).max(1.0);
    let x = Scale::between([0.0, last], PLOT[0]);
    [x, Scale::over(points().map(|[_, value]| *value).chain(bands).chain(guide), PLOT[1])]
}

fn axes(svg: &mut Svg, metric: Metric, x: Scale, y: Scale) {
    let [[left, right], [bottom, top]] = PLOT;
    svg.text("head", [6.0, 18.0], Anchor::Start, metric.heading());
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
    svg.text("", [right, bottom + 30.0], Anchor::End, metric.axis());
}

fn describe(report: &Report, budget: usize, metric: Metric, series: &[(usize, Series)]) -> String {
    let ends: Vec<String> = series
        .iter()
        .filter_map(|(_, s)| s.mean.last().map(|[at, value]| format!("{} {value:.1} at {}", s.name, fixed(*at, 1))))
        .collect();
    let guide = match metric.guide(report) {
        Some(level) => format!(" The dashed line is the reference's level, {level:.1}."),
        None => String::new(),
    };
    format!(
        "{} over {} at {}: thin lines are seeds, thick lines their means, bands one standard deviation. Last \
         means: {}.{guide}",
        metric.heading(),
        metric.axis(),
        plural(budget, "annotation"),
        ends.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    #[test]
    fn the_spread_is_the_sample_standard_deviation() {
        assert_eq!(mean_and_spread(&[1.0, 3.0]), (2.0, Some(2.0_f64.sqrt())));
        assert_eq!(mean_and_spread(&[4.0]), (4.0, None));
    }

    #[test]
    fn every_seed_gets_a_thin_line_and_every_variant_a_mean_and_a_band() {
        let found = chart(&report(), 1000, Metric::WinRate).unwrap().inline();
        assert_eq!(found.matches("class=\"thin s2\"").count(), 3, "three seeds of `token`");
        assert_eq!(found.matches("class=\"mean ").count(), 3);
        assert_eq!(found.matches("class=\"band ").count(), 3);
        assert!(found.contains("<title>Win rate") && found.contains("PPO steps"));
    }

    #[test]
    fn one_seed_has_a_mean_but_no_band() {
        let mut report = report();
        report.curves.iter_mut().for_each(|curve| curve.seeds.truncate(1));
        let found = chart(&report, 1000, Metric::Kl).unwrap().inline();
        assert!(
            found.contains("class=\"mean ") && !found.contains("class=\"band ") && !found.contains("class=\"thin ")
        );
    }

    #[test]
    fn over_optimisation_is_drawn_over_the_root_of_the_kl() {
        let mut report = report();
        for (i, point) in report.curves[0].seeds[0].points.iter_mut().enumerate() {
            point.kl_nats = Some((i * i) as f64 - 1.0);
        }
        let series = Series::of(&report.curves[0], Metric::ScoreByKl);
        let roots: Vec<f64> = series.seeds[0].iter().take(3).map(|[along, _]| *along).collect();
        assert_eq!(roots, [0.0, 0.0, 3.0_f64.sqrt()]);
        let found = chart(&report, 1000, Metric::RewardByKl).unwrap().inline();
        assert!(found.contains("square root of the KL") && !found.contains("PPO steps"));
    }

    #[test]
    fn what_was_not_measured_has_no_chart() {
        let mut report = report();
        for point in report.curves.iter_mut().flat_map(|c| &mut c.seeds).flat_map(|s| &mut s.points) {
            point.mean_reward = None;
        }
        assert!(chart(&report, 1000, Metric::Reward).is_none() && chart(&report, 77, Metric::Kl).is_none());
    }
}

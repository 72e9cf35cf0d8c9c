//! Learning curves: one small chart for each metric and budget, all variants in it.
//!
//! A thin line is one seed, the thick line their mean, the band one sample standard deviation to each side. What training
//! measured itself is smoothed by a trailing mean; the page's script draws it without, and over other axes, from the same data.

use std::collections::BTreeSet;

use serde::Serialize;

use super::frame::{self, PLOT, SIZE};
use super::learning::{Curve, SeedCurve};
use super::numbers::{fixed, plural};
use super::schema::Report;
use super::svg::{COLOURS, Scale, Svg};
use super::{Mark, StageCost};

/// What a learning curve shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Win rate on validation prompts.
    WinRate,
    /// Mean reward by the variant's own reward model.
    Reward,
    /// Sequence KL to the reference.
    Kl,
    /// Mean response length.
    Length,
}

impl Metric {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 4] = [Self::WinRate, Self::Reward, Self::Kl, Self::Length];

    /// Its name in files.
    pub const fn key(self) -> &'static str {
        match self {
            Self::WinRate => "win_rate",
            Self::Kl => "kl_nats",
            Self::Reward => "mean_reward",
            Self::Length => "mean_length",
        }
    }

    /// Its name in `docs/METRICS.md`.
    pub const fn definition(self) -> &'static str {
        match self {
            Self::WinRate => "win_rate",
            Self::Kl => "kl_nats",
            Self::Reward => "reward",
            Self::Length => "length",
        }
    }

    /// Its heading, with the unit.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::WinRate => "Win rate on validation prompts (%)",
            Self::Kl => "KL to the reference (nats per response)",
            Self::Reward => "Reward in training (SD)",
            Self::Length => "Response length in training (tokens)",
        }
    }

    /// A level to measure by, where there is one.
    const fn guide(self, report: &Report) -> Option<f64> {
        match self {
            Self::WinRate => Some(50.0),
            Self::Length => report.sft.mean_length,
            Self::Kl | Self::Reward => None,
        }
    }

    /// Whether training measured it at every iteration, so that it is smoothed.
    pub const fn is_training(self) -> bool {
        !matches!(self, Self::WinRate)
    }
}

/// What the page's script draws a chart from.
#[derive(Serialize)]
pub struct Data {
    heading: &'static str,
    guide: Option<f64>,
    smoothed: bool,
    series: Vec<SeriesData>,
}

#[derive(Serialize)]
struct SeriesData {
    name: String,
    /// The number of its colour and mark.
    index: usize,
    seeds: Vec<Vec<Sample>>,
}

/// Step, tokens, seconds, KL and value of one measurement.
type Sample = [Option<f64>; 5];

/// The measurements behind the chart of `metric` at `budget`; none where nothing was measured.
pub fn data(report: &Report, budget: usize, metric: Metric) -> Option<Data> {
    let names = report.names();
    let series = |curve: &Curve| SeriesData {
        name: curve.variant.clone(),
        index: position(&names, &curve.variant),
        seeds: curve.seeds.iter().map(|seed| samples(report, seed, metric)).collect(),
    };
    let series = report.curves.iter().filter(|curve| curve.budget == budget).map(series);
    let series: Vec<SeriesData> = series.filter(|s| s.seeds.iter().any(|seed| !seed.is_empty())).collect();
    let known = !series.is_empty();
    known.then(|| Data {
        heading: metric.heading(),
        guide: metric.guide(report),
        smoothed: metric.is_training(),
        series,
    })
}

fn samples(report: &Report, seed: &SeedCurve, metric: Metric) -> Vec<Sample> {
    let stage = report.stages.iter().find(|stage| !seed.stage.is_empty() && stage.label == seed.stage);
    let sample = |step: usize, tokens: Option<f64>, kl: Option<f64>, value: Option<f64>| -> Option<Sample> {
        let seconds = stage.and_then(|stage| seconds(stage, step));
        Some([Some(step as f64), tokens, seconds, kl, Some(value?)].map(|x| x.map(rounded)))
    };
    // Reports of earlier versions know only what was measured between evaluations.
    if metric.is_training() && !seed.training.is_empty() {
        let of = |point: &super::TrainingPoint| {
            let value = match metric {
                Metric::Kl => point.kl_nats,
                Metric::Length => point.length,
                Metric::WinRate | Metric::Reward => point.reward,
            };
            sample(point.step, point.tokens, point.kl_nats, value)
        };
        return seed.training.iter().filter_map(of).collect();
    }
    let of = |point: &super::CurvePoint| {
        let value = match metric {
            Metric::WinRate => point.win_rate.map(|share| 100.0 * share),
            Metric::Kl => point.kl_nats,
            Metric::Reward => point.mean_reward,
            Metric::Length => point.mean_length,
        };
        sample(point.step, point.tokens, point.kl_nats, value)
    };
    seed.points.iter().filter_map(of).collect()
}

/// To five digits: more cannot be seen, and the page is smaller.
fn rounded(x: f64) -> f64 {
    let digits = 4 - x.abs().max(1e-9).log10().floor() as i32;
    let scale = 10_f64.powi(digits.clamp(0, 8));
    (x * scale).round() / scale
}

/// When a stage had done `step` steps, between its marks; not before the first one of a stage that was resumed.
fn seconds(stage: &StageCost, step: usize) -> Option<f64> {
    let marks = &stage.marks;
    let stride = marks.windows(2).map(|pair| pair[1].step - pair[0].step).max().unwrap_or(1);
    let began = marks.first().filter(|first| first.step <= stride).map(|_| Mark { step: 0, seconds: 0.0 });
    let all: Vec<Mark> = began.into_iter().chain(marks.iter().copied()).collect();
    let after = all.iter().position(|mark| mark.step >= step)?;
    let (later, earlier) = (all[after], all[after.saturating_sub(1)]);
    if later.step == step {
        return Some(later.seconds);
    }
    let share = (step.checked_sub(earlier.step)?) as f64 / (later.step - earlier.step) as f64;
    (after > 0).then_some(earlier.seconds + share * (later.seconds - earlier.seconds))
}

/// Iterations between evaluations of the recipe: what training's own measurements are smoothed over.
pub fn window(report: &Report) -> usize {
    let seeds = report.curves.iter().flat_map(|curve| &curve.seeds);
    let gaps = seeds.filter_map(|seed| match seed.points.as_slice() {
        [first, second, ..] => Some(second.step - first.step),
        [only] => Some(only.step),
        [] => None,
    });
    gaps.min().unwrap_or(1).clamp(1, 50) / 2 + 1
}

/// The chart of `metric` at `budget`; none where nothing was measured.
pub fn chart(report: &Report, budget: usize, metric: Metric) -> Option<Svg> {
    let data = data(report, budget, metric)?;
    let window = if metric.is_training() && report.curves.iter().any(|c| c.seeds.iter().any(|s| !s.training.is_empty()))
    {
        window(report)
    } else {
        1
    };
    let series: Vec<Series> = data.series.iter().map(|series| Series::of(series, window)).collect();
    let [x, y] = scales(&series, data.guide);
    let title = format!("{}, {}", metric.heading(), plural(budget, "annotation"));
    let description = describe(metric, budget, &series, data.guide);
    let mut svg = Svg::new(SIZE[0], frame::height(series.len()), &title, &description);
    svg.begin("plot");
    frame::axes(&mut svg, metric.heading(), "PPO steps", x, y);
    if let Some(level) = data.guide.filter(|&level| y.holds(level)) {
        svg.line("guide", [PLOT[0][0], y.at(level)], [PLOT[0][1], y.at(level)]);
    }
    for series in &series {
        series.draw(&mut svg, x, y);
    }
    svg.end();
    frame::legend(&mut svg, series.iter().map(|series| (series.index, series.name.as_str())));
    Some(svg)
}

/// The position of `name` in the recipe; what the results do not know comes last.
pub fn position(names: &[&str], name: &str) -> usize {
    // Of several reward models of one variant, `name/category`, each has the variant's place.
    let whole = name.split('/').next().unwrap_or(name);
    let place = |wanted: &str| names.iter().position(|name| *name == wanted);
    place(name).or_else(|| place(whole)).unwrap_or(names.len())
}

/// One variant's lines in data coordinates.
struct Series {
    name: String,
    index: usize,
    seeds: Vec<Vec<[f64; 2]>>,
    mean: Vec<[f64; 2]>,
    band: Vec<(f64, [f64; 2])>,
}

impl Series {
    fn of(data: &SeriesData, window: usize) -> Self {
        let line = |seed: &Vec<Sample>| -> Vec<[f64; 2]> {
            let points: Vec<[f64; 2]> =
                seed.iter().filter_map(|[step, .., value]| Some([(*step)?, (*value)?])).collect();
            smoothed(&points, window)
        };
        let seeds: Vec<Vec<[f64; 2]>> = data.seeds.iter().map(line).collect();
        let steps: BTreeSet<u64> = seeds.iter().flatten().map(|[step, _]| step.to_bits()).collect();
        let (mut mean, mut band) = (Vec::new(), Vec::new());
        for step in steps.into_iter().map(f64::from_bits) {
            let here = seeds.iter().flatten().filter(|[other, _]| other.to_bits() == step.to_bits());
            let (centre, spread) = mean_and_spread(&here.map(|[_, value]| *value).collect::<Vec<_>>());
            mean.push([step, centre]);
            if let Some(spread) = spread {
                band.push((step, [centre - spread, centre + spread]));
            }
        }
        Self { name: data.name.clone(), index: data.index, seeds, mean, band }
    }

    fn draw(&self, svg: &mut Svg, x: Scale, y: Scale) {
        let place = |points: &[[f64; 2]]| points.iter().map(|[s, v]| [x.at(*s), y.at(*v)]).collect::<Vec<_>>();
        let upper = self.band.iter().map(|(step, [_, high])| [*step, *high]);
        let lower = self.band.iter().rev().map(|(step, [low, _])| [*step, *low]);
        let colour = self.index % COLOURS;
        svg.polygon(&format!("band s{colour}"), &place(&upper.chain(lower).collect::<Vec<_>>()));
        if self.seeds.len() > 1 {
            for seed in &self.seeds {
                svg.polyline(&format!("thin s{colour}"), &place(seed));
            }
        }
        let mean = place(&self.mean);
        svg.polyline(&format!("mean s{colour}"), &mean);
        // Every iteration measured would make a chain of marks out of the line.
        let stride = mean.len().div_ceil(12).max(1);
        mean.iter().rev().step_by(stride).for_each(|point| svg.mark(self.index, *point, 2.6));
    }
}

/// Each value as the mean of itself and those before it, `window` in all.
fn smoothed(points: &[[f64; 2]], window: usize) -> Vec<[f64; 2]> {
    let at = |i: usize| {
        let from = (i + 1).saturating_sub(window.max(1));
        let recent = &points[from..=i];
        [points[i][0], recent.iter().map(|[_, value]| value).sum::<f64>() / recent.len() as f64]
    };
    (0..points.len()).map(at).collect()
}

/// The mean and, from two values on, the sample standard deviation.
pub fn mean_and_spread(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

fn scales(series: &[Series], guide: Option<f64>) -> [Scale; 2] {
    let points = || series.iter().flat_map(|s| s.seeds.iter().flatten().chain(&s.mean));
    let bands = series.iter().flat_map(|s| s.band.iter().flat_map(|(_, ends)| *ends));
    let last = points().map(|[step, _]| *step).fold(0.0, f64::max).max(1.0);
    let x = Scale::between([0.0, last], PLOT[0]);
    [x, Scale::over(points().map(|[_, value]| *value).chain(bands).chain(guide), PLOT[1])]
}

fn describe(metric: Metric, budget: usize, series: &[Series], guide: Option<f64>) -> String {
    let ends: Vec<String> = series
        .iter()
        .filter_map(|s| s.mean.last().map(|[at, value]| format!("{} {value:.1} at {}", s.name, fixed(*at, 0))))
        .collect();
    let guide =
        guide.map_or_else(String::new, |level| format!(" The dashed line is the reference's level, {level:.1}."));
    format!(
        "{} over PPO steps at {}: thin lines are seeds, thick lines their means, bands one standard deviation. Last means: \
         {}.{guide}",
        metric.heading(),
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
    fn smoothing_looks_back_only() {
        let points = [[1.0, 2.0], [2.0, 4.0], [3.0, 9.0]];
        assert_eq!(smoothed(&points, 2), [[1.0, 2.0], [2.0, 3.0], [3.0, 6.5]]);
        assert_eq!(smoothed(&points, 1), points);
    }

    #[test]
    fn times_lie_between_marks_and_not_before_a_resumption() {
        let marks = |all: &[(usize, f64)]| all.iter().map(|&(step, seconds)| Mark { step, seconds }).collect();
        let stage = |all| StageCost { marks: marks(all), ..StageCost::default() };
        let whole = stage(&[(2, 10.0), (4, 30.0)]);
        assert_eq!(
            [1, 2, 3, 4, 5].map(|step| seconds(&whole, step)),
            [Some(5.0), Some(10.0), Some(20.0), Some(30.0), None]
        );
        let resumed = stage(&[(40, 1.0), (42, 3.0)]);
        assert_eq!([1, 39, 41].map(|step| seconds(&resumed, step)), [None, None, Some(2.0)]);
    }

    #[test]
    fn what_was_not_measured_has_no_chart() {
        let mut report = report();
        for seed in report.curves.iter_mut().flat_map(|c| &mut c.seeds) {
            seed.training.iter_mut().for_each(|point| point.reward = None);
            seed.points.iter_mut().for_each(|point| point.mean_reward = None);
        }
        assert!(chart(&report, 1000, Metric::Reward).is_none() && chart(&report, 77, Metric::Kl).is_none());
    }
}

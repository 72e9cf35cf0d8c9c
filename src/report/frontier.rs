//! Reward against KL: what PPO optimises and what is wanted, over the distance from the reference [BEST-OF-N].
//!
//! Filled marks are the checkpoints of the chosen runs, means over seeds; open ones the ends of the runs at other KL coefficients;
//! dashed lines the best of n samples of the reference by the same reward models.

use super::curves::position;
use super::frame::{self, PLOT, SIZE};
use super::learning::Curve;
use super::numbers::plural;
use super::schema::Report;
use super::svg::{COLOURS, Scale, Svg};
use super::tables::{groups, mean};

/// What stands over the distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reward {
    /// The variant's own reward model: what is optimised.
    Proxy,
    /// The judge: what is wanted.
    Gold,
}

impl Reward {
    /// Both, in the order of the report.
    pub const ALL: [Self; 2] = [Self::Proxy, Self::Gold];

    /// Its name in files.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Gold => "gold",
        }
    }

    /// Its name in `docs/METRICS.md`.
    pub const fn definition(self) -> &'static str {
        match self {
            Self::Proxy => "mean_reward",
            Self::Gold => "mean_score",
        }
    }

    /// Its heading, with the unit.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Proxy => "Proxy: mean reward (SD)",
            Self::Gold => "Gold: mean score by the judge",
        }
    }
}

/// Points in order, (root of the KL, reward).
type Line = Vec<[f64; 2]>;

/// One variant's trajectory and what belongs to it.
struct Series<'a> {
    name: &'a str,
    index: usize,
    path: Line,
    others: Line,
    best_of: Line,
}

/// The chart of `reward` at `budget`; none where nothing was measured.
pub fn chart(report: &Report, budget: usize, reward: Reward) -> Option<Svg> {
    let series: Vec<Series> = report
        .curves
        .iter()
        .filter(|curve| curve.budget == budget)
        .map(|curve| series(report, curve, reward))
        .filter(|series| !series.path.is_empty())
        .collect();
    if series.is_empty() {
        return None;
    }
    let all = || series.iter().flat_map(|s| s.path.iter().chain(&s.others).chain(&s.best_of));
    let furthest = all().map(|[kl, _]| *kl).fold(0.1, f64::max);
    let x = Scale::over([0.0, furthest].into_iter(), PLOT[0]);
    let y = Scale::over(all().map(|[_, value]| *value), PLOT[1]);
    let title = format!("{} over the KL, {}", reward.heading(), plural(budget, "annotation"));
    let mut svg = Svg::new(SIZE[0], frame::height(series.len()), &title, &describe(reward, &series));
    frame::axes(&mut svg, reward.heading(), "square root of the KL (nats per response)", x, y);
    for s in &series {
        let place = |line: &Line| line.iter().map(|[kl, value]| [x.at(*kl), y.at(*value)]).collect::<Vec<_>>();
        let colour = s.index % COLOURS;
        svg.polyline(&format!("dashed s{colour}"), &place(&s.best_of));
        svg.polyline(&format!("mean s{colour}"), &place(&s.path));
        for point in place(&s.path) {
            svg.mark(s.index, point, 3.2);
        }
        for point in place(&s.others) {
            svg.ring(s.index, point, 3.6);
        }
    }
    frame::legend(&mut svg, series.iter().map(|s| (s.index, s.name)));
    Some(svg)
}

fn series<'a>(report: &'a Report, curve: &'a Curve, reward: Reward) -> Series<'a> {
    // A KL that its estimator puts below zero is none.
    let root = |kl: f64| kl.max(0.0).sqrt();
    let mut steps: Vec<usize> = curve.seeds.iter().flat_map(|seed| &seed.points).map(|point| point.step).collect();
    steps.sort_unstable();
    steps.dedup();
    let checkpoint = |step: usize| -> Option<[f64; 2]> {
        let here = || curve.seeds.iter().flat_map(|seed| &seed.points).filter(move |point| point.step == step);
        let value = |point: &super::CurvePoint| match reward {
            Reward::Proxy => point.mean_reward,
            Reward::Gold => point.mean_score,
        };
        Some([root(mean(here().filter_map(|point| point.kl_nats))?), mean(here().filter_map(value))?])
    };
    let others = report.grid.iter().filter(|c| c.variant == curve.variant && c.budget == curve.budget && !c.chosen);
    let end = |cell: &super::GridCell| -> Option<[f64; 2]> {
        let value = match reward {
            Reward::Proxy => cell.mean_reward,
            Reward::Gold => cell.mean_score,
        };
        Some([root(cell.kl_nats?), value?])
    };
    let models = groups(report).into_iter().find(|(name, budget, _)| *name == curve.variant && *budget == curve.budget);
    // A model's own scores have another unit than the calibrated reward.
    let models = models.map(|(.., models)| models).filter(|_| reward == Reward::Gold).unwrap_or_default();
    let longest = models.iter().map(|model| model.best_of_n.len()).min().unwrap_or(0);
    let best = |n: usize| -> Option<[f64; 2]> {
        let point = models[0].best_of_n[n];
        Some([root(point.kl_nats), mean(models.iter().map(|model| model.best_of_n[n].gold))?])
    };
    Series {
        name: &curve.variant,
        index: position(&report.names(), &curve.variant),
        path: steps.into_iter().filter_map(checkpoint).collect(),
        others: others.filter_map(end).collect(),
        best_of: (0..longest).filter_map(best).collect(),
    }
}

fn describe(reward: Reward, series: &[Series]) -> String {
    let ends: Vec<String> = series
        .iter()
        .filter_map(|s| s.path.last().map(|[kl, value]| format!("{} {value:.2} at a KL of {:.1}", s.name, kl * kl)))
        .collect();
    format!(
        "{} against the square root of the KL; filled marks are checkpoints. Ends: {}.",
        reward.heading(),
        ends.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    #[test]
    fn over_optimisation_is_drawn_over_the_root_of_the_kl() {
        let mut report = report();
        report.curves[0].seeds.truncate(1);
        for (i, point) in report.curves[0].seeds[0].points.iter_mut().enumerate() {
            point.kl_nats = Some((i * i) as f64 - 1.0);
        }
        let found = series(&report, &report.curves[0], Reward::Gold);
        let roots: Vec<f64> = found.path.iter().take(3).map(|[kl, _]| *kl).collect();
        assert_eq!(roots, [0.0, 0.0, 3.0_f64.sqrt()]);
        assert_eq!((found.others.len(), found.best_of.len()), (1, 64));
        assert_eq!(series(&report, &report.curves[0], Reward::Proxy).best_of.len(), 0);
    }

    #[test]
    fn checkpoints_are_marked_and_other_coefficients_open() {
        let drawn = chart(&report(), 1000, Reward::Gold).unwrap().inline();
        assert_eq!(drawn.matches("class=\"ring ").count(), 3);
        assert_eq!(drawn.matches("class=\"dashed ").count(), 3);
        assert!(drawn.contains("square root of the KL"));
        assert!(chart(&report(), 77, Reward::Gold).is_none());
    }
}

//! The report arranged for the templates: tables and charts by section, every number still a number of the report.
//!
//! Means over seeds and sums over stages are the only arithmetic. Wording and markup are left to the templates.

use serde::Serialize;

use super::curves::{self, Metric};
use super::frontier::{self, Reward};
use super::numbers::{duration, fixed, plural};
use super::reliability::{self, Prediction};
use super::sentence::defined;
use super::svg::Svg;
use super::tables::{self, Table};
use super::{AnnotatorResult, Report, Warning, browser, distributions, dots, heat, timeline, verdict};

/// What the templates see.
#[derive(Serialize)]
pub struct View<'a> {
    pub report: &'a Report,
    /// The verdict's sentences with their numbers' definitions.
    pub verdict: Vec<String>,
    /// The warnings, likewise.
    pub warnings: Vec<String>,
    pub cost: String,
    pub confidence: String,
    pub seeds: usize,
    pub dots: Option<Chart>,
    pub headline: Option<Table>,
    pub win_rates: Table,
    pub matrices: Vec<Matrix>,
    pub direct: Option<Table>,
    pub judges: Option<Table>,
    pub views: Option<Table>,
    pub pairs: Option<Table>,
    pub faults: Option<Table>,
    pub curves: Vec<Budget<Chart>>,
    /// What training's own curves are smoothed over, in iterations.
    pub window: usize,
    pub script: Script,
    pub frontier: Vec<Budget<Chart>>,
    pub search: Option<Table>,
    pub rounds: Option<Table>,
    pub annotators: Option<Table>,
    pub rejections: Option<Table>,
    pub answers: Option<Table>,
    /// Sizes of the edits of language models.
    pub edit_shares: Vec<Chart>,
    pub rewards: Option<Table>,
    pub kinds: Option<Table>,
    pub detections: Option<Table>,
    pub best_of: Option<Table>,
    pub models: Vec<Budget<Chart>>,
    pub scale: Option<Scale>,
    pub heatmaps: Vec<heat::View<'a>>,
    pub examples: Vec<browser::View<'a>>,
    pub ablation: Option<Table>,
    pub differences: Option<Table>,
    pub costs: Option<Table>,
    pub stages: Option<Table>,
    pub timeline: Option<Chart>,
    pub data: Option<Table>,
    pub lengths: Option<Table>,
    pub edits: Option<Table>,
    pub skipped: Option<Table>,
    pub histograms: Vec<Chart>,
    pub reference: Vec<(&'static str, String, &'static str)>,
    pub missing: Option<Table>,
    pub facts: Vec<(&'static str, String)>,
}

/// A chart and the name of its file.
#[derive(Serialize)]
pub struct Chart {
    pub file: String,
    pub inline: String,
    #[serde(skip)]
    pub standalone: String,
    pub alt: String,
    /// The definitions of the numbers on its axes.
    pub metrics: Vec<&'static str>,
}

impl Chart {
    pub fn new(file: String, alt: String, metrics: &[&'static str], svg: &Svg) -> Self {
        Self { file, alt, metrics: metrics.to_vec(), inline: svg.inline(), standalone: svg.standalone() }
    }
}

/// What the page's script knows: the measurements behind every learning curve, by budget.
#[derive(Serialize)]
pub struct Script {
    curves: Vec<Vec<curves::Data>>,
}

/// Charts at one budget.
#[derive(Serialize)]
pub struct Budget<T> {
    pub budget: usize,
    pub charts: Vec<T>,
}

/// The table of one budget's direct comparisons.
#[derive(Serialize)]
pub struct Matrix {
    pub budget: usize,
    pub table: Table,
}

/// The ends and the steps of the heat maps' colour scale.
#[derive(Serialize)]
pub struct Scale {
    pub limit: String,
    pub colours: Vec<String>,
}

impl View<'_> {
    /// Every chart that is a file of its own.
    pub fn charts(&self) -> impl Iterator<Item = &Chart> {
        let groups = self.curves.iter().chain(&self.frontier).chain(&self.models).flat_map(|group| &group.charts);
        let maps = self.heatmaps.iter().map(heat::View::chart);
        let histograms = self.edit_shares.iter().chain(&self.histograms);
        self.dots.iter().chain(groups).chain(maps).chain(histograms).chain(&self.timeline)
    }

    /// Every table that is a file of its own.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        let results = [&self.headline, &self.direct, &self.judges, &self.views, &self.pairs, &self.faults];
        let annotators = [&self.annotators, &self.rejections];
        let models = [&self.search, &self.rewards, &self.kinds, &self.detections, &self.best_of];
        let others =
            [&self.rounds, &self.ablation, &self.differences, &self.costs, &self.data, &self.lengths, &self.edits];
        let tables = results.into_iter().chain(annotators).chain(models).chain(others).flatten();
        let more = self.skipped.iter().chain(&self.missing);
        std::iter::once(&self.win_rates)
            .chain(self.matrices.iter().map(|matrix| &matrix.table))
            .chain(tables)
            .chain(more)
    }
}

/// Arranges `report`.
pub fn view(report: &Report) -> View<'_> {
    let dots = dots::chart(report).map(|svg| {
        Chart::new("win_rate.svg".to_owned(), "Win rates with their intervals".to_owned(), &["win_rate", "ci"], &svg)
    });
    View {
        report,
        verdict: verdict::sentences(report),
        warnings: report.warnings.iter().map(Warning::sentence).collect(),
        cost: cost(report),
        confidence: fixed(100.0 * report.confidence, 0),
        seeds: report.variants.iter().map(|v| v.seeds.len()).max().unwrap_or(0),
        dots,
        headline: tables::headline(report).some(),
        win_rates: tables::win_rates(report),
        matrices: tables::matrices(report)
            .into_iter()
            .zip(report.budgets())
            .map(|(table, budget)| Matrix { budget, table })
            .collect(),
        direct: tables::direct(report),
        judges: tables::judges(report),
        views: tables::views(report),
        pairs: tables::pairs(report),
        faults: tables::faults(report),
        curves: by_budget(report, |budget| curve_charts(report, budget)),
        window: curves::window(report),
        script: Script {
            curves: by_budget(report, |budget| {
                Metric::ALL.into_iter().filter_map(|metric| curves::data(report, budget, metric)).collect()
            })
            .into_iter()
            .map(|group| group.charts)
            .collect(),
        },
        frontier: by_budget(report, |budget| frontier_charts(report, budget)),
        search: tables::grid(report),
        rounds: tables::rounds(report),
        annotators: tables::annotators(report),
        rejections: tables::rejections(report),
        answers: tables::answers(report),
        edit_shares: edit_shares(report),
        rewards: tables::rewards(report),
        kinds: tables::kinds(report),
        detections: tables::detections(report),
        best_of: tables::best_of(report),
        models: by_budget(report, |budget| model_charts(report, budget)),
        scale: (!report.heatmaps.is_empty())
            .then(|| Scale { limit: fixed(heat::limit(report), 2), colours: heat::scale() }),
        heatmaps: heat::views(report),
        examples: browser::views(report),
        ablation: tables::variants(report),
        differences: tables::differences(report),
        costs: tables::cost(report),
        stages: tables::stages(report),
        timeline: timeline::chart(report).map(|svg| {
            Chart::new("timeline.svg".to_owned(), "When stages were made".to_owned(), &["wall_seconds"], &svg)
        }),
        data: tables::data(report),
        lengths: tables::lengths(report),
        edits: tables::edits(report),
        skipped: tables::skipped(report),
        histograms: histograms(report),
        reference: tables::reference(report),
        missing: tables::missing(report),
        facts: tables::facts(report),
    }
}

fn cost(report: &Report) -> String {
    let total: f64 = report.stages.iter().filter_map(|s| s.wall_seconds).sum();
    let cached = report.stages.iter().filter(|s| s.cached).count();
    let seconds = |seconds: f64| defined("wall_seconds", duration(seconds));
    let took = report.provenance.wall_seconds.map_or_else(String::new, |s| format!("This run took {}. ", seconds(s)));
    format!(
        "{took}All {} stages together cost {} of wall time; {} of them were in the store already.",
        defined("results", report.stages.len()),
        seconds(total),
        defined("cached", cached),
    )
}

fn by_budget<T>(report: &Report, charts: impl Fn(usize) -> Vec<T>) -> Vec<Budget<T>> {
    let groups = report.budgets().into_iter().map(|budget| Budget { budget, charts: charts(budget) });
    groups.filter(|group| !group.charts.is_empty()).collect()
}

fn curve_charts(report: &Report, budget: usize) -> Vec<Chart> {
    let chart = |metric: Metric| {
        let svg = curves::chart(report, budget, metric)?;
        let alt = format!("{} at {}", metric.heading(), plural(budget, "annotation"));
        // Over which of these, the reader chooses.
        let across = ["iteration", "tokens", "wall_seconds", "kl_nats"].into_iter();
        let up = metric.definition();
        let metrics: Vec<_> = std::iter::once(up).chain(across.filter(|across| *across != up)).collect();
        Some(Chart::new(format!("curve-{}-{budget}.svg", metric.key()), alt, &metrics, &svg))
    };
    Metric::ALL.into_iter().filter_map(chart).collect()
}

fn frontier_charts(report: &Report, budget: usize) -> Vec<Chart> {
    let chart = |reward: Reward| {
        let svg = frontier::chart(report, budget, reward)?;
        let alt = format!("{} over the KL at {}", reward.heading(), plural(budget, "annotation"));
        Some(Chart::new(
            format!("frontier-{}-{budget}.svg", reward.key()),
            alt,
            &[reward.definition(), "kl_nats"],
            &svg,
        ))
    };
    Reward::ALL.into_iter().filter_map(chart).collect()
}

/// Calibration, then distributions of scores, variant by variant.
fn model_charts(report: &Report, budget: usize) -> Vec<Chart> {
    let calibration = |prediction: Prediction| {
        let svg = reliability::chart(report, budget, prediction)?;
        let alt = format!("{} at {}", prediction.heading(), plural(budget, "annotation"));
        Some(Chart::new(
            format!("calibration-{}-{budget}.svg", prediction.key()),
            alt,
            &[prediction.definition()],
            &svg,
        ))
    };
    let mut charts: Vec<Chart> = Prediction::ALL.into_iter().filter_map(calibration).collect();
    let names = report.names();
    for (name, _, models) in tables::groups(report).into_iter().filter(|(_, at, _)| *at == budget) {
        for of in ["responses", "tokens"] {
            let Some(svg) = distributions::chart(name, budget, &models, of) else { continue };
            let alt = format!("Scores of {of} by {name} at {}", plural(budget, "annotation"));
            let file = format!("scores-{of}-{}-{budget}.svg", curves::position(&names, name) + 1);
            charts.push(Chart::new(file, alt, &["distributions"], &svg));
        }
    }
    charts
}

/// Edits of language models by the share of words that they change.
fn edit_shares(report: &Report) -> Vec<Chart> {
    let chart = |annotator: &AnnotatorResult| {
        let width = 100 / annotator.shares.len().max(1);
        let heading = format!("Words changed by {}", annotator.stage);
        let svg = distributions::histogram(&heading, "% of the words", width, &annotator.shares)?;
        let file = format!("edit-shares-{}.svg", annotator.stage.replace(['/', '='], "-"));
        Some(Chart::new(file, heading, &["shares"], &svg))
    };
    report.annotators.iter().filter_map(chart).collect()
}

fn histograms(report: &Report) -> Vec<Chart> {
    let lengths = report.lengths.iter().filter_map(|lengths| {
        let heading = format!("Length of {}", lengths.name);
        let svg = distributions::histogram(&heading, "tokens", lengths.bin_width.max(1), &lengths.bins)?;
        Some(Chart::new(format!("length-{}.svg", lengths.name.replace(' ', "_")), heading, &["length"], &svg))
    });
    let distances = report.edits.iter().filter_map(|edits| {
        let heading = format!("Edit distance at {}", plural(edits.budget, "annotation"));
        let svg = distributions::histogram(&heading, "changes", 1, &edits.distances)?;
        Some(Chart::new(format!("distance-{}.svg", edits.budget), heading, &["mean_distance"], &svg))
    });
    lengths.chain(distances).collect()
}

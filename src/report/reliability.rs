//! Reliability diagrams: whether a probability means what it says, one line a variant [CALIBRATION].

use super::RewardModelResult;
use super::curves::position;
use super::frame::{self, PLOT, SIZE};
use super::numbers::plural;
use super::schema::Report;
use super::svg::{COLOURS, Scale, Svg};
use super::tables::groups;
use crate::eval::Bin;

/// What is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// That the response with the higher score is the preferred one.
    Preference,
    /// That a token is edited.
    Edited,
}

impl Prediction {
    /// Both, in the order of the report.
    pub const ALL: [Self; 2] = [Self::Preference, Self::Edited];

    /// Its name in files.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Preference => "preference",
            Self::Edited => "edited",
        }
    }

    /// Its name in `docs/METRICS.md`.
    pub const fn definition(self) -> &'static str {
        match self {
            Self::Preference => "preference_reliability",
            Self::Edited => "reliability",
        }
    }

    /// Its heading.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Preference => "Calibration: higher score is preferred",
            Self::Edited => "Calibration: token is edited",
        }
    }

    fn bins(self, model: &RewardModelResult) -> &[Bin] {
        match self {
            Self::Preference => &model.preference_reliability,
            Self::Edited => model.edited_tokens.as_ref().map_or(&[], |quality| &quality.reliability),
        }
    }
}

/// The diagram of `prediction` at `budget`, seeds together; none where no model makes it.
pub fn chart(report: &Report, budget: usize, prediction: Prediction) -> Option<Svg> {
    let names = report.names();
    let lines: Vec<(usize, &str, Vec<[f64; 2]>)> = groups(report)
        .into_iter()
        .filter(|(_, at, _)| *at == budget)
        .map(|(name, _, models)| (position(&names, name), name, pooled(&models, prediction)))
        .filter(|(.., line)| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return None;
    }
    let low = if prediction == Prediction::Preference { 0.5 } else { 0.0 };
    let (x, y) = (Scale::between([low, 1.0], PLOT[0]), Scale::between([low.min(lowest(&lines)), 1.0], PLOT[1]));
    let title = format!("{}, {}", prediction.heading(), plural(budget, "annotation"));
    let ends = lines.iter().map(|(_, name, line)| format!("{name} in {}", plural(line.len(), "bin")));
    let description = format!(
        "Observed share against predicted probability; the dashed diagonal is perfect calibration. Lines: {}.",
        ends.collect::<Vec<_>>().join(", ")
    );
    let mut svg = Svg::new(SIZE[0], frame::height(lines.len()), &title, &description);
    frame::axes(&mut svg, prediction.heading(), "predicted probability (observed share upwards)", x, y);
    svg.line("guide", [x.at(low), y.at(low)], [x.at(1.0), y.at(1.0)]);
    for (index, _, line) in &lines {
        let points: Vec<[f64; 2]> = line.iter().map(|[p, o]| [x.at(*p), y.at(*o)]).collect();
        svg.polyline(&format!("mean s{}", index % COLOURS), &points);
        for point in points {
            svg.mark(*index, point, 3.0);
        }
    }
    frame::legend(&mut svg, lines.iter().map(|(index, name, _)| (*index, *name)));
    Some(svg)
}

fn lowest(lines: &[(usize, &str, Vec<[f64; 2]>)]) -> f64 {
    let lowest = lines.iter().flat_map(|(.., line)| line).map(|[_, observed]| *observed).fold(1.0, f64::min);
    (lowest * 10.0).floor() / 10.0
}

/// The bins of all seeds together, (predicted, observed): bins of one seed overlap those of another.
fn pooled(models: &[&RewardModelResult], prediction: Prediction) -> Vec<[f64; 2]> {
    // Ten bins over probabilities from 0 to 1, twenty for preferences, which begin at one half.
    let count = if prediction == Prediction::Preference { 20.0 } else { 10.0 };
    let mut sums: Vec<(f64, f64, f64)> = vec![(0.0, 0.0, 0.0); 20];
    for bin in models.iter().flat_map(|model| prediction.bins(model)) {
        #[allow(clippy::cast_sign_loss, reason = "a probability is at least 0")]
        let at = ((bin.predicted * count) as usize).min(19);
        let n = bin.count as f64;
        sums[at].0 += n;
        sums[at].1 += n * bin.predicted;
        sums[at].2 += n * bin.observed;
    }
    sums.into_iter().filter(|(n, ..)| *n > 0.0).map(|(n, predicted, observed)| [predicted / n, observed / n]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    #[test]
    fn bins_of_seeds_are_pooled_by_their_counts() {
        let bin = |count, predicted, observed| Bin { count, predicted, observed };
        let model = |bins| RewardModelResult { preference_reliability: bins, ..RewardModelResult::default() };
        let models = [model(vec![bin(30, 0.51, 0.6), bin(1, 0.99, 1.0)]), model(vec![bin(10, 0.53, 0.2)])];
        let found = pooled(&models.iter().collect::<Vec<_>>(), Prediction::Preference);
        assert_eq!(found.len(), 2);
        assert!((found[0][0] - 0.515).abs() < 1e-12 && (found[0][1] - 0.5).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn only_models_that_predict_have_a_line() {
        let (both, tokens) = (chart(&report(), 300, Prediction::Preference), chart(&report(), 300, Prediction::Edited));
        assert_eq!(both.unwrap().inline().matches("class=\"mean ").count(), 3);
        assert_eq!(tokens.unwrap().inline().matches("class=\"mean ").count(), 1);
        assert!(chart(&report(), 77, Prediction::Edited).is_none());
    }
}

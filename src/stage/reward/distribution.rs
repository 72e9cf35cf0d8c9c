//! How a reward model's scores are distributed: tokens by what an edit did to them, responses by their side of a pair.

use super::probe::Probe;
use crate::eval::{Bin, expected_calibration_error, reliability};
use crate::labels::{Label, LabelledEdit};
use crate::model::Pair;
use crate::report::ScoreDistribution;
use crate::reward::{Kind, TokenLoss};

/// Bins of a distribution, and where they end, in standard deviations.
const BINS: usize = 32;
const END: f64 = 4.0;

/// Bins of a reliability diagram over probabilities from 0 to 1.
const RELIABILITY_BINS: usize = 20;

impl Probe<'_> {
    /// The reliability diagram of "the higher score is preferred", with its error, by the scores of both sides; empty where
    /// the loss trains no such probability.
    pub(super) fn preference_reliability(&self, [chosen, rejected]: &[Vec<f64>; 2]) -> (Vec<Bin>, Option<f64>) {
        let trained = match &self.model.kind {
            Kind::Sequence(_) => true,
            Kind::Token(token) => token.loss != TokenLoss::Tlcr,
            Kind::Tppo(_) | Kind::Spans(_) => false,
        };
        if !trained {
            return (Vec::new(), None);
        }
        let margins = chosen.iter().zip(rejected).map(|(chosen, rejected)| chosen - rejected);
        let bins = reliability(&margins.map(confidence).collect::<Vec<_>>(), RELIABILITY_BINS);
        let error = expected_calibration_error(&bins);
        (bins, error)
    }

    /// Distributions of the scores of responses, and for token models of those of the tokens of `labelled`.
    pub(super) fn distributions(
        &self,
        [preferred, other]: [Vec<f64>; 2],
        [edited, original]: [Vec<f64>; 2],
        labelled: &[LabelledEdit],
    ) -> Vec<ScoreDistribution> {
        let responses =
            [("preferred", preferred), ("less preferred", other), ("edited", edited), ("original", original)];
        let mut all = distributions("responses", &responses);
        if let Kind::Token(_) | Kind::Tppo(_) = &self.model.kind {
            all.extend(distributions("tokens", &self.tokens(labelled)));
        }
        all
    }

    /// Rewards of the tokens of both sides of `edits`, by label.
    fn tokens(&self, edits: &[LabelledEdit]) -> [(&'static str, Vec<f64>); 4] {
        let encode =
            |edit: &LabelledEdit| self.tokenizer.encode_prompt(&edit.prompt.text, self.setting.max_prompt_tokens);
        let prompts: Vec<Vec<u32>> = edits.iter().map(encode).collect();
        let rewards = |ids: fn(&LabelledEdit) -> &Vec<u32>| {
            let rows: Vec<Pair> =
                prompts.iter().zip(edits).map(|(prompt, edit)| Pair { prompt, response: ids(edit) }).collect();
            self.model.token_rewards(&rows, self.tokenizer.pad(), self.crew)
        };
        let (original, edited) = (rewards(|edit| &edit.original_ids), rewards(|edit| &edit.edited_ids));
        let originals =
            edits.iter().zip(&original).flat_map(|(edit, rewards)| edit.original_labels.iter().zip(rewards));
        let edited = edits.iter().zip(&edited).flat_map(|(edit, rewards)| edit.edited_labels.iter().zip(rewards));
        let of = |label| originals.clone().filter(|(found, _)| **found == label).map(|(_, reward)| *reward).collect();
        let added = edited.filter(|(label, _)| **label == Label::A).map(|(_, reward)| *reward).collect();
        [("unchanged", of(Label::U)), ("deleted", of(Label::D)), ("substituted", of(Label::S)), ("added", added)]
    }
}

/// The probability of the side that scores higher by Bradley and Terry, and whether that side is the better one.
fn confidence(margin: f64) -> (f64, bool) {
    (1.0 / (1.0 + (-margin.abs()).exp()), margin > 0.0)
}

/// The classes that have any score, standardised over all of them together.
fn distributions(of: &str, classes: &[(&str, Vec<f64>)]) -> Vec<ScoreDistribution> {
    let all = || classes.iter().flat_map(|(_, scores)| scores);
    let n = all().count().max(1) as f64;
    let mean = all().sum::<f64>() / n;
    let deviation = (all().map(|score| (score - mean).powi(2)).sum::<f64>() / n).sqrt();
    let standard = |score: &f64| if deviation > 0.0 { (score - mean) / deviation } else { 0.0 };
    let class = |(class, scores): &(&str, Vec<f64>)| {
        let mut shares = vec![0.0; BINS];
        for score in scores.iter().map(standard) {
            #[allow(clippy::cast_sign_loss, reason = "clamped at zero")]
            let at = ((score + END) / (2.0 * END) * BINS as f64).clamp(0.0, (BINS - 1) as f64) as usize;
            shares[at] += 1.0 / scores.len() as f64;
        }
        ScoreDistribution {
            of: of.to_owned(),
            class: (*class).to_owned(),
            count: scores.len(),
            mean: scores.iter().map(standard).sum::<f64>() / scores.len() as f64,
            shares,
        }
    };
    classes.iter().filter(|(_, scores)| !scores.is_empty()).map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_standardised_together_and_what_lies_beyond_is_in_the_last_bin() {
        let mut many = vec![0.0; 99];
        many.push(1000.0);
        let found = distributions("tokens", &[("deleted", many), ("added", vec![]), ("unchanged", vec![0.0])]);
        assert_eq!(found.iter().map(|d| d.class.as_str()).collect::<Vec<_>>(), ["deleted", "unchanged"]);
        assert_eq!((found[0].count, found[1].count), (100, 1));
        assert!((found[0].shares[BINS - 1] - 0.01).abs() < 1e-12, "{:?}", found[0].shares);
        assert!(found.iter().all(|d| (d.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9));
        let weighted: f64 = found.iter().map(|d| d.mean * d.count as f64).sum();
        assert!(weighted.abs() < 1e-9, "the mean over all is zero: {weighted}");
    }

    #[test]
    fn equal_scores_have_one_bin() {
        let found = distributions("responses", &[("edited", vec![2.0; 4])]);
        assert_eq!((found[0].mean, found[0].shares[BINS / 2]), (0.0, 1.0));
    }

    #[test]
    fn the_confident_side_is_the_one_with_the_higher_score() {
        assert_eq!(confidence(0.0), (0.5, false));
        let (up, down) = (confidence(2.0), confidence(-2.0));
        assert!(up.1 && !down.1 && (up.0 - down.0).abs() < 1e-12 && up.0 > 0.88);
    }
}

//! What a reward model can tell apart, pair by pair and token by token.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::super::policy::{Setting, seed};
use crate::compute::Crew;
use crate::data::world::{FaultKind, World};
use crate::data::{Prompt, Response};
use crate::eval::{
    Scored, auc, average_precision, best_of_n, best_of_n_kl, cross_fitted_f1, cross_fitted_probabilities,
    expected_calibration_error, reliability,
};
use crate::labels::{Label, LabelledEdit};
use crate::model::Pair;
use crate::report::{BestOfN, TokenQuality};
use crate::reward::pairs::{Comparison, Side};
use crate::reward::score::RewardModel;
use crate::reward::train::Examples;
use crate::reward::{Kind, TokenLoss};
use crate::text::Tokenizer;

/// Pairs of a clean and a faulty response, of each kind of fault.
pub(in crate::stage) const SINGLE_FAULT_PAIRS: usize = 200;
/// Bars of a reliability diagram.
const BINS: usize = 10;

/// A trained model under examination.
pub(super) struct Probe<'a> {
    pub(super) model: &'a RewardModel,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) setting: &'a Setting,
    pub(super) crew: &'a Crew,
}

impl Probe<'_> {
    /// Scores of the preferred sides of `pairs` and of the others.
    pub(super) fn scores(&self, pairs: &[Comparison]) -> [Vec<f64>; 2] {
        let score = |side: fn(&Comparison) -> &Side| {
            let rows: Vec<Pair> =
                pairs.iter().map(|pair| Pair { prompt: &pair.prompt, response: &side(pair).ids }).collect();
            self.model.scores(&rows, self.tokenizer.pad(), self.crew)
        };
        [score(|pair| &pair.chosen), score(|pair| &pair.rejected)]
    }

    /// Accuracy on a clean response against the same response with one fault, by kind.
    pub(super) fn single_faults(&self, world: &World) -> BTreeMap<String, f64> {
        let accuracy = |kind: FaultKind| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed(0, &format!("single fault {}", kind.name())));
            let pairs = world.single_fault_pairs(&mut rng, kind, SINGLE_FAULT_PAIRS);
            let side = |text: &str, finished| {
                let mut ids = self.tokenizer.encode(text);
                ids.extend(Some(self.tokenizer.eos()).filter(|_| finished));
                Side { ids, labels: Vec::new() }
            };
            let pairs: Vec<Comparison> = pairs
                .iter()
                .map(|(prompt, clean, faulty)| Comparison {
                    prompt: self.tokenizer.encode_prompt(&prompt.text, self.setting.max_prompt_tokens),
                    chosen: side(clean, true),
                    rejected: side(faulty, kind != FaultKind::Unfinished),
                })
                .collect();
            Some((kind.name().to_owned(), pair_accuracy(&self.scores(&pairs))?))
        };
        FaultKind::ALL.into_iter().filter_map(accuracy).collect()
    }

    /// How well low rewards mark the edited tokens of the originals.
    pub(super) fn edited_tokens(&self, edits: &[LabelledEdit]) -> Option<TokenQuality> {
        let edited = |edit: &LabelledEdit| edit.original_labels.iter().map(|&label| label != Label::U).collect();
        self.token_quality(edits, &edits.iter().map(edited).collect::<Vec<_>>())
    }

    /// How well low rewards mark the tokens of the originals that people marked, where they marked any.
    pub(super) fn error_spans(&self, edits: &[LabelledEdit]) -> Option<TokenQuality> {
        let marked: Vec<LabelledEdit> = edits.iter().filter(|edit| !edit.original_errors.is_empty()).cloned().collect();
        let errors: Vec<Vec<bool>> = marked.iter().map(|edit| edit.original_errors.clone()).collect();
        self.token_quality(&marked, &errors)
    }

    /// How well low rewards mark what is `wrong`, one for each token of the originals; none for sequence models, which have
    /// no token rewards, and where all tokens are alike.
    fn token_quality(&self, edits: &[LabelledEdit], wrong: &[Vec<bool>]) -> Option<TokenQuality> {
        let are_rewards = match &self.model.kind {
            Kind::Sequence(_) => return None,
            Kind::Token(token) => token.loss == TokenLoss::Tlcr,
            Kind::Tppo(_) | Kind::Spans(_) => false,
        };
        let encode =
            |edit: &LabelledEdit| self.tokenizer.encode_prompt(&edit.prompt.text, self.setting.max_prompt_tokens);
        let prompts: Vec<Vec<u32>> = edits.iter().map(encode).collect();
        let rows: Vec<Pair> =
            prompts.iter().zip(edits).map(|(prompt, edit)| Pair { prompt, response: &edit.original_ids }).collect();
        let mut rewards = self.model.token_rewards(&rows, self.tokenizer.pad(), self.crew);
        if let Kind::Spans(_) = self.model.kind {
            for (rewards, row) in rewards.iter_mut().zip(&rows) {
                spread(rewards, &self.model.segments.ends(row.response));
            }
        }
        let groups: Vec<Vec<Scored>> = rewards
            .iter()
            .zip(wrong)
            .map(|(rewards, wrong)| rewards.iter().zip(wrong).map(|(reward, &wrong)| (-reward, wrong)).collect())
            .collect();
        quality(&groups, are_rewards)
    }

    /// How well low rewards mark what the annotator marked, in labels of the kind that it was trained on: words scored 0,
    /// spans with an error of its category.
    pub(super) fn annotated(&self, examples: Examples) -> Option<TokenQuality> {
        let rewards = |rows: &[Pair]| self.model.token_rewards(rows, self.tokenizer.pad(), self.crew);
        let groups: Vec<Vec<Scored>> = match examples {
            Examples::Pairs(_) => return None,
            Examples::Scored(scored) => {
                let rows: Vec<Pair> =
                    scored.iter().map(|row| Pair { prompt: &row.prompt, response: &row.ids }).collect();
                let group = |(rewards, row): (Vec<f64>, &crate::reward::words::Scored)| {
                    let known = rewards.iter().zip(&row.scores).filter_map(|(reward, score)| Some((reward, (*score)?)));
                    known.map(|(reward, score)| (-reward, score == 0)).collect()
                };
                rewards(&rows).into_iter().zip(scored).map(group).collect()
            }
            Examples::Marked(marked) => {
                let rows: Vec<Pair> =
                    marked.iter().map(|row| Pair { prompt: &row.prompt, response: &row.ids }).collect();
                let group = |(rewards, row): (Vec<f64>, &crate::reward::spans::Marked)| {
                    row.spans.iter().map(|span| (-rewards[span.last], span.error)).collect()
                };
                rewards(&rows).into_iter().zip(marked).map(group).collect()
            }
        };
        quality(&groups, false)
    }

    /// The best of n samples of the reference by this model, seen by the oracle: means over prompts.
    pub(super) fn best_of_n(&self, world: &World, prompts: &[Prompt], samples: &[Vec<Response>]) -> Vec<BestOfN> {
        let curve = |(prompt, samples): (&Prompt, &Vec<Response>)| -> Vec<[f64; 2]> {
            let ids = self.tokenizer.encode_prompt(&prompt.text, self.setting.max_prompt_tokens);
            let rows: Vec<Pair> =
                samples.iter().map(|response| Pair { prompt: &ids, response: &response.ids }).collect();
            let proxies = self.model.scores(&rows, self.tokenizer.pad(), self.crew);
            let gold = samples.iter().map(|response| -(world.faults(&prompt.facts, response).len() as f64));
            let scored: Vec<(f64, f64)> = proxies.into_iter().zip(gold).collect();
            let own: Vec<(f64, f64)> = scored.iter().map(|&(proxy, _)| (proxy, proxy)).collect();
            best_of_n(&own).into_iter().zip(best_of_n(&scored)).map(|(proxy, gold)| [proxy, gold]).collect()
        };
        let curves: Vec<Vec<[f64; 2]>> = prompts.iter().zip(samples).map(curve).collect();
        let longest = curves.iter().map(Vec::len).min().unwrap_or(0);
        let point = |at: usize| {
            let mean = |side: usize| curves.iter().map(|curve| curve[at][side]).sum::<f64>() / curves.len() as f64;
            BestOfN { n: at + 1, kl_nats: best_of_n_kl(at + 1), proxy: mean(0), gold: mean(1) }
        };
        (0..longest).map(point).collect()
    }
}

/// Share of pairs whose better side scores higher; equal scores count as wrong.
pub(super) fn pair_accuracy([chosen, rejected]: &[Vec<f64>; 2]) -> Option<f64> {
    let right = chosen.iter().zip(rejected).filter(|(chosen, rejected)| chosen > rejected).count();
    (!chosen.is_empty()).then(|| right as f64 / chosen.len() as f64)
}

/// Gives every token the reward of the span that it is in, which stands at the span's last.
fn spread(rewards: &mut [f64], ends: &[bool]) {
    let mut current = 0.0;
    for (reward, ends) in rewards.iter_mut().zip(ends).rev() {
        if *ends {
            current = *reward;
        }
        *reward = current;
    }
}

/// The numbers of scores in groups, one a response; `are_rewards` says that a score is minus a reward in [-1, 1], which is a
/// probability by itself [TLCR]. Other scores become probabilities by a logistic curve of the other responses.
fn quality(groups: &[Vec<Scored>], are_rewards: bool) -> Option<TokenQuality> {
    let all: Vec<Scored> = groups.concat();
    let side =
        |wrong: bool| -> Vec<f64> { all.iter().filter(|scored| scored.1 == wrong).map(|(score, _)| *score).collect() };
    let (wrong, right) = (side(true), side(false));
    let probabilities = if are_rewards {
        Some(all.iter().map(|&(score, wrong)| (f64::midpoint(1.0, score), wrong)).collect())
    } else {
        cross_fitted_probabilities(groups)
    };
    let bins = probabilities.map(|probabilities| reliability(&probabilities, BINS)).unwrap_or_default();
    Some(TokenQuality {
        tokens: all.len(),
        wrong: wrong.len() as f64 / all.len() as f64,
        auc: auc(&wrong, &right)?,
        average_precision: average_precision(&all)?,
        f1: cross_fitted_f1(groups),
        calibration_error: expected_calibration_error(&bins),
        reliability: bins,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_that_are_probabilities_are_taken_as_they_are() {
        // Scores -r of 0.8 and -0.6: probabilities 0.9 and 0.2.
        let groups = vec![vec![(0.8, true), (-0.6, false)], vec![(0.8, true), (-0.6, false), (-0.6, true)]];
        let found = quality(&groups, true).unwrap();
        assert_eq!((found.tokens, found.wrong, found.f1), (5, 0.6, Some(4.0 / 6.0)));
        let predicted: Vec<f64> = found.reliability.iter().map(|bin| bin.predicted).collect();
        assert!((predicted[0] - 0.2).abs() < 1e-12 && (predicted[1] - 0.9).abs() < 1e-12, "{predicted:?}");
        let error = (3.0 * (1.0_f64 / 3.0 - 0.2) + 2.0 * 0.1) / 5.0;
        assert!((found.calibration_error.unwrap() - error).abs() < 1e-12);
        // One of three wrong tokens ties with both right ones.
        assert!((found.auc - 5.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn every_token_of_a_span_has_its_reward() {
        let mut rewards = [0.0, -0.5, 0.0, 0.0, 0.25];
        spread(&mut rewards, &[false, true, false, false, true]);
        assert_eq!(rewards.map(f64::to_bits), [-0.5, -0.5, 0.25, 0.25, 0.25].map(f64::to_bits));
    }

    #[test]
    fn tokens_that_are_all_alike_have_no_quality() {
        assert_eq!(quality(&[vec![(0.1, false)], vec![(0.2, false)]], false), None);
        assert_eq!(quality(&[], true), None);
    }
}

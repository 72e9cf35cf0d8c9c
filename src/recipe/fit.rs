//! Whether a variant's reward model and its credit fit each other; where they do not, a warning says why.
//!
//! What PPO sums must be what the loss compared. A misfit still runs: it may be the very thing to be studied.

use super::check::{Check, split};
use super::rules::{Note, Verdict};
use super::{Recipe, Variant};
use crate::ppo::Credit;
use crate::reward::{Kind, TokenLoss};

/// Warns of every variant whose reward model and credit do not fit.
pub fn judge(recipe: &Recipe, verdict: &mut Verdict) {
    for (i, variant) in recipe.variants.iter().enumerate() {
        let (Some(reward), Some(credit)) = (&variant.reward, variant.credit) else { continue };
        let penalised = variant.length_penalty.is_some_and(|penalty| penalty.get() > 0.0);
        let (misfit, key) = match reward {
            Kind::Sequence(_) => (None, "reward"),
            Kind::Token(token) => (misfit(token.loss, credit), "reward.token.loss"),
            Kind::Tppo(_) => (misfit_of_scores(credit, penalised), "reward.tppo"),
            Kind::Spans(spans) => (misfit_of_spans(spans.clean.get(), penalised), "reward.spans"),
        };
        let Some((why, better)) = misfit else { continue };
        verdict.warn(
            format!("variant `{}`: {why}", variant.name),
            &[
                (&format!("variants.{i}.credit"), Note::Text(better.to_owned())),
                (&format!("variants.{i}.{key}"), Note::Text(String::new())),
            ],
        );
    }
}

/// Warns of an `anchor` that the loss does not read.
pub fn unread_anchor(i: usize, variant: &Variant, check: &Check<'_>, verdict: &mut Verdict) {
    let Some(Kind::Token(token)) = &variant.reward else { return };
    let anchor = format!("variants.{i}.reward.token.anchor");
    if token.loss != TokenLoss::PairwiseEditedAnchored && check.is_written(&split(&anchor)) {
        let note = Note::Text("only `pairwise_edited_anchored` has an anchor".to_owned());
        verdict.warn(format!("variant `{}`: nothing reads this `anchor`", variant.name), &[(&anchor, note)]);
    }
}

/// Why something does not fit, and what to do instead.
type Misfit = (&'static str, &'static str);

const LATE: Misfit = (
    "one score at the end throws away what the token rewards say about where the faults are",
    "fits as a baseline only",
);

/// Of word scores: by the token, with a penalty on length, or divided by the length, which gives the predicted score of the
/// whole.
const fn misfit_of_scores(credit: Credit, penalised: bool) -> Option<Misfit> {
    match credit {
        Credit::PerToken if !penalised => Some((
            "every further token that is not bad pays, and PPO sums: a policy earns by length",
            "a `length_penalty` makes tokens beyond the reference's median length cost",
        )),
        // `span_end` is refused elsewhere.
        Credit::PerToken | Credit::PerTokenOverLength | Credit::SpanEnd => None,
        Credit::PotentialDifference => Some((
            "differences telescope to the last token's reward, and scores of single words say nothing of the whole there",
            "`per_token` with a `length_penalty` fits word scores",
        )),
        Credit::EndOfSequence => Some(LATE),
    }
}

/// Of spans: what a clean one is paid.
fn misfit_of_spans(clean: f64, penalised: bool) -> Option<Misfit> {
    (clean > 0.0 && !penalised).then_some((
        "every further span without an error pays, whatever it says: a policy earns by their number",
        "`clean = 0` in the `spans` reward lets errors cost and nothing pay",
    ))
}

/// Of a token loss: why the pair does not fit; none where it does.
#[must_use]
const fn misfit(loss: TokenLoss, credit: Credit) -> Option<Misfit> {
    use Credit::{EndOfSequence, PerToken, PerTokenOverLength, PotentialDifference, SpanEnd};
    use TokenLoss::{PairwiseEditedAnchored, PairwiseEditedOnly, PairwiseMean, PairwiseSum, Tlcr};
    Some(match (loss, credit) {
        (PairwiseMean, PerTokenOverLength | PotentialDifference) | (PairwiseSum | PairwiseEditedAnchored, PerToken) => {
            return None;
        }
        // Refused elsewhere.
        (_, SpanEnd) => return None,
        (_, EndOfSequence) => LATE,
        (PairwiseMean, PerToken) => (
            "a reward trained on the mean over tokens is summed by PPO, so every further token pays: \
             a policy was measured to exploit length within 30 steps",
            "`per_token_over_length` or `potential_difference` fits this loss",
        ),
        (PairwiseEditedOnly, PerToken) => (
            "this loss never looks at unchanged tokens, so their rewards are arbitrary, and PPO collects them",
            "`pairwise_edited_anchored` holds them at zero",
        ),
        (Tlcr, PerToken) => (
            "a label-trained reward pays for tokens that look added and sums without a neutral level: \
             a policy was measured to repeat sentences and grow long",
            "watch length and repeats, and prefer a larger `kl_coef`",
        ),
        (PairwiseSum, PerTokenOverLength) => (
            "a reward trained on the sum over tokens is divided by the length, so padding dilutes a fault",
            "`per_token` fits this loss",
        ),
        (PairwiseEditedOnly | PairwiseEditedAnchored | Tlcr, PerTokenOverLength) => (
            "a reward of single edited tokens is divided by the length, so padding dilutes a fault",
            "`per_token` fits this loss",
        ),
        (_, PotentialDifference) => (
            "differences telescope to the last token's reward; only a state-like reward (`pairwise_mean`) \
             has the verdict on the whole response there",
            "`per_token` fits this loss",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pairs_that_fit_are_these() {
        use Credit::{EndOfSequence, PerToken, PerTokenOverLength, PotentialDifference};
        use TokenLoss::{PairwiseEditedAnchored, PairwiseEditedOnly, PairwiseMean, PairwiseSum, Tlcr};
        let losses = [PairwiseMean, PairwiseSum, PairwiseEditedOnly, PairwiseEditedAnchored, Tlcr];
        let credits = [PerToken, PerTokenOverLength, PotentialDifference, EndOfSequence];
        let fitting: Vec<_> = losses
            .into_iter()
            .flat_map(|loss| credits.map(|credit| (loss, credit)))
            .filter(|&(loss, credit)| misfit(loss, credit).is_none())
            .collect();
        let expected = vec![
            (PairwiseMean, PerTokenOverLength),
            (PairwiseMean, PotentialDifference),
            (PairwiseSum, PerToken),
            (PairwiseEditedAnchored, PerToken),
        ];
        assert_eq!(fitting, expected);
        let scores = credits.map(|credit| [false, true].map(|penalised| misfit_of_scores(credit, penalised).is_none()));
        assert_eq!(scores, [[false, true], [true, true], [false, false], [false, false]]);
        let spans = [0.0, 1.0].map(|clean| [false, true].map(|penalised| misfit_of_spans(clean, penalised).is_none()));
        assert_eq!(spans, [[true, true], [false, true]]);
    }
}

//! Rules on annotation: whether what variants learn from is asked of somebody who can give it, and how often.

use std::collections::BTreeSet;

use super::rules::{Verdict, text};
use super::{EditSource, PreferenceSource, Recipe};
use crate::data::Format;
use crate::data::world::FaultKind;
use crate::ppo::Credit;
use crate::reward::Kind;

/// Applies the rules to `recipe`.
pub fn judge(recipe: &Recipe, verdict: &mut Verdict) {
    credits(recipe, verdict);
    simulated(recipe, verdict);
    words(recipe, verdict);
    spans(recipe, verdict);
    rounds(recipe, verdict);
}

/// A reward that is paid once, or at certain places, has one credit.
fn credits(recipe: &Recipe, verdict: &mut Verdict) {
    for (i, variant) in recipe.variants.iter().enumerate() {
        let credit = format!("variants.{i}.credit");
        verdict.require(
            !matches!(variant.reward, Some(Kind::Sequence(_)))
                || variant.credit.is_none_or(|c| c == Credit::EndOfSequence),
            format!(
                "variant `{}`: a sequence reward has one score, so its credit must be `end_of_sequence`",
                variant.name
            ),
            &[
                (&credit, text("expected `end_of_sequence`")),
                (&format!("variants.{i}.reward.sequence"), text("one score a response")),
            ],
        );
        let is_spans = matches!(variant.reward, Some(Kind::Spans(_)));
        verdict.require(
            !is_spans || variant.credit.is_none_or(|credit| credit == Credit::SpanEnd),
            format!(
                "variant `{}`: a reward of spans stands at their ends, so its credit must be `span_end`",
                variant.name
            ),
            &[
                (&credit, text("expected `span_end`")),
                (&format!("variants.{i}.reward.spans"), text("one reward a span")),
            ],
        );
        verdict.require(
            is_spans || variant.credit != Some(Credit::SpanEnd),
            format!("variant `{}`: only a reward of spans knows where they end", variant.name),
            &[
                (&credit, text("expected another credit")),
                (&format!("variants.{i}.reward"), text("expected `spans` for this credit")),
            ],
        );
    }
}

/// A simulated editor repairs, and a simulated annotator marks, what was noticed when responses were compared.
fn simulated(recipe: &Recipe, verdict: &mut Verdict) {
    if let PreferenceSource::Llm(llm) = &recipe.preferences {
        let keys = [
            ("edits.simulated", text("repairs what a simulated annotator noticed")),
            ("preferences.llm", text("says what is better, not what is wrong")),
        ];
        let edits = matches!(recipe.edits, EditSource::Simulated(_));
        verdict.require(!edits, "`[edits.simulated]` needs `[preferences.simulated]`", &keys);
        let keys = [("preferences.llm.annotators", text("expected at least one annotator"))];
        verdict.require(!llm.annotators.is_empty(), "`preferences.llm.annotators` is empty", &keys);
    }
}

/// Whether a simulated annotator notices faults, which it can then mark and score.
fn notices(recipe: &Recipe) -> bool {
    recipe.dataset.format == Format::World && matches!(recipe.preferences, PreferenceSource::Simulated(_))
}

fn words(recipe: &Recipe, verdict: &mut Verdict) {
    let is_tppo = |kind: &Option<Kind>| matches!(kind, Some(Kind::Tppo(_)));
    for (i, variant) in recipe.variants.iter().enumerate() {
        verdict.require(
            !is_tppo(&variant.reward) || notices(recipe) || recipe.labels.llm_words.is_some(),
            format!("variant `{}`: `tppo` learns from word scores, and nobody gives any", variant.name),
            &[
                (&format!("variants.{i}.reward.tppo"), text("needs word scores")),
                ("preferences", text("a simulated annotator would give them; so does `[labels.llm_words]`")),
            ],
        );
    }
    if recipe.labels.llm_words.is_some() && !recipe.variants.iter().any(|variant| is_tppo(&variant.reward)) {
        let keys = [("labels.llm_words", text("no variant has a `tppo` reward"))];
        verdict.warn("nothing reads `[labels.llm_words]`", &keys);
    }
}

fn spans(recipe: &Recipe, verdict: &mut Verdict) {
    let wanted = recipe.variants.iter().position(|variant| matches!(variant.reward, Some(Kind::Spans(_))));
    let Some(spans) = &recipe.labels.spans else {
        if let Some(i) = wanted {
            let reward = format!("variants.{i}.reward.spans");
            let message = format!("variant `{}`: `spans` needs `[labels.spans]`", recipe.variants[i].name);
            verdict.require(false, message, &[(&reward, text("of which categories of errors?"))]);
        }
        return;
    };
    if wanted.is_none() {
        let keys = [("labels.spans", text("no variant has a `spans` reward"))];
        verdict.warn("nothing reads `[labels.spans]`", &keys);
    }
    verdict.require(
        recipe.dataset.format == Format::QaFeedback || notices(recipe),
        "`[labels.spans]` needs a dataset that comes with error spans, or a simulated annotator",
        &[("labels.spans", text("")), ("dataset.format", text("has no error spans by itself"))],
    );
    let keys = [("labels.spans.categories", text("expected at least one category"))];
    verdict.require(!spans.categories.is_empty(), "`labels.spans.categories` is empty", &keys);
    let mut seen = BTreeSet::new();
    for (i, category) in spans.categories.iter().enumerate() {
        let name = format!("labels.spans.categories.{i}.name");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        verdict.require(
            !category.name.is_empty() && category.name.chars().all(is_plain),
            format!("`{}` cannot name a category", category.name),
            &[(&name, text("expected letters, digits, `_` and `-` only: the name becomes part of labels"))],
        );
        let message = format!("two categories are named `{}`", category.name);
        verdict.require(seen.insert(&category.name), message, &[(&name, text("again here"))]);
        let errors = format!("labels.spans.categories.{i}.errors");
        let message = format!("category `{}` has no errors", category.name);
        verdict.require(!category.errors.is_empty(), message, &[(&errors, text("expected at least one kind"))]);
        for error in &category.errors {
            let known = recipe.dataset.format != Format::World || FaultKind::named(error).is_some();
            let kinds: Vec<String> = FaultKind::ALL.iter().map(|kind| format!("`{}`", kind.name())).collect();
            let message = format!("category `{}`: a world has no error `{error}`", category.name);
            verdict.require(known, message, &[(&errors, text(&format!("expected {}", kinds.join(", "))))]);
        }
    }
}

fn rounds(recipe: &Recipe, verdict: &mut Verdict) {
    let Some(rounds) = recipe.rounds else { return };
    let n = rounds.n.get();
    for (i, budget) in recipe.budgets.iter().enumerate() {
        verdict.require(
            budget.get().is_multiple_of(n),
            format!("a budget is shared equally by all rounds: {} / {n} is not a whole number", budget.get()),
            &[(&format!("budgets.{i}"), text("")), ("rounds.n", text(""))],
        );
    }
    let samples = !matches!(recipe.preferences, PreferenceSource::Dataset(_))
        && !matches!(recipe.edits, EditSource::Dataset(_) | EditSource::Chosen(_) | EditSource::Annotations(_));
    let keys = [
        ("rounds.n", text("a later round annotates what a policy says")),
        ("preferences", text("expected annotators that can be asked anew")),
        ("edits", text("")),
    ];
    verdict.require(n == 1 || samples, "annotations that come with a dataset cannot be collected in rounds", &keys);
}

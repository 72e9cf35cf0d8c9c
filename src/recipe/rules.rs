//! Rules across keys: what no single value can get wrong.
//!
//! Each rule names the keys concerned, the culprit first. Whether a token loss and a credit fit is left to `fit`.

use std::collections::BTreeSet;

use super::check::{Check, split};
use super::diagnostics::{Fault, Severity};
use super::{EditSource, PreferenceSource, Recipe};
use crate::data::Format;
use crate::{judge, model, ppo, reward, text};

/// A rule that does not hold: a message, and keys with what to say under them.
pub struct Broken {
    severity: Severity,
    message: String,
    keys: Vec<(String, String)>,
}

/// Collects rules that do not hold.
#[derive(Default)]
pub struct Verdict(Vec<Broken>);

impl Verdict {
    /// Notes an error unless `holds`.
    pub fn require(&mut self, holds: bool, message: impl Into<String>, keys: &[(&str, String)]) {
        if !holds {
            self.push(Severity::Error, message.into(), keys);
        }
    }

    /// Notes a warning.
    pub fn warn(&mut self, message: impl Into<String>, keys: &[(&str, String)]) {
        self.push(Severity::Warning, message.into(), keys);
    }

    fn push(&mut self, severity: Severity, message: String, keys: &[(&str, String)]) {
        let keys = keys.iter().map(|(key, label)| ((*key).to_owned(), label.clone())).collect();
        self.0.push(Broken { severity, message, keys });
    }

    /// Adds the faults to `check`, except those about values that are already known to be faulty.
    pub fn report(self, check: &mut Check<'_>) {
        for Broken { severity, message, keys } in self.0 {
            if keys.iter().any(|(key, _)| check.is_replaced(&split(key))) {
                continue;
            }
            let fault = match severity {
                Severity::Error => Fault::error(message),
                Severity::Warning => Fault::warning(message),
            };
            let places: Vec<_> = keys.iter().map(|(key, label)| (check.place(&split(key)), label)).collect();
            let marks = places.iter().filter_map(|(place, label)| check.sources().mark(&place.key, label.as_str()));
            let fault = fault.at(marks.collect::<Vec<_>>());
            if let Some((place, _)) = places.first() {
                check.add(place, fault);
            }
        }
    }
}

/// Applies every rule to `recipe`.
pub fn judge(recipe: &Recipe, verdict: &mut Verdict) {
    lists(recipe, verdict);
    variants(recipe, verdict);
    heads(&recipe.model, verdict);
    sources(recipe, verdict);
    ppo_steps(&recipe.ppo, verdict);
    optimizers(recipe, verdict);
    let confidence = recipe.evaluation.confidence.get();
    verdict.require(
        confidence > 0.0 && confidence < 1.0,
        "`confidence` in `[evaluation]` must lie strictly between 0 and 1",
        &[("evaluation.confidence", format!("found {confidence}"))],
    );
    if let text::Config::ByteLevelBpe(bpe) = &recipe.tokenizer {
        verdict.require(
            bpe.vocab_size.get() >= 260,
            "a byte-level vocabulary has at least 260 ids: 256 bytes and the special tokens",
            &[("tokenizer.byte_level_bpe.vocab_size", format!("found {}", bpe.vocab_size.get()))],
        );
    }
}

fn lists(recipe: &Recipe, verdict: &mut Verdict) {
    let empty = |key: &'static str, what: &str| (format!("`{key}` is empty"), [(key, format!("expected at least one {what}"))]);
    let (message, keys) = empty("seeds", "seed");
    verdict.require(!recipe.seeds.is_empty(), message, &keys);
    let (message, keys) = empty("budgets", "budget");
    verdict.require(!recipe.budgets.is_empty(), message, &keys);
    let (message, keys) = empty("variants", "variant");
    verdict.require(!recipe.variants.is_empty(), message, &keys);
    let budgets: Vec<u64> = recipe.budgets.iter().map(|budget| budget.get() as u64).collect();
    for (key, values) in [("seeds", &recipe.seeds), ("budgets", &budgets)] {
        let mut seen = BTreeSet::new();
        for (i, value) in values.iter().enumerate() {
            let entry = format!("{key}.{i}");
            let message = format!("`{key}` names {value} twice: the same run would count twice");
            verdict.require(seen.insert(*value), message, &[(&entry, "already in the list".to_owned())]);
        }
    }
    let prompts = recipe.dataset.train_prompts.get() as u64;
    for (i, budget) in budgets.iter().enumerate() {
        verdict.require(
            *budget <= prompts,
            format!("a budget of {budget} annotated prompts needs at least as many `train_prompts`, found {prompts}"),
            &[(&format!("budgets.{i}"), String::new()), ("dataset.train_prompts", format!("only {prompts}"))],
        );
    }
}

fn variants(recipe: &Recipe, verdict: &mut Verdict) {
    for (i, variant) in recipe.variants.iter().enumerate() {
        let name = format!("variants.{i}.name");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        verdict.require(
            !variant.name.is_empty() && variant.name.chars().all(is_plain),
            format!("`{}` cannot name a variant", variant.name),
            &[(&name, "expected letters, digits, `_` and `-` only: the name becomes part of file names".to_owned())],
        );
        if let Some(first) = recipe.variants[..i].iter().position(|other| other.name == variant.name) {
            let first = format!("variants.{first}.name");
            let keys = [(name.as_str(), "again here".to_owned()), (first.as_str(), "first here".to_owned())];
            verdict.require(false, format!("two variants are named `{}`", variant.name), &keys);
        }
        verdict.require(
            !matches!(variant.reward, reward::Kind::Sequence(_)) || variant.credit == ppo::Credit::EndOfSequence,
            format!("variant `{}`: a sequence reward has one score, so its credit must be `end_of_sequence`", variant.name),
            &[
                (&format!("variants.{i}.credit"), "expected `end_of_sequence`".to_owned()),
                (&format!("variants.{i}.reward.sequence"), "one score a response".to_owned()),
            ],
        );
    }
}

fn heads(model: &model::Config, verdict: &mut Verdict) {
    let (hidden, heads) = (model.hidden_size.get(), model.num_attention_heads.get());
    let groups = model.num_key_value_heads.get();
    let hidden_key = ("model.hidden_size", hidden.to_string());
    verdict.require(
        hidden.is_multiple_of(heads),
        format!("`num_attention_heads` must divide `hidden_size`: {hidden} / {heads} is not a whole number"),
        &[("model.num_attention_heads", heads.to_string()), hidden_key.clone()],
    );
    verdict.require(
        heads.is_multiple_of(groups),
        format!("`num_key_value_heads` must divide `num_attention_heads`: {heads} / {groups} is not a whole number"),
        &[("model.num_key_value_heads", groups.to_string()), ("model.num_attention_heads", heads.to_string())],
    );
    verdict.require(
        !hidden.is_multiple_of(heads) || (hidden / heads).is_multiple_of(2),
        format!("the size of a head must be even (rotary embedding turns pairs), found {hidden} / {heads} = {}", hidden / heads),
        &[hidden_key, ("model.num_attention_heads", heads.to_string())],
    );
}

/// Annotators and judges that look at facts need a world; what comes with a dataset does not come with a world.
fn sources(recipe: &Recipe, verdict: &mut Verdict) {
    let is_world = recipe.dataset.format == Format::World;
    let oracle = matches!(recipe.judge, judge::Config::Oracle(_));
    let (preferences, edits) = (&recipe.preferences, &recipe.edits);
    let uses = [
        ("preferences.simulated", matches!(preferences, PreferenceSource::Simulated(_)), true),
        ("preferences.dataset", matches!(preferences, PreferenceSource::Dataset(_)), false),
        ("edits.simulated", matches!(edits, EditSource::Simulated(_)), true),
        ("edits.dataset", matches!(edits, EditSource::Dataset(_)), false),
        ("judge.oracle", oracle, true),
    ];
    for (key, used, needs_world) in uses {
        let (message, label) = if needs_world {
            (format!("`[{key}]` needs a simulated world, which knows the facts"), "this dataset is not a world")
        } else {
            let what = key.trim_end_matches(".dataset");
            (format!("`[{key}]` needs a dataset that comes with {what}"), "a world comes with none: simulate them")
        };
        let keys = [(key, String::new()), ("dataset.format", label.to_owned())];
        verdict.require(!used || is_world == needs_world, message, &keys);
    }
}

fn ppo_steps(ppo: &ppo::Config, verdict: &mut Verdict) {
    let (steps, batch, minibatches) = (ppo.steps.get(), ppo.batch_size.get(), ppo.minibatches.get());
    let steps_key = ("ppo.steps", steps.to_string());
    verdict.require(
        batch.is_multiple_of(minibatches),
        format!("`minibatches` must divide `batch_size`: {batch} / {minibatches} is not a whole number"),
        &[("ppo.minibatches", minibatches.to_string()), ("ppo.batch_size", batch.to_string())],
    );
    verdict.require(
        ppo.eval_every.get() <= steps,
        format!("`eval_every` is beyond the last step: found {}, `steps` is {steps}", ppo.eval_every.get()),
        &[("ppo.eval_every", ppo.eval_every.get().to_string()), steps_key.clone()],
    );
    verdict.require(
        ppo.value_warmup_steps < steps,
        format!(
            "`value_warmup_steps` leaves the policy no step: found {}, `steps` is {steps}",
            ppo.value_warmup_steps
        ),
        &[("ppo.value_warmup_steps", ppo.value_warmup_steps.to_string()), steps_key],
    );
    let (low, high) = (ppo.watch.min_length_ratio.get(), ppo.watch.max_length_ratio.get());
    verdict.require(
        low < high,
        format!("`min_length_ratio` must be below `max_length_ratio`, found {low} and {high}"),
        &[("ppo.watch.min_length_ratio", low.to_string()), ("ppo.watch.max_length_ratio", high.to_string())],
    );
}

fn optimizers(recipe: &Recipe, verdict: &mut Verdict) {
    let tables = [
        ("sft.optimizer", &recipe.sft.optimizer, Some(("sft.steps", recipe.sft.steps.get()))),
        ("reward.optimizer", &recipe.reward.optimizer, None),
        ("ppo.policy_optimizer", &recipe.ppo.policy_optimizer, Some(("ppo.steps", recipe.ppo.steps.get()))),
        ("ppo.value_optimizer", &recipe.ppo.value_optimizer, Some(("ppo.steps", recipe.ppo.steps.get()))),
    ];
    for (table, optimizer, steps) in tables {
        for (key, beta) in [("beta1", optimizer.beta1.get()), ("beta2", optimizer.beta2.get())] {
            verdict.require(
                beta < 1.0,
                format!("`{key}` in `[{table}]` must be below 1, found {beta}: a moment that never decays is never corrected"),
                &[(&format!("{table}.{key}"), "expected a number of at least 0 and below 1".to_owned())],
            );
        }
        if let Some((steps_key, steps)) = steps {
            let warmup = optimizer.warmup_steps;
            verdict.require(
                warmup < steps,
                format!("`warmup_steps` in `[{table}]` never ends: found {warmup}, `{steps_key}` is {steps}"),
                &[(&format!("{table}.warmup_steps"), warmup.to_string()), (steps_key, steps.to_string())],
            );
        }
    }
}

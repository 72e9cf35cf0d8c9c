//! Rules across keys: what no single value can get wrong.
//!
//! Each rule names the keys concerned, the culprit first. Whether a token loss and a credit fit is left to `fit`.

use std::collections::BTreeSet;

use super::check::{Check, split};
use super::diagnostics::{Fault, Severity};
use super::{EditSource, PreferenceSource, Recipe, Variant, annotation, devices, variant};
use crate::data::Format;
use crate::data::records::Layout;
use crate::model::Architecture;
use crate::model::flops::weights;
use crate::reward::Kind;
use crate::{model, ppo, text as tokens};

/// What to say under a key.
#[derive(Clone, Debug)]
pub enum Note {
    /// A few words; none leaves the mark bare.
    Text(String),
    /// Its value: said only where the key is not written and the default counts.
    Value(f64),
}

impl Note {
    fn label(&self, key: &str, is_written: bool) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Value(_) if is_written => String::new(),
            Self::Value(value) => format!("`{}` is {value} by default", key.rsplit('.').next().unwrap_or(key)),
        }
    }
}

/// A rule that does not hold: a message, and keys with what to say under them.
struct Broken {
    severity: Severity,
    message: String,
    keys: Vec<(String, Note)>,
}

/// Collects rules that do not hold.
#[derive(Default)]
pub struct Verdict(Vec<Broken>);

impl Verdict {
    /// Notes an error unless `holds`.
    pub fn require(&mut self, holds: bool, message: impl Into<String>, keys: &[(&str, Note)]) {
        if !holds {
            self.push(Severity::Error, message.into(), keys);
        }
    }

    /// Notes a warning.
    pub fn warn(&mut self, message: impl Into<String>, keys: &[(&str, Note)]) {
        self.push(Severity::Warning, message.into(), keys);
    }

    fn push(&mut self, severity: Severity, message: String, keys: &[(&str, Note)]) {
        let keys = keys.iter().map(|(key, note)| ((*key).to_owned(), note.clone())).collect();
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
            let marks = keys.iter().filter_map(|(key, note)| {
                let path = split(key);
                check.sources().mark(&check.place(&path).key, note.label(key, check.is_written(&path)))
            });
            let fault = fault.at(marks.collect::<Vec<_>>());
            if let Some((key, _)) = keys.first() {
                let place = check.place(&split(key));
                check.add(&place, fault);
            }
        }
    }
}

/// Applies every rule to `recipe`.
pub fn judge(recipe: &Recipe, verdict: &mut Verdict) {
    lists(recipe, verdict);
    devices::judge(recipe, verdict);
    variants(recipe, verdict);
    variant::judge(recipe, verdict);
    if let Some(model) = &recipe.model {
        heads(model, verdict);
        size(model, verdict);
    }
    origin(recipe, verdict);
    prompts(recipe, verdict);
    sources(recipe, verdict);
    annotation::judge(recipe, verdict);
    judges(recipe, verdict);
    ppo_steps(&recipe.ppo, verdict);
    optimizers(recipe, verdict);
    let confidence = recipe.evaluation.confidence.get();
    verdict.require(
        confidence > 0.0 && confidence < 1.0,
        format!("`confidence` in `[evaluation]` must lie strictly between 0 and 1, found {confidence}"),
        &[("evaluation.confidence", Note::Value(confidence))],
    );
    if let tokens::Config::ByteLevelBpe(bpe) = &recipe.tokenizer {
        verdict.require(
            bpe.vocab_size.get() >= 260,
            format!(
                "a byte-level vocabulary has at least 260 ids (256 bytes and the special tokens), found {}",
                bpe.vocab_size.get()
            ),
            &[("tokenizer.byte_level_bpe.vocab_size", number(bpe.vocab_size.get()))],
        );
    }
}

/// A few words under a key.
pub fn text(words: &str) -> Note {
    Note::Text(words.to_owned())
}

fn number(n: usize) -> Note {
    Note::Value(n as f64)
}

fn lists(recipe: &Recipe, verdict: &mut Verdict) {
    let empty = |key: &'static str, what: &str| {
        (format!("`{key}` is empty"), [(key, text(&format!("expected at least one {what}")))])
    };
    let (message, keys) = empty("seeds", "seed");
    verdict.require(!recipe.seeds.is_empty(), message, &keys);
    let (message, keys) = empty("budgets", "budget");
    verdict.require(!recipe.budgets.is_empty(), message, &keys);
    let (message, keys) = empty("variants", "variant");
    verdict.require(!recipe.variants.is_empty(), message, &keys);
    let (message, keys) = empty("ppo.kl_coef", "coefficient");
    verdict.require(!recipe.ppo.kl_coef.values().is_empty(), message, &keys);
    let budgets: Vec<u64> = recipe.budgets.iter().map(|budget| budget.get() as u64).collect();
    for (key, values) in [("seeds", &recipe.seeds), ("budgets", &budgets)] {
        let mut seen = BTreeSet::new();
        for (i, value) in values.iter().enumerate() {
            let entry = format!("{key}.{i}");
            let message = format!("`{key}` names {value} twice: the same run would count twice");
            verdict.require(seen.insert(*value), message, &[(&entry, text("already in the list"))]);
        }
    }
    let prompts = recipe.dataset.train_prompts.get() as u64;
    for (i, budget) in budgets.iter().enumerate() {
        verdict.require(
            *budget <= prompts,
            format!("a budget of {budget} annotated prompts needs at least as many `train_prompts`, found {prompts}"),
            &[
                (&format!("budgets.{i}"), text("")),
                ("dataset.train_prompts", Note::Value(recipe.dataset.train_prompts.get() as f64)),
            ],
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
            &[(&name, text("expected letters, digits, `_` and `-` only: the name becomes part of file names"))],
        );
        if let Some(first) = recipe.variants[..i].iter().position(|other| other.name == variant.name) {
            let first = format!("variants.{first}.name");
            let keys = [(name.as_str(), text("again here")), (first.as_str(), text("first here"))];
            verdict.require(false, format!("two variants are named `{}`", variant.name), &keys);
        }
    }
}

fn heads(model: &model::Config, verdict: &mut Verdict) {
    let (hidden, heads) = (model.hidden_size.get(), model.num_attention_heads.get());
    let groups = model.num_key_value_heads.get();
    let hidden_key = ("model.hidden_size", number(hidden));
    verdict.require(
        hidden.is_multiple_of(heads),
        format!("`num_attention_heads` must divide `hidden_size`: {hidden} / {heads} is not a whole number"),
        &[("model.num_attention_heads", number(heads)), hidden_key.clone()],
    );
    verdict.require(
        heads.is_multiple_of(groups),
        format!("`num_key_value_heads` must divide `num_attention_heads`: {heads} / {groups} is not a whole number"),
        &[("model.num_key_value_heads", number(groups)), ("model.num_attention_heads", number(heads))],
    );
    verdict.require(
        !hidden.is_multiple_of(heads) || (hidden / heads).is_multiple_of(2),
        format!(
            "the size of a head must be even (rotary embedding turns pairs), found {hidden} / {heads} = {}",
            hidden / heads
        ),
        &[hidden_key, ("model.num_attention_heads", number(heads))],
    );
}

/// More than any model has: a slip of the keyboard, which would end where memory does.
const MOST_LAYERS: usize = 10_000;
const MOST_WEIGHTS: f64 = 1e12;

fn size(model: &model::Config, verdict: &mut Verdict) {
    let layers = model.num_hidden_layers.get();
    let message = format!("expected a model of at most {MOST_LAYERS} layers, found {layers}");
    verdict.require(layers <= MOST_LAYERS, message, &[("model.num_hidden_layers", number(layers))]);
    let (hidden, inner) = (model.hidden_size.get(), model.intermediate_size.get());
    let layers = layers.min(MOST_LAYERS);
    // Embeddings and head are left out: the tokenizer is yet to be made.
    let weights = weights(&Architecture { num_hidden_layers: layers, ..Architecture::from(model) }, 0, 0);
    verdict.require(
        weights <= MOST_WEIGHTS,
        format!("expected a model of at most {MOST_WEIGHTS:e} weights, found {weights:.1e} in its layers"),
        &[("model.hidden_size", number(hidden)), ("model.intermediate_size", number(inner))],
    );
}

/// A network is made anew or comes from one checkpoint, with its tokenizer.
fn origin(recipe: &Recipe, verdict: &mut Verdict) {
    let own = matches!(recipe.tokenizer, tokens::Config::Policy(_));
    let Some(start) = &recipe.policy else {
        verdict.require(
            recipe.model.is_some(),
            "expected `[model]` or `[policy]`, found neither",
            &[("model", text(""))],
        );
        let keys = [("tokenizer.policy", text("there is no `[policy]` whose tokenizer this could be"))];
        verdict.require(!own, "`[tokenizer.policy]` needs a `[policy]`", &keys);
        return;
    };
    let keys = [("model", text("made anew")), ("policy", text("starts from a checkpoint"))];
    verdict.require(recipe.model.is_none(), "expected one of `[model]` and `[policy]`, found both", &keys);
    let one = start.path.is_some() != start.hub.is_some();
    verdict.require(one, "expected one of `path` and `hub` in `[policy]`", &[("policy", text("one of the two"))]);
    let keys = [("policy.revision", text("of which repository?"))];
    verdict.require(start.revision.is_none() || start.hub.is_some(), "`revision` needs `hub`", &keys);
    let keys = [("tokenizer", text("expected `[tokenizer.policy]`")), ("policy", text("has a tokenizer of its own"))];
    verdict.require(own, "a checkpoint is read with its own tokenizer", &keys);
}

/// Templates are for rows of files, chat templates come with checkpoints, repositories hold rows.
fn prompts(recipe: &Recipe, verdict: &mut Verdict) {
    let records = recipe.dataset.format == Format::Records;
    let keys = [("prompt", text("")), ("dataset.format", text("expected `records`"))];
    verdict.require(records || recipe.prompt.is_default(), "`[prompt]` needs rows of files", &keys);
    let keys = [("prompt.chat", text("whose chat template?"))];
    verdict.require(!recipe.prompt.chat || recipe.policy.is_some(), "`prompt.chat` needs a `[policy]`", &keys);
    let keys = [("dataset.hub", text("")), ("dataset.format", text("expected `records`"))];
    verdict.require(records || recipe.dataset.hub.is_none(), "a repository of the hub holds rows of files", &keys);
    let keys = [("dataset.revision", text("of which repository?"))];
    let one = recipe.dataset.revision.is_none() || recipe.dataset.hub.is_some();
    verdict.require(one, "`revision` needs `hub`", &keys);
}

/// Annotators and judges that look at facts need a world; what comes with a dataset does not come with a world.
fn sources(recipe: &Recipe, verdict: &mut Verdict) {
    let is_world = recipe.dataset.format == Format::World;
    let oracle = recipe.judge.oracle.is_some();
    let (preferences, edits) = (&recipe.preferences, &recipe.edits);
    let uses = [
        ("preferences.simulated", matches!(preferences, PreferenceSource::Simulated(_)), true),
        ("preferences.dataset", matches!(preferences, PreferenceSource::Dataset(_)), false),
        ("edits.simulated", matches!(edits, EditSource::Simulated(_)), true),
        ("edits.dataset", matches!(edits, EditSource::Dataset(_)), false),
        ("judge.oracle", oracle, true),
    ];
    let layout = recipe.dataset.records.as_ref().map_or(Layout::Auto, |records| records.layout);
    if recipe.dataset.format == Format::Records {
        for (key, used, provides) in [
            ("preferences.dataset", matches!(preferences, PreferenceSource::Dataset(_)), layout.has_pairs()),
            ("edits.dataset", matches!(edits, EditSource::Dataset(_)), layout.has_edits()),
        ] {
            let what = key.trim_end_matches(".dataset");
            let keys = [(key, text("")), ("dataset.records.layout", text("rows of this layout have none"))];
            verdict.require(!used || provides, format!("`[{key}]` needs rows that come with {what}"), &keys);
        }
    }
    for (key, used, needs_world) in uses {
        let (message, label) = if needs_world {
            (format!("`[{key}]` needs a simulated world, which knows the facts"), "this dataset is not a world")
        } else {
            let what = key.trim_end_matches(".dataset");
            (format!("`[{key}]` needs a dataset that comes with {what}"), "a world comes with none: simulate them")
        };
        let keys = [(key, text("")), ("dataset.format", text(label))];
        verdict.require(!used || is_world == needs_world, message, &keys);
    }
}

/// One judge is the primary one, and it can be asked about validation prompts where something is to be chosen by it.
fn judges(recipe: &Recipe, verdict: &mut Verdict) {
    let names: Vec<String> = recipe.judge.judges().iter().map(|judge| format!("`{}`", judge.name().text())).collect();
    let known = names.join(", ");
    let Some(primary) = recipe.judge.primary() else {
        let (message, label, key) = match recipe.judge.primary {
            None if names.is_empty() => {
                ("`[judge]` names no judge".to_owned(), "expected at least one".to_owned(), "judge")
            }
            None => {
                let label = format!("expected `primary`, one of {known}");
                ("`[judge]` has several judges and does not say on which results rest".to_owned(), label, "judge")
            }
            Some(name) => {
                let message = format!("the primary judge is `{}`, which `[judge]` does not have", name.text());
                (message, format!("expected one of {known}"), "judge.primary")
            }
        };
        verdict.require(false, message, &[(key, Note::Text(label))]);
        return;
    };
    if let Some(model) = &recipe.judge.reward_model {
        let fits = matches!(model.kind, Kind::Sequence(_) | Kind::Token(_));
        let message = "`[judge.reward_model]` is a sequence or a token reward model";
        verdict.require(fits, message, &[("judge.reward_model.kind", text("expected `sequence` or `token`"))]);
    }
    let name = primary.name().text();
    let chosen = |(i, variant): (usize, &Variant)| {
        let several = variant.coefficients(&recipe.ppo).len() > 1;
        several.then(|| if variant.dpo.is_some() { format!("variants.{i}.dpo.beta") } else { "ppo.kl_coef".to_owned() })
    };
    let grid = recipe.variants.iter().enumerate().find_map(chosen);
    verdict.require(
        primary.can_be_asked() || grid.is_none(),
        format!("`[judge.{name}]` knows no validation prompts, on which KL coefficients are chosen"),
        &[
            (&format!("judge.{name}"), text("as a further judge, or with one coefficient, it fits")),
            (&grid.unwrap_or_default(), text("a list to choose from")),
        ],
    );
}

fn ppo_steps(ppo: &ppo::Config, verdict: &mut Verdict) {
    let (steps, batch, minibatches) = (ppo.steps.get(), ppo.batch_size.get(), ppo.minibatches.get());
    let steps_key = ("ppo.steps", number(steps));
    verdict.require(
        batch.is_multiple_of(minibatches),
        format!("`minibatches` must divide `batch_size`: {batch} / {minibatches} is not a whole number"),
        &[("ppo.minibatches", number(minibatches)), ("ppo.batch_size", number(batch))],
    );
    verdict.require(
        ppo.eval_every.get() <= steps,
        format!("`eval_every` is beyond the last step: found {}, `steps` is {steps}", ppo.eval_every.get()),
        &[("ppo.eval_every", number(ppo.eval_every.get())), steps_key.clone()],
    );
    verdict.require(
        ppo.value_warmup_steps < steps,
        format!("`value_warmup_steps` leaves the policy no step: found {}, `steps` is {steps}", ppo.value_warmup_steps),
        &[("ppo.value_warmup_steps", number(ppo.value_warmup_steps)), steps_key],
    );
    let (low, high) = (ppo.watch.min_length_ratio.get(), ppo.watch.max_length_ratio.get());
    verdict.require(
        low < high,
        format!("`min_length_ratio` must be below `max_length_ratio`, found {low} and {high}"),
        &[("ppo.watch.min_length_ratio", Note::Value(low)), ("ppo.watch.max_length_ratio", Note::Value(high))],
    );
}

fn optimizers<'a>(recipe: &'a Recipe, verdict: &mut Verdict) {
    let dpo = |(i, variant): (usize, &'a Variant)| {
        Some((format!("variants.{i}.dpo.optimizer"), &variant.dpo.as_ref()?.optimizer, None))
    };
    let tables = [
        ("sft.optimizer", &recipe.sft.optimizer, Some(("sft.steps", recipe.sft.steps.get()))),
        ("reward.optimizer", &recipe.reward.optimizer, None),
        ("ppo.policy_optimizer", &recipe.ppo.policy_optimizer, Some(("ppo.steps", recipe.ppo.steps.get()))),
        ("ppo.value_optimizer", &recipe.ppo.value_optimizer, Some(("ppo.steps", recipe.ppo.steps.get()))),
    ];
    let tables = tables.map(|(table, optimizer, steps)| (table.to_owned(), optimizer, steps));
    let dpo = recipe.variants.iter().enumerate().filter_map(dpo);
    for (table, optimizer, steps) in tables.into_iter().chain(dpo) {
        for (key, beta) in [("beta1", optimizer.beta1.get()), ("beta2", optimizer.beta2.get())] {
            verdict.require(
                beta < 1.0,
                format!("`{key}` in `[{table}]` must be below 1, found {beta}: a moment that never decays is never corrected"),
                &[(&format!("{table}.{key}"), text("expected a number of at least 0 and below 1"))],
            );
        }
        if let Some((steps_key, steps)) = steps {
            let warmup = optimizer.warmup_steps;
            verdict.require(
                warmup < steps,
                format!("`warmup_steps` in `[{table}]` never ends: found {warmup}, `{steps_key}` is {steps}"),
                &[(&format!("{table}.warmup_steps"), number(warmup)), (steps_key, number(steps))],
            );
        }
    }
}

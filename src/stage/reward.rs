//! Stage `reward`: a reward model, and what it can tell apart on held-out data.

mod distribution;
mod probe;

use std::collections::BTreeMap;

use anyhow::Result;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(super) use self::probe::SINGLE_FAULT_PAIRS;
use self::probe::{Probe, pair_accuracy};
use super::data::world;
use super::execute::Inputs;
use super::policy::{MODEL, Setting, dataset, seed};
use super::spans::SEGMENTS;
use super::training::Recorder;
use crate::data::{Preference, Response};
use crate::eval::Bin;
use crate::labels::scores::ScoredTokens;
use crate::labels::spans::{MarkedTokens, Segments};
use crate::labels::{LabelledEdit, response_ids};
use crate::model::Model;
use crate::report::{BestOfN, ScoreDistribution, TokenQuality};
use crate::reward::pairs::{Comparison, Side};
use crate::reward::score::RewardModel;
use crate::reward::spans::Marked;
use crate::reward::train::{Examples, Task, train};
use crate::reward::words::Scored;
use crate::reward::{self, Kind, PairSource};
use crate::store::{Artefact, Workspace};
use crate::text::Tokenizer;

pub(super) const VERSION: u32 = 6;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) reward: reward::Config,
    pub(super) kind: Kind,
    pub(super) seed: u64,
    pub(super) setting: Setting,
    /// Whether it learns from the held-out annotations instead: a judge's model, which no variant may be trained on.
    #[serde(default)]
    pub(super) held_out: bool,
}

/// What a reward model can tell apart on annotations that it has not seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Evaluation {
    pub(super) preference_accuracy: Option<f64>,
    pub(super) edit_accuracy: Option<f64>,
    /// Preference pairs and edits that these are shares of.
    pub(super) held_out: [usize; 2],
    pub(super) single_fault_accuracy: BTreeMap<String, f64>,
    pub(super) token_auc: Option<f64>,
    pub(super) edited_tokens: Option<TokenQuality>,
    pub(super) error_spans: Option<TokenQuality>,
    pub(super) preference_reliability: Vec<Bin>,
    pub(super) preference_calibration_error: Option<f64>,
    pub(super) distributions: Vec<ScoreDistribution>,
    /// Against labels of the kind that it was trained on, where these are no edits.
    #[serde(default)]
    pub(super) annotated: Option<TokenQuality>,
    pub(super) best_of_n: Vec<BestOfN>,
    pub(super) pairs: usize,
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace, recorder: &Recorder) -> Result<()> {
    let setting = &config.setting;
    let tokenizer = setting.tokenizer(inputs)?;
    let lessons = Lessons::of(config, inputs, &tokenizer)?;
    let test_file = if config.held_out { "preferences.jsonl" } else { "held_out.jsonl" };
    let trunk = setting.model(inputs.artefact("reference")?)?;
    let trunk = match setting.model.lora()? {
        Some(lora) => trunk.adapt(&lora, seed(config.seed, "reward adapters")),
        None => trunk,
    };
    let task = Task {
        config: &config.reward,
        kind: &config.kind,
        examples: lessons.examples(),
        pad: tokenizer.pad(),
        seed: seed(config.seed, "reward"),
        shards: setting.cut(),
    };
    let crew = setting.crew();
    let mut model = crew.install(|| train(&trunk, &task, &crew, &recorder.emitter(), recorder))?;
    recorder.finish(workspace)?;
    if let Kind::Spans(_) = config.kind {
        model.segments = inputs.artefact("spans")?.read_json(SEGMENTS)?;
        workspace.write_json(SEGMENTS, &model.segments)?;
    }
    let own = Lessons::held_out(config, inputs, &tokenizer)?;
    let preferences = preference_pairs(&inputs.artefact("preferences")?.read_jsonl(test_file)?, &tokenizer, setting);
    let edits: Vec<LabelledEdit> =
        if config.held_out { Vec::new() } else { inputs.artefact("labels")?.read_jsonl("held_out.jsonl")? };
    let world = world(inputs)?;
    let samples: Vec<Vec<Response>> = inputs.artefact("reference_responses")?.read_jsonl("best_of.jsonl")?;
    let prompts = dataset(inputs)?.validation;
    let probe = Probe { model: &model, tokenizer: &tokenizer, setting, crew: &crew };
    let evaluation = crew.install(|| {
        let edited_tokens = probe.edited_tokens(&edits);
        let pairs_of_edits = edit_pairs(&edits, &tokenizer, setting);
        let (of_preferences, of_edits) = (probe.scores(&preferences), probe.scores(&pairs_of_edits));
        let (preference_reliability, preference_calibration_error) = probe.preference_reliability(&of_preferences);
        Evaluation {
            preference_accuracy: pair_accuracy(&of_preferences),
            edit_accuracy: pair_accuracy(&of_edits),
            preference_reliability,
            preference_calibration_error,
            distributions: probe.distributions(of_preferences, of_edits, &edits),
            held_out: [preferences.len(), edits.len()],
            single_fault_accuracy: world.as_ref().map(|world| probe.single_faults(world)).unwrap_or_default(),
            token_auc: edited_tokens.as_ref().map(|tokens| tokens.auc),
            edited_tokens,
            error_spans: probe.error_spans(&edits),
            annotated: probe.annotated(own.examples()),
            best_of_n: world.as_ref().map(|world| probe.best_of_n(world, &prompts, &samples)).unwrap_or_default(),
            pairs: lessons.len(),
        }
    });
    workspace.write_json("evaluation.json", &evaluation)?;
    Ok(workspace.write_bytes(MODEL, &model.model.to_bytes())?)
}

/// The model that this stage stored, on `reference` where it is stored as adapters.
pub(super) fn load(artefact: &Artefact, setting: &Setting, reference: Option<&Model>) -> Result<RewardModel> {
    let kind: Kind = serde_json::from_value(artefact.manifest.config["kind"].clone())?;
    let segments: Option<Segments> =
        artefact.manifest.files.contains_key(SEGMENTS).then(|| artefact.read_json(SEGMENTS)).transpose()?;
    let network = setting.headed(artefact, MODEL, kind.outputs(), reference)?;
    let model = RewardModel::new(kind, network);
    Ok(RewardModel { segments: segments.unwrap_or_default(), ..model })
}

/// What a reward model learns from, or would have.
enum Lessons {
    Pairs(Vec<Comparison>),
    Scored(Vec<Scored>),
    Marked(Vec<Marked>),
}

impl Lessons {
    /// Of all rounds of annotation.
    fn of(config: &Config, inputs: &Inputs, tokenizer: &Tokenizer) -> Result<Self> {
        let (preferences, edits) =
            if config.held_out { ("held_out.jsonl", "held_out.jsonl") } else { ("preferences.jsonl", "labels.jsonl") };
        let setting = &config.setting;
        Ok(match &config.kind {
            Kind::Sequence(sequence) if sequence.data == PairSource::Preferences => {
                Self::Pairs(preference_pairs(&rounds(inputs, "preferences", preferences)?, tokenizer, setting))
            }
            Kind::Sequence(_) | Kind::Token(_) => {
                Self::Pairs(edit_pairs(&rounds(inputs, "labels", edits)?, tokenizer, setting))
            }
            Kind::Tppo(_) => Self::Scored(scored(rounds(inputs, "words", "words.jsonl")?, tokenizer, setting)),
            Kind::Spans(_) => Self::Marked(marked(rounds(inputs, "spans", "spans.jsonl")?, tokenizer, setting)),
        })
    }

    /// Held-out labels of its own kind, where these are no edits: how edits are told apart is asked of all alike.
    fn held_out(config: &Config, inputs: &Inputs, tokenizer: &Tokenizer) -> Result<Self> {
        let (setting, file) = (&config.setting, "held_out.jsonl");
        Ok(match &config.kind {
            Kind::Sequence(_) | Kind::Token(_) => Self::Pairs(Vec::new()),
            Kind::Tppo(_) => Self::Scored(scored(inputs.artefact("words")?.read_jsonl(file)?, tokenizer, setting)),
            Kind::Spans(_) => Self::Marked(marked(inputs.artefact("spans")?.read_jsonl(file)?, tokenizer, setting)),
        })
    }

    fn examples(&self) -> Examples<'_> {
        match self {
            Self::Pairs(pairs) => Examples::Pairs(pairs),
            Self::Scored(rows) => Examples::Scored(rows),
            Self::Marked(rows) => Examples::Marked(rows),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Pairs(pairs) => pairs.len(),
            Self::Scored(rows) => rows.len(),
            Self::Marked(rows) => rows.len(),
        }
    }
}

/// The rows of `file` in the input `role` and, of later rounds, in `role.2`, `role.3`, ...
fn rounds<T: DeserializeOwned>(inputs: &Inputs, role: &str, file: &str) -> Result<Vec<T>> {
    let mut rows = inputs.artefact(role)?.read_jsonl(file)?;
    for (_, artefact) in inputs.artefacts(&format!("{role}.")) {
        rows.extend(artefact.read_jsonl::<T>(file)?);
    }
    Ok(rows)
}

fn scored(rows: Vec<ScoredTokens>, tokenizer: &Tokenizer, setting: &Setting) -> Vec<Scored> {
    let row = |row: ScoredTokens| Scored {
        prompt: tokenizer.encode_prompt(&row.prompt.text, setting.max_prompt_tokens),
        ids: row.ids,
        scores: row.scores,
        sentence: row.sentence,
    };
    rows.into_iter().map(row).collect()
}

fn marked(rows: Vec<MarkedTokens>, tokenizer: &Tokenizer, setting: &Setting) -> Vec<Marked> {
    let row = |row: MarkedTokens| Marked {
        prompt: tokenizer.encode_prompt(&row.prompt.text, setting.max_prompt_tokens),
        ids: row.ids,
        spans: row.spans,
    };
    rows.into_iter().map(row).collect()
}

/// Preferences as pairs of ids, cut at the limit.
pub(super) fn preference_pairs(
    preferences: &[Preference],
    tokenizer: &Tokenizer,
    setting: &Setting,
) -> Vec<Comparison> {
    let side = |response| {
        let mut ids = response_ids(response, tokenizer);
        ids.truncate(setting.max_response_tokens);
        Side { ids, labels: Vec::new() }
    };
    let pairs = preferences.iter().map(|preference| Comparison {
        prompt: tokenizer.encode_prompt(&preference.prompt.text, setting.max_prompt_tokens),
        chosen: side(&preference.chosen),
        rejected: side(&preference.rejected),
    });
    pairs.filter(|pair| pair.chosen.ids != pair.rejected.ids).collect()
}

/// Edits as pairs of ids, the edited side preferred.
pub(super) fn edit_pairs(edits: &[LabelledEdit], tokenizer: &Tokenizer, setting: &Setting) -> Vec<Comparison> {
    let pair = |edit: &LabelledEdit| Comparison {
        prompt: tokenizer.encode_prompt(&edit.prompt.text, setting.max_prompt_tokens),
        chosen: Side { ids: edit.edited_ids.clone(), labels: edit.edited_labels.clone() },
        rejected: Side { ids: edit.original_ids.clone(), labels: edit.original_labels.clone() },
    };
    edits.iter().map(pair).collect()
}

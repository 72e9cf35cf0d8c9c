//! Stage `reward`: a reward model, and what it can tell apart on held-out data.

mod distribution;
mod probe;

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use self::probe::Probe;
use super::data::world;
use super::execute::Inputs;
use super::policy::{Setting, dataset, seed};
use super::training::Recorder;
use crate::data::{Preference, Response};
use crate::eval::Bin;
use crate::labels::{LabelledEdit, response_ids};
use crate::report::{BestOfN, ScoreDistribution, TokenQuality};
use crate::reward::score::RewardModel;
use crate::reward::train::{Comparison, Side, Task, train};
use crate::reward::{self, Kind, PairSource};
use crate::store::{Artefact, Workspace};
use crate::text::Tokenizer;

pub(super) const VERSION: u32 = 4;

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
    pub(super) best_of_n: Vec<BestOfN>,
    pub(super) pairs: usize,
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace, recorder: &Recorder) -> Result<()> {
    let setting = &config.setting;
    let tokenizer = setting.tokenizer(inputs)?;
    let (train_file, edit_file, test_file) = if config.held_out {
        ("held_out.jsonl", "held_out.jsonl", "preferences.jsonl")
    } else {
        ("preferences.jsonl", "labels.jsonl", "held_out.jsonl")
    };
    let pairs = match &config.kind {
        Kind::Sequence(sequence) if sequence.data == PairSource::Preferences => {
            preference_pairs(&inputs.artefact("preferences")?.read_jsonl(train_file)?, &tokenizer, setting)
        }
        _ => edit_pairs(&inputs.artefact("labels")?.read_jsonl(edit_file)?, &tokenizer, setting),
    };
    let trunk = setting.model(inputs.artefact("reference")?)?;
    let task = Task {
        config: &config.reward,
        kind: &config.kind,
        pairs: &pairs,
        pad: tokenizer.pad(),
        seed: seed(config.seed, "reward"),
        shards: setting.shards,
    };
    let crew = setting.crew();
    let model = crew.install(|| train(&trunk, &task, &crew, &recorder.emitter(), recorder))?;
    recorder.finish(workspace)?;
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
        let (preference_reliability, preference_calibration_error) = probe.preference_reliability(&preferences);
        Evaluation {
            preference_accuracy: probe.pair_accuracy(&preferences),
            edit_accuracy: probe.pair_accuracy(&pairs_of_edits),
            preference_reliability,
            preference_calibration_error,
            distributions: probe.distributions(&preferences, &pairs_of_edits, &edits),
            held_out: [preferences.len(), edits.len()],
            single_fault_accuracy: world.as_ref().map(|world| probe.single_faults(world)).unwrap_or_default(),
            token_auc: edited_tokens.as_ref().map(|tokens| tokens.auc),
            edited_tokens,
            error_spans: probe.error_spans(&edits),
            best_of_n: world.as_ref().map(|world| probe.best_of_n(world, &prompts, &samples)).unwrap_or_default(),
            pairs: pairs.len(),
        }
    });
    workspace.write_json("evaluation.json", &evaluation)?;
    Ok(workspace.write_bytes("model.safetensors", &model.model.to_bytes())?)
}

/// The model that this stage stored.
pub(super) fn load(artefact: &Artefact, setting: &Setting) -> Result<RewardModel> {
    let kind = serde_json::from_value(artefact.manifest.config["kind"].clone())?;
    Ok(RewardModel { kind, model: setting.headed(artefact)? })
}

fn preference_pairs(preferences: &[Preference], tokenizer: &Tokenizer, setting: &Setting) -> Vec<Comparison> {
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

fn edit_pairs(edits: &[LabelledEdit], tokenizer: &Tokenizer, setting: &Setting) -> Vec<Comparison> {
    let pair = |edit: &LabelledEdit| Comparison {
        prompt: tokenizer.encode_prompt(&edit.prompt.text, setting.max_prompt_tokens),
        chosen: Side { ids: edit.edited_ids.clone(), labels: edit.edited_labels.clone() },
        rejected: Side { ids: edit.original_ids.clone(), labels: edit.original_labels.clone() },
    };
    edits.iter().map(pair).collect()
}

//! Stage `reward`: a reward model, and what it can tell apart on held-out data.

use std::collections::BTreeMap;

use anyhow::Result;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::data::world;
use super::execute::Inputs;
use super::policy::{Setting, seed};
use super::training::Recorder;
use crate::compute::Crew;
use crate::data::Preference;
use crate::data::world::{FaultKind, World};
use crate::eval::auc;
use crate::labels::{Label, LabelledEdit, response_ids};
use crate::model::Pair;
use crate::reward::score::RewardModel;
use crate::reward::train::{Comparison, Side, Task, train};
use crate::reward::{self, Kind, PairSource};
use crate::store::{Artefact, Workspace};
use crate::text::Tokenizer;

pub(super) const VERSION: u32 = 2;

/// Pairs of a clean and a faulty response, of each kind of fault.
const SINGLE_FAULT_PAIRS: usize = 200;

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
    pub(super) single_fault_accuracy: BTreeMap<String, f64>,
    pub(super) token_auc: Option<f64>,
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
    let edits = if config.held_out { Vec::new() } else { inputs.artefact("labels")?.read_jsonl("held_out.jsonl")? };
    let probe = Probe { model: &model, tokenizer: &tokenizer, setting, crew: &crew };
    let evaluation = crew.install(|| -> Result<Evaluation> {
        let edit_pairs = edit_pairs(&edits, &tokenizer, setting);
        Ok(Evaluation {
            preference_accuracy: probe.pair_accuracy(&preferences),
            edit_accuracy: probe.pair_accuracy(&edit_pairs),
            single_fault_accuracy: world(inputs)?.map(|world| probe.single_faults(&world)).unwrap_or_default(),
            token_auc: probe.token_auc(&edit_pairs),
            pairs: pairs.len(),
        })
    })?;
    workspace.write_json("evaluation.json", &evaluation)?;
    Ok(workspace.write_bytes("model.safetensors", &model.model.to_bytes())?)
}

/// The model that this stage stored.
pub(super) fn load(artefact: &Artefact, setting: &Setting) -> Result<RewardModel> {
    let kind = serde_json::from_value(artefact.manifest.config["kind"].clone())?;
    Ok(RewardModel { kind, model: setting.model(artefact)? })
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

/// A trained model under examination.
struct Probe<'a> {
    model: &'a RewardModel,
    tokenizer: &'a Tokenizer,
    setting: &'a Setting,
    crew: &'a Crew,
}

impl Probe<'_> {
    /// Share of pairs whose better side scores higher; equal scores count as wrong.
    fn pair_accuracy(&self, pairs: &[Comparison]) -> Option<f64> {
        let score = |side: fn(&Comparison) -> &Side| {
            let rows: Vec<Pair> =
                pairs.iter().map(|pair| Pair { prompt: &pair.prompt, response: &side(pair).ids }).collect();
            self.model.scores(&rows, self.tokenizer.pad(), self.crew)
        };
        let (chosen, rejected) = (score(|pair| &pair.chosen), score(|pair| &pair.rejected));
        let right = chosen.iter().zip(&rejected).filter(|(chosen, rejected)| chosen > rejected).count();
        (!pairs.is_empty()).then(|| right as f64 / pairs.len() as f64)
    }

    /// Accuracy on a clean response against the same response with one fault, by kind.
    fn single_faults(&self, world: &World) -> BTreeMap<String, f64> {
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
            Some((kind.name().to_owned(), self.pair_accuracy(&pairs)?))
        };
        FaultKind::ALL.into_iter().filter_map(accuracy).collect()
    }

    /// How well a low reward marks the original's edited tokens; meaningful for token models only.
    fn token_auc(&self, pairs: &[Comparison]) -> Option<f64> {
        if matches!(self.model.kind, Kind::Sequence(_)) {
            return None;
        }
        let rows: Vec<Pair> =
            pairs.iter().map(|pair| Pair { prompt: &pair.prompt, response: &pair.rejected.ids }).collect();
        let rewards = self.model.token_rewards(&rows, self.tokenizer.pad(), self.crew);
        let labelled = rewards.iter().zip(pairs).flat_map(|(rewards, pair)| rewards.iter().zip(&pair.rejected.labels));
        let (edited, kept): (Vec<_>, Vec<_>) =
            labelled.map(|(&reward, &label)| (-reward, label)).partition(|&(_, label)| label != Label::U);
        let values = |pairs: Vec<(f64, Label)>| pairs.into_iter().map(|(value, _)| value).collect::<Vec<f64>>();
        auc(&values(edited), &values(kept))
    }
}

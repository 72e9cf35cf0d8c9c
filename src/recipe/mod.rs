//! The recipe: one TOML file that says the whole experiment.
//!
//! Composes the rooms' own config structs and loads them strictly: `extends`, `--set`, all faults in one pass. What a
//! key means stands in the room of its mathematics.

pub mod annotate;
mod annotation;
mod check;
mod devices;
pub mod diagnostics;
mod experiment;
mod explain;
mod fit;
pub mod launch;
mod load;
mod rounds;
mod rules;
mod schema;
mod source;
mod sweep;
mod tree;
mod values;
mod variant;

pub use diagnostics::{Fault, Faults, render};
pub use experiment::{Axis, Experiment, Level, Point};
pub use explain::{explain, explain_json};
pub use load::{Loaded, load, to_toml};
pub use rounds::{Rounds, Run, Start};
pub use values::Values;
pub use variant::{BestOfN, Method, Mix, Variant};

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compute::{DeviceName, Precision, Replicas};
use crate::model::{checkpoint, pretrained};
use crate::units::{Count, Fraction, Memory};
use crate::{data, endpoint, eval, judge, labels, llm, model, ppo, reward, sft, text};

/// A recipe as written, defaults filled in.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The question the experiment answers, in a sentence; the report opens with it.
    #[serde(default)]
    pub description: String,
    /// Every seed runs the whole experiment once, from SFT to judgements.
    pub seeds: Vec<u64>,
    /// Annotated prompts per seed: every variant is trained and compared at each of these budgets.
    pub budgets: Vec<Count>,
    /// Where tensors live.
    #[serde(default)]
    pub device: DeviceName,
    /// Several devices of one kind in place of `device`, such as `["cuda:0", "cuda:1"]`: replicas are spread over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<DeviceName>>,
    /// The numbers that networks compute in: `f32`, or `bf16` where the device has it. The weights that are trained and stored
    /// are `f32` either way, as are norms, softmax, losses and the optimiser.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    /// Copies of the models that share every gradient step, rollout and scoring pass: threads on a CPU, devices elsewhere.
    /// `auto` takes all cores, or one for each of `devices`. How many there are changes no result.
    #[serde(default, skip_serializing_if = "Replicas::is_auto")]
    pub replicas: Replicas,
    /// Parts into which every gradient step is cut, shared among the replicas; rounding depends on it, so it is not
    /// chosen by the machine.
    #[serde(default = "default_shards")]
    pub shards: Count,
    /// Memory that the activations of one shard may take, such as `512M`: where they would take more, a gradient step is cut
    /// into more shards. Left out, there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_memory: Option<Memory>,
    /// Whether the backward pass computes each layer again instead of keeping what the forward pass made in it: less memory for
    /// a third more work, and the same gradients up to rounding.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gradient_checkpointing: bool,
    /// Prompts, demonstrations, splits.
    pub dataset: data::Config,
    /// How a record becomes what the model is shown.
    #[serde(default, skip_serializing_if = "data::prompt::Config::is_default")]
    pub prompt: data::prompt::Config,
    /// How text becomes token ids.
    pub tokenizer: text::Config,
    /// The decoder's architecture, where it is made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<model::Config>,
    /// The checkpoint that everything starts from, in place of `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<pretrained::Start>,
    /// Supervised fine-tuning of the reference.
    pub sft: sft::Config,
    /// Who prefers.
    pub preferences: PreferenceSource,
    /// Who edits.
    pub edits: EditSource,
    /// How annotations become labels of tokens.
    #[serde(default)]
    pub labels: Labels,
    /// Several rounds of annotation; left out, one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<Rounds>,
    /// How reward models are trained.
    pub reward: reward::Config,
    /// Policy optimisation, shared by all variants.
    pub ppo: ppo::Config,
    /// What is compared.
    pub variants: Vec<Variant>,
    /// Who decides which response is better: one judge or several, side by side.
    pub judge: judge::Config,
    /// Intervals and tests.
    #[serde(default)]
    pub evaluation: eval::Config,
    /// What stages need from a machine, and how they are handed to one.
    // Left out wherever a recipe is written down: it decides no result and is nothing to report.
    #[serde(default, skip_serializing)]
    pub launch: launch::Config,
    /// What people who edit responses are asked for.
    // Left out for the same reason: what they answered counts, and that is a file.
    #[serde(default, skip_serializing)]
    pub annotate: annotate::Config,
    /// How often training saves what it has reached; changes no result and reruns nothing.
    #[serde(default, skip_serializing_if = "checkpoint::Config::is_default")]
    pub checkpoints: checkpoint::Config,
    /// Many recipes made from this one; none of the points has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<sweep::Config>,
}

impl Recipe {
    /// The devices that replicas are spread over, at least one.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceName> {
        self.devices.clone().unwrap_or_else(|| vec![self.device])
    }

    /// The files that it names, by key.
    pub fn files_mut(&mut self) -> Vec<(String, &mut PathBuf)> {
        // What lies in a repository is no file of this machine.
        let mut files = Vec::new();
        if self.dataset.hub.is_none() {
            files.push(("dataset.path".to_owned(), &mut self.dataset.path));
        }
        if let Some(data::prompt::Template::File(path)) = &mut self.prompt.template {
            files.push(("prompt.template".to_owned(), path));
        }
        if let text::Config::File(file) = &mut self.tokenizer {
            files.push(("tokenizer.file.path".to_owned(), &mut file.path));
        }
        if let PreferenceSource::Llm(llm) = &mut self.preferences {
            let key = |i: usize| format!("preferences.llm.annotators.{i}.prompt");
            let annotators = llm.annotators.iter_mut().enumerate();
            files.extend(annotators.filter_map(|(i, annotator)| Some((key(i), annotator.prompt.as_mut()?))));
        }
        match &mut self.edits {
            EditSource::Llm(llm) => {
                files.extend(llm.prompt.as_mut().map(|path| ("edits.llm.prompt".to_owned(), path)));
            }
            EditSource::Annotations(edits) => files.push(("edits.annotations.path".to_owned(), &mut edits.path)),
            _ => {}
        }
        if let Some(llm) = &mut self.labels.llm_words {
            files.extend(llm.prompt.as_mut().map(|path| ("labels.llm_words.prompt".to_owned(), path)));
        }
        files.extend(self.judge.files_mut().into_iter().map(|(key, path)| (key.to_owned(), path)));
        files
    }

    /// The same recipe without what says how endpoints are treated, which changes no result.
    #[must_use]
    pub fn without_conduct(&self) -> Self {
        let mut recipe = self.clone();
        let mut endpoints: Vec<&mut endpoint::Config> = Vec::new();
        if let PreferenceSource::Llm(llm) = &mut recipe.preferences {
            endpoints.extend(llm.annotators.iter_mut().map(|annotator| &mut annotator.endpoint));
        }
        if let EditSource::Llm(llm) = &mut recipe.edits {
            endpoints.push(&mut llm.endpoint);
        }
        endpoints.extend(recipe.labels.llm_words.as_mut().map(|llm| &mut llm.endpoint));
        for endpoint in endpoints {
            *endpoint = endpoint.deciding();
        }
        recipe.judge = recipe.judge.deciding();
        recipe
    }

    /// The folders that it names, by key. Of these the store keeps no copies.
    pub fn folders_mut(&mut self) -> Vec<(String, &mut PathBuf)> {
        self.policy.iter_mut().filter_map(|start| Some(("policy.path".to_owned(), start.path.as_mut()?))).collect()
    }
}

fn default_shards() -> Count {
    Count::try_from(4).expect("at least one")
}

/// The recipe's `[labels]` table.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// What the diff of an edit aligns.
    #[serde(default)]
    pub unit: labels::Unit,
    /// Which errors the `spans` reward models tell apart. A simulated annotator marks them; QA-feedback comes with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spans: Option<labels::spans::Config>,
    /// A language model that scores words for `tppo`; left out, a simulated annotator does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm_words: Option<llm::Words>,
}

/// The recipe's `[preferences]` table: exactly one of its keys.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PreferenceSource {
    /// The world's annotator compares two responses of the reference.
    Simulated(SimulatedPreferences),
    /// The preferences that come with the dataset.
    Dataset(DatasetPreferences),
    /// Language models compare two responses of the reference.
    Llm(llm::Preferences),
}

/// `[preferences.simulated]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulatedPreferences {
    /// Probability that the annotator notices a fault; fewer noticed faults win, a tie is a coin flip.
    pub notice_rate: Fraction,
    /// Probability that a preference is recorded the wrong way round.
    pub label_noise: Fraction,
}

/// `[preferences.dataset]`: no knobs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetPreferences {}

/// The recipe's `[edits]` table: exactly one of its keys.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EditSource {
    /// The world's editor removes the faults that its annotator noticed in the less preferred response.
    Simulated(SimulatedEdits),
    /// The edits that come with the dataset.
    Dataset(DatasetEdits),
    /// The preferred response as the edit of the other one, where they are close enough to be one.
    Chosen(ChosenEdits),
    /// A language model edits the less preferred response.
    Llm(Box<llm::Edits>),
    /// What people edited on the page of `runner annotate`.
    Annotations(AnnotatedEdits),
}

/// `[edits.annotations]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnotatedEdits {
    /// The file of annotations. Of its edits count those of responses in this recipe's pairs; where several annotators
    /// answered, the adjudicated answer, else the first that was not skipped.
    pub path: PathBuf,
}

/// `[edits.chosen]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChosenEdits {
    /// Share of words that may differ: the edit distance over the longer response's words.
    pub max_share: Fraction,
}

/// `[edits.simulated]`: no knobs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulatedEdits {}

/// `[edits.dataset]`: no knobs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetEdits {}

impl PreferenceSource {
    /// Without what changes no preference.
    #[must_use]
    pub fn deciding(&self) -> Self {
        if let Self::Llm(llm) = self { Self::Llm(llm.deciding()) } else { self.clone() }
    }
}

impl EditSource {
    /// Without what changes no edit.
    #[must_use]
    pub fn deciding(&self) -> Self {
        if let Self::Llm(llm) = self { Self::Llm(Box::new(llm.deciding())) } else { self.clone() }
    }
}

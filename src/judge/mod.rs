//! Who decides which of two responses is better.
//!
//! Some judges give each response a score ([`Verdict`]: the oracle, a reward model), others compare two ([`Ballot`]: people, files
//! of annotations, language models). What follows from what they say is left to `eval`.

mod ballot;
mod files;
mod llm;
pub mod overlap;
mod parse;
mod revise;
mod verdict;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use ballot::{Ballot, Consistency, Duel, Vote};
pub use files::Annotations;
pub use llm::{Llm, Order, Style};
pub use revise::{Revise, Score};
pub use verdict::Verdict;

use crate::reward;

/// The recipe's `[judge]` table: one or more judges, side by side on the same responses.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The judge on which win rates, learning curves and the choice of KL coefficients rest, where there are several. The others
    /// judge the responses that were chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Name>,
    /// A simulated world's own count of faults: fewer is better, equal is a draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oracle: Option<Oracle>,
    /// A reward model: the higher score wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_model: Option<RewardModel>,
    /// People's verdicts, from a file; pairs that are not in it are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub human: Option<File>,
    /// Any judge's verdicts, made elsewhere, from a file; pairs that are not in it are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
    /// A language model that compares two responses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm: Option<Llm>,
    /// A language model that first revises a response into a reference, adapted to it, with which both are then compared
    /// [REVISEVAL].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revise: Option<Revise>,
}

/// A judge's name in a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// `[judge.oracle]`.
    Oracle,
    /// `[judge.reward_model]`.
    RewardModel,
    /// `[judge.human]`.
    Human,
    /// `[judge.file]`.
    File,
    /// `[judge.llm]`.
    Llm,
    /// `[judge.revise]`.
    Revise,
}

impl Name {
    /// As written in a recipe.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Oracle => "oracle",
            Self::RewardModel => "reward_model",
            Self::Human => "human",
            Self::File => "file",
            Self::Llm => "llm",
            Self::Revise => "revise",
        }
    }
}

/// One judge of a recipe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judge {
    /// See [`Config::oracle`].
    Oracle(Oracle),
    /// See [`Config::reward_model`].
    RewardModel(RewardModel),
    /// See [`Config::human`].
    Human(File),
    /// See [`Config::file`].
    File(File),
    /// See [`Config::llm`].
    Llm(Box<Llm>),
    /// See [`Config::revise`].
    Revise(Box<Revise>),
}

/// `[judge.oracle]`: no knobs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oracle {}

/// `[judge.reward_model]`: trained as `[reward]` says.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewardModel {
    /// What kind of reward model it is.
    #[serde(default = "default_kind", skip_serializing_if = "is_default_kind")]
    pub kind: reward::Kind,
    /// Whether it learns from held-out annotations, which no variant saw ("gold"); else from those that the variants learn from.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub held_out: bool,
}

/// `[judge.human]` and `[judge.file]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its verdicts: JSON lines with `prompt`, `responses` (two), `winner` (0, 1 or "tie") and, where there are several,
    /// `annotator`; or annotations in AlpacaEval's form. Pairs are found by their texts, in either order.
    pub path: PathBuf,
}

impl Judge {
    /// Its name in the recipe.
    #[must_use]
    pub const fn name(&self) -> Name {
        match self {
            Self::Oracle(_) => Name::Oracle,
            Self::RewardModel(_) => Name::RewardModel,
            Self::Human(_) => Name::Human,
            Self::File(_) => Name::File,
            Self::Llm(_) => Name::Llm,
            Self::Revise(_) => Name::Revise,
        }
    }

    /// What it is, in words.
    #[must_use]
    pub fn description(&self) -> String {
        match self {
            Self::Oracle(_) => "oracle: fewer faults win, equal counts draw".to_owned(),
            Self::RewardModel(model) if model.held_out => {
                "reward model trained on held-out preferences: the higher score wins".to_owned()
            }
            Self::RewardModel(_) => {
                "reward model trained on what variants learn from: the higher score wins".to_owned()
            }
            Self::Human(_) => "people's verdicts".to_owned(),
            Self::File(_) => "verdicts from a file".to_owned(),
            Self::Llm(llm) => format!("language model `{}`, {}", llm.endpoint.model, llm.order.words()),
            Self::Revise(revise) => {
                format!("language model `{}` revises; {}", revise.endpoint.model, revise.score.words())
            }
        }
    }

    /// Whether it gives each response a score, rather than comparing two.
    #[must_use]
    pub const fn scores(&self) -> bool {
        matches!(self, Self::Oracle(_) | Self::RewardModel(_))
    }

    /// Whether it can be asked about any response, the validation prompts' too.
    #[must_use]
    pub const fn can_be_asked(&self) -> bool {
        !matches!(self, Self::Human(_) | Self::File(_))
    }
}

impl Config {
    /// All judges, in the order of the table's keys.
    #[must_use]
    pub fn judges(&self) -> Vec<Judge> {
        let all = [
            self.oracle.clone().map(Judge::Oracle),
            self.reward_model.clone().map(Judge::RewardModel),
            self.human.clone().map(Judge::Human),
            self.file.clone().map(Judge::File),
            self.llm.clone().map(|llm| Judge::Llm(Box::new(llm))),
            self.revise.clone().map(|revise| Judge::Revise(Box::new(revise))),
        ];
        all.into_iter().flatten().collect()
    }

    /// The judge that results rest on: the named one, else the only one.
    #[must_use]
    pub fn primary(&self) -> Option<Judge> {
        let judges = self.judges();
        match self.primary {
            Some(name) => judges.into_iter().find(|judge| judge.name() == name),
            None => <[Judge; 1]>::try_from(judges).ok().map(|[only]| only),
        }
    }

    /// The other ones.
    #[must_use]
    pub fn further(&self) -> Vec<Judge> {
        let primary = self.primary().map(|judge| judge.name());
        self.judges().into_iter().filter(|judge| Some(judge.name()) != primary).collect()
    }

    /// The judge of that name.
    #[must_use]
    pub fn named(&self, name: Name) -> Option<Judge> {
        self.judges().into_iter().find(|judge| judge.name() == name)
    }

    /// Without what changes no verdict: how endpoints are treated.
    #[must_use]
    pub fn deciding(&self) -> Self {
        let mut table = self.clone();
        table.llm.iter_mut().for_each(|llm| llm.endpoint = llm.endpoint.deciding());
        table.revise.iter_mut().for_each(|revise| revise.endpoint = revise.endpoint.deciding());
        table
    }

    /// The files that it names, by key.
    pub fn files_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let mut files = Vec::new();
        files.extend(self.human.as_mut().map(|file| ("judge.human.path", &mut file.path)));
        files.extend(self.file.as_mut().map(|file| ("judge.file.path", &mut file.path)));
        if let Some(llm) = &mut self.llm {
            files.extend(llm.template.as_mut().map(|path| ("judge.llm.template", path)));
        }
        if let Some(revise) = &mut self.revise {
            files.extend(revise.revise_template.as_mut().map(|path| ("judge.revise.revise_template", path)));
            files.extend(revise.judge_template.as_mut().map(|path| ("judge.revise.judge_template", path)));
        }
        files
    }
}

fn default_kind() -> reward::Kind {
    reward::Kind::Sequence(reward::Sequence { data: reward::PairSource::Preferences })
}

fn is_default_kind(kind: &reward::Kind) -> bool {
    *kind == default_kind()
}

const fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_judge_is_the_primary_one_and_of_several_the_named_one() {
        let read = |text: &str| toml::from_str::<Config>(text).unwrap();
        let names = |judges: Vec<Judge>| judges.iter().map(|judge| judge.name().text()).collect::<Vec<_>>();
        let one = read("[reward_model]");
        assert_eq!(one.primary().map(|judge| judge.name()), Some(Name::RewardModel));
        assert!(one.further().is_empty());
        let two = read("[oracle]\n[reward_model]");
        assert!(two.primary().is_none());
        let chosen = read("primary = \"reward_model\"\n[oracle]\n[reward_model]\nheld_out = false");
        assert_eq!(chosen.primary().map(|judge| judge.name()), Some(Name::RewardModel));
        assert_eq!(names(chosen.further()), ["oracle"]);
        assert!(read("primary = \"llm\"\n[oracle]").primary().is_none());
    }
}

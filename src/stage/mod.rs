//! The closed list of stages: what a recipe becomes, in which order, and why a stage would run.
//!
//! One file a stage: what goes into its key (a `Config`), and what it does. A node's config in the plan *is* what the
//! stage reads, so that nothing can change a result without changing its key. The mathematics is left to the rooms
//! below.

pub mod estimate;
pub mod execute;
pub mod limits;
pub mod node;
pub mod reason;
pub mod stop;
pub mod work;

mod annotator;
mod best_of_n;
mod data;
mod dpo;
mod edits;
mod export;
mod judgements;
mod judging;
mod labels;
mod merge;
mod opened;
mod opinions;
mod plan;
mod policy;
mod ppo;
mod preferences;
mod report;
mod responses;
mod reward;
mod sft;
mod spans;
mod tokenizer;
mod training;
mod words;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use opened::{Opened, Part, Scores};
pub use plan::{plan, plan_recipe};
pub use policy::{Policy, tokenizer as tokenizer_of};
pub use report::{partial_report, sweep_report};
pub use training::Interrupted;

use self::execute::Inputs;
use self::node::{Node, Stage};
use self::stop::Stop;
use self::training::Recorder;
use crate::events::Emitter;
use crate::recipe::Recipe;
use crate::store::Workspace;

/// Does the work of one node of `recipe`'s plan; training saves as `[checkpoints]` says, and when `stop` is asked for.
///
/// # Errors
/// When the stage fails; the message names what was expected and found. [`Interrupted`] when it trains and was stopped.
pub fn run(
    recipe: &Recipe,
    node: &Node,
    inputs: &Inputs,
    workspace: &Workspace,
    emitter: &Emitter,
    stop: &Stop,
) -> Result<()> {
    let recorder = Recorder::new(emitter, workspace, recipe.checkpoints, stop);
    match node.stage {
        Stage::Data => data::run(recipe, node, workspace),
        Stage::Tokenizer => tokenizer::run(recipe, inputs, workspace),
        Stage::Sft => sft::run(&config(node, recipe)?, recipe, inputs, workspace, &recorder),
        Stage::Preferences => preferences::run(&config(node, recipe)?, recipe, inputs, workspace, emitter),
        Stage::Edits => edits::run(&config(node, recipe)?, recipe, inputs, workspace, emitter),
        Stage::Labels => labels::run(&config(node, recipe)?, inputs, workspace),
        Stage::Words => words::run(&config(node, recipe)?, recipe, inputs, workspace, emitter),
        Stage::Spans => spans::run(&config(node, recipe)?, inputs, workspace),
        Stage::Reward => reward::run(&config(node, recipe)?, inputs, workspace, &recorder),
        Stage::Ppo => ppo::run(&config(node, recipe)?, inputs, workspace, &recorder),
        Stage::Dpo => dpo::run(&config(node, recipe)?, inputs, workspace, &recorder),
        Stage::BestOfN => best_of_n::run(&config(node, recipe)?, inputs, workspace, emitter),
        Stage::Responses => responses::run(&config(node, recipe)?, inputs, workspace, emitter),
        Stage::Judgements => judgements::run(&config(node, recipe)?, recipe, inputs, workspace, emitter),
        Stage::Opinions => opinions::run(&config(node, recipe)?, recipe, inputs, workspace, emitter),
        Stage::Report => report::run(&config(node, recipe)?, inputs, workspace),
    }
}

/// The version of the code that does the work of a `stage` here; a run that was submitted with another one is to be
/// submitted again.
#[must_use]
pub const fn version(stage: Stage) -> u32 {
    match stage {
        Stage::Data => data::VERSION,
        Stage::Tokenizer => tokenizer::VERSION,
        Stage::Sft => sft::VERSION,
        Stage::Preferences => preferences::VERSION,
        Stage::Edits => edits::VERSION,
        Stage::Labels => labels::VERSION,
        Stage::Words => words::VERSION,
        Stage::Spans => spans::VERSION,
        Stage::Reward => reward::VERSION,
        Stage::Ppo => ppo::VERSION,
        Stage::Dpo => dpo::VERSION,
        Stage::BestOfN => best_of_n::VERSION,
        Stage::Responses => responses::VERSION,
        Stage::Judgements => judgements::VERSION,
        Stage::Opinions => opinions::VERSION,
        Stage::Report => report::VERSION,
    }
}

/// What `node` says of its work. Which of several devices are used, and how many
/// replicas, is the run's matter, so the recipe adds it.
fn config<T: DeserializeOwned>(node: &Node, recipe: &Recipe) -> Result<T> {
    let mut config = node.config.clone();
    if let Some(setting) = config.get_mut("setting").and_then(Value::as_object_mut) {
        setting.insert("devices".to_owned(), serde_json::to_value(recipe.devices())?);
        setting.insert("replicas".to_owned(), serde_json::to_value(recipe.replicas)?);
    }
    serde_json::from_value(config).with_context(|| format!("config of stage `{}`", node.label))
}

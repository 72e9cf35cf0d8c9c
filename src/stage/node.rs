//! A plan: which stages there are, what each is made from, and the key of its result.
//!
//! Pure: nothing here looks at the store, so a plan can be printed before anything exists. Which nodes a recipe needs is
//! `stage::plan`'s, what a node does `stage::run`'s.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::{Identity, Key};

/// The kinds of stage, in the order in which a recipe goes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Prompts and demonstrations, split.
    Data,
    /// Text to token ids.
    Tokenizer,
    /// The reference policy.
    Sft,
    /// Pairs of responses, one preferred.
    Preferences,
    /// Minimal edits of the less preferred responses.
    Edits,
    /// What each edit did to each token.
    Labels,
    /// Responses scored word by word.
    Words,
    /// Responses cut into spans, with errors of one category.
    Spans,
    /// A reward model.
    Reward,
    /// A policy, optimised.
    Ppo,
    /// A policy, trained on pairs.
    Dpo,
    /// The best of several samples by a reward model.
    BestOfN,
    /// What a policy says to the held-out prompts.
    Responses,
    /// Which responses are better.
    Judgements,
    /// What further judges say of the responses that were chosen.
    Opinions,
    /// Tables and charts.
    Report,
}

impl Stage {
    /// Its name in paths, keys and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Tokenizer => "tokenizer",
            Self::Sft => "sft",
            Self::Preferences => "preferences",
            Self::Edits => "edits",
            Self::Labels => "labels",
            Self::Words => "words",
            Self::Spans => "spans",
            Self::Reward => "reward",
            Self::Ppo => "ppo",
            Self::Dpo => "dpo",
            Self::BestOfN => "best_of_n",
            Self::Responses => "responses",
            Self::Judgements => "judgements",
            Self::Opinions => "opinions",
            Self::Report => "report",
        }
    }

    /// Whether it has steps after which it can save what it has reached.
    #[must_use]
    pub const fn trains(self) -> bool {
        matches!(self, Self::Sft | Self::Reward | Self::Ppo | Self::Dpo)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a node is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What it is to the node: `data`, `policy`, `responses.token`, ...
    pub role: String,
    /// The index of the node that makes it; always smaller than the index of the node that reads it.
    pub node: usize,
}

/// One stage of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its kind.
    pub stage: Stage,
    /// The version of that kind's code.
    pub version: u32,
    /// What a person calls it; unique in the plan, not in the key.
    pub label: String,
    /// Everything besides the inputs that decides the result.
    pub config: Value,
    /// What it is made from.
    pub inputs: Vec<Input>,
    /// Its result's name.
    pub key: Key,
    /// The points of the experiment that need it, in order; at least one.
    pub points: Vec<usize>,
}

impl Node {
    /// Whether networks do its work, on a device.
    #[must_use]
    pub fn computes(&self) -> bool {
        self.config["setting"].is_object()
    }
}

/// The stages of a recipe; each stands after all that it is made from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The recipe's name.
    pub recipe: String,
    /// Its nodes, in topological order.
    pub nodes: Vec<Node>,
}

impl Plan {
    /// An empty plan of the recipe `recipe`.
    #[must_use]
    pub fn new(recipe: impl Into<String>) -> Self {
        Self { recipe: recipe.into(), nodes: Vec::new() }
    }

    /// Adds a node made from `inputs`, given as (role, index), and returns its index.
    ///
    /// A node whose key is already in the plan is the same work: the first one's index is returned and its label stays. A
    /// label that is already taken by other work gets a number.
    ///
    /// # Panics
    /// When an input's index is none of this plan's.
    pub fn push(
        &mut self,
        stage: Stage,
        version: u32,
        label: impl Into<String>,
        config: Value,
        inputs: &[(&str, usize)],
    ) -> usize {
        let keys: Vec<_> = inputs.iter().map(|&(role, node)| (role, &self.nodes[node].key)).collect();
        let key = Key::of(stage.name(), version, &config, &keys);
        if let Some(same) = self.nodes.iter().position(|node| node.key == key) {
            return same;
        }
        let label = self.unique(&label.into());
        let inputs = inputs.iter().map(|&(role, node)| Input { role: role.to_owned(), node }).collect();
        self.nodes.push(Node { stage, version, label, config, inputs, key, points: vec![0] });
        self.nodes.len() - 1
    }

    /// The part of it that ends with its first results of `stage`, none of which is made from another, as a plan of its own
    /// called `name`.
    #[must_use]
    pub fn until(&self, stage: Stage, name: impl Into<String>) -> Self {
        let mut behind = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            behind[index] = node.inputs.iter().any(|i| behind[i.node] || self.nodes[i.node].stage == stage);
        }
        let mut wanted: Vec<bool> =
            self.nodes.iter().zip(&behind).map(|(node, behind)| node.stage == stage && !behind).collect();
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if wanted[index] {
                node.inputs.iter().for_each(|input| wanted[input.node] = true);
            }
        }
        let mut places = vec![0; self.nodes.len()];
        let mut part = Self::new(name);
        for (index, node) in self.nodes.iter().enumerate().filter(|(index, _)| wanted[*index]) {
            places[index] = part.nodes.len();
            let mut node = node.clone();
            node.inputs.iter_mut().for_each(|input| input.node = places[input.node]);
            part.nodes.push(node);
        }
        part
    }

    /// How much of the work is shared between points.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        Sharing {
            needed: self.nodes.iter().map(|node| node.points.len()).sum(),
            different: self.nodes.len(),
            shared: self.nodes.iter().filter(|node| node.points.len() > 1).count(),
        }
    }

    /// What the store needs to know of the node at `index`.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn identity(&self, index: usize) -> Identity {
        let Node { stage, version, config, inputs, key, .. } = &self.nodes[index];
        let inputs = inputs.iter().map(|input| (input.role.clone(), self.nodes[input.node].key.clone())).collect();
        Identity { stage: stage.name().to_owned(), version: *version, key: key.clone(), config: config.clone(), inputs }
    }

    /// Whether each node has to run, when `cached` says which results are whole.
    ///
    /// Looks from the end: a result that nothing reads is wanted, what a cached node was made from is not. `cached` is
    /// asked for wanted nodes only.
    #[must_use]
    pub fn demand(&self, mut cached: impl FnMut(usize) -> bool) -> Vec<Demand> {
        let mut wanted = vec![true; self.nodes.len()];
        for input in self.nodes.iter().flat_map(|node| &node.inputs) {
            wanted[input.node] = false;
        }
        let mut demands = vec![Demand::Unwanted; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if !wanted[index] {
                continue;
            }
            demands[index] = if cached(index) { Demand::Cached } else { Demand::Run };
            if demands[index] == Demand::Run {
                for input in &node.inputs {
                    wanted[input.node] = true;
                }
            }
        }
        demands
    }

    fn unique(&self, label: &str) -> String {
        let taken = |label: &str| self.nodes.iter().any(|node| node.label == label);
        let (mut candidate, mut number) = (label.to_owned(), 1);
        while taken(&candidate) {
            number += 1;
            candidate = format!("{label} ({number})");
        }
        candidate
    }
}

/// How much of a plan's work is shared between the points of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sharing {
    /// Stages that the points need, counted for each point by itself.
    pub needed: usize,
    /// Stages that differ: what runs.
    pub different: usize,
    /// Of those, stages that several points need.
    pub shared: usize,
}

/// What a run wants from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Its result is read, and missing.
    Run,
    /// Its result is read, and there.
    Cached,
    /// Nothing that has to run reads its result.
    Unwanted,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn diamond() -> Plan {
        let mut plan = Plan::new("diamond");
        let data = plan.push(Stage::Data, 1, "data", json!({ "rows": 3 }), &[]);
        let left = plan.push(Stage::Sft, 1, "left", json!({ "steps": 1 }), &[("data", data)]);
        let right = plan.push(Stage::Sft, 1, "right", json!({ "steps": 2 }), &[("data", data)]);
        plan.push(Stage::Report, 1, "report", json!({}), &[("left", left), ("right", right)]);
        plan
    }

    #[test]
    fn equal_work_is_one_node_whatever_it_is_called() {
        let mut plan = diamond();
        let again = plan.push(Stage::Sft, 1, "left for token", json!({ "steps": 1 }), &[("data", 0)]);
        assert_eq!(again, 1);
        assert_eq!(plan, diamond());
    }

    #[test]
    fn a_part_of_a_plan_has_the_same_keys() {
        let mut plan = diamond();
        plan.push(Stage::Preferences, 1, "preferences", json!({}), &[("data", 0), ("policy", 2)]);
        plan.push(Stage::Preferences, 1, "second round", json!({}), &[("data", 0), ("earlier", 4)]);
        let part = plan.until(Stage::Preferences, "part");
        let labels: Vec<_> = part.nodes.iter().map(|node| node.label.as_str()).collect();
        assert_eq!(labels, ["data", "right", "preferences"]);
        assert_eq!((&part.nodes[2].key, &part.nodes[2].inputs[1].node), (&plan.nodes[4].key, &1));
        assert_eq!(plan.until(Stage::Ppo, "none").nodes, []);
    }

    #[test]
    fn a_taken_label_gets_a_number() {
        let mut plan = diamond();
        let (second, third) = (
            plan.push(Stage::Sft, 1, "left", json!({ "steps": 3 }), &[("data", 0)]),
            plan.push(Stage::Sft, 1, "left", json!({ "steps": 4 }), &[("data", 0)]),
        );
        assert_eq!([&plan.nodes[second].label, &plan.nodes[third].label], ["left (2)", "left (3)"]);
    }

    #[test]
    fn a_changed_config_changes_the_keys_downstream_only() {
        let (before, mut after) = (diamond(), Plan::new("diamond"));
        let data = after.push(Stage::Data, 1, "data", json!({ "rows": 3 }), &[]);
        let left = after.push(Stage::Sft, 1, "left", json!({ "steps": 9 }), &[("data", data)]);
        let right = after.push(Stage::Sft, 1, "right", json!({ "steps": 2 }), &[("data", data)]);
        after.push(Stage::Report, 1, "report", json!({}), &[("left", left), ("right", right)]);
        let same: Vec<_> = before.nodes.iter().zip(&after.nodes).map(|(a, b)| a.key == b.key).collect();
        assert_eq!(same, [true, false, true, false]);
    }

    #[test]
    fn a_cached_end_wants_nothing_else() {
        use Demand::{Cached, Run, Unwanted};
        let plan = diamond();
        assert_eq!(plan.demand(|_| false), [Run, Run, Run, Run]);
        assert_eq!(plan.demand(|i| i == 3), [Unwanted, Unwanted, Unwanted, Cached]);
        assert_eq!(plan.demand(|i| i == 1), [Run, Cached, Run, Run]);
        assert_eq!(plan.demand(|i| i == 1 || i == 2), [Unwanted, Cached, Cached, Run]);
    }

    #[test]
    fn the_name_is_the_serialised_form() {
        for stage in [Stage::Data, Stage::Tokenizer, Stage::Sft, Stage::Ppo, Stage::Judgements, Stage::Report] {
            assert_eq!(serde_json::to_value(stage).unwrap(), json!(stage.to_string()));
        }
    }
}

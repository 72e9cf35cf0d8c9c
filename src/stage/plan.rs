//! From an experiment to its nodes: pure but for the hashes of the files that its recipes name.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::merge::merge;
use super::node::{Plan, Stage};
use super::policy::Setting;
use super::{data, edits, judgements, labels, ppo, preferences, report, responses, reward, sft, tokenizer};
use crate::judge;
use crate::model::checkpoint;
use crate::recipe::{self, Experiment, Recipe, Variant};
use crate::reward::{Kind, PairSource, Sequence};

/// The plan of `experiment`: of one recipe with its report, of a sweep all that its points need, shared work once.
///
/// # Errors
/// When a file that a recipe names cannot be read.
pub fn plan(experiment: &Experiment) -> Result<Plan> {
    match experiment.points.as_slice() {
        [point] if !experiment.is_sweep() => plan_recipe(&point.recipe, &experiment.name),
        points => {
            let plans =
                points.iter().map(|point| plan_recipe(&point.recipe, &point.name)).collect::<Result<Vec<_>>>()?;
            Ok(merge(experiment, &plans))
        }
    }
}

/// The plan of `recipe`, called `name`; its last node is the report.
///
/// # Errors
/// When a file that the recipe names cannot be read.
pub fn plan_recipe(recipe: &Recipe, name: &str) -> Result<Plan> {
    let mut plan = Plan::new(name);
    let data = plan.push(Stage::Data, data::VERSION, "data", data::config(recipe)?, &[]);
    let tokenizer =
        plan.push(Stage::Tokenizer, tokenizer::VERSION, "tokenizer", tokenizer::config(recipe)?, &[("data", data)]);
    let mut planner = Planner { recipe, setting: Setting::of(recipe)?, plan, data, tokenizer, cells: Vec::new() };
    for &seed in &recipe.seeds {
        planner.seed(seed);
    }
    Ok(planner.report(name))
}

/// One trained and judged policy.
struct Cell {
    at: report::Cell,
    reward: usize,
    mix: Option<usize>,
    policy: usize,
    responses: usize,
    judgements: usize,
    judge: Option<usize>,
}

struct Planner<'a> {
    recipe: &'a Recipe,
    setting: Setting,
    plan: Plan,
    data: usize,
    tokenizer: usize,
    cells: Vec<(Cell, Annotations)>,
}

/// The reference of one seed.
#[derive(Clone, Copy)]
struct Reference {
    seed: u64,
    policy: usize,
    responses: usize,
}

/// What was annotated at one seed and budget.
#[derive(Clone, Copy)]
struct Annotations {
    reference: Reference,
    preferences: usize,
    labels: usize,
}

impl Planner<'_> {
    fn seed(&mut self, seed: u64) {
        let config = sft::Config { sft: self.recipe.sft.clone(), setting: self.setting.clone(), seed };
        let policy = self.push(Stage::Sft, sft::VERSION, format!("sft/seed={seed}"), &config, &[]);
        let config = responses::Config { reference: true, seed, setting: self.setting.clone() };
        let label = format!("responses/reference/seed={seed}");
        let responses = self.push(Stage::Responses, responses::VERSION, label, &config, &[("policy", policy)]);
        let reference = Reference { seed, policy, responses };
        for budget in self.recipe.budgets.iter().map(|budget| budget.get()) {
            let annotations = self.annotations(reference, budget);
            let judge = self.judge(annotations, budget);
            for variant in &self.recipe.variants {
                self.variant(variant, annotations, budget, judge);
            }
        }
    }

    fn annotations(&mut self, reference: Reference, budget: usize) -> Annotations {
        let (recipe, seed, at) = (self.recipe, reference.seed, format!("budget={budget}/seed={}", reference.seed));
        let source = recipe.preferences.clone();
        let config = preferences::Config { source, budget, seed, setting: self.setting.clone() };
        let from = match recipe.preferences {
            recipe::PreferenceSource::Simulated(_) => vec![("policy", reference.policy)],
            recipe::PreferenceSource::Dataset(_) => vec![],
        };
        let preferences =
            self.push(Stage::Preferences, preferences::VERSION, format!("preferences/{at}"), &config, &from);
        let config = edits::Config { source: recipe.edits.clone(), budget, seed };
        let from = match recipe.edits {
            recipe::EditSource::Simulated(_) | recipe::EditSource::Chosen(_) => vec![("preferences", preferences)],
            recipe::EditSource::Dataset(_) => vec![],
        };
        let edits = self.push(Stage::Edits, edits::VERSION, format!("edits/{at}"), &config, &from);
        let config = labels::Config { labels: recipe.labels, setting: self.setting.clone() };
        let labels = self.push(Stage::Labels, labels::VERSION, format!("labels/{at}"), &config, &[("edits", edits)]);
        Annotations { reference, preferences, labels }
    }

    /// The judge's own reward model, trained on what no variant sees.
    fn judge(&mut self, annotations: Annotations, budget: usize) -> Option<usize> {
        let judge::Config::RewardModel(_) = self.recipe.judge else { return None };
        let kind = Kind::Sequence(Sequence { data: PairSource::Preferences });
        let label = format!("reward/judge/budget={budget}/seed={}", annotations.reference.seed);
        Some(self.reward(&kind, annotations, label, true))
    }

    fn reward(&mut self, kind: &Kind, annotations: Annotations, label: String, held_out: bool) -> usize {
        let config = reward::Config {
            reward: self.recipe.reward.clone(),
            kind: kind.clone(),
            seed: annotations.reference.seed,
            setting: self.setting.clone(),
            held_out,
        };
        let from = [
            ("reference", annotations.reference.policy),
            ("reference_responses", annotations.reference.responses),
            ("preferences", annotations.preferences),
            ("labels", annotations.labels),
        ];
        self.push(Stage::Reward, reward::VERSION, label, &config, &from)
    }

    fn variant(&mut self, variant: &Variant, annotations: Annotations, budget: usize, judge: Option<usize>) {
        let Reference { seed, policy: reference, responses: reference_responses } = annotations.reference;
        let name = &variant.name;
        let at = format!("budget={budget}/seed={seed}");
        let reward = self.reward(&variant.reward, annotations, format!("reward/{name}/{at}"), false);
        let mix = variant.mix.map(|mix| {
            let kind = Kind::Sequence(Sequence { data: mix.data });
            self.reward(&kind, annotations, format!("reward/{name}/mix/{at}"), false)
        });
        for kl_coef in self.recipe.ppo.kl_coef.values().iter().map(|beta| beta.get()) {
            let at = format!("{name}/kl={kl_coef}/{at}");
            let config = ppo::Config {
                ppo: self.recipe.ppo.without_grid(),
                kl_coef,
                credit: variant.credit,
                mix: variant.mix.map(|mix| mix.weight.get()),
                seed,
                setting: self.setting.clone(),
            };
            let mut from =
                vec![("reference", reference), ("reference_responses", reference_responses), ("reward", reward)];
            from.extend(mix.map(|mix| ("mix", mix)));
            let policy = self.push(Stage::Ppo, ppo::VERSION, format!("ppo/{at}"), &config, &from);
            let config = responses::Config { reference: false, seed, setting: self.setting.clone() };
            let mut from = vec![("reference", reference), ("reward", reward), ("policy", policy)];
            from.extend(mix.map(|mix| ("mix", mix)));
            let responses = self.push(Stage::Responses, responses::VERSION, format!("responses/{at}"), &config, &from);
            let config = judgements::Config { judge: self.recipe.judge.clone(), setting: self.setting.clone() };
            let mut from =
                vec![("reference_responses", reference_responses), ("policy", policy), ("responses", responses)];
            from.extend(judge.map(|judge| ("judge", judge)));
            let judgements =
                self.push(Stage::Judgements, judgements::VERSION, format!("judgements/{at}"), &config, &from);
            let cell = report::Cell { variant: name.clone(), budget, seed, kl_coef };
            self.cells.push((Cell { at: cell, reward, mix, policy, responses, judgements, judge }, annotations));
        }
    }

    fn report(mut self, name: &str) -> Plan {
        let mut inputs: Vec<(String, usize)> = Vec::new();
        for (i, (cell, annotations)) in self.cells.iter().enumerate() {
            let Reference { policy, responses, .. } = annotations.reference;
            let mine = [
                ("reward", cell.reward),
                ("policy", cell.policy),
                ("responses", cell.responses),
                ("judgements", cell.judgements),
                ("labels", annotations.labels),
                ("preferences", annotations.preferences),
                ("reference", policy),
                ("reference_responses", responses),
            ];
            let more = cell.judge.map(|node| ("judge", node)).into_iter().chain(cell.mix.map(|node| ("mix", node)));
            inputs.extend(mine.into_iter().chain(more).map(|(role, node)| (format!("{i}.{role}"), node)));
        }
        // The report says what every stage cost, under the name that the run gave it.
        let stages = self.plan.nodes.iter().enumerate().map(|(node, stage)| (format!("stage.{}", stage.label), node));
        inputs.extend(stages);
        let config = report::Config {
            name: name.to_owned(),
            // How often training saved is no part of what a report says.
            recipe: Recipe { checkpoints: checkpoint::Config::default(), ..self.recipe.clone() },
            cells: self.cells.iter().map(|(cell, _)| cell.at.clone()).collect(),
            setting: self.setting.clone(),
        };
        let inputs: Vec<(&str, usize)> = inputs.iter().map(|(role, node)| (role.as_str(), *node)).collect();
        self.push(Stage::Report, report::VERSION, "report".to_owned(), &config, &inputs);
        self.plan
    }

    /// Adds a node that reads data, tokenizer and `inputs`.
    fn push(
        &mut self,
        stage: Stage,
        version: u32,
        label: String,
        config: &impl Serialize,
        inputs: &[(&str, usize)],
    ) -> usize {
        let base = [("data", self.data), ("tokenizer", self.tokenizer)];
        let inputs: Vec<(&str, usize)> = base.into_iter().chain(inputs.iter().copied()).collect();
        let config: Value = json!(config);
        self.plan.push(stage, version, label, config, &inputs)
    }
}

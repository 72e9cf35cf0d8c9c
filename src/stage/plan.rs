//! From an experiment to its nodes: pure but for the hashes of the files that its recipes name.

mod baselines;
mod opinions;
mod rewards;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::annotator::Templates;
use super::judging::keyed;
use super::merge::merge;
use super::node::{Plan, Stage};
use super::policy::Setting;
use super::{data, edits, judgements, labels, ppo, preferences, report, responses, sft, tokenizer};
use crate::judge::Judge;
use crate::model::checkpoint;
use crate::ppo::Credit;
use crate::recipe::{self, Experiment, Method, Recipe, Run, Start, Variant};
use crate::reward::{Kind, Sequence};
use crate::units::NonNegative;

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
    let primary = recipe.judge.primary().context("a recipe needs a judge, and of several a `judge.primary`")?;
    let further = recipe.judge.further().iter().map(keyed).collect::<Result<_>>()?;
    let mut planner = Planner {
        recipe,
        setting: Setting::of(recipe)?,
        edits: edits::source(recipe)?,
        templates: Templates::of(recipe)?,
        plan,
        data,
        tokenizer,
        primary: keyed(&primary)?,
        further,
        cells: Vec::new(),
    };
    for &seed in &recipe.seeds {
        planner.seed(seed);
    }
    Ok(planner.report(name))
}

/// One trained and judged policy.
struct Cell {
    at: report::Cell,
    /// The roles of its reward models, and their nodes.
    rewards: Vec<(String, usize)>,
    mix: Option<usize>,
    policy: usize,
    responses: usize,
    judgements: usize,
    judge: Option<usize>,
}

struct Planner<'a> {
    recipe: &'a Recipe,
    setting: Setting,
    edits: recipe::EditSource,
    templates: Templates,
    plan: Plan,
    data: usize,
    tokenizer: usize,
    /// As keys know it, like the further ones.
    primary: Judge,
    further: Vec<Judge>,
    cells: Vec<(Cell, Annotations)>,
}

/// The reference of one seed.
#[derive(Clone, Copy, Debug)]
struct Reference {
    seed: u64,
    policy: usize,
    responses: usize,
}

/// Where variants are compared: one seed, one budget, and the reward model that judges there, if any does.
#[derive(Clone, Copy, Debug)]
struct Place {
    reference: Reference,
    budget: usize,
    judge: Option<usize>,
}

/// What was annotated in one round at one seed and budget.
#[derive(Clone, Debug)]
struct Annotations {
    reference: Reference,
    /// Annotated prompts of this round.
    budget: usize,
    /// `budget=1000/seed=0`, after what tells a later round from others.
    at: String,
    preferences: usize,
    labels: usize,
}

/// A round of annotation: whose responses, and which prompts.
struct Round {
    policy: usize,
    budget: usize,
    /// Prompts that earlier rounds have annotated.
    skip: usize,
    at: String,
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
            let judge = self.judge(reference, budget);
            let place = Place { reference, budget, judge };
            for run in self.recipe.runs() {
                for coefficient in run.variant.coefficients(&self.recipe.ppo) {
                    match run.variant.method() {
                        Some(Method::Ppo(_, credit)) => self.ppo(&run, credit, coefficient, place),
                        Some(Method::BestOfN(kind, n)) => self.best_of_n(&run.name, kind, n, place),
                        Some(Method::Dpo(table)) => self.dpo(&run.name, table, coefficient, place),
                        None => {}
                    }
                }
            }
        }
    }

    fn annotations(&mut self, reference: Reference, round: Round) -> Annotations {
        let (recipe, seed, Round { policy, budget, skip, at }) = (self.recipe, reference.seed, round);
        let (source, templates) = (recipe.preferences.deciding(), self.templates.preferences.clone());
        let config = preferences::Config { source, budget, skip, seed, setting: self.setting.clone(), templates };
        let from = match recipe.preferences {
            recipe::PreferenceSource::Simulated(_) | recipe::PreferenceSource::Llm(_)
                if self.adapts() && policy != reference.policy =>
            {
                vec![("policy", policy), ("reference", reference.policy)]
            }
            recipe::PreferenceSource::Simulated(_) | recipe::PreferenceSource::Llm(_) => vec![("policy", policy)],
            recipe::PreferenceSource::Dataset(_) => vec![],
        };
        let preferences =
            self.push(Stage::Preferences, preferences::VERSION, format!("preferences/{at}"), &config, &from);
        let (source, template) = (self.edits.clone(), self.templates.edits.clone());
        let config = edits::Config { source, budget, seed, template };
        let from = match recipe.edits {
            recipe::EditSource::Simulated(_)
            | recipe::EditSource::Chosen(_)
            | recipe::EditSource::Annotations(_)
            | recipe::EditSource::Llm(_) => {
                vec![("preferences", preferences)]
            }
            recipe::EditSource::Dataset(_) => vec![],
        };
        let edits = self.push(Stage::Edits, edits::VERSION, format!("edits/{at}"), &config, &from);
        let unit = crate::labels::Config { unit: recipe.labels.unit };
        let config = labels::Config { labels: unit, setting: self.setting.clone() };
        let labels = self.push(Stage::Labels, labels::VERSION, format!("labels/{at}"), &config, &[("edits", edits)]);
        Annotations { reference, budget, at, preferences, labels }
    }

    /// Whether networks are adapters of the reference, which has to be there wherever one is read.
    fn adapts(&self) -> bool {
        self.recipe.policy.as_ref().is_some_and(|start| start.lora.is_some())
    }

    /// A variant at one KL coefficient: annotations, reward model and policy, round by round.
    fn ppo(&mut self, run: &Run, credit: Credit, kl_coef: f64, place: Place) {
        let (Run { name, variant, rounds: n }, Place { reference, budget, judge }) = (run, place);
        let seed = reference.seed;
        let whole = format!("budget={budget}/seed={seed}");
        let part = budget / n;
        let at = format!("budget={part}/seed={seed}");
        let mut rounds =
            vec![self.annotations(reference, Round { policy: reference.policy, budget: part, skip: 0, at })];
        let mut start = None;
        for round in 1..=*n {
            let here = if *n == 1 { name.clone() } else { format!("{name}/round={round}") };
            // Later rounds learn from what this coefficient's policy said.
            let models = if round == 1 { format!("{here}/{whole}") } else { format!("{here}/kl={kl_coef}/{whole}") };
            let rewards = self.rewards(variant, &rounds, &models);
            let mix = variant.mix.map(|mix| {
                let kind = Kind::Sequence(Sequence { data: mix.data });
                let (first, rest) = models.split_once('/').unwrap_or((&models, ""));
                self.reward(&kind, &rounds, format!("reward/{first}/mix/{rest}"), false, &[])
            });
            let at = format!("{here}/kl={kl_coef}/{whole}");
            let inputs = Trained { rewards, mix, start };
            let policy = self.policy(variant, credit, reference, &inputs, kl_coef, &at);
            let cell =
                report::Cell { variant: name.clone(), budget, seed, kl_coef, round: (round < *n).then_some(round) };
            self.judged(cell, &rounds[0], inputs, policy, judge, &at);
            if round < *n {
                let next = Round { policy, budget: part, skip: part * round, at: at.replace("/round=", "/after=") };
                rounds.push(self.annotations(reference, next));
                start = self.recipe.rounds.filter(|rounds| rounds.start == Start::Policy).map(|_| policy);
            }
        }
    }

    fn policy(
        &mut self,
        variant: &Variant,
        credit: Credit,
        reference: Reference,
        trained: &Trained,
        kl_coef: f64,
        at: &str,
    ) -> usize {
        let categories = self.recipe.labels.spans.iter().flat_map(|spans| &spans.categories);
        let weights = categories.map(|category| (category.name.clone(), category.weight.get())).collect();
        let spans = match variant.reward {
            Some(Kind::Spans(spans)) => Some(ppo::SpanRewards { spans, weights }),
            _ => None,
        };
        let config = ppo::Config {
            ppo: self.recipe.ppo.without_grid(),
            kl_coef,
            credit,
            mix: variant.mix.map(|mix| mix.weight.get()),
            spans,
            length_penalty: variant.length_penalty.map(NonNegative::get),
            seed: reference.seed,
            setting: self.setting.clone(),
        };
        let mut from = vec![("reference", reference.policy), ("reference_responses", reference.responses)];
        from.extend(trained.models());
        from.extend(trained.start.map(|start| ("start", start)));
        self.push(Stage::Ppo, ppo::VERSION, format!("ppo/{at}"), &config, &from)
    }

    /// What a policy answers, and what that is worth.
    fn judged(
        &mut self,
        cell: report::Cell,
        annotations: &Annotations,
        trained: Trained,
        policy: usize,
        judge: Option<usize>,
        at: &str,
    ) {
        let Reference { seed, policy: reference, .. } = annotations.reference;
        let config = responses::Config { reference: false, seed, setting: self.setting.clone() };
        let mut from = vec![("reference", reference)];
        let (rewards, mix): (Vec<_>, Vec<_>) = trained.models().partition(|(role, _)| *role != "mix");
        from.extend(rewards);
        from.push(("policy", policy));
        from.extend(mix);
        let responses = self.push(Stage::Responses, responses::VERSION, format!("responses/{at}"), &config, &from);
        self.compared(cell, annotations, trained, [policy, responses], judge, at);
    }

    /// What the primary judge says of responses beside the reference's; the report compares them.
    fn compared(
        &mut self,
        cell: report::Cell,
        annotations: &Annotations,
        trained: Trained,
        [policy, responses]: [usize; 2],
        judge: Option<usize>,
        at: &str,
    ) {
        let Reference { policy: reference, responses: reference_responses, .. } = annotations.reference;
        let config = judgements::Config { judge: self.primary.clone(), setting: self.setting.clone() };
        let mut from = vec![("reference_responses", reference_responses), ("policy", policy), ("responses", responses)];
        let model = judge.filter(|_| matches!(self.primary, Judge::RewardModel(_)));
        from.extend(model.map(|model| ("judge", model)));
        if self.adapts() {
            from.extend(model.map(|_| ("reference", reference)));
        }
        let judgements = self.push(Stage::Judgements, judgements::VERSION, format!("judgements/{at}"), &config, &from);
        let Trained { rewards, mix, .. } = trained;
        let cell = Cell { at: cell, rewards, mix, policy, responses, judgements, judge };
        self.cells.push((cell, annotations.clone()));
    }

    fn report(mut self, name: &str) -> Plan {
        let mut inputs: Vec<(String, usize)> = self.opinions();
        for (i, (cell, annotations)) in self.cells.iter().enumerate() {
            let Reference { policy, responses, .. } = annotations.reference;
            let mine = [
                ("policy", cell.policy),
                ("responses", cell.responses),
                ("judgements", cell.judgements),
                ("labels", annotations.labels),
                ("preferences", annotations.preferences),
                ("reference", policy),
                ("reference_responses", responses),
            ];
            let rewards = cell.rewards.iter().map(|(role, node)| (role.as_str(), *node));
            let more = cell.judge.map(|node| ("judge", node)).into_iter().chain(cell.mix.map(|node| ("mix", node)));
            let more = rewards.chain(more);
            inputs.extend(mine.into_iter().chain(more).map(|(role, node)| (format!("{i}.{role}"), node)));
        }
        // The report says what every stage cost, under the name that the run gave it.
        let stages = self.plan.nodes.iter().enumerate().map(|(node, stage)| (format!("stage.{}", stage.label), node));
        inputs.extend(stages);
        let config = report::Config {
            name: name.to_owned(),
            // How often training saved is no part of what a report says.
            recipe: Recipe { checkpoints: checkpoint::Config::default(), ..self.recipe.without_conduct() },
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

/// What a policy is trained on, and from.
#[derive(Default)]
struct Trained {
    rewards: Vec<(String, usize)>,
    mix: Option<usize>,
    /// The policy to begin with, if not the reference.
    start: Option<usize>,
}

impl Trained {
    /// Its reward models by role.
    fn models(&self) -> impl Iterator<Item = (&str, usize)> {
        let rewards = self.rewards.iter().map(|(role, node)| (role.as_str(), *node));
        rewards.chain(self.mix.map(|mix| ("mix", mix)))
    }
}

/// `role` for the first round, `role.2` and so on for later ones.
fn in_rounds(role: &str, nodes: impl Iterator<Item = usize>) -> Vec<(String, usize)> {
    let name = |round: usize| if round == 1 { role.to_owned() } else { format!("{role}.{round}") };
    nodes.enumerate().map(|(i, node)| (name(i + 1), node)).collect()
}

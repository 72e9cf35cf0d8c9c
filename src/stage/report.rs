//! Stage `report`: collects the numbers of a whole plan and renders them.

mod collect;
mod costs;
mod curves;
mod differences;
mod judges;
mod material;
mod pairs;
mod partial;
mod power;
mod rounds;
mod samples;
mod sweep;

pub use partial::partial_report;
pub use sweep::sweep_report;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use self::collect::{Chosen, Loaded, all_warnings, chosen, grid, keep_common, reward_models, variants};
use self::costs::{costs, provenance};
use self::curves::curves;
use self::differences::differences;
use self::judges::{caution, judged_by, judges};
use self::pairs::{add_letters, comparisons};
use super::annotator::ACCOUNT;
use super::execute::Inputs;
use super::policy::Setting;
use crate::recipe::{Recipe, to_toml};
use crate::report::{AnnotatorResult, LabelAgreement, MissingStage, Report, SftResult, verdict, write};
use crate::store::{Artefact, Workspace};

pub(super) const VERSION: u32 = 7;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) name: String,
    pub(super) recipe: Recipe,
    pub(super) cells: Vec<Cell>,
    pub(super) setting: Setting,
}

/// One trained and judged policy of the plan; its inputs' roles begin with its index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cell {
    pub(super) variant: String,
    pub(super) budget: usize,
    pub(super) seed: u64,
    pub(super) kl_coef: f64,
    /// The round of annotation after which it stands, where others followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) round: Option<usize>,
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace) -> Result<()> {
    let mut cells: Vec<Loaded> =
        config.cells.iter().enumerate().map(|(i, cell)| Loaded::new(i, cell, inputs)).collect::<Result<_>>()?;
    keep_common(&mut cells);
    write(&report(config, inputs, &cells, Vec::new())?, workspace.dir())
}

/// The report on `cells`, which are complete for every variant and budget that they speak of; `missing` are the stages that
/// others would need.
fn report(config: &Config, inputs: &Inputs, cells: &[Loaded], missing: Vec<MissingStage>) -> Result<Report> {
    let (recipe, evaluation) = (&config.recipe, &config.recipe.evaluation);
    let chosen: Vec<Chosen> = chosen(recipe, cells);
    let (judges, agreements) = judges(config, inputs, cells, &chosen)?;
    let mut report = Report {
        recipe: config.name.clone(),
        description: recipe.description.clone(),
        judge: judged_by(&recipe.judge),
        judges,
        agreements,
        confidence: evaluation.confidence.get(),
        bootstrap_samples: evaluation.bootstrap_samples.get(),
        difference: evaluation.difference.get(),
        power: evaluation.power.get(),
        prompts: cells.first().map_or(0, |cell| cell.kept.len()),
        variants: variants(recipe, inputs, &chosen)?,
        comparisons: comparisons(recipe, inputs, &chosen)?,
        grid: grid(recipe, cells, &chosen),
        annotators: annotators(inputs)?,
        rounds: rounds::rounds(recipe, cells, &chosen)?,
        curves: curves(recipe, inputs, &chosen),
        reward_models: reward_models(recipe, cells, &chosen),
        label_agreement: agreement(inputs, cells)?,
        samples_seed: samples::samples_seed(),
        heatmaps: samples::heatmaps(config, inputs, &chosen)?,
        examples: samples::examples(inputs, &chosen)?,
        differences: differences(recipe),
        sft: reference(inputs, cells)?,
        missing,
        stages: costs(inputs)?,
        recipe_toml: to_toml(recipe),
        provenance: provenance(config),
        warnings: all_warnings(cells, &chosen),
        ..Report::default()
    };
    add_letters(&mut report.variants, &report.comparisons, evaluation.confidence.get());
    material::add(&mut report, config, inputs, cells)?;
    report.verdict = verdict(&report);
    report.verdict.extend(caution(config, &report.judges));
    Ok(report)
}

/// The accounts of all stages that asked a language model.
fn annotators(inputs: &Inputs) -> Result<Vec<AnnotatorResult>> {
    let asked = inputs.artefacts("stage.").filter(|(_, artefact)| artefact.manifest.files.contains_key(ACCOUNT));
    let account = |(label, artefact): (&str, &Artefact)| {
        Ok(AnnotatorResult { stage: label.to_owned(), ..artefact.read_json(ACCOUNT)? })
    };
    asked.map(account).collect()
}

/// The reference's own numbers, means over seeds.
fn reference(inputs: &Inputs, cells: &[Loaded]) -> Result<SftResult> {
    let (mut losses, mut faults, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = Vec::new();
    for cell in cells {
        if seen.contains(&cell.at.seed) {
            continue;
        }
        seen.push(cell.at.seed);
        let metrics: Vec<serde_json::Value> = cell.artefact(inputs, "reference")?.read_jsonl("metrics.jsonl")?;
        // One batch is noise: the last twenty steps are the end of training.
        let tail = metrics.iter().rev().take(20).filter_map(|line| line["values"]["loss"].as_f64()).collect::<Vec<_>>();
        losses.extend(mean(&tail));
        let summary: super::responses::Summary =
            cell.artefact(inputs, "reference_responses")?.read_json("summary.json")?;
        lengths.push(summary.habits.length);
        let counts: Vec<f64> = cell
            .judgements
            .judged
            .reference
            .iter()
            .filter_map(|verdict| Some(verdict.faults.as_ref()?.len() as f64))
            .collect();
        faults.extend(mean(&counts));
    }
    Ok(SftResult { final_loss: mean(&losses), faults: mean(&faults), mean_length: mean(&lengths) })
}

/// Agreement of edit labels with human error spans: one and the same for all cells.
fn agreement(inputs: &Inputs, cells: &[Loaded]) -> Result<Option<LabelAgreement>> {
    let Some(cell) = cells.first() else { return Ok(None) };
    Ok(cell.artefact(inputs, "labels")?.read_json("agreement.json")?)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

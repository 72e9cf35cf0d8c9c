//! Stage `report`: collects the numbers of a whole plan and renders them.

mod collect;
mod power;
mod samples;
mod sweep;

pub use sweep::sweep_report;

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use self::collect::{Chosen, Loaded, all_warnings, chosen, comparisons, curves, grid, reward_models, variants};
use super::execute::Inputs;
use super::policy::{Setting, dataset};
use super::reward::Evaluation;
use crate::data::Skipped;
use crate::judge;
use crate::recipe::{Recipe, to_toml};
use crate::report::{DataCount, LabelAgreement, Provenance, Report, SftResult, StageCost, verdict, write};
use crate::store::{self, Artefact, Workspace};

pub(super) const VERSION: u32 = 4;

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
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace) -> Result<()> {
    let cells: Vec<Loaded> =
        config.cells.iter().enumerate().map(|(i, cell)| Loaded::new(i, cell, inputs)).collect::<Result<_>>()?;
    let chosen: Vec<Chosen> = chosen(&config.recipe, &cells);
    let mut report = Report {
        recipe: config.name.clone(),
        description: config.recipe.description.clone(),
        judge: judged_by(&config.recipe.judge).to_owned(),
        confidence: config.recipe.evaluation.confidence.get(),
        bootstrap_samples: config.recipe.evaluation.bootstrap_samples.get(),
        difference: config.recipe.evaluation.difference.get(),
        power: config.recipe.evaluation.power.get(),
        prompts: cells.first().map_or(0, |cell| cell.judgements.test.len()),
        variants: variants(&config.recipe, inputs, &chosen)?,
        comparisons: comparisons(&config.recipe, &chosen)?,
        grid: grid(&config.recipe, &cells, &chosen),
        curves: curves(&config.recipe, &chosen),
        reward_models: reward_models(&config.recipe, &cells),
        label_agreement: agreement(inputs, &cells)?,
        heatmaps: samples::heatmaps(config, inputs, &chosen)?,
        examples: samples::examples(inputs, &chosen)?,
        sft: reference(inputs, &cells)?,
        data: counts(inputs, &cells)?,
        stages: costs(inputs),
        recipe_toml: to_toml(&config.recipe),
        provenance: provenance(config),
        warnings: all_warnings(&cells, &chosen),
        ..Report::default()
    };
    report.verdict = verdict(&report);
    report.verdict.extend(caution(config, inputs, &cells)?);
    write(&report, workspace.dir())
}

/// Who decides comparisons, in words.
const fn judged_by(judge: &judge::Config) -> &'static str {
    match judge {
        judge::Config::Oracle(_) => "oracle: fewer faults win, equal counts draw",
        judge::Config::RewardModel(_) => "reward model trained on held-out preferences: the higher score wins",
    }
}

/// What a win rate cannot show where the judge was learned, with how well it was: its accuracy on the pairs that the
/// variants learned from and it did not.
fn caution(config: &Config, inputs: &Inputs, cells: &[Loaded]) -> Result<Option<String>> {
    let judge::Config::RewardModel(_) = config.recipe.judge else { return Ok(None) };
    let mut accuracies = Vec::new();
    for cell in cells {
        let evaluation: Evaluation = cell.artefact(inputs, "judge")?.read_json("evaluation.json")?;
        accuracies.extend(evaluation.preference_accuracy);
    }
    let right = mean(&accuracies).map_or_else(String::new, |mean| {
        format!(" It is right on {:.1} % of preference pairs that it has not seen, where chance is 50.", 100.0 * mean)
    });
    Ok(Some(format!(
        "The judge is a reward model no larger than the policies, trained on held-out preferences.{right} Win rates say whose \
         responses it scores higher, not whether people would prefer them."
    )))
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

fn counts(inputs: &Inputs, cells: &[Loaded]) -> Result<Vec<DataCount>> {
    let data = dataset(inputs)?;
    let count = |name: &str, count| DataCount { name: name.to_owned(), count };
    let mut counts = vec![
        count("demonstrations", data.demonstrations.len()),
        count("training prompts", data.train.len()),
        count("validation prompts", data.validation.len()),
        count("test prompts", data.test.len()),
    ];
    let mut skipped: BTreeMap<_, usize> = BTreeMap::new();
    let source = inputs.artefact("data")?;
    // Results of worlds that were made before rows could be skipped have no such file.
    if source.manifest.files.contains_key("skipped.jsonl") {
        for row in source.read_jsonl::<Skipped>("skipped.jsonl")? {
            *skipped.entry(row.kind).or_default() += 1;
        }
    }
    counts.extend(skipped.into_iter().map(|(kind, n)| count(&format!("rows skipped: {}", kind.words()), n)));
    let mut seen = Vec::new();
    for cell in cells {
        let at = (cell.at.budget, cell.at.seed);
        if seen.contains(&at) {
            continue;
        }
        seen.push(at);
        let lines = |role: &str, file: &str| -> Result<usize> {
            Ok(cell.artefact(inputs, role)?.read_jsonl::<serde::de::IgnoredAny>(file)?.len())
        };
        let at = format!("{} annotated prompts, seed {}", at.0, at.1);
        counts.push(count(&format!("preference pairs of {at}"), lines("preferences", "preferences.jsonl")?));
        counts.push(count(&format!("labelled edits of {at}"), lines("labels", "labels.jsonl")?));
    }
    Ok(counts)
}

/// What every result in the plan cost when it was made.
fn costs(inputs: &Inputs) -> Vec<StageCost> {
    let cost = |(label, artefact): (&str, &Artefact)| StageCost {
        label: label.to_owned(),
        wall_seconds: Some(artefact.manifest.provenance.wall_seconds),
        peak_memory_bytes: artefact.manifest.provenance.peak_memory_bytes,
        cached: !artefact.fresh,
    };
    inputs.artefacts("stage.").map(cost).collect()
}

fn provenance(config: &Config) -> Provenance {
    let here = store::Provenance::here(&config.setting.backend, 0.0);
    Provenance {
        version: here.runner,
        commit: here.commit,
        dirty: here.dirty,
        device: here.device,
        threads: Some(here.threads),
        command_line: without_folder(&here.command_line),
        date: date(here.started),
        wall_seconds: None,
    }
}

/// The command with its program's name only: where a machine keeps its programs is nobody's business.
fn without_folder(command_line: &str) -> String {
    let (program, arguments) = command_line.split_once(' ').unwrap_or((command_line, ""));
    let name = program.rsplit('/').next().unwrap_or(program);
    format!("{name} {arguments}").trim_end().to_owned()
}

/// The day of a moment given in seconds since 1970-01-01, in UTC: `2026-02-28`.
///
/// Counts in years that begin in March, so that a leap day is the last of its year.
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{}-{month:02}-{day:02}", era * 400 + year + u64::from(month <= 2))
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_through_leap_years() {
        let day = 86_400;
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!([date(1_709_164_800), date(1_709_164_800 + day)], ["2024-02-29", "2024-03-01"]);
        assert_eq!([date(1_735_689_600 - 1), date(1_735_689_600)], ["2024-12-31", "2025-01-01"]);
    }

    #[test]
    fn a_command_is_shown_without_its_folder() {
        assert_eq!(without_folder("target/release/runner run a/b.toml"), "runner run a/b.toml");
        assert_eq!(without_folder("runner"), "runner");
    }
}

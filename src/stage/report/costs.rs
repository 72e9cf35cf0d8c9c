//! What stages cost, read back from the manifests and metrics of their results, and where the report comes from.

use anyhow::Result;
use serde::Deserialize;

use super::super::execute::Inputs;
use super::Config;
use crate::data::Response;
use crate::report::{Mark, Provenance, StageCost};
use crate::store::{self, Artefact};

/// What every result in the plan cost when it was made.
pub(super) fn costs(inputs: &Inputs) -> Result<Vec<StageCost>> {
    let cost = |(label, artefact): (&str, &Artefact)| {
        let made = &artefact.manifest.provenance;
        let trained = lines(artefact)?;
        let marks = made.marks.iter().map(|&(step, seconds)| Mark { step, seconds });
        Ok(StageCost {
            label: label.to_owned(),
            stage: artefact.manifest.stage.clone(),
            wall_seconds: Some(made.wall_seconds),
            started: Some(made.started),
            tokens: tokens(artefact, &trained)?,
            padding: padding(&trained),
            peak_memory_bytes: made.peak_memory_bytes,
            cached: !artefact.fresh,
            marks: marks.collect(),
        })
    };
    inputs.artefacts("stage.").map(cost).collect()
}

#[derive(Deserialize)]
struct Line {
    values: Values,
}

#[derive(Deserialize)]
struct Values {
    tokens: Option<f64>,
    padding: Option<f64>,
}

/// The metrics of a stage that is trained; none of another.
fn lines(artefact: &Artefact) -> Result<Vec<Values>> {
    if !artefact.manifest.files.contains_key("metrics.jsonl") {
        return Ok(Vec::new());
    }
    let lines: Vec<Line> = artefact.read_jsonl("metrics.jsonl")?;
    Ok(lines.into_iter().map(|line| line.values).collect())
}

/// The mean share of padding, weighted by tokens.
fn padding(trained: &[Values]) -> Option<f64> {
    let known = trained.iter().filter_map(|values| Some((values.tokens?, values.padding?)));
    let (sum, weight) =
        known.fold((0.0, 0.0), |(sum, weight), (tokens, share)| (sum + tokens * share, weight + tokens));
    (weight > 0.0).then(|| sum / weight)
}

/// Response tokens that a stage was trained on or, in PPO and responses, sampled.
fn tokens(artefact: &Artefact, trained: &[Values]) -> Result<Option<u64>> {
    let has = |file: &str| artefact.manifest.files.contains_key(file);
    if has("metrics.jsonl") {
        let sum: Option<f64> = trained.iter().map(|values| values.tokens).sum();
        #[allow(clippy::cast_sign_loss, reason = "a sum of counts")]
        return Ok(sum.filter(|sum| *sum > 0.0).map(|sum| sum as u64));
    }
    if artefact.manifest.stage != "responses" {
        return Ok(None);
    }
    let mut sum = 0;
    for file in ["test.jsonl", "validation.jsonl", "calibration.jsonl"].into_iter().filter(|file| has(file)) {
        sum += artefact.read_jsonl::<Response>(file)?.iter().map(|response| response.ids.len() as u64).sum::<u64>();
    }
    if has("best_of.jsonl") {
        let all: Vec<Vec<Response>> = artefact.read_jsonl("best_of.jsonl")?;
        sum += all.iter().flatten().map(|response| response.ids.len() as u64).sum::<u64>();
    }
    Ok(Some(sum))
}

pub(super) fn provenance(config: &Config) -> Provenance {
    let here = store::Provenance::here(&config.setting.backend, 0.0);
    Provenance {
        version: here.runner,
        commit: here.commit,
        dirty: here.dirty,
        device: here.device,
        threads: Some(here.threads),
        command_line: by_name(&here.command_line),
        date: date(here.started),
        wall_seconds: None,
    }
}

/// The command by the program's own name: where a machine keeps its programs, and how it calls them, is nobody's business.
fn by_name(command_line: &str) -> String {
    let arguments = command_line.split_once(' ').map_or("", |(_, arguments)| arguments);
    format!("runner {arguments}").trim_end().to_owned()
}

/// The day of a moment given in seconds since 1970-01-01, in UTC: `2026-02-28`.
fn date(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    moment.map_or_else(String::new, |moment| moment.format("%Y-%m-%d").to_string())
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
    }

    #[test]
    fn a_command_is_shown_without_its_folder() {
        assert_eq!(by_name("target/release/runner run a/b.toml"), "runner run a/b.toml");
        assert_eq!(by_name("runner"), "runner");
    }
}

//! The data behind a report: how much there is, how long it is, what edits change, and what could not be used.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::super::execute::Inputs;
use super::super::policy::dataset;
use super::Config;
use super::collect::Loaded;
use crate::data::{Dataset, Preference, Skipped};
use crate::labels::{Label, LabelledEdit, response_ids};
use crate::report::{DataCount, EditStatistics, Lengths, Report, SkippedRows};
use crate::text::Tokenizer;

/// Bins of a histogram of lengths.
const BINS: usize = 24;
/// Distances that are counted one by one; the last bin holds the larger ones.
const DISTANCES: usize = 24;

/// Adds all that is known of the data to `report`.
pub(super) fn add(report: &mut Report, config: &Config, inputs: &Inputs, cells: &[Loaded]) -> Result<()> {
    let (data, tokenizer) = (dataset(inputs)?, config.setting.tokenizer(inputs)?);
    // Cells of one seed and budget have the same annotations.
    let mut seen = BTreeSet::new();
    let annotated: Vec<&Loaded> = cells.iter().filter(|cell| seen.insert((cell.at.budget, cell.at.seed))).collect();
    report.data = counts(&data);
    let mut by_budget: BTreeMap<usize, Vec<LabelledEdit>> = BTreeMap::new();
    let mut preferences: Vec<Preference> = Vec::new();
    for cell in annotated {
        let pairs: Vec<Preference> = cell.artefact(inputs, "preferences")?.read_jsonl("preferences.jsonl")?;
        let edits: Vec<LabelledEdit> = cell.artefact(inputs, "labels")?.read_jsonl("labels.jsonl")?;
        let at = format!("{} annotated prompts, seed {}", cell.at.budget, cell.at.seed);
        report.data.push(DataCount { name: format!("preference pairs of {at}"), count: pairs.len() });
        report.data.push(DataCount { name: format!("labelled edits of {at}"), count: edits.len() });
        preferences.extend(pairs);
        by_budget.entry(cell.at.budget).or_default().extend(edits);
    }
    let edits = || by_budget.values().flatten();
    report.lengths = of_dataset(&data, config, &tokenizer);
    report.lengths.extend([
        lengths("preferred responses", preferences.iter().map(|pair| response_ids(&pair.chosen, &tokenizer).len())),
        lengths(
            "less preferred responses",
            preferences.iter().map(|pair| response_ids(&pair.rejected, &tokenizer).len()),
        ),
        lengths("originals of edits", edits().map(|edit| edit.original_ids.len())),
        lengths("edited responses", edits().map(|edit| edit.edited_ids.len())),
    ]);
    report.lengths.retain(|lengths| lengths.count > 0);
    report.edits = by_budget.iter().map(|(budget, edits)| statistics(*budget, edits)).collect();
    report.skipped = skipped(inputs)?;
    let skipped = report.skipped.iter();
    let skipped = skipped.map(|rows| DataCount { name: format!("rows skipped: {}", rows.reason), count: rows.count });
    report.data.extend(skipped);
    Ok(())
}

fn counts(data: &Dataset) -> Vec<DataCount> {
    let counts = [
        ("demonstrations", data.demonstrations.len()),
        ("training prompts", data.train.len()),
        ("validation prompts", data.validation.len()),
        ("test prompts", data.test.len()),
    ];
    counts.map(|(name, count)| DataCount { name: name.to_owned(), count }).to_vec()
}

fn of_dataset(data: &Dataset, config: &Config, tokenizer: &Tokenizer) -> Vec<Lengths> {
    let prompts = [&data.train, &data.validation, &data.test].into_iter().flatten();
    let prompt = |text: &str| tokenizer.encode_prompt(text, config.setting.max_prompt_tokens).len();
    vec![
        lengths("prompts", prompts.map(|asked| prompt(&asked.text))),
        lengths("demonstrations", data.demonstrations.iter().map(|shown| tokenizer.encode(&shown.response).len())),
    ]
}

fn lengths(name: &str, all: impl Iterator<Item = usize>) -> Lengths {
    let mut all: Vec<usize> = all.collect();
    all.sort_unstable();
    let longest = all.last().copied().unwrap_or(0);
    let bin_width = (longest + 1).div_ceil(BINS).max(1);
    let mut bins = vec![0; longest / bin_width + 1];
    for length in &all {
        bins[length / bin_width] += 1;
    }
    let middle = |i: usize| all.get(i).copied().unwrap_or(0) as f64;
    Lengths {
        name: name.to_owned(),
        count: all.len(),
        mean: all.iter().sum::<usize>() as f64 / all.len().max(1) as f64,
        median: f64::midpoint(middle(all.len().saturating_sub(1) / 2), middle(all.len() / 2)),
        longest,
        bin_width,
        bins,
    }
}

fn statistics(budget: usize, edits: &[LabelledEdit]) -> EditStatistics {
    let n = edits.len().max(1) as f64;
    let mut found = EditStatistics { budget, edits: edits.len(), distances: vec![0; DISTANCES], ..Default::default() };
    for edit in edits {
        let count = |labels: &[Label], wanted| labels.iter().filter(|label| **label == wanted).count();
        let [deleted, substituted, unchanged] =
            [Label::D, Label::S, Label::U].map(|label| count(&edit.original_labels, label));
        let added = count(&edit.edited_labels, Label::A);
        found.mean_distance += edit.distance as f64 / n;
        found.share_changed += (deleted + substituted) as f64 / edit.original_ids.len().max(1) as f64 / n;
        found.distances[edit.distance.min(DISTANCES - 1)] += 1;
        let tokens = [("deleted", deleted), ("substituted", substituted), ("added", added), ("unchanged", unchanged)];
        for (kind, count) in tokens {
            *found.tokens_by_kind.entry(kind.to_owned()).or_default() += count;
        }
        let kind = match [deleted > 0, substituted > 0, added > 0] {
            [true, false, false] => "deletion",
            [false, true, false] => "substitution",
            [false, false, true] => "addition",
            _ => "mixed",
        };
        *found.edits_by_kind.entry(kind.to_owned()).or_default() += 1;
    }
    found
}

fn skipped(inputs: &Inputs) -> Result<Vec<SkippedRows>> {
    let source = inputs.artefact("data")?;
    // Results of worlds that were made before rows could be skipped have no such file.
    if !source.manifest.files.contains_key("skipped.jsonl") {
        return Ok(Vec::new());
    }
    let mut rows: Vec<SkippedRows> = Vec::new();
    for row in source.read_jsonl::<Skipped>("skipped.jsonl")? {
        let reason = row.kind.words();
        if let Some(known) = rows.iter_mut().find(|known| known.reason == reason) {
            known.count += 1;
            continue;
        }
        let example = format!("{}: {}", row.place, row.message);
        rows.push(SkippedRows { reason: reason.to_owned(), count: 1, example });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Prompt;

    #[test]
    fn lengths_are_counted_from_zero_to_the_longest() {
        let found = lengths("texts", [3, 1, 2, 100].into_iter());
        assert_eq!((found.count, found.longest, found.bin_width), (4, 100, 5));
        assert!((found.mean - 26.5).abs() < 1e-12 && (found.median - 2.5).abs() < 1e-12);
        assert_eq!((found.bins[0], found.bins[20], found.bins.iter().sum::<usize>()), (3, 1, 4));
        assert_eq!(lengths("none", std::iter::empty()).count, 0);
    }

    #[test]
    fn edits_are_sorted_by_what_they_do() {
        let labels = |letters: &str| letters.chars().map(|c| Label::try_from(c).unwrap()).collect::<Vec<_>>();
        let edit = |original: &str, edited: &str, distance| LabelledEdit {
            prompt: Prompt { id: 0, text: String::new(), facts: Vec::new() },
            original_ids: vec![1; original.len()],
            edited_ids: vec![1; edited.len()],
            original_labels: labels(original),
            edited_labels: labels(edited),
            original_errors: Vec::new(),
            distance,
        };
        let found = statistics(9, &[edit("UDDU", "UU", 2), edit("UU", "UAU", 1), edit("SUD", "SU", 2)]);
        let kinds: Vec<_> = found.edits_by_kind.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
        assert_eq!(kinds, [("addition", 1), ("deletion", 1), ("mixed", 1)]);
        assert_eq!(found.tokens_by_kind["deleted"], 3);
        assert!((found.mean_distance - 5.0 / 3.0).abs() < 1e-12);
        assert!((found.share_changed - (0.5 + 0.0 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
        assert_eq!(found.distances[..3], [0, 1, 2]);
    }
}

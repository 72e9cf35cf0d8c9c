//! Tables of data and cost.

use super::{Cell, Table};
use crate::report::numbers::{UNKNOWN, duration, fixed, percent};
use crate::report::schema::Report;
use crate::report::{EditStatistics, Lengths, MissingStage, SkippedRows, StageCost};

/// What each kind of stage cost.
pub fn cost(report: &Report) -> Option<Table> {
    let head = [
        ("stage", ""),
        ("results", "results"),
        ("from the store", "cached"),
        ("wall time", "wall_seconds"),
        ("tokens", "stage_tokens"),
        ("tokens/s", "tokens_per_second"),
        ("padding (%)", "padding"),
        ("peak memory", "peak_memory_bytes"),
    ];
    let mut kinds: Vec<&str> = Vec::new();
    for stage in &report.stages {
        if !kinds.contains(&kind(stage)) {
            kinds.push(kind(stage));
        }
    }
    let row = |of: &&str| -> Vec<Cell> {
        let stages: Vec<&StageCost> = report.stages.iter().filter(|stage| kind(stage) == *of).collect();
        let seconds: f64 = stages.iter().filter_map(|stage| stage.wall_seconds).sum();
        let tokens: Option<u64> = stages.iter().map(|stage| stage.tokens).sum();
        let memory = stages.iter().filter_map(|stage| stage.peak_memory_bytes).max();
        vec![
            (*of).into(),
            stages.len().to_string().into(),
            stages.iter().filter(|stage| stage.cached).count().to_string().into(),
            duration(seconds).into(),
            amount(tokens),
            rate(tokens, seconds),
            share(padding(&stages)),
            mebibytes(memory),
        ]
    };
    let table = Table::new("cost", "What each kind of stage cost", 1, &head).with(kinds.iter().map(row));
    table.without_empty_columns().some()
}

/// The kind of a stage; of reports that do not say it, the first word of its label.
pub fn kind(stage: &StageCost) -> &str {
    let first = || stage.label.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    if stage.stage.is_empty() { first() } else { &stage.stage }
}

fn amount(tokens: Option<u64>) -> Cell {
    tokens.map_or_else(|| UNKNOWN.to_owned(), grouped).into()
}

/// A count with thin spaces between thousands.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn rate(tokens: Option<u64>, seconds: f64) -> Cell {
    let rate = tokens.filter(|_| seconds > 0.0).map(|tokens| fixed(tokens as f64 / seconds, 0));
    rate.unwrap_or_else(|| UNKNOWN.to_owned()).into()
}

/// The padding of stages that are trained, weighted by their tokens.
fn padding(stages: &[&StageCost]) -> Option<f64> {
    let known = stages.iter().filter_map(|stage| Some((stage.tokens? as f64, stage.padding?)));
    let (sum, weight) =
        known.fold((0.0, 0.0), |(sum, weight), (tokens, share)| (sum + tokens * share, weight + tokens));
    (weight > 0.0).then(|| sum / weight)
}

fn share(share: Option<f64>) -> Cell {
    share.map_or_else(|| UNKNOWN.to_owned(), percent).into()
}

fn mebibytes(bytes: Option<u64>) -> Cell {
    bytes.map_or_else(|| UNKNOWN.to_owned(), |bytes| format!("{} MiB", bytes >> 20)).into()
}

/// What every stage cost.
pub fn stages(report: &Report) -> Option<Table> {
    let head = [
        ("stage", ""),
        ("from", ""),
        ("wall time", "wall_seconds"),
        ("tokens", "stage_tokens"),
        ("tokens/s", "tokens_per_second"),
        ("padding (%)", "padding"),
        ("peak memory", "peak_memory_bytes"),
    ];
    let row = |stage: &StageCost| -> Vec<Cell> {
        let seconds = stage.wall_seconds;
        vec![
            stage.label.as_str().into(),
            if stage.cached { "the store" } else { "this run" }.into(),
            seconds.map_or_else(|| UNKNOWN.to_owned(), duration).into(),
            amount(stage.tokens),
            rate(stage.tokens, seconds.unwrap_or(0.0)),
            share(stage.padding),
            mebibytes(stage.peak_memory_bytes),
        ]
    };
    let table = Table::new("stages", "What every stage cost", 2, &head).with(report.stages.iter().map(row));
    table.without_empty_columns().some()
}

/// Stages without a result.
pub fn missing(report: &Report) -> Option<Table> {
    let row = |stage: &MissingStage| -> Vec<Cell> {
        let error = stage.error.as_deref().unwrap_or_default();
        vec![stage.label.as_str().into(), stage.status.as_str().into(), error.into()]
    };
    let caption = "Failed and missing runs: what is made from them is in no number of this report";
    Table::new("missing", caption, 3, &[("stage", ""), ("status", ""), ("error", "")])
        .with(report.missing.iter().map(row))
        .some()
}

/// Sizes of the data; counts of single seeds and budgets as ranges.
pub fn data(report: &Report) -> Option<Table> {
    let mut rows: Vec<(String, usize, usize)> = Vec::new();
    for part in &report.data {
        let name = part.name.split(" of ").next().unwrap_or(&part.name);
        let budget = part.name.split(" of ").nth(1).and_then(|rest| rest.split(", seed").next());
        let name = budget.map_or_else(|| name.to_owned(), |budget| format!("{name} of {budget}, a seed"));
        match rows.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, low, high)) => (*low, *high) = ((*low).min(part.count), (*high).max(part.count)),
            None => rows.push((name, part.count, part.count)),
        }
    }
    let row = |(name, low, high): (String, usize, usize)| -> Vec<Cell> {
        let count = if low == high { low.to_string() } else { format!("{low} to {high}") };
        vec![name.into(), count.into()]
    };
    Table::new("data", "Sizes of the data", 1, &[("data", ""), ("count", "count")])
        .with(rows.into_iter().map(row))
        .some()
}

/// How long texts are.
pub fn lengths(report: &Report) -> Option<Table> {
    let head = [("texts", ""), ("count", "count"), ("mean", "length"), ("median", "length"), ("longest", "length")];
    let row = |lengths: &Lengths| -> Vec<Cell> {
        vec![
            lengths.name.as_str().into(),
            lengths.count.to_string().into(),
            fixed(lengths.mean, 1).into(),
            fixed(lengths.median, 1).into(),
            lengths.longest.to_string().into(),
        ]
    };
    Table::new("lengths", "Lengths in tokens", 1, &head).with(report.lengths.iter().map(row)).some()
}

/// What edits change.
pub fn edits(report: &Report) -> Option<Table> {
    let head = [
        ("annotations", "annotations"),
        ("edits", "edits"),
        ("distance", "mean_distance"),
        ("changed (%)", "share_changed"),
        ("tokens deleted", "tokens_by_kind"),
        ("substituted", "tokens_by_kind"),
        ("added", "tokens_by_kind"),
        ("only deletions (%)", "edits_by_kind"),
        ("only additions (%)", "edits_by_kind"),
        ("only substitutions (%)", "edits_by_kind"),
        ("mixed (%)", "edits_by_kind"),
    ];
    let row = |edits: &EditStatistics| -> Vec<Cell> {
        let tokens = |kind: &str| edits.tokens_by_kind.get(kind).copied().unwrap_or(0).to_string().into();
        let share = |kind: &str| {
            let count = edits.edits_by_kind.get(kind).copied().unwrap_or(0);
            percent(count as f64 / edits.edits.max(1) as f64).into()
        };
        vec![
            edits.budget.to_string().into(),
            edits.edits.to_string().into(),
            fixed(edits.mean_distance, 1).into(),
            percent(edits.share_changed).into(),
            tokens("deleted"),
            tokens("substituted"),
            tokens("added"),
            share("deletion"),
            share("addition"),
            share("substitution"),
            share("mixed"),
        ]
    };
    Table::new("edits", "What edits change, all seeds together", 0, &head).with(report.edits.iter().map(row)).some()
}

/// Rows that could not be used, and why.
pub fn skipped(report: &Report) -> Option<Table> {
    let row = |rows: &SkippedRows| -> Vec<Cell> {
        vec![rows.reason.as_str().into(), rows.example.as_str().into(), rows.count.to_string().into()]
    };
    Table::new(
        "skipped",
        "Rows of the dataset that could not be used",
        2,
        &[("reason", ""), ("the first one", ""), ("rows", "count")],
    )
    .with(report.skipped.iter().map(row))
    .some()
}

/// Where the report comes from, as (name, value).
pub fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let p = &report.provenance;
    let commit = p.commit.as_deref().unwrap_or("unknown");
    let changed = if p.dirty == Some(true) { " with changes" } else { "" };
    let threads = p.threads.map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string());
    vec![
        ("version", format!("{}, commit {commit}{changed}", p.version)),
        ("device", format!("{}, {threads} threads", p.device)),
        ("date", p.date.clone()),
        ("intervals", format!("{} bootstrap resamples", report.bootstrap_samples)),
        ("samples", format!("drawn with seed {}", report.samples_seed)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    #[test]
    fn stages_are_summed_by_kind() {
        let rows = cost(&report()).unwrap().rows;
        assert_eq!(
            rows.iter().map(|row| row[0].text.as_str()).collect::<Vec<_>>(),
            ["data", "sft", "reward", "ppo", "report"]
        );
        assert_eq!((rows[1][1].text.as_str(), rows[1][2].text.as_str()), ("1", "1"));
        assert_eq!((rows[3][4].text.as_str(), rows[3][5].text.as_str()), ("90\u{202f}000", "2821"));
    }

    #[test]
    fn counts_of_seeds_are_a_range() {
        let mut report = report();
        let part = |name: &str, count| crate::report::DataCount { name: name.to_owned(), count };
        report.data = vec![
            part("test prompts", 5),
            part("preference pairs of 24 annotated prompts, seed 0", 20),
            part("preference pairs of 24 annotated prompts, seed 1", 22),
        ];
        let rows = data(&report).unwrap().rows;
        assert_eq!(
            rows[1].iter().map(|cell| cell.text.as_str()).collect::<Vec<_>>(),
            ["preference pairs of 24 annotated prompts, a seed", "20 to 22"]
        );
    }
}

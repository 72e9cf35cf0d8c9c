//! `runner ls` and `runner tag`: the runs of a store, and names for them. And how every command finds the run it is given.
//!
//! Reads summaries only, so that a thousand runs are listed at once.

use std::collections::BTreeMap;

use clap::Args;
use serde::Deserialize;
use serde::de::value::{Error as Refused, StrDeserializer};
use serde_json::json;

use super::StoreArgs;
use super::grid::{Cell, FormatArgs, Grid};
use super::output::{Failure, ago, note, now};
use crate::launch::{Frozen, Headline, State, Summaries, Summary, names};
use crate::store::Store;

#[derive(Args)]
pub(super) struct LsArgs {
    /// Only runs of recipes whose name fits, as in `--name 'fine*'`
    #[arg(long, value_name = "GLOB")]
    name: Option<String>,
    /// Only runs in this state: running, queued, done, failed, interrupted, incomplete
    #[arg(long, value_parser = state)]
    state: Option<State>,
    /// Only runs with a tag that fits
    #[arg(long, value_name = "GLOB")]
    tag: Option<String>,
    /// At most this many
    #[arg(short = 'n', value_name = "N")]
    most: Option<usize>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Args)]
pub(super) struct TagArgs {
    /// The run: its id, a tag, or a recipe's name for its last run; without one, tags are listed
    #[arg(requires = "name", conflicts_with = "delete")]
    run: Option<String>,
    /// The tag: letters, digits, `-` and `_`
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Take a tag away; its run stays
    #[arg(long, value_name = "NAME")]
    delete: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) fn ls(args: &LsArgs) -> Result<(), Failure> {
    let store = args.store.open()?;
    let tags = tags_by_run(&store)?;
    let none = Vec::new();
    let mut grid = Grid::new(&["run", "tags", "state", "stages", "headline", "active"]);
    for summary in Summaries::of(&store).all()? {
        let tags = tags.get(&summary.id).unwrap_or(&none);
        let fits = args.name.as_ref().is_none_or(|glob| fits(glob, &summary.name))
            && args.state.is_none_or(|state| state == summary.state)
            && args.tag.as_ref().is_none_or(|glob| tags.iter().any(|tag| fits(glob, tag)));
        if fits && args.most.is_none_or(|most| grid.rows.len() < most) {
            grid.rows.push(row(&summary, tags));
        }
    }
    if grid.rows.is_empty() && !args.format.json {
        let such = if args.name.is_some() || args.state.is_some() || args.tag.is_some() { "such " } else { "" };
        note(format!("`{}` holds no {such}runs", store.root().display()));
        return Ok(());
    }
    grid.print(&args.format)
}

fn row(summary: &Summary, tags: &[String]) -> Vec<Cell> {
    let failed = if summary.failed == 0 { String::new() } else { format!(", {} failed", summary.failed) };
    let stages = format!("{} of {} done{failed}", summary.done, summary.stages);
    let counts = json!({
        "done": summary.done, "failed": summary.failed, "missing": summary.missing, "all": summary.stages
    });
    let headline = summary.headline.as_ref();
    let age = seconds_since(summary.active);
    vec![
        Cell::of(json!(summary.id)),
        Cell::new(json!(tags), tags.join(" ")),
        Cell::of(json!(summary.state.name())),
        Cell::new(counts, stages),
        Cell::new(json!(headline), headline.map_or_else(|| "-".to_owned(), best)),
        Cell::new(age, ago(age)),
    ]
}

/// The best of a run, in a few words.
pub(super) fn best(headline: &Headline) -> String {
    let point = headline.point.as_ref().map_or_else(String::new, |point| format!(" at {point}"));
    format!("{} {:.1} %{point}", headline.variant, 100.0 * headline.win_rate)
}

pub(super) fn tag(args: &TagArgs) -> Result<(), Failure> {
    let store = args.store.open()?;
    let refused = |error: anyhow::Error| Failure::usage(format!("{error:#}"));
    if let Some(name) = &args.delete {
        return names::untag(&store, name).map_err(refused);
    }
    if let (Some(run), Some(name)) = (&args.run, &args.name) {
        return names::tag(&store, &find(&store, run)?.id, name).map_err(refused);
    }
    let tags = names::tags(&store)?;
    if tags.is_empty() && !args.format.json {
        note(format!("`{}` holds no tags", store.root().display()));
        return Ok(());
    }
    let mut grid = Grid::new(&["tag", "run"]);
    grid.rows = tags.into_iter().map(|(tag, id)| vec![Cell::of(json!(tag)), Cell::of(json!(id))]).collect();
    grid.print(&args.format)
}

/// The run that `name` names.
pub(super) fn find(store: &Store, name: &str) -> Result<Frozen, Failure> {
    found(store, name)?.ok_or_else(|| unknown(store, name))
}

/// The run that `name` names, if there is one.
pub(super) fn found(store: &Store, name: &str) -> Result<Option<Frozen>, Failure> {
    names::find(store, name).map_err(|error| Failure::usage(format!("{error:#}")))
}

fn unknown(store: &Store, name: &str) -> Failure {
    let known = store.runs().unwrap_or_default().into_iter().chain(names::tags(store).unwrap_or_default().into_keys());
    let near = known.map(|known| (strsim::jaro_winkler(name, &known), known)).filter(|(score, _)| *score > 0.8);
    let hint = match near.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((_, known)) => format!("; did you mean `{known}`?"),
        None => "\n\nhint: `runner ls` lists the runs".to_owned(),
    };
    Failure::usage(format!("no run has the id, tag or recipe `{name}` in `{}`{hint}", store.root().display()))
}

/// The tags of each run that has any.
pub(super) fn tags_by_run(store: &Store) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let mut by_run: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tag, id) in names::tags(store)? {
        by_run.entry(id).or_default().push(tag);
    }
    Ok(by_run)
}

/// Whole seconds since `time`, given in seconds since 1970-01-01 UTC.
pub(super) fn seconds_since(time: f64) -> u64 {
    let passed = std::time::Duration::try_from_secs_f64(now() as f64 - time);
    passed.map_or(0, |passed| passed.as_secs())
}

fn state(name: &str) -> Result<State, Refused> {
    State::deserialize(StrDeserializer::new(name))
}

/// Whether `name` fits `glob`, in which `*` is any text and `?` any letter.
fn fits(glob: &str, name: &str) -> bool {
    match glob.chars().next() {
        None => name.is_empty(),
        Some('*') => name.char_indices().map(|(i, _)| i).chain([name.len()]).any(|i| fits(&glob[1..], &name[i..])),
        Some(wanted) => {
            let mut rest = name.chars();
            rest.next().is_some_and(|c| wanted == '?' || c == wanted) && fits(&glob[wanted.len_utf8()..], rest.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_know_stars_and_question_marks() {
        let fitting = [("*", ""), ("fine*", "finegrained"), ("*ä?", "größe äö"), ("a*b*c", "axxbyyc"), ("a", "a")];
        assert!(fitting.iter().all(|(glob, name)| fits(glob, name)));
        let others = [("", "a"), ("?", ""), ("fine", "finegrained"), ("a*b", "abc")];
        assert!(others.iter().all(|(glob, name)| !fits(glob, name)));
    }
}

//! `runner show`: what a run or a result is.
//!
//! Reads manifests and the recipes' records; the results' own files are their readers' business.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::output::{self, Failure, ago, now};
use super::{StoreArgs, runs};
use crate::launch::{Board, Frozen, Standing, Submission, Summary};
use crate::stage::reason::recall;
use crate::store::{Artefact, Key, Lookup, Store};
use crate::units::duration;

/// Fewest digits that name a result.
const PREFIX: usize = 4;

#[derive(Args)]
pub(super) struct ShowArgs {
    /// A run (id, tag, or a recipe's name for its last run), a stage's label, or the first digits of a key
    #[arg(value_name = "RUN-OR-LABEL-OR-KEY")]
    name: String,
    #[command(flatten)]
    store: StoreArgs,
    /// Write JSON: of a run its summary and stages, of a result its manifest
    #[arg(long)]
    json: bool,
}

pub(super) fn show(args: &ShowArgs) -> Result<(), Failure> {
    let store = args.store.open()?;
    if let Some(run) = runs::found(&store, &args.name)? {
        return show_run(&run, &store, args.json);
    }
    let artefact = find(&store, &args.name)?;
    if args.json {
        let manifest = serde_json::to_value(&artefact.manifest).map_err(anyhow::Error::from)?;
        return output::json(&manifest);
    }
    output::data(&described(&artefact, now()))
}

/// The one result that `name` names: by label in any recipe's last plan, or by the first digits of its key.
pub(super) fn find(store: &Store, name: &str) -> Result<Artefact, Failure> {
    let mut named: BTreeMap<Key, (Artefact, String)> = BTreeMap::new();
    let mut labels = Vec::new();
    for recipe in store.recipes()? {
        for (label, node) in recall(store, &recipe).unwrap_or_default().nodes {
            if label == name
                && let Lookup::Found(artefact) = store.find(&node.stage, &node.key)
            {
                named.insert(node.key, (artefact, format!("in recipe `{recipe}`")));
            }
            labels.push(label);
        }
    }
    let digits = name.len() >= PREFIX && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if named.is_empty() && digits {
        for artefact in store.all()?.into_iter().filter(|found| found.manifest.key.as_str().starts_with(name)) {
            let whence = format!("of stage `{}`", artefact.manifest.stage);
            named.insert(artefact.manifest.key.clone(), (artefact, whence));
        }
    }
    if named.len() > 1 {
        let all: Vec<_> = named.iter().map(|(key, (_, whence))| format!("  {key} {whence}")).collect();
        return Err(Failure::usage(format!("`{name}` names {} results:\n{}", all.len(), all.join("\n"))));
    }
    named.into_values().next().map(|(artefact, _)| artefact).ok_or_else(|| unknown(name, &labels))
}

fn unknown(name: &str, labels: &[String]) -> Failure {
    let planned = labels.iter().any(|label| label == name);
    let near = labels.iter().map(|label| (strsim::jaro_winkler(name, label), label)).filter(|(score, _)| *score > 0.8);
    let nearest = near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, label)| label);
    Failure::usage(match nearest {
        _ if planned => format!("stage `{name}` has no result yet\n\nhint: `runner plan` says why"),
        Some(label) => format!("no result has the label or key `{name}`; did you mean `{label}`?"),
        None => format!(
            "no result has the label or key `{name}` (a key needs {PREFIX} digits or more)\n\nhint: `runner ls` lists \
             runs, `runner plan RECIPE` labels and keys"
        ),
    })
}

fn show_run(run: &Frozen, store: &Store, json: bool) -> Result<(), Failure> {
    let summary = Summary::refresh(run, store)?;
    let tags = runs::tags_by_run(store)?.remove(&run.id).unwrap_or_default();
    let board = Board::of(run, store);
    let standings = board.standings(run);
    if json {
        let nodes = run.plan.nodes.iter().zip(&standings);
        let stages: Vec<_> = nodes
            .map(|(node, (standing, _))| json!({ "label": node.label, "stage": node.stage, "key": node.key, "standing": standing }))
            .collect();
        return output::json(&json!({
            "summary": summary, "tags": tags, "submission": run.submission, "axes": run.experiment.axes, "stages": stages,
        }));
    }
    let mut text = format!("run {} ({})\n", run.id, summary.state.name());
    section(&mut text, "tags", tags.iter());
    let Submission { time, command_line, directory } = &run.submission;
    section(&mut text, "made", [ago(now().saturating_sub(*time))].iter());
    section(&mut text, "command", [command_line].into_iter());
    section(&mut text, "in", [directory.display()].into_iter());
    section(&mut text, "work", [duration(summary.work_seconds)].iter());
    section(&mut text, "best", summary.headline.iter().map(runs::best));
    section(
        &mut text,
        "axes",
        run.experiment.axes.iter().map(|axis| {
            let levels: Vec<_> = axis.levels.iter().map(|level| level.name.as_str()).collect();
            format!("{}: {}", axis.name, levels.join(", "))
        }),
    );
    if run.experiment.is_sweep() {
        section(&mut text, "points", run.experiment.points.iter().map(|point| &point.name));
    }
    section(&mut text, "files", run.files.iter().map(|(path, hash)| format!("{} ({})", path.display(), &hash[..8])));
    section(&mut text, "folder", [store.run_dir(&run.id).display()].into_iter());
    section(&mut text, "report", run.report(store).iter().map(|report| report.dir.display()));
    let rows: Vec<_> = run
        .plan
        .nodes
        .iter()
        .zip(&standings)
        .map(|(node, (standing, _))| {
            let why = if let Standing::Failed { error } = standing { format!(": {error}") } else { String::new() };
            [node.label.clone(), node.key.short().to_owned(), format!("{}{why}", standing.name())]
        })
        .collect();
    output::data(&format!("{text}\n{}", output::table(&["stage", "key", "state"], &rows)))
}

fn described(artefact: &Artefact, now: u64) -> String {
    let manifest = &artefact.manifest;
    let made = &manifest.provenance;
    let commit = made.commit.as_ref().map_or_else(String::new, |commit| {
        let dirty = if made.dirty == Some(true) { " with changes" } else { "" };
        format!(", commit {}{dirty}", commit.get(..12).unwrap_or(commit))
    });
    let mut text = format!(
        "{} {} (version {})\n  made     {} in {:.1} s on `{}` with {} threads, runner {}{commit}\n  command  {}\n  folder   {}\n",
        manifest.stage,
        manifest.key,
        manifest.version,
        ago(now.saturating_sub(made.started)),
        made.wall_seconds,
        made.device,
        made.threads,
        made.runner,
        made.command_line,
        artefact.dir.display(),
    );
    let inputs = manifest.inputs.iter().map(|(role, key)| format!("{role} {}", key.short()));
    let files = manifest.files.iter().map(|(name, file)| format!("{name} ({} bytes)", file.bytes));
    section(&mut text, "inputs", inputs);
    section(&mut text, "files", files);
    let config = format!("{:#}", manifest.config);
    section(&mut text, "config", config.lines());
    text
}

/// Appends lines under a name; nothing when there are none.
fn section(text: &mut String, name: &str, lines: impl Iterator<Item = impl std::fmt::Display>) {
    for (i, line) in lines.enumerate() {
        let name = if i == 0 { name } else { "" };
        writeln!(text, "  {name:9} {line}").expect("a string takes all that is written to it");
    }
}

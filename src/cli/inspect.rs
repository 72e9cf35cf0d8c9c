//! `runner ls` and `runner show`: what is in the store.
//!
//! Reads manifests and the recipes' records; the results' own files are their readers' business.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::{Value, json};

use super::StoreArgs;
use super::output::{self, Failure, ago, note, table};
use crate::stage::reason::recall;
use crate::store::{Artefact, Key, Lookup, Store};

/// Fewest digits that name a result.
const PREFIX: usize = 4;

#[derive(Args)]
pub(super) struct LsArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ShowArgs {
    /// A stage's label, or the first digits of a key
    #[arg(value_name = "KEY-OR-LABEL")]
    name: String,
    #[command(flatten)]
    store: StoreArgs,
    /// Write the manifest as JSON
    #[arg(long)]
    json: bool,
}

/// A recipe as the store knows it.
struct Known {
    recipe: String,
    stages: usize,
    done: usize,
    failed: usize,
    /// When its newest result was begun.
    newest: Option<u64>,
}

pub(super) fn ls(args: &LsArgs) -> Result<(), Failure> {
    let store = args.store.open()?;
    let recipes: Vec<Known> = store.recipes()?.into_iter().filter_map(|name| known(&store, name)).collect();
    let age = |known: &Known| known.newest.map(|newest| now().saturating_sub(newest));
    if args.json {
        let rows = recipes.iter().map(|known| {
            let Known { recipe, stages, done, failed, .. } = known;
            json!({ "recipe": recipe, "stages": stages, "done": done, "failed": failed, "age_seconds": age(known) })
        });
        return output::json(&Value::Array(rows.collect()));
    }
    if recipes.is_empty() {
        note(format!("`{}` holds no runs", store.root().display()));
        return Ok(());
    }
    let rows: Vec<_> = recipes
        .iter()
        .map(|known| {
            let failed = if known.failed == 0 { String::new() } else { format!(", {} failed", known.failed) };
            let stages = format!("{} of {} done{failed}", known.done, known.stages);
            [known.recipe.clone(), stages, age(known).map_or_else(|| "-".to_owned(), ago)]
        })
        .collect();
    output::data(&table(["recipe", "stages", "last result"], &rows))
}

pub(super) fn show(args: &ShowArgs) -> Result<(), Failure> {
    let store = args.store.open()?;
    let artefact = find(&store, &args.name)?;
    if args.json {
        let manifest = serde_json::to_value(&artefact.manifest).map_err(anyhow::Error::from)?;
        return output::json(&manifest);
    }
    output::data(&described(&artefact, now()))
}

fn known(store: &Store, recipe: String) -> Option<Known> {
    let record = recall(store, &recipe)?;
    let results: Vec<_> = record
        .nodes
        .values()
        .filter_map(|node| match store.find(&node.stage, &node.key) {
            Lookup::Found(artefact) => Some(artefact.manifest.provenance.started),
            _ => None,
        })
        .collect();
    let failed = record.nodes.values().filter(|node| node.error.is_some()).count();
    Some(Known { recipe, stages: record.nodes.len(), done: results.len(), failed, newest: results.into_iter().max() })
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
            "no result has the label or key `{name}` (a key needs {PREFIX} digits or more)\n\nhint: `runner plan RECIPE` \
             lists labels and keys"
        ),
    })
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
        writeln!(text, "  {name:8} {line}").expect("a string takes all that is written to it");
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

//! `runner annotate`: a page on which people edit responses, of a recipe's preferences or of a file's pairs.
//!
//! What the recipe's preferences are made from is run first, if need be.

use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde::Deserialize;

use super::output::{self, Failure, note};
use super::rooms::{self, Planned};
use super::{StoreArgs, interrupt};
use crate::annotate::change::Labeller;
use crate::annotate::desk::Desk;
use crate::annotate::item::{self, Item};
use crate::annotate::links::Links;
use crate::annotate::log::Log;
use crate::annotate::server::{Office, serve};
use crate::data::Preference;
use crate::events::{Fan, Plain, Sink};
use crate::launch::Frozen;
use crate::recipe::annotate::Config;
use crate::recipe::launch::Local;
use crate::stage::execute::{Summary, execute};
use crate::stage::node::{Plan, Stage};
use crate::store::Store;
use crate::text::{Fallback, Folder};

#[derive(Args)]
pub(super) struct AnnotateArgs {
    /// The recipe whose less preferred responses are edited
    #[arg(required_unless_present = "input", conflicts_with = "input")]
    recipe: Option<PathBuf>,
    /// Pairs in place of a recipe: a file, a pattern in quotes or a folder, in any layout that has `chosen` and `rejected`
    #[arg(long, value_name = "FILE", requires = "out")]
    input: Option<PathBuf>,
    /// Where annotations are kept [default: `edits.annotations.path` of the recipe, else
    /// annotations/<recipe>.jsonl]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Override a key, as in `--set annotate.overlap=0.2`; may be given several times. Without a recipe, of `annotate` alone
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Annotators by name, each of whom gets a page of their own; without names, each says theirs on the page
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    annotators: Vec<String>,
    /// A checkpoint folder whose tokenizer labels tokens, where no recipe says which
    #[arg(long, value_name = "DIR", conflicts_with = "recipe")]
    tokenizer: Option<PathBuf>,
    /// The port to listen on, on this machine alone [default: that of the last time, else a free one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    #[command(flatten)]
    store: StoreArgs,
}

/// What is annotated, and how.
struct Work {
    title: String,
    items: Vec<Item>,
    config: Config,
    labeller: Labeller,
    out: PathBuf,
}

pub(super) fn annotate(args: &AnnotateArgs) -> Result<(), Failure> {
    let work = match (&args.recipe, &args.input) {
        (Some(recipe), _) => of_recipe(recipe, args)?,
        (None, Some(input)) => of_pairs(input, args)?,
        (None, None) => return Err(Failure::usage("expected a recipe or `--input`")),
    };
    let usage = |error: anyhow::Error| Failure::usage(format!("{error:#}"));
    let (log, record) = Log::open(&work.out).map_err(usage)?;
    let mut links = Links::open(&work.out, &args.annotators).map_err(usage)?;
    let listener = listen(args.port, links.port)?;
    let address = listener.local_addr().map_err(|error| Failure::usage(format!("cannot listen: {error}")))?;
    links.port = address.port();
    links.save(&work.out)?;
    let desk = Desk::new(work.items, work.config, work.labeller, record, Instant::now());
    note(format!(
        "{} responses to edit, {} answers wanted, {} given; kept in `{}`",
        desk.items.len(),
        desk.wanted(),
        desk.record.annotations.iter().filter(|answer| !answer.adjudicated).count(),
        work.out.display()
    ));
    for (name, address) in links.addresses() {
        output::data(&name.map_or_else(|| address.clone(), |name| format!("{name}: {address}")))?;
    }
    note("Ctrl-C ends it; what the page calls saved is on the disk");
    Ok(serve(Office::new(work.title, links, desk, log)?, listener)?)
}

/// The port that was asked for, else the one of the last time where it is free, else a free one.
fn listen(wanted: Option<u16>, last: u16) -> Result<TcpListener, Failure> {
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let bound = match wanted {
        Some(port) => bind(port),
        None => bind(last).or_else(|_| bind(0)),
    };
    bound.map_err(|error| Failure::usage(format!("cannot listen on port {}: {error}", wanted.unwrap_or_default())))
}

fn of_pairs(input: &Path, args: &AnnotateArgs) -> Result<Work, Failure> {
    let usage = |error: anyhow::Error| Failure::usage(format!("{error:#}"));
    let items = item::of_files(input).map_err(usage)?;
    let open = |dir: &PathBuf| Folder::open(dir, Fallback::default()).map(|folder| folder.tokenizer);
    let tokenizer = args.tokenizer.as_ref().map(open).transpose().map_err(usage)?;
    Ok(Work {
        title: input.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        items,
        config: configured(&args.overrides)?,
        labeller: Labeller { tokenizer, ..Labeller::default() },
        out: args.out.clone().ok_or_else(|| Failure::usage("expected `--out`"))?,
    })
}

/// `[annotate]` as `--set` says it, where there is no recipe.
fn configured(overrides: &[String]) -> Result<Config, Failure> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        #[serde(default)]
        annotate: Config,
    }
    let read = |text: &str| toml::from_str::<Written>(text).map_err(|error| error.message().to_owned());
    for line in overrides {
        read(line).map_err(|error| Failure::usage(format!("`--set {line}`: {error}")))?;
    }
    read(&overrides.join("\n")).map(|written| written.annotate).map_err(Failure::usage)
}

fn of_recipe(path: &Path, args: &AnnotateArgs) -> Result<Work, Failure> {
    let planned = rooms::plan(path, &args.overrides)?;
    planned.warnings.iter().for_each(|warning| note(warning.trim_end()));
    if planned.experiment.is_sweep() {
        return Err(Failure::usage(format!("`{}` is a sweep: annotate the recipe that it extends", path.display())));
    }
    let store = args.store.open()?.on_device(&planned.device);
    // A name of its own: the plan that is remembered of the recipe itself stays.
    let name = format!("{} annotate", planned.experiment.name);
    let plan = planned.plan.until(Stage::Preferences, name);
    let summary = prepare(&planned, &plan, &store)?;
    let results = |stage: Stage| plan.nodes.iter().zip(&summary.artefacts).filter(move |(node, _)| node.stage == stage);
    let mut preferences: Vec<Preference> = Vec::new();
    for artefact in results(Stage::Preferences).filter_map(|(_, artefact)| artefact.as_ref()) {
        preferences.extend(artefact.read_jsonl::<Preference>("preferences.jsonl")?);
    }
    let tokenizer = results(Stage::Tokenizer).find_map(|(_, artefact)| artefact.clone());
    if tokenizer.is_none() {
        note("warning: the recipe's tokenizer is not in the store: words are labelled in place of tokens");
    }
    let (config, labeller) = rooms::annotated(&planned, tokenizer)?;
    let pairs = preferences.len();
    let items = item::of_preferences(preferences);
    note(format!("{pairs} pairs with {} different less preferred responses", items.len()));
    let out = args.out.clone().unwrap_or_else(|| rooms::annotations_of(&planned, path));
    Ok(Work { title: planned.experiment.name, items, config, labeller, out })
}

/// Runs what the preferences are made from.
fn prepare(planned: &Planned, plan: &Plan, store: &Store) -> Result<Summary, Failure> {
    let run = Frozen::new(planned.experiment.clone()).map_err(|error| Failure::usage(format!("{error:#}")))?;
    let screen: Box<dyn Sink> =
        if io::stderr().is_terminal() { Box::new(rooms::live(plan, store)) } else { Box::<Plain>::default() };
    let sink = Arc::new(Fan::new(vec![screen]));
    let stop = interrupt::listen(sink.clone())?;
    let limits = rooms::local_limits(planned, store, Local::default())?;
    let summary = execute(plan, store, &*sink, limits.jobs, &stop, &|node, inputs, workspace, emitter| {
        rooms::run_stage(&run, store, node, inputs, workspace, emitter, &stop)
    })?;
    if stop.is_asked() {
        interrupt::end(&*sink);
    }
    match summary.failed.first() {
        Some((label, error)) => Err(Failure::Stage(format!("stage `{label}` failed: {error}"))),
        None => Ok(summary),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_without_a_recipe_is_of_annotate_alone() {
        let set = |lines: &[&str]| configured(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        let config = set(&["annotate.overlap=0.25", "annotate.categories = [\"rude\"]"]).unwrap();
        assert_eq!((config.overlap.get(), config.categories), (0.25, vec!["rude".to_owned()]));
        for (line, expected) in
            [("annotate.overlap=2", "a number between 0 and 1"), ("sft.steps=2", "unknown field `sft`")]
        {
            let Err(Failure::Usage(message)) = set(&[line]) else { panic!("{line}") };
            assert!(message.contains(expected) && message.contains(line), "{message}");
        }
    }
}

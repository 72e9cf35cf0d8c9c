//! `runner export` and `runner import`: a run in one file, from one store to another; a model as a folder for others.
//!
//! What an archive holds and what is checked is `launch::archive`'s, what a folder holds `stage`'s.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::{self, Failure, note, size};
use super::stored::ModelArgs;
use super::{StoreArgs, runs};
use crate::compute::DeviceName;
use crate::launch::archive::{self, Contents};
use crate::stage::Part;

#[derive(Args)]
pub(super) struct ExportArgs {
    /// The run: its id, a tag, or a recipe's name for its last run
    #[arg(required_unless_present = "model")]
    run: Option<String>,
    /// A model in its place, as a folder that `transformers` loads: a stage's label, the first digits of a key, the folder of a
    /// result, or a checkpoint folder
    #[arg(long, value_name = "KEY-OR-LABEL-OR-DIR", conflicts_with_all = ["run", "report_only", "without_data"])]
    model: Option<String>,
    /// What of a result: the `model` it is for (adapters merged into their base), the `adapter` alone, as a folder that PEFT
    /// loads, or of a `ppo` result the `value` model
    #[arg(long, value_name = "PART", requires = "model", default_value = "model", value_parser = part)]
    part: Part,
    /// Where PEFT finds the base of the adapters: the checkpoint, or what `export` made of the `sft` result that it was
    /// fine-tuned to
    #[arg(long, requires = "model", value_name = "NAME")]
    base: Option<String>,
    /// The archive, whose ending decides how it is compressed (`.tar.zst`, `.tar.gz` or `.tar`); the folder of a model
    #[arg(long, value_name = "FILE-OR-DIR")]
    out: PathBuf,
    /// Only the report, without what it was made from
    #[arg(long)]
    report_only: bool,
    /// Without the files that the recipe names, of which only hashes stay; results made from them are there
    #[arg(long)]
    without_data: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Args)]
pub(super) struct ImportArgs {
    /// The archive
    file: PathBuf,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

fn part(text: &str) -> Result<Part, String> {
    match text {
        "model" => Ok(Part::Main),
        "value" => Ok(Part::Value),
        "adapter" => Ok(Part::Adapter),
        other => Err(format!("expected `model`, `adapter` or `value`, found `{other}`")),
    }
}

pub(super) fn export(args: &ExportArgs) -> Result<(), Failure> {
    let Some(run) = &args.run else { return export_model(args) };
    let store = args.store.open()?;
    let run = runs::find(&store, run)?;
    let contents = Contents { report_only: args.report_only, without_data: args.without_data };
    let exported =
        archive::export(&run, &store, &args.out, contents).map_err(|error| Failure::usage(format!("{error:#}")))?;
    if args.json {
        return output::json(&json!({
            "run": run.id, "file": args.out, "bytes": exported.bytes,
            "results": exported.results, "missing": exported.missing,
        }));
    }
    if let Some(first) = exported.missing.first() {
        note(format!("warning: {} stages have no result yet, the first is `{first}`", exported.missing.len()));
    }
    note(format!("{}: {} results, {}", args.out.display(), exported.results, size(exported.bytes)));
    Ok(())
}

fn export_model(args: &ExportArgs) -> Result<(), Failure> {
    let Some(model) = &args.model else { return Err(Failure::usage("expected a run or `--model`")) };
    let model = ModelArgs { model: model.clone(), device: DeviceName::default(), store: args.store.clone() };
    let opened = model.open_part(args.part)?;
    let is_adapter = args.part == Part::Adapter;
    let written =
        if is_adapter { opened.export_adapter(&args.out, args.base.as_deref()) } else { opened.export(&args.out) };
    written.map_err(|error| Failure::usage(format!("{error:#}")))?;
    if args.json {
        return output::json(&json!({ "folder": args.out }));
    }
    note(format!("{}: {}", args.out.display(), if is_adapter { "adapters for PEFT" } else { "a checkpoint" }));
    Ok(())
}

pub(super) fn import(args: &ImportArgs) -> Result<(), Failure> {
    let store = args.store.open()?;
    let imported = archive::import(&args.file, &store).map_err(|error| Failure::usage(format!("{error:#}")))?;
    if args.json {
        return output::json(&json!({ "run": imported.run, "new": imported.new, "known": imported.known }));
    }
    note(format!("{}: {} new results, {} were there", imported.run, imported.new, imported.known));
    Ok(())
}

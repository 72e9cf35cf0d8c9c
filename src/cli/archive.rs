//! `runner export` and `runner import`: a run in one file, from one store to another.
//!
//! What an archive holds and what is checked is `launch::archive`'s.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::{self, Failure, note, size};
use super::{StoreArgs, runs};
use crate::launch::archive::{self, Contents};

#[derive(Args)]
pub(super) struct ExportArgs {
    /// The run: its id, a tag, or a recipe's name for its last run
    run: String,
    /// The archive; its ending decides how it is compressed: `.tar.zst`, `.tar.gz` or `.tar`
    #[arg(long, value_name = "FILE")]
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

pub(super) fn export(args: &ExportArgs) -> Result<(), Failure> {
    let store = args.store.open()?;
    let run = runs::find(&store, &args.run)?;
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

pub(super) fn import(args: &ImportArgs) -> Result<(), Failure> {
    let store = args.store.open()?;
    let imported = archive::import(&args.file, &store).map_err(|error| Failure::usage(format!("{error:#}")))?;
    if args.json {
        return output::json(&json!({ "run": imported.run, "new": imported.new, "known": imported.known }));
    }
    note(format!("{}: {} new results, {} were there", imported.run, imported.new, imported.known));
    Ok(())
}

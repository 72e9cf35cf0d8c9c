//! `runner gc`: removes from the store what nobody needs, and says first what that is.
//!
//! What is needed is `launch::gc`'s to know.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::{self, Failure, note, size, table};
use super::{StoreArgs, rooms};
use crate::launch::gc::{Garbage, collect, survey};

/// Kept are all results, checkpoints and files of the runs that are tagged, at work or queued, of the last active run of
/// every recipe, and of the recipes named with `--keep`. Everything else goes.
#[derive(Args)]
pub(super) struct GcArgs {
    /// Delete; without it, what would be deleted is listed and stays
    #[arg(long)]
    delete: bool,
    /// Keep what these recipe files reach, whether they were run or not
    #[arg(long, value_name = "RECIPE", num_args = 1..)]
    keep: Vec<PathBuf>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) fn gc(args: &GcArgs) -> Result<(), Failure> {
    let store = args.store.open()?;
    let wanted = args.keep.iter().map(|path| rooms::freeze(path)).collect::<Result<Vec<_>, _>>()?;
    let garbage = if args.delete {
        if !store.root().exists() {
            return Err(Failure::usage(format!("there is no store `{}`", store.root().display())));
        }
        collect(&store, &wanted)?.ok_or_else(|| {
            Failure::Stage(
                "a run or an import is just beginning in this store; the same command again will do".to_owned(),
            )
        })?
    } else {
        survey(&store, &wanted)?
    };
    let bytes: u64 = garbage.iter().map(|piece| piece.bytes).sum();
    if args.json {
        let pieces = garbage.iter().map(
            |piece| json!({ "kind": piece.kind.name(1), "name": piece.name, "path": piece.path, "bytes": piece.bytes }),
        );
        let pieces: Vec<_> = pieces.collect();
        return output::json(&json!({ "deleted": args.delete, "bytes": bytes, "garbage": pieces }));
    }
    if !garbage.is_empty() {
        output::data(&listed(&garbage))?;
    }
    note(match (garbage.is_empty(), args.delete) {
        (true, _) => "nothing to delete".to_owned(),
        (false, true) => format!("deleted: {}", counted(&garbage, bytes)),
        (false, false) => format!("would delete {}\n\nhint: `runner gc --delete` does it", counted(&garbage, bytes)),
    });
    Ok(())
}

fn listed(garbage: &[Garbage]) -> String {
    let rows: Vec<_> =
        garbage.iter().map(|piece| [piece.kind.name(1).to_owned(), piece.name.clone(), size(piece.bytes)]).collect();
    table(&["kind", "name", "size"], &rows)
}

fn counted(garbage: &[Garbage], bytes: u64) -> String {
    let mut counts = BTreeMap::new();
    for piece in garbage {
        *counts.entry(piece.kind).or_insert(0) += 1;
    }
    let counts: Vec<_> = counts.into_iter().map(|(kind, count)| format!("{count} {}", kind.name(count))).collect();
    format!("{}; {} in all", counts.join(", "), size(bytes))
}

//! `runner annotations`: statistics of what people edited, and the same in other formats.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::output::{self, Failure, note, table};
use super::rooms;
use crate::annotate::log::Log;
use crate::annotate::quality::{Quality, quality};
use crate::annotate::server::now;
use crate::annotate::{export, import, links};
use crate::data::annotations::{Annotation, Line, Record};

#[derive(Args)]
pub(super) struct AnnotationsArgs {
    #[command(subcommand)]
    command: AnnotationsCommand,
}

#[derive(Subcommand)]
enum AnnotationsCommand {
    /// Progress, time, sizes of edits, agreement
    Stats(StatsArgs),
    /// Write annotations as JSON lines, preference pairs, M2 or Parquet
    Export(ExportArgs),
    /// Take annotations from elsewhere into a file
    Import(ImportArgs),
}

#[derive(Args)]
struct StatsArgs {
    /// A file of annotations, or the recipe that they were made for
    file: PathBuf,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ExportArgs {
    /// A file of annotations, or the recipe that they were made for
    file: PathBuf,
    /// What is written
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Of each item one answer: the adjudicated one, else the first that is not skipped
    #[arg(long = "final")]
    decided: bool,
    /// Where it is written [default: stdout; Parquet needs a file]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What an export is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Everything, one annotation a line; a dataset in the layout `revised`
    Jsonl,
    /// Preference pairs: the edit preferred over its original
    Pairs,
    /// Edits in words, as for grammatical error correction
    M2,
    /// Everything, as a table
    Parquet,
}

#[derive(Args)]
struct ImportArgs {
    /// Annotations: of this program, exported as JSON lines or Parquet, or rows with `prompt`, `chosen`, `rejected`, `revised`
    input: PathBuf,
    /// The file of annotations that takes them in; made where there is none
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Whose they are, where rows do not say
    #[arg(long, value_name = "NAME", default_value = "imported")]
    annotator: String,
}

pub(super) fn annotations(args: &AnnotationsArgs) -> Result<(), Failure> {
    match &args.command {
        AnnotationsCommand::Stats(args) => stats(args),
        AnnotationsCommand::Export(args) => export(args),
        AnnotationsCommand::Import(args) => import(args),
    }
}

fn read(file: &Path) -> Result<Record, Failure> {
    let is_recipe = file.extension().is_some_and(|extension| extension == "toml");
    let file = if is_recipe { rooms::annotations_of(&rooms::plan(file, &[])?, file) } else { file.to_owned() };
    Record::read(&file).map_err(|error| Failure::usage(format!("{error:#}")))
}

fn stats(args: &StatsArgs) -> Result<(), Failure> {
    let found = quality(&read(&args.file)?);
    if args.json { output::json(&json!(found)) } else { output::data(&text(&found)) }
}

fn text(found: &Quality) -> String {
    let shown = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    let spread = |values: Option<[f64; 3]>, factor: f64| match values {
        None => "-".to_owned(),
        Some(values) => values.map(|value| format!("{:.0}", factor * value)).join(" / "),
    };
    let agreement = &found.agreement;
    let mut lines = vec![
        format!(
            "{} of {} answers, {} of {} items; {} drafts",
            found.answers, found.wanted, found.answered, found.items, found.drafts
        ),
        format!(
            "{} edited ({} rewrites), {} good, {} skipped; {} preferences corrected, {} adjudicated",
            found.edited, found.rewrites, found.good, found.skipped, found.corrected, found.adjudicated
        ),
        format!("seconds an answer, quartiles: {}", spread(found.seconds, 1.0)),
        format!("words changed in %, quartiles: {}", spread(found.share_changed, 100.0)),
        format!("agreement on {} items with {} tokens:", agreement.items, agreement.tokens),
        format!(
            "  Krippendorff's alpha {}, changed or not {}",
            shown(agreement.alpha, 3),
            shown(agreement.alpha_changed, 3)
        ),
        format!(
            "  F1 of changed places {}, of changed tokens {}",
            shown(agreement.span_f1, 3),
            shown(agreement.token_f1, 3)
        ),
        String::new(),
    ];
    let row = |one: &crate::annotate::quality::Annotator| {
        let counts = [one.answers, one.edited, one.good, one.skipped].map(|n| n.to_string());
        let percent = one.share_changed.map(|share| 100.0 * share);
        let means = [shown(one.seconds, 0), shown(one.words_changed, 1), shown(percent, 1)];
        [vec![one.name.clone()], counts.to_vec(), means.to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = found.annotators.iter().map(row).collect();
    lines.push(table(&["annotator", "answers", "edited", "good", "skipped", "seconds", "words", "% of words"], &rows));
    if !found.categories.is_empty() {
        let rows: Vec<[String; 2]> = found.categories.iter().map(|(name, n)| [name.clone(), n.to_string()]).collect();
        lines.extend([String::new(), table(&["category", "changes"], &rows)]);
    }
    if !found.worst.is_empty() {
        let row = |item: &crate::annotate::quality::Worst| {
            [
                item.item.clone(),
                item.annotators.join(", "),
                format!("{:.2}", item.span_f1),
                format!("{:.2}", item.token_f1),
            ]
        };
        let rows: Vec<[String; 4]> = found.worst.iter().map(row).collect();
        lines.extend([String::new(), table(&["least agreed", "annotators", "F1 places", "F1 tokens"], &rows)]);
    }
    lines.join("\n")
}

fn export(args: &ExportArgs) -> Result<(), Failure> {
    let record = read(&args.file)?;
    let chosen: Vec<&Annotation> = if args.decided { record.decided() } else { record.annotations.iter().collect() };
    let text = match args.format {
        Format::Jsonl => export::json_lines(&chosen)?,
        Format::Pairs => export::pairs(&chosen),
        Format::M2 => export::m2(&chosen),
        Format::Parquet => {
            let out = args.out.as_ref().ok_or_else(|| Failure::usage("Parquet is no text: expected `--out FILE`"))?;
            export::parquet(&chosen, out)?;
            note(format!("{} annotations in `{}`", chosen.len(), out.display()));
            return Ok(());
        }
    };
    match &args.out {
        None => output::data(&text),
        Some(out) => {
            fs::write(out, text)
                .map_err(|error| Failure::usage(format!("cannot write `{}`: {error}", out.display())))?;
            note(format!("{} annotations in `{}`", chosen.len(), out.display()));
            Ok(())
        }
    }
}

fn import(args: &ImportArgs) -> Result<(), Failure> {
    let usage = |error: anyhow::Error| Failure::usage(format!("{error:#}"));
    let annotator = links::name(&args.annotator).map_err(usage)?;
    let read = import::read(&args.input, &annotator, &now()).map_err(usage)?;
    let (mut log, record) = Log::open(&args.out).map_err(usage)?;
    let (all, mut new) = (read.len(), 0);
    for annotation in read {
        let known =
            record.annotations.iter().any(|known| known.id == annotation.id && known.version >= annotation.version);
        if !known {
            log.append(&Line::Annotation(Box::new(annotation)))?;
            new += 1;
        }
    }
    note(format!("{new} new annotations in `{}`, {} were there", args.out.display(), all - new));
    Ok(())
}

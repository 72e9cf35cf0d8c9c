//! `data inspect`: what a dataset looks like, and the table that names it in a recipe.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{self, Failure, table};
use crate::data::records::inspect::{Inspection, inspect};
use crate::data::records::{Config, Layout};
use crate::text::Tokenizer;

#[derive(Args)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Subcommand)]
enum DataCommand {
    /// Guess layout and columns, count rows, lengths, duplicates and bad rows, print the table for a recipe
    Inspect(InspectArgs),
}

#[derive(Args)]
struct InspectArgs {
    /// A file, a pattern in quotes, or a folder
    path: PathBuf,
    /// The layout, if the guess is wrong
    #[arg(long, value_name = "LAYOUT", value_parser = layout)]
    layout: Option<Layout>,
    /// A column with another name than the layout's, as in `prompt=question`; may be given several times
    #[arg(long = "column", value_name = "NAME=COLUMN", value_parser = column)]
    columns: Vec<(String, String)>,
    /// Count tokens as this does: a checkpoint folder, or a `tokenizer.json` [default: a BPE trained on the first rows]
    #[arg(long, value_name = "DIR-OR-FILE")]
    model: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

fn layout(text: &str) -> Result<Layout, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

fn column(text: &str) -> Result<(String, String), String> {
    let (name, column) = text.split_once('=').ok_or_else(|| format!("expected NAME=COLUMN, found `{text}`"))?;
    Ok((name.to_owned(), column.to_owned()))
}

pub(super) fn data(args: &DataArgs) -> Result<(), Failure> {
    let DataCommand::Inspect(args) = &args.command;
    let columns = args.columns.iter().cloned().collect();
    let config = Config { layout: args.layout.unwrap_or_default(), columns, ..Config::default() };
    let refused = |error: anyhow::Error| Failure::usage(format!("{error:#}"));
    let tokenizer = args.model.as_ref().map(|path| {
        Tokenizer::any(path).map(|tokenizer| (format!("the tokenizer of `{}`", path.display()), tokenizer))
    });
    let tokenizer = tokenizer.transpose().map_err(refused)?;
    let found = inspect(&args.path, &config, tokenizer).map_err(refused)?;
    let toml = dataset_table(args, &config, &found);
    if found.usable == 0 {
        output::data(&text(&found))?;
        return Err(Failure::usage(
            "no row can be used: `--layout` and `--column` say what the columns mean".to_owned(),
        ));
    }
    if args.json {
        let mut document = json!(found);
        document["dataset"] = toml.into();
        return output::json(&document);
    }
    output::data(&text(&found))?;
    output::data(&format!("\n{toml}"))
}

fn text(found: &Inspection) -> String {
    let mut lines: Vec<String> = found.files.iter().map(|(file, rows)| format!("{rows} rows in {file}")).collect();
    let layouts: Vec<_> = found.layouts.iter().map(|(layout, rows)| format!("{} ({rows})", name(*layout))).collect();
    lines.push(format!("layout: {}", layouts.join(", ")));
    let columns: Vec<_> = found.columns.iter().map(|(column, rows)| format!("`{column}` ({rows})")).collect();
    lines.push(format!("columns: {}", columns.join(", ")));
    lines.push(format!(
        "{} usable, {} different prompts, {} pairs, {} edits, {} duplicates",
        found.usable, found.prompts, found.pairs, found.edits, found.duplicates
    ));
    let leaks = found.leakage.iter().map(|(a, b, n)| format!("leakage: {n} prompts stand both in `{a}` and in `{b}`"));
    lines.extend(leaks);
    for (kind, rows) in &found.bad {
        lines.push(format!("{rows} bad: {}", kind.words()));
    }
    lines.extend(found.bad_rows.iter().map(|row| format!("  {}: {}", row.place, row.message)));
    let more = found.bad.values().sum::<usize>() - found.bad_rows.len();
    lines.extend((more > 0).then(|| format!("  and {more} more")));
    let rows: Vec<[String; 7]> = ["prompt", "response", "less preferred"]
        .iter()
        .zip(&found.tokens)
        .filter_map(|(what, lengths)| {
            let [min, first, median, third, max] = lengths.quartiles?;
            let bins = lengths.histogram.map(|n| n.to_string()).join(" ");
            Some([
                (*what).to_owned(),
                min.to_string(),
                first.to_string(),
                median.to_string(),
                third.to_string(),
                max.to_string(),
                bins,
            ])
        })
        .collect();
    lines.push(String::new());
    let drawn = if found.measured < found.usable {
        format!(" of {} rows drawn at random", found.measured)
    } else {
        String::new()
    };
    lines.push(format!("lengths{drawn} by {}", found.tokenizer));
    let head = ["tokens", "min", "25 %", "median", "75 %", "max", "below 8 16 32 64 128 256 512 1024, more"];
    lines.push(table(&head, &rows));
    for (i, example) in found.first.iter().enumerate() {
        lines.push(format!("\nrow {}", i + 1));
        let sides = example.pair.as_ref().map_or([None, None], |[chosen, rejected]| [Some(chosen), Some(rejected)]);
        let response = if sides[0].is_some() { None } else { example.response.as_ref() };
        for (what, text) in [
            ("prompt", Some(&example.prompt)),
            ("response", response),
            ("preferred", sides[0]),
            ("less preferred", sides[1]),
            ("revised", example.revised.as_ref()),
        ] {
            lines.extend(text.map(|text| format!("  {what}: {}", shortened(text))));
        }
    }
    lines.join("\n")
}

/// The beginning of a text on one line, nothing in it that a terminal obeys.
fn shortened(text: &str) -> String {
    const MOST: usize = 100;
    let plain: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > MOST { format!("{}...", plain.trim()) } else { plain.trim().to_owned() }
}

fn name(layout: Layout) -> String {
    json!(layout).as_str().unwrap_or_default().to_owned()
}

/// The `[dataset]` table, ready to be pasted: an eighth of the prompts each for choosing and for reporting.
fn dataset_table(args: &InspectArgs, config: &Config, found: &Inspection) -> String {
    let layout = found.layouts.iter().max_by_key(|(_, rows)| **rows).map_or(config.layout, |(layout, _)| *layout);
    // Its records have a reader of their own, that of the format, which makes more of them.
    let format = if layout == Layout::QaFeedback { "qa_feedback" } else { "records" };
    let held_out = (found.prompts / 8).clamp(1, 500);
    let train = found.prompts.saturating_sub(2 * held_out).max(1);
    // What begins and ends a sequence comes on top.
    let longest = |side: usize| found.tokens[side].quartiles.map_or(1, |quartiles| quartiles[4] + 1);
    let mut lines = vec![
        "[dataset]".to_owned(),
        format!("path = {}", json!(args.path.display().to_string())),
        format!("format = {}", json!(format)),
        format!("demonstrations = {train}"),
        format!("train_prompts = {train}"),
        format!("validation_prompts = {held_out}"),
        format!("test_prompts = {held_out}"),
        format!("max_prompt_tokens = {}", longest(0)),
        format!("max_response_tokens = {}", longest(1).max(longest(2))),
    ];
    if layout == Layout::QaFeedback {
        return lines.join("\n");
    }
    lines.extend([String::new(), "[dataset.records]".to_owned(), format!("layout = {}", json!(layout))]);
    let columns: Vec<_> = config.columns.iter().map(|(name, column)| format!("{name} = {}", json!(column))).collect();
    if !columns.is_empty() {
        lines.push(format!("columns = {{ {} }}", columns.join(", ")));
    }
    if !found.bad.is_empty() {
        lines.push("on_bad_row = \"skip\"".to_owned());
    }
    lines.join("\n")
}

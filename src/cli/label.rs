//! `runner label`: what an edit did, word by word or token by token.
//!
//! The alignment and its colours are `labels`'.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::output::{self, Failure};
use super::rooms;
use crate::text::Tokenizer;

#[derive(Args)]
pub(super) struct LabelArgs {
    /// The text before the edit
    #[arg(required_unless_present = "input", requires = "edited")]
    original: Option<String>,
    /// The text after the edit
    edited: Option<String>,
    /// Pairs of `original` and `edited`, each a text or an array of token ids: JSON Lines or a JSON array; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["original", "edited"])]
    input: Option<PathBuf>,
    /// Label the tokens of texts, not their words: a checkpoint folder, or a `tokenizer.json`
    #[arg(long, value_name = "DIR-OR-FILE")]
    model: Option<PathBuf>,
    /// Write one JSON object a line, with `distance`, `original_labels` and `edited_labels`, and with `--model` the tokens
    #[arg(long)]
    json: bool,
}

/// An edit to label.
#[derive(Deserialize)]
struct Pair {
    /// Handed through to the output.
    #[serde(default)]
    id: Option<Value>,
    original: Side,
    edited: Side,
}

/// One side of an edit.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or an array of token ids")]
enum Side {
    Text(String),
    Ids(Vec<u32>),
}

/// A line of output.
#[derive(Serialize)]
struct Labelled<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    distance: usize,
    original_labels: String,
    edited_labels: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_tokens: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edited_tokens: Option<Vec<String>>,
}

pub(super) fn label(args: &LabelArgs) -> Result<(), Failure> {
    let pairs = match (&args.input, &args.original, &args.edited) {
        (Some(path), ..) => read(path)?,
        (None, Some(original), Some(edited)) => {
            let (original, edited) = (Side::Text(original.clone()), Side::Text(edited.clone()));
            vec![Pair { id: None, original, edited }]
        }
        _ => return Err(Failure::usage("expected two texts or `--input`")),
    };
    let tokenizer = args.model.as_deref().map(Tokenizer::any).transpose();
    let tokenizer = tokenizer.map_err(|error| Failure::usage(format!("{error:#}")))?;
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut text = String::new();
    for (i, pair) in pairs.iter().enumerate() {
        text.push_str(
            &line(pair, tokenizer.as_ref(), args.json, colour)
                .map_err(|error| Failure::usage(format!("pair {}: {error}", i + 1)))?,
        );
        text.push('\n');
    }
    output::data(&text)
}

/// The pair's line of output.
fn line(pair: &Pair, tokenizer: Option<&Tokenizer>, json: bool, colour: bool) -> Result<String, &'static str> {
    let mut tokens = None;
    let (diff, shown) = match (&pair.original, &pair.edited) {
        (Side::Text(original), Side::Text(edited)) if let Some(tokenizer) = tokenizer => {
            let (original, edited) = (tokenizer.encode(original), tokenizer.encode(edited));
            let diff = rooms::diff_ids(&original, &edited);
            let sides = [tokenizer.pieces(&original), tokenizer.pieces(&edited)];
            let shown = rooms::render_pieces(&sides, &diff, colour);
            tokens = Some(sides);
            (diff, shown)
        }
        (Side::Text(original), Side::Text(edited)) => {
            let diff = rooms::diff_words(original, edited);
            let shown = rooms::render_words(original, edited, &diff, colour);
            (diff, shown)
        }
        (Side::Ids(original), Side::Ids(edited)) => {
            let diff = rooms::diff_ids(original, edited);
            let shown = rooms::render_ids(original, edited, &diff, colour);
            (diff, shown)
        }
        _ => return Err("expected two texts or two arrays of token ids, found one of each"),
    };
    if !json {
        return Ok(shown);
    }
    let (original_tokens, edited_tokens) = tokens.map_or((None, None), |[a, b]: [Vec<String>; 2]| (Some(a), Some(b)));
    let labelled = Labelled {
        id: pair.id.as_ref(),
        distance: diff.distance,
        original_labels: rooms::letters(&diff.original),
        edited_labels: rooms::letters(&diff.edited),
        original_tokens,
        edited_tokens,
    };
    Ok(serde_json::to_string(&labelled).expect("strings and numbers are JSON"))
}

fn read(path: &Path) -> Result<Vec<Pair>, Failure> {
    let refused = |error: io::Error| Failure::usage(format!("cannot read `{}`: {error}", path.display()));
    let mut text = String::new();
    if path.as_os_str() == "-" {
        io::stdin().read_to_string(&mut text).map_err(refused)?;
    } else {
        text = fs::read_to_string(path).map_err(refused)?;
    }
    parse(&text).map_err(|(line, error)| Failure::usage(format!("`{}`, line {line}: {error}", path.display())))
}

/// The pairs in `text`; on an error, the line and what is wrong with it.
fn parse(text: &str) -> Result<Vec<Pair>, (usize, String)> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| (error.line(), error.to_string()));
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(i, line)| serde_json::from_str(line).map_err(|error| (i + 1, error.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_arrays_are_read_alike() {
        let one = r#"{"original": "a b", "edited": "a c"}"#;
        for text in [format!("{one}\n\n{one}\n"), format!("[{one},\n{one}]")] {
            assert_eq!(parse(&text).map_err(|(line, _)| line).map(|pairs| pairs.len()), Ok(2), "{text}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let text = "{\"original\": [1], \"edited\": [2]}\n{\"original\": [1.5], \"edited\": [2]}\n";
        let Err((line, error)) = parse(text) else { panic!("1.5 is no token id") };
        assert_eq!(line, 2);
        assert!(error.contains("expected a text or an array of token ids"), "{error}");
    }

    #[test]
    fn a_text_and_ids_do_not_mix() {
        let pair = Pair { id: None, original: Side::Text("a".into()), edited: Side::Ids(vec![1]) };
        assert!(line(&pair, None, true, false).is_err());
    }
}

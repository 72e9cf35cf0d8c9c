//! `runner score`: what a model thinks of given responses, token by token.
//!
//! The numbers are the model's; reading texts and ids and showing them is all that is done here.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::output::{self, Failure};
use super::stored::{self, ModelArgs};
use crate::model::Pair;
use crate::stage::{Opened, Scores};

#[derive(Args)]
pub(super) struct ScoreArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// JSON Lines with `prompt` and `response` (texts) or `prompt_ids` and `response_ids`, which win;
    /// `"finished": false` leaves out the end-of-sequence token after a text; `-` is stdin
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Write one JSON object a line: a language model's `logprobs` and `logprob`, a reward model's `rewards` and
    /// `score`, lists of them where the head has several labels
    #[arg(long)]
    json: bool,
}

/// A line of the input.
#[derive(Deserialize)]
struct Line {
    /// Handed through to the output.
    id: Option<Value>,
    prompt: Option<String>,
    response: Option<String>,
    prompt_ids: Option<Vec<u32>>,
    response_ids: Option<Vec<u32>>,
    /// Whether a response given as text ends there.
    #[serde(default = "yes")]
    finished: bool,
}

fn yes() -> bool {
    true
}

/// A line as ids.
struct Row {
    id: Option<Value>,
    prompt: Vec<u32>,
    response: Vec<u32>,
}

pub(super) fn score(args: &ScoreArgs) -> Result<(), Failure> {
    let model = args.model.open()?;
    let rows = stored::rows(&args.input)?
        .into_iter()
        .map(|(line, row)| ids(row, &model).map_err(|error| stored::fault(&args.input, line, error)))
        .collect::<Result<Vec<Row>, Failure>>()?;
    let pairs: Vec<Pair> = rows.iter().map(|row| Pair { prompt: &row.prompt, response: &row.response }).collect();
    let mut text = String::new();
    for (row, scores) in rows.iter().zip(model.score(&pairs)) {
        let tokens = model.tokenizer().pieces(&row.response);
        let line = if args.json { object(row, &tokens, &scores).to_string() } else { shown(&tokens, &scores) };
        text.push_str(&line);
        text.push('\n');
    }
    output::data(&text)
}

/// The ids of a line, or what is wrong with it.
fn ids(line: Line, model: &Opened) -> Result<Row, String> {
    let tokenizer = model.tokenizer();
    let prompt = match (line.prompt_ids, line.prompt) {
        (Some(ids), _) => ids,
        (None, Some(text)) if tokenizer.encode(&text).is_empty() => tokenizer.begin().to_vec(),
        (None, Some(text)) => model.prompt_ids(&text),
        (None, None) => return Err("expected `prompt` or `prompt_ids`, found neither".to_owned()),
    };
    let response = match (line.response_ids, line.response) {
        (Some(ids), _) => ids,
        (None, Some(text)) => {
            let mut ids = tokenizer.encode(&text);
            ids.extend(line.finished.then(|| tokenizer.eos()));
            ids
        }
        (None, None) => return Err("expected `response` or `response_ids`, found neither".to_owned()),
    };
    for (what, ids) in [("prompt", &prompt), ("response", &response)] {
        if ids.is_empty() {
            return Err(format!("expected at least one token in the {what}, found none"));
        }
        stored::known(ids, &format!("{what}_ids"), model)?;
    }
    model.fits(prompt.len() + response.len()).map_err(|error| error.to_string())?;
    Ok(Row { id: line.id, prompt, response })
}

fn object(row: &Row, tokens: &[String], scores: &Scores) -> Value {
    let mut object = match scores {
        Scores::LogProbs(logprobs) => json!({ "logprobs": logprobs, "logprob": logprobs.iter().sum::<f64>() }),
        Scores::Rewards(rewards, score) => json!({ "rewards": rewards, "score": score }),
        Scores::Labels(rewards, score) => json!({ "rewards": rewards, "score": score }),
    };
    object["response_ids"] = json!(row.response);
    object["tokens"] = json!(tokens);
    if let Some(id) = &row.id {
        object["id"] = id.clone();
    }
    object
}

/// The whole response's number, then each token with its own.
fn shown(tokens: &[String], scores: &Scores) -> String {
    let short = |values: &[f64]| values.iter().map(|value| format!("{value:.2}")).collect::<Vec<_>>().join(" ");
    let (whole, each): (String, Vec<String>) = match scores {
        Scores::LogProbs(logprobs) => {
            (format!("{:9.3}", logprobs.iter().sum::<f64>()), logprobs.iter().map(|x| short(&[*x])).collect())
        }
        Scores::Rewards(rewards, score) => (format!("{score:9.3}"), rewards.iter().map(|x| short(&[*x])).collect()),
        Scores::Labels(labels, whole) => (short(whole), labels.iter().map(|token| short(token)).collect()),
    };
    let each = tokens.iter().zip(each).map(|(token, values)| format!("{}({values})", token.trim()));
    format!("{whole}  {}", each.collect::<Vec<_>>().join(" "))
}

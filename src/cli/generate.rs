//! `runner generate`: what a policy answers.
//!
//! Sampling is `model`'s; which weights and which tokenizer, the store or a checkpoint folder says.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::output::{self, Failure, note};
use super::stored::{self, ModelArgs};
use crate::model::generate::Sampling;
use crate::stage::Opened;
use crate::units::{Fraction, Positive};

#[derive(Args)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// A prompt; may be given several times
    #[arg(long = "prompt", value_name = "TEXT", required_unless_present_any = ["input", "chat"])]
    prompts: Vec<String>,
    /// JSON Lines with a `prompt` (text) or `prompt_ids`; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "prompts")]
    input: Option<PathBuf>,
    /// A conversation to continue, by the model's chat template: a JSON list of messages with `role` and `content`, or an
    /// object with `messages` and what else the template knows (`tools`)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompts", "input"])]
    chat: Option<PathBuf>,
    /// Always take the most probable token
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p"])]
    greedy: bool,
    /// Divides the logits
    #[arg(long, value_name = "T", default_value = "1", value_parser = positive)]
    temperature: Positive,
    /// Keep only this many most probable tokens
    #[arg(long, value_name = "K")]
    top_k: Option<NonZeroUsize>,
    /// Keep only the most probable tokens that together reach this probability
    #[arg(long, value_name = "P", value_parser = share)]
    top_p: Option<Fraction>,
    /// Tokens at most, end-of-sequence token included [default: what the model was trained for]
    #[arg(long, value_name = "N")]
    max_new: Option<NonZeroUsize>,
    /// Decides what is drawn; each prompt has a random stream of its own
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Write one JSON object a line, with `text`, `ids` and `finished`; as `response` and `response_ids`, too, so that it
    /// can be scored
    #[arg(long)]
    json: bool,
}

/// A line of the input.
#[derive(Deserialize)]
struct Line {
    prompt: Option<String>,
    prompt_ids: Option<Vec<u32>>,
}

fn positive(text: &str) -> Result<Positive, String> {
    number(text)?.try_into()
}

fn share(text: &str) -> Result<Fraction, String> {
    Positive::try_from(number(text)?)?.get().try_into()
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("expected a number, found `{text}`"))
}

pub(super) fn generate(args: &GenerateArgs) -> Result<(), Failure> {
    let model = args.model.open()?;
    let prompts = prompts(args, &model)?;
    let sampling = Sampling {
        temperature: if args.greedy { 0.0 } else { args.temperature.get() },
        top_k: args.top_k.map(NonZeroUsize::get),
        top_p: args.top_p.map(Fraction::get),
        max_new: args.max_new.map_or(model.max_response_tokens(), NonZeroUsize::get),
    };
    let ids: Vec<Vec<u32>> = prompts.iter().map(|(_, ids)| ids.clone()).collect();
    let responses = model.generate(&ids, sampling, args.seed).map_err(|error| Failure::usage(format!("{error:#}")))?;
    let mut text = String::new();
    for ((prompt, prompt_ids), response) in prompts.iter().zip(responses) {
        let line = if args.json {
            json!({
                "prompt": prompt,
                "prompt_ids": prompt_ids,
                "text": response.text,
                "ids": response.ids,
                "response": response.text,
                "response_ids": response.ids,
                "finished": response.finished,
            })
            .to_string()
        } else {
            response.text
        };
        text.push_str(&line);
        text.push('\n');
    }
    output::data(&text)
}

/// Each prompt's text, where it has one, and its ids.
fn prompts(args: &GenerateArgs, model: &Opened) -> Result<Vec<(Value, Vec<u32>)>, Failure> {
    if let Some(path) = &args.chat {
        let prompt = conversation(path, model).map_err(|error| Failure::usage(format!("{error:#}")))?;
        return Ok(vec![prompt]);
    }
    let Some(path) = &args.input else {
        return args.prompts.iter().map(|prompt| Ok((json!(prompt), encoded(prompt, model)?))).collect();
    };
    let ids = |number: usize, line: Line| match line {
        Line { prompt_ids: Some(ids), prompt } => {
            if ids.is_empty() {
                return Err(stored::fault(path, number, "expected at least one id in `prompt_ids`, found none"));
            }
            let known = stored::known(&ids, "prompt_ids", model).map_err(|error| stored::fault(path, number, error));
            known.map(|()| (json!(prompt), ids))
        }
        Line { prompt: Some(prompt), .. } => encoded(&prompt, model).map(|ids| (json!(prompt), ids)),
        Line { .. } => Err(stored::fault(path, number, "expected `prompt` or `prompt_ids`, found neither")),
    };
    let rows = stored::rows(path)?;
    rows.into_iter().map(|(number, row)| ids(number, row)).collect()
}

/// The conversation in the file at `path` as the model's chat template writes it, up to where the assistant answers.
fn conversation(path: &Path, model: &Opened) -> Result<(Value, Vec<u32>)> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{shown}`"))?;
    // A template may write an object down, with its keys in their order: that is kept.
    let messages: minijinja::Value = serde_json::from_str(&text).with_context(|| format!("in `{shown}`"))?;
    let template = model.chat().context("the model has no chat template")?;
    let text = template.render(&messages, true).with_context(|| format!("in `{shown}`"))?.text;
    let ids = model.tokenizer().encode(&text);
    ensure!(!ids.is_empty(), "the chat template makes no token of the messages in `{shown}`");
    Ok((json!(text), ids))
}

/// A prompt's ids; says so where the model is shown its end only.
fn encoded(prompt: &str, model: &Opened) -> Result<Vec<u32>, Failure> {
    let tokenizer = model.tokenizer();
    let (ids, all) = (model.prompt_ids(prompt), tokenizer.encode(prompt).len() + tokenizer.begin().len());
    if all > ids.len() {
        let limit = ids.len();
        note(format!(
            "warning: the model takes prompts of at most {limit} tokens, found {all}; it sees the end of `{prompt}`"
        ));
    }
    if all == 0 {
        return Err(Failure::usage("expected at least one token in the prompt, found none".to_owned()));
    }
    Ok(ids)
}

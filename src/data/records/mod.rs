//! Datasets in files of rows: JSON lines, JSON, CSV, TSV, Parquet, Arrow; plain or compressed; one file, a pattern, a folder.
//!
//! What a row means is its layout's. A row that means nothing is never dropped in silence: it stops the run, or it is counted
//! and listed, as `on_bad_row` says.

mod columns;
pub mod example;
pub mod files;
mod guess;
mod index;
pub mod inspect;
pub mod layout;
mod marked;
pub mod rows;

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use layout::Layout;

use self::example::{Example, Fault, Kind};
use self::guess::Layouts;
use self::index::Index;
use super::prompt::Shown;
use super::{Dataset, Demonstration, Edit, Preference, Prompt, Response, Skipped};
use crate::text::Rendered;
use crate::units::Count;

/// The recipe's `[dataset.records]`: how rows of files are to be understood.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What the columns mean.
    pub layout: Layout,
    /// Columns with other names than the layout's, as in `prompt = "question"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// What happens at a row that cannot be used.
    pub on_bad_row: OnBadRow,
    /// Rows to draw at random; all of them when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<Count>,
    /// A prompt or response of more characters makes a row bad; none when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_characters: Option<Count>,
}

/// What happens at a row that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// The run stops, after all rows were looked at.
    #[default]
    Error,
    /// It is left out, counted and listed.
    Skip,
}

/// Faults that a message spells out.
const SPELLED_OUT: usize = 5;

impl Config {
    /// The row in its layout, its prompt as the model is shown it.
    fn example(&self, layouts: &Layouts, row: Result<rows::Row, Fault>, shown: &Shown) -> Result<Example, Fault> {
        let row = &row?;
        let layout = layouts.of(row, &self.columns);
        let mut example = layout.example(row, &self.columns)?;
        let view = columns::View { row, columns: &self.columns };
        let fault = |error: anyhow::Error| (Kind::Template, format!("{error:#}"));
        if let Some(talk) = view.whole_talk().filter(|_| layout == Layout::LanguageModeling) {
            example.conversation = shown.conversation(&talk).map_err(fault)?;
        }
        example.prompt = shown.prompt(row, &example.prompt, view.talk(&example.prompt)).map_err(fault)?;
        self.short(example)
    }

    fn short(&self, example: Example) -> Result<Example, Fault> {
        let Some(most) = self.max_characters.map(Count::get) else { return Ok(example) };
        let sides = example.pair.iter().flatten().chain(&example.response).chain(&example.revised);
        let longest = sides.chain([&example.prompt]).map(|text| text.chars().count()).max().unwrap_or(0);
        if longest > most {
            return Err((Kind::TooLong, format!("expected at most {most} characters, found {longest}")));
        }
        Ok(example)
    }
}

/// Reads the dataset and splits it by prompt: rows with the same prompt are on the same side.
///
/// The files are read twice: for an index of their rows, which is shuffled, and for the texts of those that are used.
///
/// # Errors
/// When a file cannot be read, a row is bad and must not be, or there are too few prompts.
pub fn read(config: &super::Config, shown: &Shown) -> Result<Dataset> {
    let (index, skipped) = Index::of(config, shown)?;
    let name = config.path.display();
    if config.records.as_ref().is_none_or(|records| records.on_bad_row == OnBadRow::Error) && !skipped.is_empty() {
        bail!("`{name}`: {}", spelled(&skipped, index.entries.len()));
    }
    let (tests, validations) = (config.test_prompts.get(), config.validation_prompts.get());
    ensure!(
        index.prompts > tests + validations,
        "`{name}`: expected more than {} different prompts ({validations} `validation_prompts`, {tests} `test_prompts` and one \
         to train on), found {}",
        tests + validations,
        index.prompts,
    );
    let mut order: Vec<usize> = (0..index.prompts).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(config.seed));
    let (test, rest) = order.split_at(tests);
    let (validation, rest) = rest.split_at(validations);
    let train = &rest[..rest.len().min(config.train_prompts.get())];
    let imitated = index.imitated(rest, config.demonstrations.get());
    let prompts = index.texts(&[test, validation, train, imitated].concat(), config, shown)?;
    let named = |split: &[usize]| split.iter().map(|&i| prompt(i, &prompts[&i][0].prompt)).collect();
    let mut data = Dataset {
        train: named(train),
        validation: named(validation),
        test: named(test),
        skipped,
        ..Dataset::default()
    };
    let imitated = imitated.iter().flat_map(|i| &prompts[i]).filter_map(demonstration);
    data.demonstrations = imitated.take(config.demonstrations.get()).collect();
    ensure!(!data.demonstrations.is_empty(), "`{name}`: expected responses to imitate, found prompts only");
    let of = |split: &[usize]| {
        let examples = split.iter().flat_map(|&i| prompts[&i].iter().map(move |example| (i, example)));
        let examples: Vec<(usize, &Example)> = examples.collect();
        let preferences = examples.iter().filter_map(|&(i, example)| preference(i, example)).collect::<Vec<_>>();
        let edits = examples.iter().filter_map(|&(i, example)| edit(i, example)).collect::<Vec<_>>();
        (preferences, edits)
    };
    (data.preferences, data.edits) = of(train);
    (data.held_out_preferences, data.held_out_edits) = of(&[validation, test].concat());
    Ok(data)
}

/// What is wrong with rows: how many of which kind, and the first of them.
#[must_use]
pub fn spelled(skipped: &[Skipped], fine: usize) -> String {
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    for row in skipped {
        *kinds.entry(row.kind).or_default() += 1;
    }
    let counts: Vec<_> = kinds.iter().map(|(kind, n)| format!("{n} {}", kind.words())).collect();
    let (bad, all) = (skipped.len(), skipped.len() + fine);
    let mut lines = vec![format!("{bad} of {all} rows cannot be used ({})", counts.join(", "))];
    lines.extend(skipped.iter().take(SPELLED_OUT).map(|row| format!("  {}: {}", row.place, row.message)));
    if bad > SPELLED_OUT {
        lines.push(format!("  and {} more", bad - SPELLED_OUT));
    }
    lines.push("`dataset.records.on_bad_row = \"skip\"` leaves them out and reports them".to_owned());
    lines.join("\n")
}

fn prompt(index: usize, text: &str) -> Prompt {
    Prompt { id: index as u64, text: text.to_owned(), facts: Vec::new() }
}

fn response(text: &str) -> Response {
    Response { text: text.to_owned(), ids: Vec::new(), finished: true }
}

fn preference(index: usize, example: &Example) -> Option<Preference> {
    let [chosen, rejected] = example.pair.as_ref()?;
    let prompt = prompt(index, &example.prompt);
    Some(Preference { prompt, chosen: response(chosen), rejected: response(rejected), noticed: Vec::new() })
}

/// What of an example is imitated. Of a conversation the prompt is what comes before the assistant's last turn.
fn demonstration(example: &Example) -> Option<Demonstration> {
    let response = example.response.clone()?;
    let Some(Rendered { text, generated }) = &example.conversation else {
        return Some(Demonstration { prompt: example.prompt.clone(), response, said: Vec::new() });
    };
    let &(first, last) = generated.last()?;
    let mut characters = text.chars();
    let prompt = characters.by_ref().take(first).collect();
    let response = characters.take(last - first).collect();
    Some(Demonstration { prompt, response, said: generated.clone() })
}

/// The less preferred response and its revision, where that changed anything.
fn edit(index: usize, example: &Example) -> Option<Edit> {
    let (Some([_, original]), Some(edited)) = (&example.pair, &example.revised) else { return None };
    (original != edited).then(|| Edit {
        prompt: prompt(index, &example.prompt),
        original: response(original),
        edited: response(edited),
        error_spans: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::prompt;
    use crate::text::ChatTemplate;

    /// As Python's dictionaries do: of a call's arguments a model is shown what comes first, first.
    #[test]
    fn objects_reach_templates_in_the_files_order() {
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        let call = r#"{"name": "weather", "arguments": {"zone": "Z", "city": "A", "days": {"to": 2, "from": 1}}}"#;
        let asked = r#"{"content": "Rain?", "role": "user"}"#;
        let called = format!(r#"{{"role": "assistant", "content": "", "tool_calls": [{call}]}}"#);
        let answer = r#"{"role": "assistant", "content": "Yes."}"#;
        let row = format!(r#"{{"tools": [{call}], "messages": [{asked}, {called}, {answer}], "meta": {call}}}"#);
        std::fs::write(file.path(), row).unwrap();
        let prompt = |plain: Option<&str>, chat: Option<&str>| {
            let template = plain.map(|text| prompt::Template::from(text.to_owned()));
            let config = prompt::Config { template, chat: false };
            let chat = chat.map(|text| ChatTemplate::new(text.to_owned(), serde_json::Map::new()));
            let (shown, mut found) = (Shown::new(&config, chat).unwrap(), String::new());
            let layouts = Layouts::of_files(file.path(), Layout::LanguageModeling, &BTreeMap::new()).unwrap();
            rows::read(file.path(), &mut |place, row| {
                found = Config::default().example(&layouts[&place.file], row, &shown).unwrap().prompt;
                true
            })
            .unwrap();
            found
        };
        assert_eq!(prompt(Some("{{ meta | tojson }}"), None), call);
        let chat = "{{ tools | tojson }}{% for m in messages %} {{ m | tojson }}{% endfor %}";
        // In a template without `{% generation %}`, what the assistant says is told by prefixes.
        assert_eq!(prompt(None, Some(chat)), format!("[{call}] {asked} {called}"));
    }
}

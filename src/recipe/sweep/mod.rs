//! `[sweep]`: one recipe, many points.
//!
//! Axes are read from the tables as they were written, so that a fault in a point is shown where its value stands in the
//! sweep. Values that nobody wrote (a range of seeds, random draws) are generated as TOML first, by `draw`.

mod axes;
mod draw;
mod filter;
mod overlay;
mod points;

use std::collections::BTreeMap;
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::Fault;
use super::experiment::Axis;
use super::schema::Node;
use super::source::Sources;
use super::tree;
use crate::units::Count;

pub use draw::{Draws, Seeds};

/// A table with keys of the user's choice.
pub type Open = BTreeMap<String, Value>;

/// More points than this are a mistake in the sweep.
const MOST_POINTS: usize = 10_000;

/// The recipe's `[sweep]` table. `product`, `zip` and `random` multiply; `cases` are added.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The seeds of every point, in place of the recipe's: a list, or a range as in `"0..10"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Seeds>,
    /// Axes, every combination of whose levels is a point: a key of the recipe with a list of values
    /// (`ppo.gae_lambda = [0.9, 1.0]`), or a name of your own with a table for each level
    /// (`size.small = { model.hidden_size = 32 }`). The first level is what the others are compared with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub product: Open,
    /// Axes that vary together, first level with first level and so on; several groups multiply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zip: Vec<Open>,
    /// Axes drawn at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<Random>,
    /// Points of their own: what each sets, and its `name`. One that sets nothing is the recipe as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<Open>,
    /// Combinations to leave out: those with all of an entry's values; a list names alternatives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Open>,
    /// Combinations to keep, where there is an entry: those with all values of at least one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Open>,
}

/// `[sweep.random]`: axes with a distribution each: `{ uniform = [0.0, 1.0] }`, `{ log_uniform = [1e-4, 1e-2] }` or
/// `{ choice = ["k1", "k3"] }`. Between whole numbers whole numbers are drawn.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Random {
    /// How many points are drawn; a larger count keeps those of a smaller one.
    pub count: Count,
    /// Decides the draws.
    #[serde(default)]
    pub seed: u64,
    /// The axes.
    #[serde(flatten)]
    pub axes: Open,
}

/// A point before it is checked.
pub struct Draft<'s> {
    /// `gae_lambda=0.9 size=small`.
    pub name: String,
    /// For each axis the index of its level.
    pub levels: Vec<Option<usize>>,
    /// The recipe's tables with the point's values laid over them.
    pub table: DeTable<'s>,
}

/// Lets a single table stand where a list of tables is expected: `[sweep.zip]` for `[[sweep.zip]]`.
pub fn wrap_single_tables(table: &mut DeTable<'_>) {
    let Some(DeValue::Table(sweep)) = table.get_mut("sweep").map(Spanned::get_mut) else { return };
    for key in ["zip", "cases", "exclude", "when"] {
        if let Some(value) = sweep.get_mut(key)
            && value.get_ref().is_table()
        {
            let mut list = toml::de::DeArray::new();
            list.push(value.clone());
            *value = Spanned::new(value.span(), DeValue::Array(list));
        }
    }
}

/// What a sweep unfolds to.
#[derive(Default)]
pub struct Expanded<'s> {
    pub axes: Vec<Axis>,
    pub drafts: Vec<Draft<'s>>,
    /// What is worth a second look.
    pub warnings: Vec<Fault>,
}

/// The points of the sweep in `table`; `resolved` is the recipe without the sweep, defaults filled in.
///
/// # Errors
/// Axes without levels or for keys that another one sets, groups of different lengths, filters on keys that are not there, no
/// points or far too many.
pub fn expand<'s>(
    sources: &Sources,
    table: &DeTable<'s>,
    draws: &'s Draws,
    resolved: &Value,
) -> Result<Expanded<'s>, Vec<Fault>> {
    let mut base = table.clone();
    let Some((_, DeValue::Table(sweep))) = tree::get(table, &["sweep".to_owned()]) else {
        return Ok(Expanded::default());
    };
    base.remove("sweep");
    let mut reader = axes::Reader::new(sources);
    let groups = reader.groups(sweep, draws);
    let cases = reader.cases(sweep);
    let filters = filter::Filters::read(&reader, sweep, &groups);
    if !reader.faults.is_empty() {
        return Err(reader.faults);
    }
    let place = tree::get(table, &["sweep".to_owned()]).map_or(0..0, |(place, _)| place.key);
    let too_many = |points: usize, span: &Range<usize>, label: &str| {
        let message = format!("this sweep has {points} points: expected at most {MOST_POINTS}");
        Err(vec![Fault::error(message).at(sources.mark(span, label))])
    };
    if draws.count > MOST_POINTS {
        let count = tree::get(sweep, &["random".to_owned(), "count".to_owned()]);
        return too_many(draws.count, &count.map_or(0..0, |(place, _)| place.value), "");
    }
    let combinations = groups.iter().map(axes::Group::len).fold(1, usize::saturating_mul);
    if combinations.saturating_add(cases.len()) > MOST_POINTS {
        return too_many(combinations, &place, "draw some of them: `[sweep.random]`");
    }
    let axes = points::axes(&groups, &cases);
    let mut drafts = Vec::new();
    if !groups.is_empty() {
        for number in 0..combinations {
            let draft = points::combination(&base, &groups, &axes, number);
            if filters.keep(&draft, resolved).map_err(|fault| vec![*fault])? {
                drafts.push(draft);
            }
        }
    }
    drafts.extend(points::case_drafts(&base, &cases, &axes));
    let written = tree::get(sweep, &["seeds".to_owned()]);
    if let Some(seeds) = written.and_then(|(place, _)| draws.seeds(&place)) {
        for draft in &mut drafts {
            overlay::lay(&mut draft.table, seeds.clone());
        }
    }
    if drafts.is_empty() {
        let what = if groups.is_empty() { "it has no axes and no cases" } else { "its filters leave no point" };
        return Err(vec![Fault::error(format!("this sweep is empty: {what}")).at(sources.mark(&place, ""))]);
    }
    Ok(Expanded { axes, drafts, warnings: filters.idle() })
}

/// A written value as JSON.
///
/// # Panics
/// Never: every TOML value is JSON, dates as text.
fn json(value: &Spanned<DeValue<'_>>) -> Value {
    let deserializer = toml::de::ValueDeserializer::from(value.clone());
    let value = toml::Value::deserialize(deserializer).expect("what was parsed deserialises");
    serde_json::to_value(value).expect("TOML is JSON but for infinite numbers, which become null")
}

/// The top-level keys that a recipe may have.
fn recipe_keys() -> Vec<&'static str> {
    Node::root().keys().unwrap_or_default()
}

//! The recipe's `[annotate]` table: what people who edit responses are asked for.
//!
//! Changes no result: what they answered is a file, and its contents count where a recipe names it. The page is the room
//! `annotate`'s.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{Count, Fraction};

/// The recipe's `[annotate]` table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Version of the guideline that annotators follow; it is kept with every answer.
    pub guideline: String,
    /// The guideline itself, or what of it annotators should have before them; the page shows it.
    pub instructions: String,
    /// What can be wrong where a change is made; the first nine have keys. An empty list asks for none.
    pub categories: Vec<String>,
    /// An edit that changes a larger share of the words is a rewrite, and needs a reason.
    pub rewrite_share: Fraction,
    /// Share of the items that several annotators answer, to see how far they agree.
    pub overlap: Fraction,
    /// Annotators that answer each of these.
    pub annotators_per_item: Count,
    /// Minutes after which an item that somebody opened and left is given to somebody else.
    pub lease_minutes: Count,
}

/// What the error typologies of edited responses have in common.
const CATEGORIES: [&str; 6] = ["untruthful", "toxic", "off-topic", "incomplete", "unclear", "other"];

impl Default for Config {
    fn default() -> Self {
        let count = |n: i64| Count::try_from(n).expect("at least one");
        let share = |x: f64| Fraction::try_from(x).expect("between 0 and 1");
        Self {
            guideline: "1".to_owned(),
            instructions: String::new(),
            categories: CATEGORIES.map(str::to_owned).to_vec(),
            rewrite_share: share(0.5),
            overlap: share(0.1),
            annotators_per_item: count(2),
            lease_minutes: count(10),
        }
    }
}

//! What there is to annotate: the less preferred responses of pairs, each under an id made from what it says.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::data::records::{Config, rows};
use crate::data::{Preference, Response, Skipped, records};

/// Hex digits of an id.
const DIGITS: usize = 16;

/// A pair whose less preferred response is to be edited.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// A hash of prompt and pair: the same in every session, wherever the pair stands.
    pub id: String,
    /// The pair's own `id`, where the input has one.
    pub source: Option<Value>,
    /// What was asked.
    pub prompt: String,
    /// The preferred response.
    pub preferred: Response,
    /// The less preferred response.
    pub original: Response,
}

/// A hash of `parts` in hex; no two lists of parts give the same input.
#[must_use]
pub fn id_of(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..DIGITS].to_owned()
}

impl Item {
    fn new(source: Option<Value>, prompt: String, preferred: Response, original: Response) -> Self {
        Self { id: id_of(&[&prompt, &preferred.text, &original.text]), source, prompt, preferred, original }
    }

    /// Whether several annotators are to answer it: the same items in every session, and more of them with a larger `share`.
    #[must_use]
    pub fn is_shared(&self, share: f64) -> bool {
        let hash = u64::from_str_radix(&self.id[..DIGITS], 16).unwrap_or(0);
        (hash as f64) < share * u64::MAX as f64
    }
}

/// The pairs of `preferences`; of several pairs with the same less preferred response the first, since its edit is the edit
/// of all of them.
#[must_use]
pub fn of_preferences(preferences: Vec<Preference>) -> Vec<Item> {
    let mut known = BTreeSet::new();
    let new =
        preferences.into_iter().filter(|pair| known.insert((pair.prompt.text.clone(), pair.rejected.text.clone())));
    new.map(|pair| Item::new(None, pair.prompt.text, pair.chosen, pair.rejected)).collect()
}

/// The pairs in the files that `path` means, in any layout that has pairs; a pair that stands there twice is one.
///
/// # Errors
/// When a file cannot be read, a row is no pair, or there is none.
pub fn of_files(path: &Path) -> Result<Vec<Item>> {
    let (config, mut items, mut bad, mut known) = (Config::default(), Vec::new(), Vec::new(), BTreeSet::new());
    let whole = |text: String| Response { text, ids: Vec::new(), finished: true };
    rows::read(path, &mut |place, row| {
        let fault = |kind, message| Skipped { kind, place: place.to_string(), message };
        let row = match row {
            Ok(row) => row,
            Err((kind, message)) => {
                bad.push(fault(kind, message));
                return true;
            }
        };
        match config.layout.example(&row, &config.columns) {
            Err((kind, message)) => bad.push(fault(kind, message)),
            Ok(example) => match example.pair {
                None => bad.push(fault(
                    records::example::Kind::MissingField,
                    "expected a pair of responses (`prompt`, `chosen`, `rejected`), found one response or none"
                        .to_owned(),
                )),
                Some([preferred, original]) => {
                    let source = row.get("id").filter(|id| !id.is_none()).map(|id| serde_json::json!(id));
                    let item = Item::new(source, example.prompt, whole(preferred), whole(original));
                    if known.insert(item.id.clone()) {
                        items.push(item);
                    }
                }
            },
        }
        true
    })?;
    if let Some(first) = bad.first() {
        bail!(
            "{} of {} rows are no pairs; the first is {}: {}",
            bad.len(),
            bad.len() + items.len(),
            first.place,
            first.message
        );
    }
    ensure!(!items.is_empty(), "`{}`: expected pairs, found none", path.display());
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Prompt;

    fn response(text: &str) -> Response {
        Response { text: text.into(), ids: vec![], finished: true }
    }

    #[test]
    fn ids_name_what_is_said_and_sharing_grows_with_the_share() {
        let item = |text: &str| Item::new(None, "p".into(), response("good"), response(text));
        assert_eq!(item("a").id, item("a").id);
        assert_ne!(item("a").id, item("b").id);
        assert_ne!(id_of(&["a", "bc"]), id_of(&["ab", "c"]));
        let items: Vec<Item> = (0..400).map(|i| item(&i.to_string())).collect();
        let shared = |share: f64| items.iter().filter(|item| item.is_shared(share)).count();
        assert_eq!((shared(0.0), shared(1.0)), (0, 400));
        assert!((60..100).contains(&shared(0.2)), "{}", shared(0.2));
        assert!(items.iter().all(|item| item.is_shared(0.5) || !item.is_shared(0.2)));
    }

    #[test]
    fn an_original_is_edited_once() {
        let pair = |chosen: &str, rejected: &str| Preference {
            prompt: Prompt { id: 0, text: "p".into(), facts: vec![] },
            chosen: response(chosen),
            rejected: response(rejected),
            noticed: vec![],
        };
        let items = of_preferences(vec![pair("a", "c"), pair("b", "c"), pair("a", "b")]);
        let sides: Vec<_> = items.iter().map(|item| (&*item.preferred.text, &*item.original.text)).collect();
        assert_eq!(sides, [("a", "c"), ("a", "b")]);
    }

    #[test]
    fn rows_that_are_no_pairs_are_named() {
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        let row =
            |text: &str| format!("{{\"id\": 7, \"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"{text}\"}}\n");
        std::fs::write(file.path(), row("b") + &row("b") + &row("c")).unwrap();
        let items = of_files(file.path()).unwrap();
        assert_eq!(items.iter().map(|item| &*item.original.text).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(items[0].source, Some(7.into()));
        std::fs::write(file.path(), row("b") + "{\"prompt\": \"p\", \"completion\": \"a\"}\n").unwrap();
        let error = of_files(file.path()).unwrap_err().to_string();
        assert!(error.starts_with("1 of 2 rows are no pairs; the first is ") && error.contains("line 2"), "{error}");
    }
}

//! Which layout a row has where the recipe does not say: what its columns suggest, unless they are those of another row with
//! something missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use super::files;
use super::layout::Layout;
use super::rows::{self, Row};

/// Rows of a file by which others are measured.
const FIRST: usize = 100;

/// The layouts of one file's rows.
pub struct Layouts {
    given: Layout,
    /// Those that the first rows suggest, with all columns that are filled in such rows.
    seen: Vec<(Layout, BTreeSet<String>)>,
}

impl Layouts {
    /// Of each file that `path` means; `given` is the recipe's, `columns` where a column has another name.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of_files(path: &Path, given: Layout, columns: &BTreeMap<String, String>) -> Result<BTreeMap<String, Self>> {
        let mut layouts = BTreeMap::new();
        for file in files::expand(path)? {
            let mut own = Self { given, seen: Vec::new() };
            if given == Layout::Auto {
                let mut rows = 0;
                rows::read(&file, &mut |_, row| {
                    if let Ok(row) = row {
                        own.see(&row, columns);
                    }
                    rows += 1;
                    rows < FIRST
                })?;
            }
            layouts.insert(file.display().to_string(), own);
        }
        Ok(layouts)
    }

    fn see(&mut self, row: &Row, columns: &BTreeMap<String, String>) {
        let Some(guess) = Layout::guess(row, columns) else { return };
        match self.seen.iter_mut().find(|(layout, _)| *layout == guess) {
            Some((_, names)) => names.extend(filled(row)),
            None => self.seen.push((guess, filled(row).collect())),
        }
        self.seen.sort_by_key(|(layout, _)| layout.rank());
    }

    /// That of `row`: a row without `rejected` among preferences is a preference with something missing, and not a prompt.
    #[must_use]
    pub fn of(&self, row: &Row, columns: &BTreeMap<String, String>) -> Layout {
        if self.given != Layout::Auto {
            return self.given;
        }
        let guess = Layout::guess(row, columns);
        let rank = guess.and_then(Layout::rank).unwrap_or(usize::MAX);
        let names: BTreeSet<String> = filled(row).collect();
        let fuller = |(layout, known): &&(Layout, BTreeSet<String>)| {
            layout.rank() < Some(rank) && names.is_subset(known) && !names.is_empty()
        };
        self.seen.iter().find(fuller).map(|(layout, _)| *layout).or(guess).unwrap_or(Layout::Auto)
    }
}

/// The columns of `row` that hold something.
fn filled(row: &Row) -> impl Iterator<Item = String> {
    row.iter().filter(|(_, value)| !value.is_none()).map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row(value: Value) -> Row {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_row_with_something_missing_keeps_its_layout_and_files_may_hold_several() {
        let mut layouts = Layouts { given: Layout::Auto, seen: Vec::new() };
        let columns = BTreeMap::new();
        let pair = row(json!({"prompt": "p", "chosen": "a", "rejected": "b"}));
        let talk = row(json!({"messages": [{"role": "user", "content": "q"}]}));
        for seen in [&row(json!({"prompt": "p"})), &pair, &talk] {
            layouts.see(seen, &columns);
        }
        for (value, expected) in [
            (json!({"prompt": "p", "chosen": "a"}), Layout::Preference),
            (json!({"prompt": "p", "chosen": null, "rejected": "b"}), Layout::Preference),
            (json!({"messages": []}), Layout::LanguageModeling),
            (json!({"prompt": "p", "completion": "a"}), Layout::PromptCompletion),
            (json!({"nothing": "known"}), Layout::Auto),
            (json!({}), Layout::Auto),
        ] {
            assert_eq!(layouts.of(&row(value.clone()), &columns), expected, "{value}");
        }
        let given = Layouts { given: Layout::Revised, seen: Vec::new() };
        assert_eq!(given.of(&pair, &columns), Layout::Revised);
    }
}

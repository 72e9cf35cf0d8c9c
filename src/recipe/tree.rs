//! TOML tables with places: finding, replacing, and laying one recipe over another.
//!
//! Every key and value keeps the span that it was read from. What a key means is left to `schema`.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::schema::Node;

/// Keys from the root; entries of lists by their number.
pub type KeyPath = Vec<String>;

/// Where a key and its value stand.
#[derive(Clone, Debug)]
pub struct Place {
    /// The key; for an entry of a list, the entry.
    pub key: Range<usize>,
    /// The value; for a table, its header.
    pub value: Range<usize>,
}

/// The value at `path` and its place.
#[must_use]
pub fn get<'t, 'a>(table: &'t DeTable<'a>, path: &[String]) -> Option<(Place, &'t DeValue<'a>)> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.get_key_value(first.as_str())?;
    let mut place = Place { key: key.span(), value: value.span() };
    let mut current = value.get_ref();
    for segment in rest {
        let value = match current {
            DeValue::Table(table) => {
                let (key, value) = table.get_key_value(segment.as_str())?;
                place.key = key.span();
                value
            }
            DeValue::Array(array) => {
                let entry = array.get(segment.parse::<usize>().ok()?)?;
                place.key = entry.span();
                entry
            }
            _ => return None,
        };
        place.value = value.span();
        current = value.get_ref();
    }
    Some((place, current))
}

/// The value at `path`, to be changed.
pub fn get_mut<'t, 'a>(table: &'t mut DeTable<'a>, path: &[String]) -> Option<&'t mut Spanned<DeValue<'a>>> {
    let (first, rest) = path.split_first()?;
    let mut current = table.get_mut(first.as_str())?;
    for segment in rest {
        current = match current.get_mut() {
            DeValue::Table(table) => table.get_mut(segment.as_str())?,
            DeValue::Array(array) => array.get_mut(segment.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(current)
}

/// Removes the key at `path`, if a table holds it.
pub fn remove(table: &mut DeTable<'_>, path: &[String]) -> bool {
    match path {
        [] => false,
        [key] => table.remove(key.as_str()).is_some(),
        [parents @ .., key] => match get_mut(table, parents).map(Spanned::get_mut) {
            Some(DeValue::Table(parent)) => parent.remove(key.as_str()).is_some(),
            _ => false,
        },
    }
}

/// The deepest path whose key or value was read from exactly `span`.
#[must_use]
pub fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<KeyPath> {
    table.iter().find_map(|(key, value)| {
        let inner = find_in(value, span).or_else(|| (key.span() == *span).then(KeyPath::new));
        inner.map(|path| prefixed(key.get_ref().to_string(), path))
    })
}

fn find_in(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<KeyPath> {
    let deeper = match value.get_ref() {
        DeValue::Table(table) => find(table, span),
        DeValue::Array(array) => array
            .iter()
            .enumerate()
            .find_map(|(i, entry)| find_in(entry, span).map(|path| prefixed(i.to_string(), path))),
        _ => None,
    };
    deeper.or_else(|| (value.span() == *span).then(KeyPath::new))
}

fn prefixed(key: String, mut path: KeyPath) -> KeyPath {
    path.insert(0, key);
    path
}

/// An entry of a list that was to be changed and is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoEntry {
    /// Where it was asked for.
    pub span: Range<usize>,
    /// The list's key.
    pub list: String,
    /// The name or number.
    pub entry: String,
    /// Names of the entries that are there.
    pub names: Vec<String>,
}

/// Lays `over` on `base`: tables key by key, everything else (lists too) is replaced. Where the schema offers a choice,
/// another choice replaces the former one with all its keys. A table on a list changes the entries that its keys name
/// (by `name` or by number).
///
/// # Errors
/// Entries that are not there are added to `unmatched`.
pub fn merge<'a>(base: &mut DeTable<'a>, over: DeTable<'a>, node: Option<Node>, unmatched: &mut Vec<NoEntry>) {
    for (key, value) in over {
        let node = node.and_then(|node| node.child(key.get_ref()));
        let Some((former_key, former)) = base.remove_entry(key.get_ref().as_ref()) else {
            base.insert(key, value);
            continue;
        };
        let (former_span, span) = (former.span(), value.span());
        // A table that only passes through (`ppo` in `ppo.gamma = 1`) is not where the table stands.
        let passing = span == key.span();
        match (former.into_inner(), value.into_inner()) {
            (DeValue::Table(mut former), DeValue::Table(table)) if !other_choice(node, &former, &table) => {
                merge(&mut former, table, node, unmatched);
                let (key, span) = if passing { (former_key, former_span) } else { (key, span) };
                base.insert(key, Spanned::new(span, DeValue::Table(former)));
            }
            (DeValue::Array(mut entries), DeValue::Table(table)) => {
                merge_entries(key.get_ref(), &mut entries, table, node, unmatched);
                base.insert(former_key, Spanned::new(former_span, DeValue::Array(entries)));
            }
            (_, value) => {
                base.insert(key, Spanned::new(span, value));
            }
        }
    }
}

fn merge_entries<'a>(
    list: &str,
    entries: &mut DeArray<'a>,
    over: DeTable<'a>,
    node: Option<Node>,
    unmatched: &mut Vec<NoEntry>,
) {
    let names: Vec<Option<String>> = entries.iter().map(|entry| name_of(entry.get_ref())).collect();
    for (key, value) in over {
        let word = key.get_ref().as_ref();
        let by_name = names.iter().position(|name| name.as_deref() == Some(word));
        let index = by_name.or_else(|| word.parse().ok()).filter(|&i| i < entries.len());
        let Some(index) = index else {
            let names = names.iter().flatten().cloned().collect();
            unmatched.push(NoEntry { span: key.span(), list: list.to_owned(), entry: word.to_owned(), names });
            continue;
        };
        let Some(entry) = entries.get_mut(index) else { continue };
        match (entry.get_mut(), value) {
            (DeValue::Table(former), value) if value.get_ref().is_table() => {
                let DeValue::Table(table) = value.into_inner() else { continue };
                merge(former, table, node.and_then(Node::item), unmatched);
            }
            (_, value) => *entry = value,
        }
    }
}

fn name_of(entry: &DeValue<'_>) -> Option<String> {
    entry.as_table()?.get("name")?.get_ref().as_str().map(str::to_owned)
}

fn other_choice(node: Option<Node>, former: &DeTable<'_>, table: &DeTable<'_>) -> bool {
    node.is_some_and(|node| node.choices().is_some())
        && !table.keys().all(|key| former.contains_key(key.get_ref().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(base: &str, over: &str) -> toml::Table {
        let mut table = DeTable::parse(base).unwrap().into_inner();
        let mut unmatched = Vec::new();
        merge(&mut table, DeTable::parse(over).unwrap().into_inner(), Some(Node::root()), &mut unmatched);
        assert_eq!(unmatched, []);
        serde::Deserialize::deserialize(toml::de::Deserializer::from(Spanned::new(0..0, table))).unwrap()
    }

    #[test]
    fn tables_merge_and_lists_are_replaced() {
        let table = merged("seeds = [1, 2]\n[ppo]\nsteps = 1\nepochs = 2", "seeds = [3]\n[ppo]\nsteps = 5");
        assert_eq!(table, "seeds = [3]\n[ppo]\nepochs = 2\nsteps = 5".parse().unwrap());
    }

    #[test]
    fn another_choice_replaces_and_the_same_choice_merges() {
        assert_eq!(merged("[edits.simulated]", "[edits.dataset]"), "[edits.dataset]".parse().unwrap());
        let simulated = "[preferences.simulated]\nnotice_rate = 0.9\nlabel_noise = 0.0";
        let table = merged(simulated, "[preferences.simulated]\nlabel_noise = 0.1");
        assert_eq!(table, simulated.replace("0.0", "0.1").parse().unwrap());
        let table = merged("[ppo]\nkl_control = \"fixed\"", "[ppo.kl_control.adaptive]\ntarget = 6.0");
        assert_eq!(table, "[ppo.kl_control.adaptive]\ntarget = 6.0".parse().unwrap());
    }

    #[test]
    fn an_entry_of_a_list_is_changed_by_name_or_number() {
        let base = "[[variants]]\nname = \"a\"\n[[variants]]\nname = \"b\"";
        let expected = format!("{base}\ncredit = \"per_token\"").parse().unwrap();
        assert_eq!(merged(base, "variants.b.credit = \"per_token\""), expected);
        assert_eq!(merged(base, "variants.1.credit = \"per_token\""), expected);
    }

    #[test]
    fn a_span_finds_its_path_and_a_path_its_span() {
        let text = "a = 1\n[[b]]\nc = { d = [10, 20] }\n";
        let table = DeTable::parse(text).unwrap().into_inner();
        let path: KeyPath = ["b", "0", "c", "d", "1"].map(str::to_owned).into();
        let (place, _) = get(&table, &path).unwrap();
        assert_eq!(&text[place.value.clone()], "20");
        assert_eq!(find(&table, &place.value), Some(path));
    }
}

//! Tables that are laid over a recipe: made from a key and a value, listed by key, laid.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::super::schema::Node;
use super::super::tree;

/// A key's segments with the place where each is written.
pub type Path<'s> = Vec<Spanned<DeString<'s>>>;

/// Lays `over` on `base`, as a recipe lies on what it extends.
pub fn lay<'s>(base: &mut DeTable<'s>, over: DeTable<'s>) {
    let mut unmatched = Vec::new();
    tree::merge(base, over, Some(Node::root()), &mut unmatched);
}

/// A key's segments: `"ppo.gamma"` in quotes is two, like `ppo.gamma` without.
pub fn segments<'s>(key: &Spanned<DeString<'s>>) -> Path<'s> {
    let segment = |part: &str| Spanned::new(key.span(), part.to_owned().into());
    key.get_ref().split('.').map(segment).collect()
}

/// A table that sets `value` at `path` and nothing else.
pub fn nested<'s>(path: &[Spanned<DeString<'s>>], value: Spanned<DeValue<'s>>) -> DeTable<'s> {
    let mut table = DeTable::new();
    let Some((first, rest)) = path.split_first() else { return table };
    // With the span of its key a table only passes through: see `tree::merge`.
    let value = if rest.is_empty() { value } else { Spanned::new(first.span(), DeValue::Table(nested(rest, value))) };
    table.insert(first.clone(), value);
    table
}

/// The dotted keys of all that `table` sets.
pub fn leaves(table: &DeTable<'_>) -> Vec<String> {
    let below = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| match value.get_ref() {
        DeValue::Table(inner) if !inner.is_empty() => {
            leaves(inner).into_iter().map(|leaf| format!("{}.{leaf}", key.get_ref())).collect()
        }
        _ => vec![key.get_ref().to_string()],
    };
    table.iter().flat_map(below).collect()
}

pub fn dotted(path: &[Spanned<DeString<'_>>]) -> String {
    path.iter().map(|segment| segment.get_ref().as_ref()).collect::<Vec<_>>().join(".")
}

/// The tables in the list `key`.
pub fn tables<'t, 's>(sweep: &'t DeTable<'s>, key: &str) -> impl Iterator<Item = &'t DeTable<'s>> {
    let list = sweep.get(key).and_then(|list| list.get_ref().as_array());
    list.into_iter().flatten().filter_map(|entry| entry.get_ref().as_table())
}

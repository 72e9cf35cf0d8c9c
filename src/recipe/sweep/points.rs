//! From axes to points: every combination of levels, and the cases, each with its name and its tables.

use toml::de::DeTable;

use super::super::experiment::Axis;
use super::Draft;
use super::axes::{Case, Factor, Group};
use super::overlay::lay;

/// The name of the axis whose levels are the cases.
const CASE: &str = "case";

/// The axes of `groups` and `cases`, under the shortest names that tell them apart.
pub fn axes(groups: &[Group], cases: &[Case]) -> Vec<Axis> {
    let factors: Vec<&Factor> = groups.iter().flat_map(|group| &group.factors).collect();
    let name = |factor: &Factor| {
        let parts: Vec<&str> = factor.key.split('.').collect();
        let ends = (1..parts.len()).map(|n| parts[parts.len() - n..].join("."));
        let unique = |end: &String| {
            factors.iter().filter(|other| other.key == *end || other.key.ends_with(&format!(".{end}"))).count() == 1
        };
        if factor.named { factor.key.clone() } else { ends.into_iter().find(unique).unwrap_or(factor.key.clone()) }
    };
    let mut axes: Vec<Axis> = factors
        .iter()
        .map(|factor| Axis { name: name(factor), levels: factor.levels.clone(), sampled: factor.sampled })
        .collect();
    if !cases.is_empty() {
        let levels = cases.iter().map(|case| case.level.clone()).collect();
        axes.push(Axis { name: CASE.to_owned(), levels, sampled: false });
    }
    axes
}

/// The combination with that number; the last group varies fastest.
pub fn combination<'s>(base: &DeTable<'s>, groups: &[Group<'s>], axes: &[Axis], number: usize) -> Draft<'s> {
    let mut table = base.clone();
    let mut levels = Vec::with_capacity(axes.len());
    let mut rest = groups.iter().map(Group::len).product::<usize>();
    let mut number = number;
    for group in groups {
        rest /= group.len();
        let level = number / rest;
        number %= rest;
        for factor in &group.factors {
            lay(&mut table, factor.overlays[level].clone());
            levels.push(Some(level));
        }
    }
    levels.resize(axes.len(), None);
    Draft { name: point_name(axes, &levels), levels, table }
}

/// The points that the cases are.
pub fn case_drafts<'s>(base: &DeTable<'s>, cases: &[Case<'s>], axes: &[Axis]) -> Vec<Draft<'s>> {
    let draft = |(i, case): (usize, &Case<'s>)| {
        let mut table = base.clone();
        lay(&mut table, case.overlay.clone());
        let mut levels = vec![None; axes.len()];
        if let Some(last) = levels.last_mut() {
            *last = Some(i);
        }
        Draft { name: point_name(axes, &levels), levels, table }
    };
    cases.iter().enumerate().map(draft).collect()
}

fn point_name(axes: &[Axis], levels: &[Option<usize>]) -> String {
    let named = axes.iter().zip(levels).filter_map(|(axis, level)| Some((axis, (*level)?)));
    named.map(|(axis, level)| format!("{}={}", axis.name, axis.levels[level].name)).collect::<Vec<_>>().join(" ")
}

//! Loading a recipe: read, merge, check, judge by the rules; one list of everything that is wrong.

use std::collections::BTreeSet;
use std::path::Path;

use toml::de::DeTable;

use super::check::Check;
use super::diagnostics::{Fault, Faults, Hint, Severity};
use super::rules::Verdict;
use super::source::Sources;
use super::sweep::{self, Draws, Expanded};
use super::{Experiment, Point, Recipe, fit, rules, source};

/// Faulty points that are reported one by one.
const SPELLED_OUT: usize = 5;

/// A recipe that may be run.
#[derive(Debug)]
pub struct Loaded {
    /// What it asks for; paths are relative to the working directory.
    pub experiment: Experiment,
    /// What a person should look at before running it.
    pub warnings: Vec<Fault>,
}

/// Loads the recipe at `path` with everything that it `extends`, then applies `overrides` (`KEY=VALUE`) and unfolds its
/// `[sweep]`.
///
/// # Errors
/// Every fault that can be found in one pass, with its place; those of a sweep's points once its own tables are sound.
/// Texts that are not TOML are reported alone, since nothing is known of what they would have said.
pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded, Faults> {
    let sources = source::gather(path, overrides)?;
    let mut merged = sources.merged()?;
    sweep::wrap_single_tables(&mut merged);
    let (mut recipe, warnings) = judged(&sources, merged.clone())?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    match recipe.sweep.take() {
        None => Ok(Loaded { experiment: Experiment::single(name, recipe), warnings }),
        Some(config) => unfold(&sources, &merged, &config, &recipe, name),
    }
}

/// The recipe that `table` says, and what is worth a second look.
fn judged<'s>(sources: &'s Sources, table: DeTable<'s>) -> Result<(Recipe, Vec<Fault>), Faults> {
    let (mut check, recipe) = Check::run(sources, table);
    let Some(mut recipe) = recipe else { return Err(Faults(check.into_faults())) };
    check.resolve_paths(&mut recipe);
    let mut verdict = Verdict::default();
    rules::judge(&recipe, &mut verdict);
    fit::judge(&recipe, &mut verdict);
    for (i, variant) in recipe.variants.iter().enumerate() {
        fit::unread_anchor(i, variant, &check, &mut verdict);
    }
    verdict.report(&mut check);
    let faults = check.into_faults();
    if faults.iter().any(|fault| fault.severity() == Severity::Error) {
        Err(Faults(faults))
    } else {
        Ok((recipe, faults))
    }
}

/// The points of a sweep over `base`, each checked like a recipe of its own.
fn unfold(
    sources: &Sources,
    table: &DeTable<'_>,
    config: &sweep::Config,
    base: &Recipe,
    name: String,
) -> Result<Loaded, Faults> {
    let draws = Draws::new(config);
    let resolved = serde_json::to_value(base).map_err(|error| Faults(vec![Fault::error(error.to_string())]))?;
    let Expanded { axes, drafts, mut warnings } = sweep::expand(sources, table, &draws, &resolved).map_err(Faults)?;
    let (mut points, mut faults) = (Vec::<Point>::new(), Vec::new());
    // Points have most of their text in common: what is wrong with it is said once.
    let (mut said, mut seen, mut refused) = (BTreeSet::new(), BTreeSet::new(), 0);
    for draft in drafts {
        let found = match judged(sources, draft.table) {
            Ok((recipe, found)) => {
                if seen.insert(serde_json::to_string(&recipe).unwrap_or_default()) {
                    points.push(Point { name: draft.name.clone(), levels: draft.levels, recipe });
                } else {
                    let message = format!("the point `{}` is left out: another one is the same recipe", draft.name);
                    warnings.push(Fault::warning(message));
                }
                found
            }
            Err(Faults(found)) => {
                refused += 1;
                found
            }
        };
        for fault in found {
            // A fault of two keys together is not visible at either of them.
            let fault = fault.or_hint(Hint::Action(format!("this is the point `{}`", draft.name)));
            let is_error = fault.severity() == Severity::Error;
            if said.insert(fault.message().to_owned()) && (!is_error || refused <= SPELLED_OUT) {
                if is_error { faults.push(fault) } else { warnings.push(fault) }
            }
        }
    }
    if refused > SPELLED_OUT {
        faults.push(Fault::error(format!(
            "{refused} points of this sweep have faults; the first {SPELLED_OUT} are shown"
        )));
    }
    if faults.is_empty() {
        Ok(Loaded { experiment: Experiment { name, axes, points }, warnings })
    } else {
        Err(Faults(faults))
    }
}

/// The recipe as one TOML text with every default written out; paths are relative to the working directory.
///
/// # Panics
/// Never: every part of a recipe came from TOML.
#[must_use]
pub fn to_toml(recipe: &Recipe) -> String {
    toml::to_string(recipe).expect("what came from TOML goes back")
}

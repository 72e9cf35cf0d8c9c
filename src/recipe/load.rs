//! Loading a recipe: read, merge, check, judge by the rules; one list of everything that is wrong.

use std::path::Path;

use super::check::Check;
use super::diagnostics::{Fault, Faults, Severity};
use super::rules::Verdict;
use super::{Experiment, Recipe, fit, rules, source};

/// A recipe that may be run.
#[derive(Debug)]
pub struct Loaded {
    /// What it asks for; paths are relative to the working directory.
    pub experiment: Experiment,
    /// What a person should look at before running it.
    pub warnings: Vec<Fault>,
}

/// Loads the recipe at `path` with everything that it `extends`, then applies `overrides` (`KEY=VALUE`).
///
/// # Errors
/// Every fault that can be found in one pass, with its place. Texts that are not TOML are reported alone, since nothing
/// is known of what they would have said.
pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded, Faults> {
    let sources = source::gather(path, overrides)?;
    let (mut check, recipe) = Check::run(&sources, sources.merged()?);
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
        return Err(Faults(faults));
    }
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Loaded { experiment: Experiment::single(name, recipe), warnings: faults })
}

/// The recipe as one TOML text with every default written out; paths are relative to the working directory.
///
/// # Panics
/// Never: every part of a recipe came from TOML.
#[must_use]
pub fn to_toml(recipe: &Recipe) -> String {
    toml::to_string(recipe).expect("what came from TOML goes back")
}

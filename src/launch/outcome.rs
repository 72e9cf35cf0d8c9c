//! What came out of a run: for each point the numbers of its variants.
//!
//! One recipe has them in its report. The points of a sweep have no reports of their own: their numbers are collected from
//! the same results.

use anyhow::Result;

use super::Frozen;
use crate::recipe::Recipe;
use crate::report::{Report, VariantResult};
use crate::stage;
use crate::stage::node::Stage;
use crate::store::{Artefact, Lookup, Store};
use crate::units::Count;

impl Frozen {
    /// The result of the run's report, where it has one and it is there.
    #[must_use]
    pub fn report(&self, store: &Store) -> Option<Artefact> {
        let node = self.plan.nodes.iter().rfind(|node| node.stage == Stage::Report)?;
        match store.find(node.stage.name(), &node.key) {
            Lookup::Found(artefact) => Some(artefact),
            Lookup::Missing | Lookup::Damaged(_) => None,
        }
    }

    /// The numbers of every variant at the point with index `point`; none while something of it is missing.
    ///
    /// # Errors
    /// When a result is damaged.
    pub fn outcome(&self, point: usize, store: &Store) -> Result<Option<Vec<VariantResult>>> {
        self.numbers(&self.point(point, store), point, store)
    }

    fn numbers(&self, recipe: &Recipe, point: usize, store: &Store) -> Result<Option<Vec<VariantResult>>> {
        if !self.experiment.is_sweep() {
            let Some(report) = self.report(store) else { return Ok(None) };
            return Ok(Some(report.read_json::<Report>("report.json")?.variants));
        }
        stage::outcome(&stage::plan_recipe(recipe, &self.experiment.points[point].name)?, store)
    }

    /// The best of all points and variants by win rate, at the largest budget.
    pub(super) fn headline(&self, store: &Store) -> Option<Headline> {
        let mut all = Vec::new();
        for (index, point) in self.experiment.points.iter().enumerate() {
            let mut recipe = self.point(index, store);
            // Nobody looks at its interval.
            recipe.evaluation.bootstrap_samples = Count::try_from(1).expect("at least one");
            // What is damaged or gone has no numbers; whoever needs them is told why.
            let results = self.numbers(&recipe, index, store).ok().flatten().unwrap_or_default();
            let point = self.experiment.is_sweep().then(|| point.name.clone());
            all.extend(results.into_iter().map(|result| (point.clone(), result)));
        }
        let (point, best) =
            all.into_iter().max_by(|(_, a), (_, b)| a.budget.cmp(&b.budget).then(a.win_rate.total_cmp(&b.win_rate)))?;
        Some(Headline { point, variant: best.name, budget: best.budget, win_rate: best.win_rate })
    }
}

/// The best that a run found.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Headline {
    /// The point's name, in a sweep.
    pub point: Option<String>,
    /// The variant's name.
    pub variant: String,
    /// Annotated prompts for each seed.
    pub budget: usize,
    /// Its win rate against the reference.
    pub win_rate: f64,
}

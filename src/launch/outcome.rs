//! What came out of a run: for each point the numbers of its variants, from its report; a sweep's is made on the spot.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::report::Report;
use crate::report::sweep::Status;
use crate::stage;
use crate::stage::node::Stage;
use crate::store::{Artefact, Lookup, Store};
use crate::units::Count;

/// One variant at one budget of one point.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The point's index in the experiment.
    pub point: usize,
    /// The variant's name.
    pub variant: String,
    /// Annotated prompts for each seed.
    pub budget: usize,
    /// Its win rate against the reference.
    pub win_rate: f64,
    /// Interval of the win rate, `[low, high]`.
    pub ci: [f64; 2],
    /// Mean sequence KL to the reference, in nats.
    pub kl_nats: Option<f64>,
    /// Mean response length in tokens.
    pub mean_length: Option<f64>,
}

/// The best that a run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

    /// The numbers of every variant at every point that has any by now.
    ///
    /// # Errors
    /// When the report is damaged, or a file that a recipe names is nowhere to be found.
    pub fn outcomes(&self, store: &Store) -> Result<Vec<Outcome>> {
        self.collect(store, None)
    }

    /// The best of all points and variants by win rate, at the largest budget.
    pub(super) fn headline(&self, store: &Store) -> Option<Headline> {
        // Nobody looks at the intervals. What is damaged has no numbers; whoever needs them is told why.
        let all = self.collect(store, Count::try_from(1).ok()).unwrap_or_default();
        let best = all.into_iter().max_by(|a, b| a.budget.cmp(&b.budget).then(a.win_rate.total_cmp(&b.win_rate)))?;
        let point = self.experiment.is_sweep().then(|| self.experiment.points[best.point].name.clone());
        Some(Headline { point, variant: best.variant, budget: best.budget, win_rate: best.win_rate })
    }

    /// A sweep's intervals come from as many `samples` as are said here, else in its recipes.
    fn collect(&self, store: &Store, samples: Option<Count>) -> Result<Vec<Outcome>> {
        if !self.experiment.is_sweep() {
            let Some(report) = self.report(store) else { return Ok(Vec::new()) };
            let variants = report.read_json::<Report>("report.json")?.variants.into_iter();
            return Ok(variants
                .map(|variant| Outcome {
                    point: 0,
                    variant: variant.name,
                    budget: variant.budget,
                    win_rate: variant.win_rate,
                    ci: variant.ci,
                    kl_nats: variant.kl_nats,
                    mean_length: variant.mean_length,
                })
                .collect());
        }
        let mut experiment = self.experiment(store);
        for point in &mut experiment.points {
            point.recipe.evaluation.bootstrap_samples = samples.unwrap_or(point.recipe.evaluation.bootstrap_samples);
        }
        let report = stage::sweep_report(&experiment, store)?;
        let there = report.results.into_iter().filter(|result| result.status == Status::Done);
        let outcomes = there.filter_map(|result| {
            Some(Outcome {
                point: experiment.points.iter().position(|point| point.name == result.point)?,
                variant: result.variant,
                budget: result.budget,
                win_rate: result.measures.win_rate?,
                ci: result.ci?,
                kl_nats: result.measures.kl_nats,
                mean_length: result.measures.mean_length,
            })
        });
        Ok(outcomes.collect())
    }
}

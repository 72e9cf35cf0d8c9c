//! Learning curves of the chosen runs: what was measured on validation prompts, and what training said of itself.

use std::collections::BTreeMap;

use super::super::execute::Inputs;
use super::collect::{Chosen, Loaded};
use super::mean;
use crate::recipe::Recipe;
use crate::report::{Curve, CurvePoint, SeedCurve, TrainingPoint};

pub(super) fn curves(recipe: &Recipe, inputs: &Inputs, chosen: &[Chosen]) -> Vec<Curve> {
    let window = recipe.ppo.eval_every.get();
    let curve = |chosen: &Chosen| Curve {
        variant: chosen.variant.clone(),
        budget: chosen.budget,
        seeds: chosen.cells.iter().map(|cell| seed_curve(inputs, cell, window)).collect(),
    };
    // Steps of other methods are of another kind.
    chosen.iter().filter(|chosen| recipe.is_ppo(&chosen.variant)).map(curve).collect()
}

fn seed_curve(inputs: &Inputs, cell: &Loaded, window: usize) -> SeedCurve {
    let training = training(&cell.metrics);
    let tokens = |step: usize| training.iter().find(|point| point.step == step)?.tokens;
    let points = cell.judgements.curve.iter().map(|point| {
        // One iteration's rollouts are few: the mean over those since the point before.
        let recent = |name: &str| {
            let steps = point.step.saturating_sub(window) + 1..=point.step;
            let values = cell.metrics.range(steps).filter_map(|(_, values)| values.get(name).copied());
            mean(&values.collect::<Vec<_>>())
        };
        CurvePoint {
            step: point.step,
            tokens: tokens(point.step),
            win_rate: point.win_rate,
            kl_nats: recent("kl_nats"),
            mean_reward: recent("reward"),
            mean_length: Some(point.habits.length),
            mean_score: point.score,
        }
    });
    let points = points.collect();
    SeedCurve { seed: cell.at.seed, stage: stage(inputs, cell).unwrap_or_default(), points, training }
}

/// PPO's own metrics, step by step.
fn training(metrics: &BTreeMap<usize, BTreeMap<String, f64>>) -> Vec<TrainingPoint> {
    let mut sampled = Some(0.0);
    let point = |(step, values): (&usize, &BTreeMap<String, f64>)| {
        sampled = sampled.and_then(|sum| Some(sum + values.get("tokens")?));
        let of = |name: &str| values.get(name).copied();
        TrainingPoint {
            step: *step,
            tokens: sampled,
            kl_nats: of("kl_nats"),
            reward: of("reward"),
            length: of("length"),
        }
    };
    metrics.iter().map(point).collect()
}

/// The label of the stage that trained the cell's policy.
fn stage(inputs: &Inputs, cell: &Loaded) -> Option<String> {
    let key = &cell.artefact(inputs, "policy").ok()?.manifest.key;
    let mut stages = inputs.artefacts("stage.");
    stages.find(|(_, artefact)| artefact.manifest.key == *key).map(|(label, _)| label.to_owned())
}

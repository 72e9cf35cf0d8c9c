//! Direct preference optimisation [DPO]: the policy learns from pairs, without a reward model and without sampling. The baseline that
//! stands beside PPO.

use anyhow::{Result, ensure};
use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compute::Crew;
use crate::events::Emitter;
use crate::model::checkpoint::Checkpoints;
use crate::model::descent::{Schedule, descend};
use crate::model::gradient::{Share, gradients};
use crate::model::weights::host;
use crate::model::{Batch, Model, Pair, bucket, optim};
use crate::ppo::Grid;
use crate::reward::PairSource;
use crate::reward::pairs::Comparison;
use crate::sft::{Order, noise, numbered};
use crate::units::Count;

/// A variant's `dpo` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which pairs it learns from.
    pub data: PairSource,
    /// Weight beta of the KL to the reference that the loss stands for: one value, or a list from which the best is chosen on validation
    /// prompts.
    pub beta: Grid,
    /// Passes over the pairs.
    pub epochs: Count,
    /// Pairs per step.
    pub batch_size: Count,
    /// The optimiser and its schedule.
    pub optimizer: optim::Config,
}

impl Config {
    /// The table as one run knows it: its grid of betas does not concern the run.
    #[must_use]
    pub fn without_grid(&self) -> Self {
        Self { beta: Grid::default(), ..self.clone() }
    }
}

/// What DPO learns from and with.
pub struct Task<'a> {
    /// The variant's table.
    pub config: &'a Config,
    /// The beta of this run.
    pub beta: f64,
    /// What log-ratios are measured to.
    pub reference: &'a Model,
    /// The pairs.
    pub pairs: &'a [Comparison],
    /// The padding id.
    pub pad: u32,
    /// Decides the order of the pairs.
    pub seed: u64,
    /// Parts a batch is cut into.
    pub shards: bucket::Cut,
}

impl Task<'_> {
    /// Pairs per step: what the table says, or all there are.
    fn batch_size(&self) -> usize {
        self.config.batch_size.get().min(self.pairs.len())
    }

    /// Steps in all.
    #[must_use]
    pub fn steps(&self) -> usize {
        (self.config.epochs.get() * self.pairs.len()).div_ceil(self.batch_size().max(1))
    }
}

/// `sum_i -log sigmoid(beta (chosen_i - rejected_i)) / total`, where each side is the log-ratio of its response, `log pi(y|x) - log pi_ref(y|x)`,
/// summed over tokens [DPO].
///
/// # Shapes
/// `chosen` and `rejected` `[N]`; result a scalar.
#[must_use]
pub fn loss(chosen: Tensor<1>, rejected: Tensor<1>, beta: f64, total: usize) -> Tensor<1> {
    log_sigmoid((chosen - rejected) * beta).sum().neg() / total as f64
}

/// Trains the policy that begins as `start`: the reference, or adapters of it.
///
/// # Errors
/// Without pairs, when the loss is not finite (the step is named; the last checkpoint stays), or when a checkpoint
/// cannot be used.
pub fn train(
    start: Model,
    task: &Task,
    crew: &Crew,
    emitter: &Emitter,
    checkpoints: &dyn Checkpoints,
) -> Result<Model> {
    let config = task.config;
    ensure!(!task.pairs.is_empty(), "no pairs to learn from");
    let schedule = Schedule { table: "variants.dpo", steps: task.steps(), optimizer: &config.optimizer };
    let mut order = Order::new(task.pairs.len(), task.seed);
    let known = &reference_log_probs(task, crew);
    descend(start, schedule, crew, emitter, checkpoints, |model, step| {
        let batch = order.batch(step, task.batch_size());
        let total = batch.len();
        let shards = task.shards.apply(model, batch, 2, |i| longest(&task.pairs[*i]));
        let rows = |i: &usize| sides(&task.pairs[*i]);
        let padding = bucket::padding(shards.iter().map(|shard| shard.iter().flat_map(rows)));
        let tokens: usize = shards.iter().flatten().flat_map(rows).map(|row| row.response.len()).sum();
        let outcome = gradients(model, &numbered(shards), crew, |model, (number, shard)| {
            let model = model.noisy(noise(task.seed, step, *number));
            // Both sides in one pass: chosen rows first.
            let side = |side: usize| shard.iter().map(move |&i| (sides(&task.pairs[i])[side], known[i][side]));
            let (rows, theirs): (Vec<Pair>, Vec<f32>) = side(0).chain(side(1)).unzip();
            let device = &model.device();
            let ours = sums(&model, &Batch::new(&rows, task.pad, device));
            let ratios = ours - Tensor::<1>::from_data(TensorData::new(theirs, [rows.len()]), device);
            let n = shard.len();
            let (chosen, rejected) = (ratios.clone().narrow(0, 0, n), ratios.narrow(0, n, n));
            let right = chosen.clone().inner().greater(rejected.clone().inner()).int().sum().into_scalar::<i64>();
            Share { loss: loss(chosen, rejected, task.beta, total), sums: [right as f64] }
        });
        let accuracy = outcome.sums[0] / total as f64;
        (outcome, [("train_accuracy", accuracy), ("tokens", tokens as f64), ("padding", padding)])
    })
}

/// `log pi(y|x)` of every row, end of sequence included: `[N]`.
fn sums(model: &Model, batch: &Batch) -> Tensor<1> {
    (model.log_probs(batch, 1.0) * batch.response_mask.clone()).sum_dim(1).squeeze_dim::<1>(1)
}

/// Both sides as rows, the chosen one first.
fn sides(pair: &Comparison) -> [Pair<'_>; 2] {
    [&pair.chosen, &pair.rejected].map(|side| Pair { prompt: &pair.prompt, response: &side.ids })
}

/// The rectangle that holds both sides.
fn longest(pair: &Comparison) -> [usize; 2] {
    [pair.prompt.len(), pair.chosen.ids.len().max(pair.rejected.ids.len())]
}

/// `log pi_ref(y|x)` of both sides of every pair.
fn reference_log_probs(task: &Task, crew: &Crew) -> Vec<[f32; 2]> {
    let rows: Vec<Pair> = task.pairs.iter().flat_map(sides).collect();
    let known: Vec<f32> = bucket::map(
        &rows,
        crew,
        |place| task.reference.on(place),
        |reference, rows| {
            let batch = Batch::new(rows, task.pad, &reference.device());
            host(&sums(reference, &batch).unsqueeze_dim::<2>(1))
        },
    );
    known.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::DeviceName;

    /// Values and gradients of `mean(log(1 + exp(-beta (c - r))))` by numpy 2.4.6 in float64.
    #[test]
    fn the_loss_and_its_gradient_are_those_of_numpy() {
        let device = "flex".parse::<DeviceName>().unwrap().open().unwrap();
        let cases = [
            (0.1, 0.705_193_765_037_481, [-0.012_968_530, -0.011_254_150, -0.0125, -0.013_745_850]),
            (0.5, 0.804_448_454_934_057_8, [-0.074_083_325, -0.033_617_678, -0.0625, -0.091_382_322]),
        ];
        for (beta, value, gradient) in cases {
            let side = |values: [f32; 4]| Tensor::<1>::from_data(values, &device).autodiff().require_grad();
            let (chosen, rejected) = (side([-1.25, 0.5, 2.0, -0.75]), side([-0.5, -1.5, 2.0, 1.25]));
            let loss = loss(chosen.clone(), rejected.clone(), beta, 4);
            let found = f64::from(loss.clone().into_scalar::<f32>());
            assert!((found - value).abs() < 1e-6, "beta {beta}: expected {value}, found {found}");
            let gradients = loss.backward();
            for (tensor, sign) in [(chosen, 1.0), (rejected, -1.0)] {
                let found = tensor.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap();
                let close = |(found, expected): (&f32, &f64)| (f64::from(*found) - sign * expected).abs() < 1e-7;
                assert!(found.iter().zip(&gradient).all(close), "beta {beta}: expected {gradient:?}, found {found:?}");
            }
        }
    }
}

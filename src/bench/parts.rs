//! The parts without a loop of their own: supervised step, reward step, log-probabilities, sampling.

use burn::tensor::{DType, Distribution, Tensor};

use super::{Bench, Measured, timed};
use crate::compute::fused::matmul;
use crate::model::checkpoint::Learner;
use crate::model::generate::{Sampling, Special, sample};
use crate::model::gradient::{Share, gradients, split};
use crate::model::{Batch, Model, Pair, optim};
use crate::reward::loss::bradley_terry;

/// No padding and no stop token: ids that are never met.
pub(super) const SPECIAL: Special = Special { pad: 0, eos: u32::MAX };

/// AdamW at a constant rate, betas 0.9 and 0.999, epsilon 1e-8, no decay.
pub(super) fn adamw(rate: f64, max_grad_norm: f64) -> optim::Config {
    let positive = |x: f64| x.try_into().expect("above zero");
    let fraction = |x: f64| x.try_into().expect("in range");
    optim::Config {
        learning_rate: positive(rate),
        warmup_steps: 0,
        final_learning_rate: fraction(1.0),
        beta1: fraction(0.9),
        beta2: fraction(0.999),
        epsilon: positive(1e-8),
        weight_decay: 0_f64.try_into().expect("in range"),
        max_grad_norm: positive(max_grad_norm),
    }
}

/// Every id but the first as a response to the first.
fn continued(rows: &[Vec<u32>]) -> Vec<Pair<'_>> {
    rows.iter().map(|row| Pair { prompt: &row[..1], response: &row[1..] }).collect()
}

/// Rows and columns of the matrices whose products are the ceiling, and how many products a thread takes.
const SIDE: usize = 1024;
const PRODUCTS: usize = 8;

impl Bench {
    /// Products of 1024 x 1024 matrices, eight a thread.
    pub(super) fn matmul(&self) -> Measured {
        let threads = self.settings.threads.get();
        let random = || Tensor::<2>::random([SIDE, SIDE], Distribution::Uniform(-1.0, 1.0), &self.model.device());
        let matrix = || random().cast(self.crew.precision().dtype());
        let matrices: Vec<_> = (0..threads).map(|_| (matrix(), matrix())).collect();
        let seconds = timed(2, self.settings.reps, || {
            self.crew.map(&matrices, |(a, b)| {
                let mut product = matmul(a.clone(), b.clone());
                for _ in 1..PRODUCTS {
                    product = matmul(a.clone(), b.clone());
                }
                // A device may be asked for more than it has done: reading waits for it.
                product.slice([0..1, 0..1]).cast(DType::F32).into_scalar::<f32>()
            });
        });
        let flops = (2 * SIDE.pow(3) * PRODUCTS * threads) as f64;
        Measured::new(seconds, 0, flops, [])
    }

    /// Mean next-token loss over T positions of B rows of T + 1 ids; norm clipped to 1; AdamW at 2e-5.
    pub(super) fn sft(&self) -> Measured {
        let (length, shards) = (self.length(), self.settings.threads.get());
        let ids = self.ids(length + 1, self.settings.seed);
        let rows = continued(&ids);
        let (tokens, device) = (rows.len() * length, self.model.device());
        let (rate, mut losses) = (2e-5, Vec::new());
        let mut learner = Learner::new(self.model.clone(), &adamw(rate, 1.0));
        let seconds = timed(2, self.settings.reps, || {
            let outcome = gradients(&learner.model, &split(&rows, shards), &self.crew, |model, rows| {
                let batch = Batch::new(rows, SPECIAL.pad, &device);
                let nll = model.log_probs(&batch, 1.0).neg() * batch.response_mask;
                Share { loss: nll.sum() / tokens as f64, sums: [] }
            });
            learner.update(outcome.gradients, rate, &self.crew);
            losses.push(outcome.loss);
        });
        let flops = 3.0 * self.forward(rows.len(), [0, length], self.settings.vocab.get());
        Measured::new(seconds, tokens, flops, [("first_loss", losses[0]), ("last_loss", losses[losses.len() - 1])])
    }

    /// Bradley-Terry on the score at the last of T ids, B pairs; norm clipped to 1; AdamW at 1e-4.
    pub(super) fn rm(&self) -> Measured {
        let (length, shards, seed) = (self.length(), self.settings.threads.get(), self.settings.seed);
        let (chosen, rejected) = (self.ids(length, seed), self.ids(length, seed + 1));
        let pairs: Vec<(Pair, Pair)> = continued(&chosen).into_iter().zip(continued(&rejected)).collect();
        let device = self.model.device();
        let (rate, mut losses) = (1e-4, Vec::new());
        let mut learner = Learner::new(self.model.with_head(1, 0.02, seed), &adamw(rate, 1.0));
        let seconds = timed(2, self.settings.reps, || {
            let outcome = gradients(&learner.model, &split(&pairs, shards), &self.crew, |model, shard| {
                let sides = shard.iter().map(|pair| pair.0).chain(shard.iter().map(|pair| pair.1));
                let batch = Batch::new(&sides.collect::<Vec<_>>(), SPECIAL.pad, &device);
                let scores = last(model, &batch);
                let (chosen, rejected) =
                    (scores.clone().narrow(0, 0, shard.len()), scores.narrow(0, shard.len(), shard.len()));
                Share { loss: bradley_terry(chosen, rejected, 0.0, pairs.len()), sums: [] }
            });
            learner.update(outcome.gradients, rate, &self.crew);
            losses.push(outcome.loss);
        });
        let tokens = 2 * pairs.len() * length;
        let flops = 3.0 * self.forward(2 * pairs.len(), [1, length - 1], 1);
        Measured::new(seconds, tokens, flops, [("first_loss", losses[0]), ("last_loss", losses[losses.len() - 1])])
    }

    /// Log-probabilities of the T targets of B rows of T + 1 ids.
    pub(super) fn logprob(&self) -> Measured {
        let ids = self.ids(self.length() + 1, self.settings.seed);
        let rows = continued(&ids);
        let shards = split(&rows, self.settings.threads.get());
        let device = self.model.device();
        let tokens = rows.len() * self.length();
        let mut total = 0.0;
        let seconds = timed(2, self.settings.reps, || {
            let sums = self.crew.map_on(
                &shards,
                |place| self.model.on(place),
                |model, rows| {
                    let batch = Batch::new(rows, SPECIAL.pad, &device);
                    f64::from(model.log_probs(&batch, 1.0).sum().into_scalar::<f32>())
                },
            );
            total = sums.into_iter().sum();
        });
        let flops = self.forward(rows.len(), [0, self.length()], self.settings.vocab.get());
        Measured::new(seconds, tokens, flops, [("mean_logprob", total / tokens as f64)])
    }

    /// N tokens after each of B prompts of P ids, at temperature 1.
    pub(super) fn generation(&self) -> Measured {
        let ids = self.ids(self.settings.prompt.get(), self.settings.seed);
        let prompts: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let sampling = Sampling::plain(1.0, self.settings.new.get());
        let mut sampled = 0;
        let seconds = timed(1, self.settings.reps, || {
            let responses = sample(&self.model, &prompts, SPECIAL, sampling, self.settings.seed, &self.crew, &|_| ());
            sampled = responses.iter().map(|response| response.ids.len()).sum();
        });
        Measured::new(seconds, sampled, self.sampling(), [])
    }
}

/// The head's one output at each row's last token.
///
/// # Shapes
/// `[B]`.
fn last(model: &Model, batch: &Batch) -> Tensor<1> {
    let outputs = model.at_response(batch);
    let [rows, columns, _] = outputs.dims();
    outputs.narrow(1, columns - 1, 1).reshape([rows])
}

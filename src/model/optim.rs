//! AdamW, learning-rate schedule and global gradient clipping.

use std::cmp::Reverse;

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compute::fused::{Adam, adamw, sum_of_squares};
use crate::compute::{Crew, is_card};
use crate::units::{Fraction, NonNegative, Positive};

/// An `optimizer` table of the recipe: AdamW [ADAMW] with linear warm-up and linear decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Peak learning rate.
    pub learning_rate: Positive,
    /// Steps of linear warm-up from zero.
    #[serde(default)]
    pub warmup_steps: usize,
    /// Share of the peak that is left at the last step (linear decay); 1 keeps it constant.
    #[serde(default = "one")]
    pub final_learning_rate: Fraction,
    /// Decay of the first moment.
    #[serde(default = "default_beta1")]
    pub beta1: Fraction,
    /// Decay of the second moment.
    #[serde(default = "default_beta2")]
    pub beta2: Fraction,
    /// Added to the root of the second moment.
    #[serde(default = "default_epsilon")]
    pub epsilon: Positive,
    /// Decoupled weight decay.
    #[serde(default = "zero")]
    pub weight_decay: NonNegative,
    /// Largest global L2 norm of the gradient; longer gradients are scaled down to it.
    #[serde(default = "default_max_grad_norm")]
    pub max_grad_norm: Positive,
}

fn one() -> Fraction {
    Fraction::try_from(1.0).expect("in range")
}
fn default_beta1() -> Fraction {
    Fraction::try_from(0.9).expect("in range")
}
fn default_beta2() -> Fraction {
    Fraction::try_from(0.999).expect("in range")
}
fn default_epsilon() -> Positive {
    Positive::try_from(1e-8).expect("in range")
}
fn zero() -> NonNegative {
    NonNegative::try_from(0.0).expect("in range")
}
fn default_max_grad_norm() -> Positive {
    Positive::try_from(1.0).expect("in range")
}

impl Config {
    /// The learning rate of `step` (counted from 0) of `steps`: linear warm-up, then linear decay to
    /// `final_learning_rate` of the peak.
    #[must_use]
    pub fn rate(&self, step: usize, steps: usize) -> f64 {
        let warmup = ((step + 1) as f64 / self.warmup_steps.max(1) as f64).min(1.0);
        let left = 1.0 - step as f64 / steps.max(1) as f64;
        let end = self.final_learning_rate.get();
        self.learning_rate.get() * warmup * (end + (1.0 - end) * left)
    }
}

/// AdamW over a model's weights [ADAMW].
#[derive(Clone, Debug)]
pub struct AdamW {
    config: Config,
    step: i32,
    first: Vec<Tensor<2>>,
    second: Vec<Tensor<2>>,
}

impl AdamW {
    /// An optimiser with empty moments.
    #[must_use]
    pub fn new(config: &Config, weights: &[Tensor<2>]) -> Self {
        let zeros = || weights.iter().map(Tensor::zeros_like).collect();
        Self { config: config.clone(), step: 0, first: zeros(), second: zeros() }
    }

    /// Continues from stored moments after `step` updates; `moments` as [`Self::moments`] gives them.
    #[must_use]
    pub fn resume(config: &Config, step: i32, mut moments: Vec<Tensor<2>>) -> Self {
        let second = moments.split_off(moments.len() / 2);
        Self { config: config.clone(), step, first: moments, second }
    }

    /// First moments, then second moments, each in the weights' order.
    #[must_use]
    pub fn moments(&self) -> Vec<Tensor<2>> {
        self.first.iter().chain(&self.second).cloned().collect()
    }

    /// Updates done so far.
    #[must_use]
    pub const fn steps(&self) -> i32 {
        self.step
    }

    /// One update in place; gradients are first scaled down to the largest allowed global norm.
    ///
    /// Returns the global L2 norm before clipping.
    pub fn update(&mut self, weights: &mut [Tensor<2>], gradients: Vec<Tensor<2>>, rate: f64, crew: &Crew) -> f64 {
        self.step += 1;
        let updates = weights.iter_mut().zip(gradients).zip(&mut self.first).zip(&mut self.second);
        let updates = updates.map(|(((weight, gradient), first), second)| (Learnt { weight, first, second }, gradient));
        let mut updates = together(updates.collect());
        let norm = root_of_sum(crew.map(&updates, |(_, gradient)| sum_of_squares(gradient)));
        // The largest first, so that no thread is left with it when the others are done.
        updates.sort_by_key(|(_, gradient)| Reverse(gradient.dims().iter().product::<usize>()));
        let clip = (self.config.max_grad_norm.get() / (norm + 1e-6)).min(1.0);
        let (b1, b2) = (self.config.beta1.get(), self.config.beta2.get());
        let adam = Adam {
            clip,
            beta1: b1,
            beta2: b2,
            correction1: 1.0 - b1.powi(self.step),
            correction2: 1.0 - b2.powi(self.step),
            rate,
            epsilon: self.config.epsilon.get(),
            keep: 1.0 - rate * self.config.weight_decay.get(),
        };
        crew.map(updates, |(mut learnt, gradient)| {
            let shapes: Vec<[usize; 2]> = learnt.iter().map(|learnt| learnt.weight.dims()).collect();
            let weight = joined(learnt.iter_mut().map(|learnt| learnt.weight.extract()));
            let first = joined(learnt.iter_mut().map(|learnt| learnt.first.extract()));
            let second = joined(learnt.iter_mut().map(|learnt| learnt.second.extract()));
            let [weights, firsts, seconds] =
                adamw(weight, gradient, first, second, adam).map(|joined| parted(joined, &shapes));
            for (((learnt, weight), first), second) in learnt.into_iter().zip(weights).zip(firsts).zip(seconds) {
                (*learnt.weight, *learnt.first, *learnt.second) = (weight, first, second);
            }
        });
        norm
    }
}

/// A weight and its moments.
struct Learnt<'a> {
    weight: &'a mut Tensor<2>,
    first: &'a mut Tensor<2>,
    second: &'a mut Tensor<2>,
}

/// Weights of fewer numbers are updated as one on a card: to launch an operation costs more there than work on so few.
const FEW: usize = 1 << 20;

/// What is updated as one, with its gradient.
fn together(updates: Vec<(Learnt, Tensor<2>)>) -> Vec<(Vec<Learnt>, Tensor<2>)> {
    let size = |gradient: &Tensor<2>| gradient.dims().iter().product::<usize>();
    let (few, many): (Vec<_>, Vec<_>) =
        updates.into_iter().partition(|(_, gradient)| is_card(&gradient.device()) && size(gradient) < FEW);
    let mut groups: Vec<_> = many.into_iter().map(|(learnt, gradient)| (vec![learnt], gradient)).collect();
    if !few.is_empty() {
        let (learnt, gradients): (Vec<_>, Vec<_>) = few.into_iter().unzip();
        groups.push((learnt, joined(gradients.into_iter())));
    }
    groups
}

/// Tensors in one row, one after another; a single one stays what it is.
fn joined(mut tensors: impl ExactSizeIterator<Item = Tensor<2>>) -> Tensor<2> {
    if tensors.len() == 1 {
        return tensors.next().expect("one tensor");
    }
    let row = |tensor: Tensor<2>| tensor.reshape([1, -1]);
    Tensor::cat(tensors.map(row).collect(), 1)
}

/// What [`joined`] was given.
fn parted(joined: Tensor<2>, shapes: &[[usize; 2]]) -> Vec<Tensor<2>> {
    if let [_] = shapes {
        return vec![joined];
    }
    let starts = shapes.iter().scan(0, |next, [rows, columns]| {
        let start = *next;
        *next += rows * columns;
        Some(start)
    });
    starts
        .zip(shapes)
        .map(|(start, &shape)| joined.clone().narrow(1, start, shape[0] * shape[1]).reshape(shape))
        .collect()
}

/// L2 norm over all gradients together.
#[must_use]
pub fn global_norm(gradients: &[Tensor<2>]) -> f64 {
    root_of_sum(gradients.iter().map(sum_of_squares).collect())
}

/// Read from the device once, since it has to finish all it was given for that.
fn root_of_sum(sums: Vec<Tensor<1>>) -> f64 {
    Tensor::cat(sums, 0).into_data().iter::<f64>().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use serde_json::{Value, json};

    use super::super::weights::host;
    use super::*;

    fn config(changes: &Value) -> Config {
        let mut table = json!({ "learning_rate": 0.1, "max_grad_norm": 1e9 });
        for (key, value) in changes.as_object().unwrap() {
            table[key] = value.clone();
        }
        serde_json::from_value(table).unwrap()
    }

    fn row(values: [f32; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [1, 2]), &burn::tensor::Device::flex())
    }

    /// Weights after updates with these gradients, and the norms that were seen.
    fn run(config: &Config, gradients: &[[f32; 2]]) -> (Vec<f32>, Vec<f64>) {
        let mut weights = vec![row([1.0, -2.0])];
        let mut optimizer = AdamW::new(config, &weights);
        let norms =
            gradients.iter().map(|&g| optimizer.update(&mut weights, vec![row(g)], 0.1, &Crew::new(1))).collect();
        (host(&weights[0]), norms)
    }

    /// The published algorithm in `f64`, one weight at a time.
    fn by_hand(config: &Config, gradients: &[[f32; 2]]) -> Vec<f64> {
        let (b1, b2) = (config.beta1.get(), config.beta2.get());
        (0..2)
            .map(|i| {
                let (mut w, mut m, mut v) = ([1.0, -2.0][i], 0.0, 0.0);
                for (t, g) in (1..).zip(gradients) {
                    let norm = g.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
                    let g = f64::from(g[i]) * (config.max_grad_norm.get() / norm).min(1.0);
                    m = b1 * m + (1.0 - b1) * g;
                    v = b2 * v + (1.0 - b2) * g * g;
                    let (m, v) = (m / (1.0 - b1.powi(t)), v / (1.0 - b2.powi(t)));
                    w -= 0.1 * (m / (v.sqrt() + config.epsilon.get()) + config.weight_decay.get() * w);
                }
                w
            })
            .collect()
    }

    const GRADIENTS: [[f32; 2]; 3] = [[3.0, -4.0], [0.3, 0.4], [-6.0, 8.0]];

    #[test]
    fn every_knob_does_what_the_algorithm_says() {
        let mut seen = Vec::new();
        for changes in [
            json!({}),
            json!({ "beta1": 0.5 }),
            json!({ "beta2": 0.9 }),
            json!({ "epsilon": 0.5 }),
            json!({ "weight_decay": 0.3 }),
            json!({ "max_grad_norm": 2.0 }),
        ] {
            let config = config(&changes);
            let (found, norms) = run(&config, &GRADIENTS);
            for (a, b) in found.iter().zip(by_hand(&config, &GRADIENTS)) {
                assert!((f64::from(*a) - b).abs() < 2e-6, "{changes}: expected {b}, found {a}");
            }
            for (norm, expected) in norms.iter().zip([5.0, 0.5, 10.0]) {
                assert!((norm - expected).abs() < 1e-6, "the norm before clipping: {norm}");
            }
            assert!(!seen.contains(&found), "{changes} changes nothing");
            seen.push(found);
        }
    }

    #[test]
    fn what_is_joined_comes_apart_again() {
        let device = burn::tensor::Device::flex();
        let tensor = |shape: [usize; 2], first: f32| {
            let numbers = (0..shape[0] * shape[1]).map(|i| first + i as f32).collect();
            Tensor::<2>::from_data(TensorData::new::<f32, _>(numbers, shape), &device)
        };
        for shapes in [&[[2, 3]][..], &[[2, 3], [1, 4], [5, 1]]] {
            let tensors: Vec<Tensor<2>> = shapes.iter().zip([0.0, 100.0, 200.0]).map(|(&s, n)| tensor(s, n)).collect();
            let apart = parted(joined(tensors.iter().cloned()), shapes);
            let numbers = |tensors: &[Tensor<2>]| tensors.iter().map(|x| x.to_data()).collect::<Vec<_>>();
            assert_eq!(numbers(&apart), numbers(&tensors));
        }
    }

    #[test]
    fn the_rate_rises_linearly_and_falls_linearly() {
        let plain = config(&json!({}));
        assert!((0..10).all(|step| plain.rate(step, 10).to_bits() == 0.1_f64.to_bits()));
        let shaped = config(&json!({ "warmup_steps": 4, "final_learning_rate": 0.2 }));
        for (step, expected) in [(0, 0.025), (1, 0.05 * 0.92), (3, 0.1 * 0.76), (5, 0.1 * 0.6), (9, 0.1 * 0.28)] {
            assert!((shaped.rate(step, 10) - expected).abs() < 1e-12, "step {step}: {}", shaped.rate(step, 10));
        }
    }
}

//! Logistic regression with an L1 penalty, and its strength chosen by cross-validation.
//!
//! For a handful of features: every step solves for all weights at once. Nothing is drawn, so equal input gives equal
//! weights. What the features mean is left to the callers.

/// Strengths that are tried, from the strongest penalty: ten from 1e-4 to 1e4, evenly on a logarithmic scale.
const STRENGTHS: usize = 10;
/// Newton steps at most; a handful is usual.
const STEPS: usize = 200;
/// Sweeps over the weights within one step.
const SWEEPS: usize = 1000;
/// A probability this near 0 or 1 is taken for it in a log-loss.
const EDGE: f64 = 1e-15;

/// Observations to explain: rows of features, and for each the probability that its answer is yes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    /// Rows of equal length; a feature that is always 1 is the intercept, and is penalised like any other.
    pub(super) features: &'a [Vec<f64>],
    /// In [0, 1], one a row.
    pub(super) targets: &'a [f64],
}

/// Weights with the strength that was chosen for them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fitted {
    /// One a feature.
    pub(super) weights: Vec<f64>,
    /// The weight of the observations against the penalty, as in [`Sample::fit`].
    pub(super) strength: f64,
}

impl Sample<'_> {
    /// The weights w that minimise `strength * sum_i [log(1 + exp(z_i)) - target_i z_i] + sum_j |w_j|`, with
    /// `z_i = w . features_i`: L1-regularised logistic regression, where a larger strength means less regularisation
    /// [LIBLINEAR].
    ///
    /// Proximal Newton steps: a quadratic approximation is minimised by coordinate descent, and the step halved until
    /// the objective falls enough [NEWGLMNET].
    pub(super) fn fit(&self, strength: f64) -> Vec<f64> {
        let mut weights = vec![0.0; self.features.first().map_or(0, Vec::len)];
        for _ in 0..STEPS {
            let (gradient, hessian) = self.derivatives(&weights, strength);
            let step = proximal_step(&weights, &gradient, &hessian);
            let moved = |scale: f64| -> Vec<f64> { weights.iter().zip(&step).map(|(w, d)| w + scale * d).collect() };
            let expected: f64 =
                gradient.iter().zip(&step).map(|(g, d)| g * d).sum::<f64>() + size(&moved(1.0)) - size(&weights);
            let now = self.objective(&weights, strength);
            let mut scale = 1.0;
            while scale > 1e-9 && self.objective(&moved(scale), strength) > now + 0.01 * scale * expected {
                scale /= 2.0;
            }
            let next = moved(scale);
            let change = next.iter().zip(&weights).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            let done = scale <= 1e-9 || change <= 1e-12 * (1.0 + size(&weights));
            weights = next;
            if done {
                break;
            }
        }
        weights
    }

    /// Fits with the strength whose log-loss on left-out folds, averaged over folds, is lowest; the strongest penalty of
    /// equals. `folds` says which fold each row is in.
    pub(super) fn cross_validated(&self, folds: &[usize]) -> Fitted {
        let mut all: Vec<usize> = folds.to_vec();
        all.sort_unstable();
        all.dedup();
        let loss = |strength: f64| -> f64 {
            let losses = all.iter().map(|fold| {
                let pick = |inside: bool| -> (Vec<Vec<f64>>, Vec<f64>) {
                    let rows = self.features.iter().zip(self.targets).zip(folds);
                    let rows = rows.filter(|(_, other)| (*other == fold) == inside);
                    rows.map(|((features, target), _)| (features.clone(), *target)).unzip()
                };
                let ((features, targets), (left_out, answers)) = (pick(false), pick(true));
                let weights = Sample { features: &features, targets: &targets }.fit(strength);
                Sample { features: &left_out, targets: &answers }.log_loss(&weights)
            });
            losses.sum::<f64>() / all.len() as f64
        };
        let strengths = (0..STRENGTHS).map(|i| 10_f64.powf(-4.0 + 8.0 * i as f64 / (STRENGTHS - 1) as f64));
        let (strength, _) = strengths
            .map(|strength| (strength, loss(strength)))
            .fold((1.0, f64::INFINITY), |best, tried| if tried.1 < best.1 { tried } else { best });
        Fitted { weights: self.fit(strength), strength }
    }

    /// Mean log-loss of the predictions, in nats.
    fn log_loss(&self, weights: &[f64]) -> f64 {
        let loss = |(features, target): (&Vec<f64>, &f64)| {
            let p = sigmoid(product(weights, features)).clamp(EDGE, 1.0 - EDGE);
            -(target * p.ln() + (1.0 - target) * (1.0 - p).ln())
        };
        self.features.iter().zip(self.targets).map(loss).sum::<f64>() / self.targets.len() as f64
    }

    fn objective(&self, weights: &[f64], strength: f64) -> f64 {
        let loss = |(features, target): (&Vec<f64>, &f64)| {
            let z = product(weights, features);
            z.max(0.0) + (-z.abs()).exp().ln_1p() - target * z
        };
        strength * self.features.iter().zip(self.targets).map(loss).sum::<f64>() + size(weights)
    }

    /// Gradient and second derivatives of the objective without its penalty.
    fn derivatives(&self, weights: &[f64], strength: f64) -> (Vec<f64>, Vec<Vec<f64>>) {
        let n = weights.len();
        let (mut gradient, mut hessian) = (vec![0.0; n], vec![vec![0.0; n]; n]);
        for (features, target) in self.features.iter().zip(self.targets) {
            let p = sigmoid(product(weights, features));
            for i in 0..n {
                gradient[i] += strength * (p - target) * features[i];
                for j in 0..n {
                    hessian[i][j] += strength * p * (1.0 - p) * features[i] * features[j];
                }
            }
        }
        (gradient, hessian)
    }
}

/// The step d that minimises `g . d + d . H d / 2 + sum_j |w_j + d_j|`, one weight after the other until none moves.
fn proximal_step(weights: &[f64], gradient: &[f64], hessian: &[Vec<f64>]) -> Vec<f64> {
    let mut step = vec![0.0; weights.len()];
    for _ in 0..SWEEPS {
        let mut largest: f64 = 0.0;
        for j in 0..weights.len() {
            // So flat that the quadratic says nothing: a feature that is always zero, or a fit that is all but certain.
            let curvature = hessian[j][j].max(1e-12);
            let slope = gradient[j] + product(&hessian[j], &step);
            let here = weights[j] + step[j];
            let aim = here - slope / curvature;
            let next = aim.signum() * (aim.abs() - 1.0 / curvature).max(0.0) - weights[j];
            largest = largest.max((next - step[j]).abs());
            step[j] = next;
        }
        if largest <= 1e-14 * (1.0 + size(weights)) {
            break;
        }
    }
    step
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn size(weights: &[f64]) -> f64 {
    weights.iter().map(|weight| weight.abs()).sum()
}

/// `1 / (1 + exp(-x))`, without overflow.
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intercept_alone_has_its_closed_form() {
        // 3 of 4 say yes: the derivative strength * 4 * (p - 3/4) + 1 is zero at p = 3/4 - 1 / (4 strength).
        let (features, targets) = (vec![vec![1.0]; 4], [1.0, 1.0, 0.0, 1.0]);
        let sample = Sample { features: &features, targets: &targets };
        let weights = sample.fit(10.0);
        let p: f64 = 0.75 - 1.0 / 40.0;
        assert!((weights[0] - (p / (1.0 - p)).ln()).abs() < 1e-12, "{weights:?}");
        assert_eq!(sample.fit(0.9), [0.0], "a penalty above the slope at zero leaves nothing");
    }

    #[test]
    fn a_feature_that_says_nothing_weighs_nothing_and_separable_answers_end() {
        let features: Vec<Vec<f64>> = (0..40).map(|i| vec![f64::from(i) - 19.5, 0.0, 1.0]).collect();
        let targets: Vec<f64> = (0..40).map(|i| f64::from(u8::from(i > 19))).collect();
        let weights = Sample { features: &features, targets: &targets }.fit(1e4);
        assert!(weights[0] > 1.0 && weights[0].is_finite() && weights[1] == 0.0, "{weights:?}");
    }

    #[test]
    fn the_penalty_that_predicts_best_is_chosen() {
        // The answers do not depend on the feature: what is learned of it is noise, and the strongest penalty wins.
        let features: Vec<Vec<f64>> = (0..50).map(|i| vec![f64::from(i * 37 % 11) - 5.0]).collect();
        let folds: Vec<usize> = (0..50).map(|i| i % 5).collect();
        let noise: Vec<f64> = (0..50).map(|i| f64::from(i % 2)).collect();
        let found = Sample { features: &features, targets: &noise }.cross_validated(&folds);
        assert_eq!((found.strength, found.weights[0]), (1e-4, 0.0));
        let clear: Vec<f64> = features.iter().map(|row| sigmoid(row[0])).collect();
        let found = Sample { features: &features, targets: &clear }.cross_validated(&folds);
        assert!(found.strength > 1e3 && (found.weights[0] - 1.0).abs() < 1e-3, "{found:?}");
    }
}

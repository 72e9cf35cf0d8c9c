//! What depends on where a token stands: rotations, and windows of attention.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::architecture::{Architecture, Positions, Rope, Scaling};
use super::batch::MASKED;
use crate::compute::fused::rotate;

/// The rotations of layers that see everything, and of those with a window, if a model has such.
#[derive(Clone, Debug)]
pub(super) struct Rotations {
    pub(super) global: Option<Rotary>,
    pub(super) local: Option<Rotary>,
}

impl Rotations {
    /// Those of tokens at `positions`, `[B, T]`, which also divide queries.
    pub(super) fn new(config: &Architecture, divisor: f64, positions: &Tensor<2, Int>, device: &Device) -> Self {
        let Positions::Rotary { global, local } = &config.positions else { return Self { global: None, local: None } };
        let rotary = |rope| Rotary::new(rope, divisor, positions, device);
        let has_windows = config.windows.iter().any(Option::is_some);
        Self { global: Some(rotary(global)), local: has_windows.then(|| rotary(local.as_ref().unwrap_or(global))) }
    }

    /// Those of all positions below `count`, to be picked from; none where they depend on the length of a sequence.
    pub(super) fn of_all(config: &Architecture, divisor: f64, count: usize, device: &Device) -> Option<Self> {
        if let Positions::Rotary { global, local } = &config.positions
            && [Some(global), local.as_ref()].into_iter().flatten().any(|rope| depends_on_length(&rope.scaling))
        {
            return None;
        }
        let positions = (0..count).map(|i| i64::try_from(i).unwrap_or(i64::MAX)).collect::<Vec<_>>();
        let positions = Tensor::from_data(TensorData::new(positions, [1, count]), device);
        Some(Self::new(config, divisor, &positions, device))
    }

    /// Of [`Self::of_all`] those at `positions`, `[B, T]`.
    pub(super) fn at(&self, positions: &Tensor<2, Int>) -> Self {
        let positions = positions.clone().reshape([-1]);
        let at = |rotary: &Option<Rotary>| rotary.as_ref().map(|rotary| rotary.at(&positions));
        Self { global: at(&self.global), local: at(&self.local) }
    }
}

/// Cosines and sines of a rotary position embedding [ROPE], each `[B * T, 1, dims]`.
#[derive(Clone, Debug)]
pub(super) struct Rotary {
    keys: [Tensor<3>; 2],
    /// Divided as scores are to be, so that the (large) scores need not be.
    queries: [Tensor<3>; 2],
    divisor: f64,
}

impl Rotary {
    fn new(rope: &Rope, divisor: f64, positions: &Tensor<2, Int>, device: &Device) -> Self {
        let [b, t] = positions.dims();
        let d = rope.dims;
        let angles = if depends_on_length(&rope.scaling) {
            let longest: Vec<i64> = positions.clone().max_dim(1).into_data().convert::<i64>().iter().collect();
            let rows = longest.iter().flat_map(|&last| frequencies(rope, usize::try_from(last).unwrap_or(0) + 1));
            let frequencies = Tensor::<3>::from_data(TensorData::new(rows.collect::<Vec<f32>>(), [b, 1, d]), device);
            (positions.clone().reshape([b, t, 1]).float() * frequencies).reshape([b * t, 1, d])
        } else {
            positions.clone().reshape([b * t, 1, 1]).float()
                * Tensor::<3>::from_data(TensorData::new(frequencies(rope, 1), [1, 1, d]), device)
        };
        let keys = [angles.clone().cos(), angles.sin()];
        let factor = rope.attention_factor;
        let keys = if factor.to_bits() == 1_f64.to_bits() { keys } else { keys.map(|x| x * factor) };
        let queries = if undivided(divisor) { keys.clone() } else { keys.clone().map(|x| x / divisor) };
        Self { keys, queries, divisor }
    }

    fn at(&self, rows: &Tensor<1, Int>) -> Self {
        let pick = |x: &Tensor<3>| x.clone().select(0, rows.clone());
        let keys = self.keys.each_ref().map(pick);
        let queries = if undivided(self.divisor) { keys.clone() } else { self.queries.each_ref().map(pick) };
        Self { keys, queries, ..*self }
    }

    /// Turns keys `[n, heads, d]`.
    pub(super) fn keys(&self, x: Tensor<3>) -> Tensor<3> {
        turn(x, &self.keys, |rest| rest)
    }

    /// Turns queries `[n, heads, d]` and divides them.
    pub(super) fn queries(&self, x: Tensor<3>) -> Tensor<3> {
        turn(x, &self.queries, |rest| rest / self.divisor)
    }
}

const fn undivided(divisor: f64) -> bool {
    divisor.to_bits() == 1_f64.to_bits()
}

/// Turns the first dimensions of every head; the others become `rest` of themselves.
fn turn(x: Tensor<3>, [cos, sin]: &[Tensor<3>; 2], rest: impl Fn(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
    let (d, turned) = (x.dims()[2], cos.dims()[2]);
    let (cos, sin) = (cos.clone(), sin.clone());
    if d == turned {
        return rotate(x, cos, sin);
    }
    let others = rest(x.clone().narrow(2, turned, d - turned));
    Tensor::cat(vec![rotate(x.narrow(2, 0, turned), cos, sin), others], 2)
}

/// Whether a row's wavelengths follow from how long it is.
const fn depends_on_length(scaling: &Scaling) -> bool {
    matches!(scaling, Scaling::Dynamic { .. } | Scaling::Long { .. })
}

impl Architecture {
    /// The length after which a sequence has other wavelengths altogether, for the tokens before as well. (Those of
    /// [`Scaling::Dynamic`] move with every token, and what was cached keeps its own, as in `transformers`.)
    pub(super) fn switches_after(&self) -> Option<usize> {
        let Positions::Rotary { global, .. } = &self.positions else { return None };
        let Scaling::Long { original, .. } = global.scaling else { return None };
        Some(original)
    }
}

/// Radians a position of every dimension of a sequence of `length` tokens: both halves alike but for the sign, which is that of
/// the sines.
fn frequencies(rope: &Rope, length: usize) -> Vec<f32> {
    let half = rope.dims / 2;
    let theta = match rope.scaling {
        Scaling::Dynamic { factor, original } => stretched(rope.theta, rope.dims, factor, original, length),
        _ => rope.theta,
    };
    let frequency = |i: usize| theta.powf(-((i % half) as f64) / half as f64);
    let sign = |i: usize| if i < half { -1.0 } else { 1.0 };
    (0..rope.dims).map(|i| (sign(i) * scaled(frequency(i), i % half, &rope.scaling, length)) as f32).collect()
}

fn scaled(frequency: f64, dimension: usize, scaling: &Scaling, length: usize) -> f64 {
    let mixed = |factor: f64, kept: f64| frequency / factor * (1.0 - kept) + frequency * kept;
    match *scaling {
        Scaling::None | Scaling::Dynamic { .. } => frequency,
        Scaling::Linear(factor) => frequency / factor,
        Scaling::Llama3 { factor, low, high, original } => {
            let turns = original * frequency / std::f64::consts::TAU;
            mixed(factor, ((turns - low) / (high - low)).clamp(0.0, 1.0))
        }
        Scaling::Yarn { factor, low, high } => {
            mixed(factor, 1.0 - ((dimension as f64 - low) / (high - low)).clamp(0.0, 1.0))
        }
        Scaling::Long { ref short, ref long, original } => {
            frequency / if length > original { long } else { short }[dimension]
        }
    }
}

/// The base that lets `length` positions fit: `theta (factor length / original - (factor - 1))^(d / (d - 2))`.
fn stretched(theta: f64, d: usize, factor: f64, original: usize, length: usize) -> f64 {
    let ratio = factor * length.max(original) as f64 / original as f64 - (factor - 1.0);
    theta * ratio.powf(d as f64 / (d as f64 - 2.0))
}

/// What hides all but the last `window` of `columns` keys from the last `queries` columns, `[1, 1, queries, columns]`.
///
/// Real tokens of a row stand side by side, so a distance in columns is one in positions.
pub(super) fn window_bias(window: usize, queries: usize, columns: usize, device: &Device) -> Tensor<4> {
    let first = columns - queries;
    let hidden = |query: usize, key: usize| key + window <= first + query;
    let bias =
        (0..queries).flat_map(|query| (0..columns).map(move |key| if hidden(query, key) { MASKED } else { 0.0 }));
    Tensor::from_data(TensorData::new(bias.collect::<Vec<f32>>(), [1, 1, queries, columns]), device)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::weights::host;

    #[test]
    fn a_window_shows_the_token_itself_and_those_just_before() {
        let shown = |window, queries, columns| -> Vec<u8> {
            host(&window_bias(window, queries, columns, &Device::flex())).iter().map(|&b| u8::from(b == 0.0)).collect()
        };
        assert_eq!(shown(1, 1, 3), [0, 0, 1]);
        assert_eq!(shown(2, 2, 4), [0, 1, 1, 1, 0, 0, 1, 1], "later keys are the causal mask's matter");
        assert_eq!(shown(9, 1, 3), [1, 1, 1]);
    }

    #[test]
    fn stretching_begins_where_the_original_length_ends() {
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9 * expected, "{found}");
        near(stretched(100.0, 4, 2.0, 10, 1), 100.0);
        near(stretched(100.0, 4, 2.0, 10, 10), 100.0);
        near(stretched(100.0, 4, 2.0, 10, 20), 900.0);
    }
}

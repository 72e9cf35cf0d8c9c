//! Values that nobody wrote: ranges of seeds, and random draws. They are generated as TOML, so that they are read, checked
//! and shown like all others.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::super::tree::Place;
use super::{Config, MOST_POINTS, Open};

/// Digits of a drawn number: enough for every purpose, few enough to read.
const DIGITS: i32 = 4;

/// More seeds than this are a mistake in the sweep.
const MOST_SEEDS: u64 = 10_000;

/// A list of seeds, or a range as in `"0..10"` (10 is not in it) or `"1..=10"` (it is).
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Seeds(pub Vec<u64>);

impl<'de> Deserialize<'de> for Seeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a list of whole numbers, or a range as in `\"0..10\"`")]
        enum Written {
            List(Vec<u64>),
            Range(String),
        }
        match Written::deserialize(deserializer)? {
            Written::List(seeds) => Ok(Self(seeds)),
            Written::Range(text) => {
                let found = |expected| serde::de::Error::custom(format!("expected {expected}, found `\"{text}\"`"));
                let (low, high) = ends(&text).ok_or_else(|| found("a range as in `\"0..10\"`".to_owned()))?;
                match high.saturating_sub(low) {
                    0 => Err(found("a range with at least one seed".to_owned())),
                    1..=MOST_SEEDS => Ok(Self((low..high).collect())),
                    _ => Err(found(format!("a range of at most {MOST_SEEDS} seeds"))),
                }
            }
        }
    }
}

/// The first seed of a range and the one after its last.
fn ends(text: &str) -> Option<(u64, u64)> {
    let (low, high) = text.split_once("..")?;
    let low = low.trim().parse().ok()?;
    match high.strip_prefix('=') {
        Some(last) => Some((low, last.trim().parse::<u64>().ok()?.saturating_add(1))),
        None => Some((low, high.trim().parse().ok()?)),
    }
}

/// What was generated for a sweep.
#[derive(Default)]
pub struct Draws {
    seeds: Option<Vec<String>>,
    axes: Vec<Axis>,
    /// How many points are to be drawn.
    pub count: usize,
}

/// A random axis with its draws.
pub struct Axis {
    pub path: Vec<String>,
    pub draws: Vec<Draw>,
    /// Why its distribution is none.
    pub fault: Option<String>,
}

/// One draw.
pub enum Draw {
    /// A number as TOML.
    Number(String),
    /// An entry of the `choice`.
    Choice(usize),
}

impl Draws {
    /// Generates what `config` asks for.
    pub fn new(config: &Config) -> Self {
        let seeds = config.seeds.as_ref().map(|Seeds(seeds)| seeds.iter().map(u64::to_string).collect());
        let (mut axes, mut count) = (Vec::new(), 0);
        if let Some(random) = &config.random {
            count = random.count.get();
            collect(&[], &random.axes, &mut |path, distribution| {
                // What is refused for its number need not be drawn.
                let (draws, fault) = match draws(path, distribution, count.min(MOST_POINTS), random.seed) {
                    Ok(draws) => (draws, None),
                    Err(message) => (Vec::new(), Some(message)),
                };
                axes.push(Axis { path: path.to_vec(), draws, fault });
            });
        }
        Self { seeds, axes, count }
    }

    /// The recipe's `seeds` key with the sweep's seeds, all of them standing at `place`.
    pub fn seeds(&self, place: &Place) -> Option<DeTable<'_>> {
        let mut seeds = DeArray::new();
        for seed in self.seeds.as_ref()? {
            let seed = DeValue::parse(seed).ok()?.into_inner();
            seeds.push(Spanned::new(place.value.clone(), seed));
        }
        let seeds = Spanned::new(place.value.clone(), DeValue::Array(seeds));
        Some(std::iter::once((Spanned::new(place.key.clone(), "seeds".into()), seeds)).collect())
    }

    pub fn axes(&self) -> impl Iterator<Item = &Axis> {
        self.axes.iter()
    }
}

/// Calls `found` for every table that says a distribution, with its path.
fn collect(path: &[String], table: &Open, found: &mut impl FnMut(&[String], &Value)) {
    for (key, value) in table {
        let path: Vec<String> = path.iter().cloned().chain(key.split('.').map(str::to_owned)).collect();
        match value.as_object() {
            Some(inner) if !inner.keys().any(|key| ["uniform", "log_uniform", "choice"].contains(&key.as_str())) => {
                let inner = inner.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                collect(&path, &inner, found);
            }
            _ => found(&path, value),
        }
    }
}

/// Draw `i` is a function of the sweep's seed, the axis and `i`: neither a larger count nor another axis changes it.
fn draws(path: &[String], distribution: &Value, count: usize, seed: u64) -> Result<Vec<Draw>, String> {
    let expected = "expected one of `{ uniform = [low, high] }`, `{ log_uniform = [low, high] }`, `{ choice = [...] }`";
    let table = distribution.as_object().filter(|table| table.len() == 1);
    let (kind, list) = table.and_then(|table| table.iter().next()).ok_or(expected)?;
    let list = list.as_array().ok_or(expected)?;
    let axis = blake3::hash(format!("{seed} {}", path.join(".")).as_bytes());
    let chance = |i: usize| {
        let mut rng = ChaCha8Rng::from_seed(*axis.as_bytes());
        rng.set_stream(i as u64);
        rng
    };
    if kind == "choice" {
        if list.is_empty() {
            return Err("`choice` is empty".to_owned());
        }
        return Ok((0..count).map(|i| Draw::Choice(chance(i).random_range(0..list.len()))).collect());
    }
    let [low, high] = list.as_slice() else { return Err(expected.to_owned()) };
    if let (Some(low), Some(high), "uniform") = (low.as_i64(), high.as_i64(), kind.as_str()) {
        if low >= high {
            return Err(format!("expected a low end below the high one, found {low} and {high}"));
        }
        return Ok((0..count).map(|i| Draw::Number(chance(i).random_range(low..=high).to_string())).collect());
    }
    let (Some(from), Some(to)) = (low.as_f64(), high.as_f64()) else { return Err(expected.to_owned()) };
    if from >= to {
        return Err(format!("expected a low end below the high one, found {from} and {to}"));
    }
    if !(to - from).is_finite() {
        return Err(format!("expected ends whose distance is a number, found {from} and {to}"));
    }
    let number = |value: f64| {
        // Rounding must not lead out of the range.
        let rounded = || rounded(value).clamp(from, to);
        if low.is_i64() && high.is_i64() { format!("{value:.0}") } else { format!("{:?}", rounded()) }
    };
    match kind.as_str() {
        "uniform" => Ok((0..count).map(|i| Draw::Number(number(chance(i).random_range(from..to)))).collect()),
        _ if from <= 0.0 => Err(format!("`log_uniform` needs numbers above 0, found {from}")),
        _ => {
            let logs = from.ln()..to.ln();
            if logs.is_empty() {
                return Err(format!("expected ends that are further apart, found {from} and {to}"));
            }
            Ok((0..count).map(|i| Draw::Number(number(chance(i).random_range(logs.clone()).exp()))).collect())
        }
    }
}

fn rounded(value: f64) -> f64 {
    format!("{value:.*e}", DIGITS as usize - 1).parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn numbers(distribution: &Value, count: usize, seed: u64) -> Vec<f64> {
        let draws = draws(&["ppo".into(), "x".into()], distribution, count, seed).unwrap();
        let number = |draw: &Draw| match draw {
            Draw::Number(text) => text.parse().unwrap(),
            Draw::Choice(index) => *index as f64,
        };
        draws.iter().map(number).collect()
    }

    #[test]
    fn ranges_of_seeds() {
        let seeds =
            |range: &str| serde_json::from_value(json!(range)).map(|Seeds(seeds)| seeds).map_err(|e| e.to_string());
        assert_eq!(seeds("0..3"), Ok(vec![0, 1, 2]));
        assert_eq!(seeds("2..=4"), Ok(vec![2, 3, 4]));
        for bad in ["x..3", "3", "0..-1"] {
            assert_eq!(seeds(bad), Err(format!("expected a range as in `\"0..10\"`, found `\"{bad}\"`")));
        }
        for empty in ["5..5", "5..2", "5..=3"] {
            assert!(seeds(empty).unwrap_err().contains("at least one seed"), "{empty}");
        }
        for endless in ["0..99999999999999", "0..=18446744073709551615"] {
            assert!(seeds(endless).unwrap_err().contains("at most 10000 seeds"), "{endless}");
        }
    }

    #[test]
    fn a_larger_count_keeps_the_draws_of_a_smaller_one() {
        let distribution = json!({ "log_uniform": [1e-4, 1e-2] });
        assert_eq!(numbers(&distribution, 40, 1)[..5], numbers(&distribution, 5, 1));
        assert_ne!(numbers(&distribution, 5, 1), numbers(&distribution, 5, 2));
    }

    #[test]
    fn draws_follow_their_distribution() {
        let uniform = numbers(&json!({ "uniform": [2.0, 4.0] }), 2000, 0);
        let mean = uniform.iter().sum::<f64>() / 2000.0;
        assert!(uniform.iter().all(|x| (2.0..=4.0).contains(x)) && (mean - 3.0).abs() < 0.05, "mean {mean}");
        let log = numbers(&json!({ "log_uniform": [1e-4, 1e-2] }), 2000, 0);
        let below = log.iter().filter(|x| **x < 1e-3).count();
        assert!((900..1100).contains(&below), "{below} of 2000 in the lower decade of two");
        let whole = numbers(&json!({ "uniform": [1, 4] }), 400, 0);
        assert!((1..=4).all(|n| whole.iter().filter(|x| **x as i32 == n).count() > 60), "all of 1, 2, 3, 4");
        let narrow = numbers(&json!({ "uniform": [0.999_96, 0.999_99] }), 100, 0);
        assert!(
            narrow.iter().all(|x| (0.999_96..=0.999_99).contains(x)),
            "rounded to four digits, but not out of the range"
        );
        let choice = numbers(&json!({ "choice": ["a", "b"] }), 400, 0);
        assert!((160..240).contains(&choice.iter().filter(|x| **x < 0.5).count()));
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        for bad in [
            json!({ "uniform": [1] }),
            json!({ "uniform": [2, 1] }),
            json!({ "uniform": [-1.7e308, 1.7e308] }),
            json!({ "log_uniform": [0.0, 1.0] }),
            json!({ "log_uniform": [1e300, 1.000_000_000_000_000_2e300] }),
            json!(3),
        ] {
            assert!(draws(&["x".into()], &bad, 1, 0).is_err(), "{bad}");
        }
    }
}

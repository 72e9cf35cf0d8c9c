//! What a recipe file asks for: one point, or the points of a sweep.
//!
//! Plain data, as it is frozen when a run is submitted. How a `[sweep]` becomes points is `sweep`'s.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Recipe;

/// All that a recipe file asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Experiment {
    /// The file's name without folder and extension.
    pub name: String,
    /// What varies between points, in the order of declaration; nothing where the recipe has no `[sweep]`.
    pub axes: Vec<Axis>,
    /// At least one.
    pub points: Vec<Point>,
}

/// Something that a sweep varies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// How tables and labels call it: the end of its key (`gae_lambda`), or the name that the sweep gives it.
    pub name: String,
    /// What it takes, in the order of declaration; the first is what the others are compared with.
    pub levels: Vec<Level>,
    /// Whether its levels were drawn at random: a number to plot against rather than a factor.
    pub sampled: bool,
}

/// One setting of an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// As tables and labels show it.
    pub name: String,
    /// The value, where the axis is one key; a table of all that it sets otherwise.
    pub value: Value,
}

/// One recipe of an experiment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// Its axes with their levels, `gae_lambda=0.9 size=small`; the experiment's name where there are no axes.
    pub name: String,
    /// For each axis the index of the level that it takes; none for an axis that does not concern it.
    pub levels: Vec<Option<usize>>,
    /// The recipe, all values filled in, without a sweep.
    pub recipe: Recipe,
}

impl Experiment {
    /// An experiment of one recipe.
    #[must_use]
    pub fn single(name: String, recipe: Recipe) -> Self {
        let point = Point { name: name.clone(), levels: Vec::new(), recipe };
        Self { name, axes: Vec::new(), points: vec![point] }
    }

    /// Recipes beside each other under the names given: points of one axis, the first what the others are compared with. Of a
    /// sweep every point.
    #[must_use]
    pub fn beside(all: Vec<(String, Self)>) -> Self {
        let name = all.iter().map(|(name, _)| name.replace(['/', '\\'], "_")).collect::<Vec<_>>().join("-and-");
        let mut points: Vec<Point> = Vec::new();
        for (name, experiment) in all {
            let is_sweep = experiment.is_sweep();
            for point in experiment.points {
                let own = if is_sweep { format!("{name} {}", point.name) } else { name.clone() };
                let again = points
                    .iter()
                    .filter(|known| known.name == own || known.name.starts_with(&format!("{own} (")))
                    .count();
                let name = if again == 0 { own } else { format!("{own} ({})", again + 1) };
                points.push(Point { levels: vec![Some(points.len())], recipe: point.recipe, name });
            }
        }
        let level = |point: &Point| Level { name: point.name.clone(), value: Value::String(point.name.clone()) };
        let axis = Axis { name: "run".to_owned(), levels: points.iter().map(level).collect(), sampled: false };
        Self { name, axes: vec![axis], points }
    }

    /// Whether it has axes: its report then compares points rather than the variants of one.
    #[must_use]
    pub const fn is_sweep(&self) -> bool {
        !self.axes.is_empty()
    }

    /// The level that `point` takes on the axis with index `axis`.
    #[must_use]
    pub fn level(&self, point: &Point, axis: usize) -> Option<&Level> {
        self.axes.get(axis)?.levels.get((*point.levels.get(axis)?)?)
    }
}

//! From the plans of a sweep's points to one plan: equal keys are one node.
//!
//! A point's own report is left out: the sweep's report is made from judgements, and `runner report --point` makes the
//! other when somebody asks for it.

use std::collections::{HashMap, HashSet};

use super::node::{Input, Node, Plan, Stage};
use crate::recipe::Experiment;

/// One plan for all points of `experiment`, whose plans are `plans`, in the points' order.
pub(super) fn merge(experiment: &Experiment, plans: &[Plan]) -> Plan {
    let mut merged = Plan::new(&experiment.name);
    let mut known = HashMap::new();
    for (point, plan) in plans.iter().enumerate() {
        // Where each of the point's nodes went.
        let mut places = Vec::with_capacity(plan.nodes.len());
        for node in plan.nodes.iter().filter(|node| node.stage != Stage::Report) {
            let place = *known.entry(node.key.clone()).or_insert(merged.nodes.len());
            if place == merged.nodes.len() {
                let inputs =
                    node.inputs.iter().map(|input| Input { role: input.role.clone(), node: places[input.node] });
                merged.nodes.push(Node { inputs: inputs.collect(), points: Vec::new(), ..node.clone() });
            }
            merged.nodes[place].points.push(point);
            places.push(place);
        }
    }
    name(experiment, &mut merged);
    merged
}

/// Adds to each label the levels that tell its node from its like: `ppo/token/seed=0 [gae_lambda=0.9]`.
fn name(experiment: &Experiment, plan: &mut Plan) {
    let mut taken = HashSet::new();
    for node in &mut plan.nodes {
        let levels: Vec<String> = (0..experiment.axes.len())
            .filter_map(|axis| {
                Some(format!("{}={}", experiment.axes[axis].name, common(experiment, &node.points, axis)?))
            })
            .collect();
        let label =
            if levels.is_empty() { node.label.clone() } else { format!("{} [{}]", node.label, levels.join(" ")) };
        // Points that are no grid can share work that no level of theirs has in common.
        let numbered = (2..).map(|number| format!("{label} ({number})"));
        node.label =
            std::iter::once(label.clone()).chain(numbered).find(|label| taken.insert(label.clone())).unwrap_or(label);
    }
}

/// The level of `axis` that all of `points` take, where not every point of the experiment takes it.
fn common<'e>(experiment: &'e Experiment, points: &[usize], axis: usize) -> Option<&'e str> {
    let level = |point: usize| experiment.points[point].levels.get(axis).copied().flatten();
    let shared = level(*points.first()?)?;
    let all = points.iter().all(|&point| level(point) == Some(shared));
    let everywhere = (0..experiment.points.len()).all(|point| level(point) == Some(shared));
    (all && !everywhere).then(|| experiment.axes[axis].levels[shared].name.as_str())
}

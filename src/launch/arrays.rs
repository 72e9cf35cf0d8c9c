//! A plan's tasks as job arrays: what is alike and can run at the same time.
//!
//! Pure. How an array is handed to a queue is the queue's file's.

use std::collections::{BTreeMap, BTreeSet};

use super::resources;
use crate::recipe::Experiment;
use crate::recipe::launch::Resources;
use crate::stage::node::{Plan, Stage};
use crate::units::Count;

/// Tasks that are alike in kind and level, by what they need.
type Alike = Vec<(Resources, Vec<usize>)>;

/// Tasks of one kind that need the same and wait for the same arrays.
#[derive(Clone, Debug)]
pub struct Array {
    /// Their kind.
    pub stage: Stage,
    /// What each of them needs.
    pub resources: Resources,
    /// The nodes, by index.
    pub tasks: Vec<usize>,
    /// The arrays that make what these tasks read, by index; always smaller than that of this one.
    pub after: Vec<usize>,
}

/// The nodes of `plan` that are `chosen` as arrays: one a level of the plan, kind and need, in pieces of at most
/// `max_size` tasks where the recipe says nothing else. An array stands after all that it waits for.
#[must_use]
pub fn arrays(plan: &Plan, experiment: &Experiment, chosen: &BTreeSet<usize>, max_size: usize) -> Vec<Array> {
    let mut levels = BTreeMap::new();
    let mut groups: BTreeMap<(usize, Stage), Alike> = BTreeMap::new();
    for &index in chosen {
        let node = &plan.nodes[index];
        let below = node.inputs.iter().filter_map(|input| levels.get(&input.node)).max();
        let level = below.map_or(0, |level: &usize| level + 1);
        levels.insert(index, level);
        let (needs, alike) = (resources(experiment, node), groups.entry((level, node.stage)).or_default());
        match alike.iter_mut().find(|(other, _)| *other == needs) {
            Some((_, tasks)) => tasks.push(index),
            None => alike.push((needs, vec![index])),
        }
    }
    let mut arrays = Vec::new();
    let mut home = BTreeMap::new();
    for ((_, stage), alike) in groups {
        for (resources, tasks) in alike {
            let declared = resources.slurm.as_ref().and_then(|slurm| slurm.max_array_size);
            for tasks in tasks.chunks(declared.map_or(max_size, Count::get).max(1)) {
                let inputs = tasks.iter().flat_map(|&task| &plan.nodes[task].inputs);
                let after: BTreeSet<usize> = inputs.filter_map(|input| home.get(&input.node).copied()).collect();
                home.extend(tasks.iter().map(|&task| (task, arrays.len())));
                let (resources, tasks) = (resources.clone(), tasks.to_vec());
                arrays.push(Array { stage, resources, tasks, after: after.into_iter().collect() });
            }
        }
    }
    arrays
}

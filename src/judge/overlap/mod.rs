//! How near a text is to a reference, by metrics that need no model: BLEU, ROUGE-L, chrF. All lie in [0, 1].

mod bleu;
mod chrf;
mod rouge;

use std::collections::BTreeMap;

pub use bleu::bleu;
pub use chrf::chrf;
pub use rouge::rouge_l;

/// How often each run of `n` items occurs.
fn ngrams<T: Ord>(items: &[T], n: usize) -> BTreeMap<&[T], usize> {
    let mut counts = BTreeMap::new();
    for run in items.windows(n) {
        *counts.entry(run).or_default() += 1;
    }
    counts
}

/// Runs that two texts share, each as often as in the one that has it less often.
fn shared<T: Ord>(one: &BTreeMap<&[T], usize>, other: &BTreeMap<&[T], usize>) -> usize {
    one.iter().map(|(run, count)| count.min(other.get(run).unwrap_or(&0))).sum()
}

//! Byte-pair merges from word counts, the same in every process.
//!
//! The `tokenizers` trainer walks hash maps: where two queue entries of one pair carry the same count, which of them is
//! popped first depends on the process. This one keeps counts exact and ties ordered; encoding is left to `tokenizers`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Two neighbouring token ids.
type Pair = (u32, u32);

/// Merges seen fewer times than this are not worth an id.
const MIN_FREQUENCY: i64 = 2;

/// A vocabulary (position = id) and its merges, in the order in which they apply.
pub(super) struct Merges {
    pub(super) vocabulary: Vec<String>,
    pub(super) merges: Vec<(String, String)>,
}

/// Merges the most frequent pair, lowest ids first among equals, until `vocabulary` has `size` entries or no pair
/// occurs twice.
///
/// Every character of `words` must be an entry of `vocabulary` on its own.
pub(super) fn train(vocabulary: Vec<String>, words: &BTreeMap<String, i64>, size: usize) -> Merges {
    let mut trainer = Trainer::new(vocabulary, words);
    let mut merges = Vec::new();
    while trainer.vocabulary.len() < size {
        let Some(&(count, Reverse(pair))) = trainer.queue.last() else { break };
        if count < MIN_FREQUENCY {
            break;
        }
        let name = |id: u32| trainer.vocabulary[id as usize].clone();
        merges.push((name(pair.0), name(pair.1)));
        trainer.merge(pair);
    }
    Merges { vocabulary: trainer.vocabulary, merges }
}

struct Trainer {
    vocabulary: Vec<String>,
    ids: HashMap<String, u32>,
    words: Vec<(Vec<u32>, i64)>,
    counts: HashMap<Pair, i64>,
    /// The words in which a pair occurs, or once did.
    places: HashMap<Pair, BTreeSet<usize>>,
    /// Pairs by count; its last entry is merged next.
    queue: BTreeSet<(i64, Reverse<Pair>)>,
}

impl Trainer {
    fn new(vocabulary: Vec<String>, words: &BTreeMap<String, i64>) -> Self {
        let ids: HashMap<_, _> = vocabulary.iter().cloned().zip(0..).collect();
        let spell = |word: &str| word.chars().filter_map(|c| ids.get(c.encode_utf8(&mut [0; 4])).copied()).collect();
        let words = words.iter().map(|(word, count)| (spell(word), *count)).collect();
        let mut trainer =
            Self { vocabulary, ids, words, counts: HashMap::new(), places: HashMap::new(), queue: BTreeSet::new() };
        let mut change = BTreeMap::new();
        for at in 0..trainer.words.len() {
            trainer.count(at, 1, &mut change);
        }
        trainer.apply(change);
        trainer
    }

    /// Adds `sign` times the pairs of word `at` to `change`, and notes where they are.
    fn count(&mut self, at: usize, sign: i64, change: &mut BTreeMap<Pair, i64>) {
        let (ids, count) = &self.words[at];
        for pair in ids.windows(2).map(|two| (two[0], two[1])) {
            *change.entry(pair).or_default() += sign * count;
            if sign > 0 {
                self.places.entry(pair).or_default().insert(at);
            }
        }
    }

    fn apply(&mut self, change: BTreeMap<Pair, i64>) {
        for (pair, change) in change.into_iter().filter(|(_, change)| *change != 0) {
            let count = self.counts.entry(pair).or_default();
            self.queue.remove(&(*count, Reverse(pair)));
            *count += change;
            if *count > 0 {
                self.queue.insert((*count, Reverse(pair)));
            }
        }
    }

    fn merge(&mut self, pair: Pair) {
        let name = format!("{}{}", self.vocabulary[pair.0 as usize], self.vocabulary[pair.1 as usize]);
        let next = u32::try_from(self.vocabulary.len()).expect("a vocabulary has fewer than 2^32 entries");
        // Two pairs can spell the same token (`a` `bc` and `ab` `c`): it keeps its first id.
        let id = *self.ids.entry(name.clone()).or_insert(next);
        if id == next {
            self.vocabulary.push(name);
        }
        let mut change = BTreeMap::new();
        for at in self.places.remove(&pair).unwrap_or_default() {
            self.count(at, -1, &mut change);
            self.words[at].0 = joined(&self.words[at].0, pair, id);
            self.count(at, 1, &mut change);
        }
        self.apply(change);
    }
}

/// `ids` with every occurrence of `pair`, from the left, replaced by `id`.
fn joined(ids: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut out = Vec::with_capacity(ids.len());
    let mut rest = ids;
    while let Some((&first, tail)) = rest.split_first() {
        if first == pair.0 && tail.first() == Some(&pair.1) {
            out.push(id);
            rest = &tail[1..];
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(words: &[(&str, i64)], size: usize) -> Merges {
        let letters: BTreeSet<char> = words.iter().flat_map(|(word, _)| word.chars()).collect();
        let words = words.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect();
        train(letters.into_iter().map(String::from).collect(), &words, size)
    }

    fn pairs(merges: &Merges) -> Vec<String> {
        merges.merges.iter().map(|(a, b)| format!("{a}+{b}")).collect()
    }

    #[test]
    fn hand_worked_merges() {
        // Sennrich et al. 2016's example: es 9, then est 9, then lo 7, low 7, and so on.
        let learned = learn(&[("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)], 14);
        assert_eq!(pairs(&learned), ["e+s", "es+t", "l+o", "lo+w"]);
        assert_eq!(learned.vocabulary[10..], ["es", "est", "lo", "low"]);
    }

    #[test]
    fn repeated_letters_merge_from_the_left() {
        assert_eq!(joined(&[1, 1, 1, 2], (1, 1), 9), [9, 1, 2]);
    }

    #[test]
    fn pairs_that_occur_once_are_left_alone() {
        assert_eq!(learn(&[("ab", 1), ("cd", 2)], 99).vocabulary, ["a", "b", "c", "d", "cd"]);
    }
}

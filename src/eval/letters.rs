//! Letters that say which of many differ: the compact letter display [LETTERS].

/// One text of letters for each of `n` things, given the pairs that differ: two things share a letter exactly when they are
/// not such a pair. The first letters go to the first things.
///
/// # Panics
/// When a pair names what is not there.
#[must_use]
pub fn letters(n: usize, different: &[(usize, usize)]) -> Vec<String> {
    let mut groups: Vec<Vec<bool>> = vec![vec![true; n]];
    for &(i, j) in different {
        let (split, mut kept): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group[i] && group[j]);
        for group in split {
            for gone in [j, i] {
                let mut part = group.clone();
                part[gone] = false;
                kept.push(part);
            }
        }
        groups = absorbed(kept);
    }
    groups.sort_by(|a, b| b.cmp(a));
    let letter = |index: usize| {
        let letter = char::from(b'a' + u8::try_from(index % 26).unwrap_or(0));
        std::iter::repeat_n(letter, index / 26 + 1).collect::<String>()
    };
    let of = |thing: usize| (0..groups.len()).filter(|&group| groups[group][thing]).map(letter).collect();
    (0..n).map(of).collect()
}

/// The groups that are part of no other one.
fn absorbed(groups: Vec<Vec<bool>>) -> Vec<Vec<bool>> {
    let within = |a: &[bool], b: &[bool]| a.iter().zip(b).all(|(a, b)| !a || *b);
    let mut kept: Vec<Vec<bool>> = Vec::new();
    for group in groups {
        if kept.iter().any(|other| within(&group, other)) {
            continue;
        }
        kept.retain(|other| !within(other, &group));
        kept.push(group);
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_differ_shares_a_letter() {
        assert_eq!(letters(3, &[]), ["a", "a", "a"]);
        assert_eq!(letters(3, &[(0, 1), (0, 2), (1, 2)]), ["a", "b", "c"]);
        // The first differs from the last, the middle one from neither.
        assert_eq!(letters(3, &[(0, 2)]), ["a", "ab", "b"]);
        assert_eq!(letters(0, &[]), [""; 0]);
    }

    proptest! {
        #[test]
        fn two_share_a_letter_exactly_when_they_are_no_pair(bits in proptest::collection::vec(any::<bool>(), 15)) {
            let pairs: Vec<(usize, usize)> = (0..6).flat_map(|i| (i + 1..6).map(move |j| (i, j))).collect();
            let different: Vec<(usize, usize)> =
                pairs.iter().zip(&bits).filter(|(_, bit)| **bit).map(|(pair, _)| *pair).collect();
            let found = letters(6, &different);
            for &(i, j) in &pairs {
                let shared = found[i].chars().any(|letter| found[j].contains(letter));
                prop_assert_eq!(shared, !different.contains(&(i, j)), "{:?}", found);
            }
        }
    }
}

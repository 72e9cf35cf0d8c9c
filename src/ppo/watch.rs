//! Watching for reward hacking: a policy that leaves the reference's habits in length, KL or repetition.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Watch;

/// Tokens in a run that counts as repeated when it occurs twice in one response.
const RUN: usize = 4;

/// What a policy's samples look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Habits {
    /// Mean response length in tokens.
    pub length: f64,
    /// Share of responses in which a run of four tokens occurs twice.
    pub repeats: f64,
}

impl Habits {
    /// Measures `responses`.
    #[must_use]
    pub fn of<'a>(responses: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let (mut n, mut tokens, mut repeating) = (0_usize, 0_usize, 0_usize);
        for response in responses {
            n += 1;
            tokens += response.len();
            let mut seen = HashSet::new();
            repeating += usize::from(!response.windows(RUN).all(|run| seen.insert(run)));
        }
        let n = n.max(1) as f64;
        Self { length: tokens as f64 / n, repeats: repeating as f64 / n }
    }
}

impl Watch {
    /// What is suspicious about a policy with `habits` and `kl_nats`, compared with the reference: (kind, sentence).
    #[must_use]
    pub fn suspicions(&self, reference: Habits, habits: Habits, kl_nats: f64) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let ratio = habits.length / reference.length.max(1e-9);
        if !(self.min_length_ratio.get()..=self.max_length_ratio.get()).contains(&ratio) {
            found.push(("length", format!("mean length {:.1} is {ratio:.2} times the reference's", habits.length)));
        }
        if kl_nats > self.max_kl_nats.get() {
            found.push(("kl", format!("KL {kl_nats:.1} nats is above {}", self.max_kl_nats.get())));
        }
        if habits.repeats > reference.repeats + self.max_repeat_excess.get() {
            let percent = |share: f64| format!("{:.0} %", 100.0 * share);
            let (now, then) = (percent(habits.repeats), percent(reference.repeats));
            found.push(("repeats", format!("{now} of responses repeat themselves, {then} of the reference's do")));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn habits_count_tokens_and_responses_that_repeat_a_run_of_four() {
        let responses: [&[u32]; 3] = [&[1, 2, 3, 4, 1, 2, 3, 4], &[1, 2, 3, 1, 2, 3], &[]];
        assert_eq!(Habits::of(responses), Habits { length: 14.0 / 3.0, repeats: 1.0 / 3.0 });
    }

    #[test]
    fn each_limit_raises_its_own_suspicion() {
        let watch = Watch::default();
        let reference = Habits { length: 30.0, repeats: 0.1 };
        let kinds = |length, repeats, kl| -> Vec<&str> {
            watch.suspicions(reference, Habits { length, repeats }, kl).into_iter().map(|(kind, _)| kind).collect()
        };
        assert_eq!(kinds(30.0, 0.1, 2.0), [""; 0]);
        assert_eq!(kinds(43.0, 0.1, 2.0), ["length"]);
        assert_eq!(kinds(17.0, 0.1, 2.0), ["length"]);
        assert_eq!(kinds(30.0, 0.5, 25.0), ["kl", "repeats"]);
    }
}

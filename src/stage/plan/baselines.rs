//! The nodes of variants beside PPO: the best of n samples, and direct preference optimisation.

use super::super::node::Stage;
use super::super::{best_of_n, dpo, report};
use super::{Annotations, Place, Planner, Round, Trained};
use crate::reward::Kind;

impl Planner<'_> {
    /// The best of `n` samples of the reference by a reward model of `kind`: nothing is trained, and its responses are chosen, not
    /// sampled.
    pub(super) fn best_of_n(&mut self, name: &str, kind: &Kind, n: usize, place: Place) {
        let annotations = self.only_round(place);
        let (reference, at) = (place.reference, format!("{name}/{}", annotations.at));
        let reward = self.reward(kind, std::slice::from_ref(&annotations), format!("reward/{at}"), false, &[]);
        let config = best_of_n::Config { n, seed: reference.seed, setting: self.setting.clone() };
        let from = [("reference", reference.policy), ("reward", reward)];
        let best = self.push(Stage::BestOfN, best_of_n::VERSION, format!("best_of_n/{at}"), &config, &from);
        let chosen_by = Trained { rewards: vec![("reward".to_owned(), reward)], ..Trained::default() };
        self.compared(cell(name, place, 0.0), &annotations, chosen_by, [best, best], place.judge, &at);
    }

    /// A policy that learns from pairs at one beta.
    pub(super) fn dpo(&mut self, name: &str, table: &crate::dpo::Config, beta: f64, place: Place) {
        let annotations = self.only_round(place);
        let reference = place.reference;
        let at = format!("{name}/beta={beta}/{}", annotations.at);
        let (dpo, seed) = (table.without_grid(), reference.seed);
        let config = dpo::Config { dpo, beta, seed, setting: self.setting.clone() };
        let from =
            [("reference", reference.policy), ("preferences", annotations.preferences), ("labels", annotations.labels)];
        let policy = self.push(Stage::Dpo, dpo::VERSION, format!("dpo/{at}"), &config, &from);
        self.judged(cell(name, place, beta), &annotations, Trained::default(), policy, place.judge, &at);
    }

    /// All annotations at once, on responses of the reference.
    fn only_round(&mut self, Place { reference, budget, .. }: Place) -> Annotations {
        let at = format!("budget={budget}/seed={}", reference.seed);
        self.annotations(reference, Round { policy: reference.policy, budget, skip: 0, at })
    }
}

fn cell(name: &str, Place { reference, budget, .. }: Place, kl_coef: f64) -> report::Cell {
    report::Cell { variant: name.to_owned(), budget, seed: reference.seed, kl_coef, round: None }
}

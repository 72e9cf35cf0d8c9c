//! The nodes in which further judges judge what the primary one's verdicts chose.

use super::super::node::Stage;
use super::super::opinions::{Config, Run, VERSION};
use super::{Annotations, Cell, Planner};
use crate::judge::Judge;

impl Planner<'_> {
    /// What each further judge says of each variant at each budget.
    pub(super) fn opinions(&mut self) -> Vec<(String, usize)> {
        let mut nodes = Vec::new();
        for judge in self.further.clone() {
            for budget in self.recipe.budgets.iter().map(|budget| budget.get()) {
                for variant in self.recipe.runs().into_iter().map(|run| run.name) {
                    let at = format!("{}/{variant}/budget={budget}", judge.name().text());
                    let node = self.opinion(&judge, &variant, budget, format!("opinions/{at}"));
                    nodes.push((format!("opinions.{at}"), node));
                }
            }
        }
        nodes
    }

    fn opinion(&mut self, judge: &Judge, variant: &str, budget: usize, label: String) -> usize {
        let here = |cell: &&(Cell, Annotations)| {
            let at = &cell.0.at;
            at.variant == variant && at.budget == budget && at.round.is_none()
        };
        let (mut runs, mut from) = (Vec::new(), Vec::new());
        for (i, (cell, annotations)) in self.cells.iter().filter(here).enumerate() {
            runs.push(Run { seed: cell.at.seed, kl_coef: cell.at.kl_coef });
            let model = cell.judge.filter(|_| matches!(judge, Judge::RewardModel(_))).map(|model| ("judge", model));
            let adapted = model.filter(|_| self.adapts()).map(|_| ("reference", annotations.reference.policy));
            let mine = [
                ("judgements", cell.judgements),
                ("responses", cell.responses),
                ("reference_responses", annotations.reference.responses),
            ];
            from.extend(mine.into_iter().chain(model).chain(adapted).map(|(role, node)| (format!("{i}.{role}"), node)));
        }
        let config = Config { judge: judge.clone(), runs, setting: self.setting.clone() };
        let from: Vec<(&str, usize)> = from.iter().map(|(role, node)| (role.as_str(), *node)).collect();
        self.push(Stage::Opinions, VERSION, label, &config, &from)
    }
}

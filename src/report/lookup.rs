//! Questions that every rendering asks of a report.
//!
//! Only finds what is there: nothing is estimated here.

use super::schema::{Comparison, Report, VariantResult};

impl Report {
    /// The annotation budgets, ascending.
    #[must_use]
    pub fn budgets(&self) -> Vec<usize> {
        let mut budgets: Vec<usize> = self.variants.iter().map(|v| v.budget).collect();
        budgets.sort_unstable();
        budgets.dedup();
        budgets
    }

    /// The variants' names in order of first appearance.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for variant in &self.variants {
            if !names.contains(&variant.name.as_str()) {
                names.push(&variant.name);
            }
        }
        names
    }

    /// The results at one budget, in the recipe's order.
    pub fn at(&self, budget: usize) -> impl Iterator<Item = &VariantResult> {
        self.variants.iter().filter(move |v| v.budget == budget)
    }

    /// The comparison of `a` with `b`, turned round where only its reverse is held.
    #[must_use]
    pub fn comparison(&self, a: &str, b: &str, budget: usize) -> Option<Comparison> {
        let find = |a: &str, b: &str| self.comparisons.iter().find(|c| c.a == a && c.b == b && c.budget == budget);
        find(a, b).cloned().or_else(|| find(b, a).map(Comparison::reversed))
    }
}

impl Comparison {
    /// The same comparison seen from the other side.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            a: self.b.clone(),
            b: self.a.clone(),
            difference_points: -self.difference_points,
            ci: [-self.ci[1], -self.ci[0]],
            head_to_head: self.head_to_head.map(|share| 1.0 - share),
            head_to_head_ci: self.head_to_head_ci.map(|[low, high]| [1.0 - high, 1.0 - low]),
            length_controlled_head_to_head: self.length_controlled_head_to_head.map(|share| 1.0 - share),
            wins: self.losses,
            losses: self.wins,
            better_prompts: self.worse_prompts,
            worse_prompts: self.better_prompts,
            probability_of_improvement: self.probability_of_improvement.map(|share| 1.0 - share),
            improvement_ci: self.improvement_ci.map(|[low, high]| [1.0 - high, 1.0 - low]),
            ..self.clone()
        }
    }

    /// Whether the interval holds "no difference".
    #[must_use]
    pub fn covers_zero(&self) -> bool {
        self.ci[0] <= 0.0 && self.ci[1] >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use crate::report::sample::report;

    #[test]
    fn a_comparison_is_found_from_both_sides() {
        let report = report();
        let (forth, back) = (
            report.comparison("token", "sequence", 1000).unwrap(),
            report.comparison("sequence", "token", 1000).unwrap(),
        );
        assert_eq!(forth.reversed(), back);
        assert!((forth.difference_points + back.difference_points).abs() < 1e-12 && back.ci[0] <= back.ci[1]);
        let (share, [low, high]) = (back.head_to_head.unwrap(), back.head_to_head_ci.unwrap());
        assert!(low < share && share < high, "the interval is turned round with the share");
        assert_eq!((back.wins, back.losses), (forth.losses, forth.wins));
        assert_eq!(report.comparison("token", "token", 1000), None);
    }

    #[test]
    fn budgets_ascend_and_names_keep_the_recipes_order() {
        let report = report();
        assert_eq!(report.budgets(), [300, 1000]);
        assert_eq!(report.names(), ["sequence", "sequence_edits", "token"]);
    }
}

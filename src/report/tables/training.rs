//! Tables of what was trained: what variants change and what that does, and the search for a KL coefficient.

use super::{Cell, Head, Table, interval};
use crate::report::numbers::{UNKNOWN, fixed, optional, optional_percent, p_value, percent, shortest, signed};
use crate::report::schema::{Report, VariantResult};
use crate::report::{Curve, Gain, GridCell, RoundResult};

/// The variants as an ablation: only the keys in which they differ, and what comes of them.
pub fn variants(report: &Report) -> Option<Table> {
    let names = report.names();
    let mut table = Table::new("ablation", "What each variant changes, and what comes of it", 1, &[("variant", "")]);
    let keys: Vec<&crate::report::KeyDifference> = report.differences.iter().collect();
    table.head.extend(keys.iter().map(|key| Head { title: key.key.clone(), metric: "" }));
    table.names += keys.len();
    let numbers = [
        ("annotations", "annotations"),
        ("win rate", "win_rate"),
        ("interval", "ci"),
        ("difference to the first", "difference_points"),
        ("interval", "ci"),
        ("win rate while training", "win_rate"),
    ];
    table.head.extend(numbers.map(|(title, metric)| Head { title: title.to_owned(), metric }));
    let all = || report.curves.iter().flat_map(means);
    let (low, high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let row = |v: &VariantResult| -> Vec<Cell> {
        let at = names.iter().position(|name| *name == v.name);
        let value = |key: &&crate::report::KeyDifference| -> Cell {
            let value = at.and_then(|at| key.values.get(at)?.clone());
            value.unwrap_or_else(|| UNKNOWN.to_owned()).into()
        };
        let gap = names.first().and_then(|first| report.comparison(&v.name, first, v.budget));
        let curve = report.curves.iter().find(|curve| curve.variant == v.name && curve.budget == v.budget);
        let mut row: Vec<Cell> = vec![v.name.as_str().into()];
        row.extend(keys.iter().map(value));
        row.extend([
            v.budget.to_string().into(),
            Cell::from(percent(v.win_rate)).strong(true),
            interval(v.ci.map(percent)).into(),
            gap.as_ref().map_or_else(Cell::default, |gap| {
                Cell::from(signed(gap.difference_points, 1)).strong(!gap.covers_zero())
            }),
            gap.as_ref().map_or_else(String::new, |gap| interval(gap.ci.map(|x| fixed(x, 1)))).into(),
            curve.map_or_else(Cell::default, |curve| Cell::spark(&means(curve), low, high)),
        ]);
        row
    };
    let budget_column = table.names;
    table.with(report.variants.iter().map(row)).ruled_by(budget_column).without_empty_columns().some()
}

/// Mean win rates over seeds, in order of steps.
fn means(curve: &Curve) -> Vec<f64> {
    let mut steps: Vec<usize> = curve.seeds.iter().flat_map(|seed| &seed.points).map(|point| point.step).collect();
    steps.sort_unstable();
    steps.dedup();
    let at = |step: usize| {
        let points = curve.seeds.iter().flat_map(|seed| &seed.points).filter(|point| point.step == step);
        super::models::mean(points.filter_map(|point| point.win_rate))
    };
    steps.into_iter().filter_map(at).collect()
}

/// The search for a KL coefficient.
pub fn grid(report: &Report) -> Option<Table> {
    let head = [
        ("variant", ""),
        ("annotations", "annotations"),
        ("KL coef.", "kl_coef"),
        ("validation (%)", "validation_win_rate"),
        ("KL (nats)", "kl_nats"),
        ("proxy (SD)", "mean_reward"),
        ("gold", "mean_score"),
    ];
    let row = |cell: &GridCell| -> Vec<Cell> {
        let note = if cell.chosen { "chosen".to_owned() } else { String::new() };
        vec![
            cell.variant.as_str().into(),
            cell.budget.to_string().into(),
            Cell::from(shortest(cell.kl_coef)).note(note),
            Cell::from(optional_percent(cell.validation_win_rate)).strong(cell.chosen),
            optional(cell.kl_nats, 2).into(),
            optional(cell.mean_reward, 2).into(),
            optional(cell.mean_score, 2).into(),
        ]
    };
    let caption = "The search for a KL coefficient: win rate on validation prompts; KL, proxy and gold on test prompts";
    let table = Table::new("grid", caption, 1, &head).with(report.grid.iter().map(row));
    table.ruled_by(0).without_empty_columns().some()
}

/// Keys in which variants differ, one row a key.
pub fn differences(report: &Report) -> Option<Table> {
    let names = report.names();
    let mut table =
        Table::new("differences", "Recipe keys in which the variants differ", names.len() + 1, &[("key", "")]);
    table.head.extend(names.iter().map(|name| Head { title: (*name).to_owned(), metric: "" }));
    let row = |key: &crate::report::KeyDifference| -> Vec<Cell> {
        let values = key.values.iter().map(|value| value.clone().unwrap_or_else(|| UNKNOWN.to_owned()).into());
        std::iter::once(Cell::from(key.key.as_str())).chain(values).take(names.len() + 1).collect()
    };
    table.with(report.differences.iter().map(row)).some()
}

/// What rounds of annotation add.
pub fn rounds(report: &Report) -> Option<Table> {
    let head = [
        ("variant", ""),
        ("budget", "annotations"),
        ("rounds", "rounds"),
        ("after round", "rounds"),
        ("annotations", "annotations"),
        ("KL coef.", "kl_coef"),
        ("win rate", "win_rate"),
        ("interval", "ci"),
        ("added", "difference_points"),
        ("gained", "difference_points"),
    ];
    let gain = |gain: Option<Gain>| {
        gain.map_or_else(Cell::default, |gain| {
            let range = interval(gain.ci.map(|x| fixed(x, 1)));
            Cell::from(signed(gain.points, 1)).note(format!("{range}; p {}", p_value(gain.p_value)))
        })
    };
    let row = |r: &RoundResult| -> Vec<Cell> {
        vec![
            r.variant.as_str().into(),
            r.budget.to_string().into(),
            r.rounds.to_string().into(),
            r.round.to_string().into(),
            r.annotations.to_string().into(),
            shortest(r.kl_coef).into(),
            Cell::from(percent(r.win_rate)).strong(true),
            interval(r.ci.map(percent)).into(),
            gain(r.added),
            gain(r.against_one_round),
        ]
    };
    let caption = "Rounds of annotation at equal total budget: what each adds, and what all gain over one round";
    Table::new("rounds", caption, 1, &head).with(report.rounds.iter().map(row)).ruled_by(0).some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    #[test]
    fn the_ablation_has_only_keys_that_differ() {
        let table = variants(&report()).unwrap();
        let heads: Vec<&str> = table.head.iter().map(|head| head.title.as_str()).collect();
        assert_eq!(heads[..3], ["variant", "reward.token.loss", "annotations"]);
        assert_eq!(table.rows.len(), 6);
        assert_eq!(table.rows[2][1].text, "pairwise_mean");
        assert!(table.rows[2].last().unwrap().spark.as_ref().unwrap().starts_with("<svg"));
    }
}

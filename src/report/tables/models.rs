//! Tables of the reward models: held-out accuracies, the search for wrong tokens, best of n.

use super::{Cell, Head, Table};
use crate::report::numbers::{optional, optional_percent};
use crate::report::schema::Report;
use crate::report::{RewardModelResult, TokenQuality};

/// A variant, a budget and its reward models of all seeds.
pub type Group<'a> = (&'a str, usize, Vec<&'a RewardModelResult>);

/// Reward models by variant and budget.
pub fn groups(report: &Report) -> Vec<Group<'_>> {
    let mut groups: Vec<Group> = Vec::new();
    for model in &report.reward_models {
        match groups.iter_mut().find(|(variant, budget, _)| *variant == model.variant && *budget == model.budget) {
            Some((.., models)) => models.push(model),
            None => groups.push((&model.variant, model.budget, vec![model])),
        }
    }
    groups
}

pub fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0_usize), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / n as f64)
}

/// Held-out accuracies, means over seeds.
pub fn rewards(report: &Report) -> Option<Table> {
    let head = [
        ("variant", ""),
        ("annotations", "annotations"),
        ("preferences", "preference_accuracy"),
        ("edits", "edit_accuracy"),
        ("token AUC", "token_auc"),
        ("token F1", "f1"),
        ("token ECE", "calibration_error"),
        ("preference ECE", "preference_calibration_error"),
        ("seeds", "seeds"),
    ];
    let row = |(variant, budget, models): Group| -> Vec<Cell> {
        let over = |of: &dyn Fn(&RewardModelResult) -> Option<f64>| {
            optional_percent(mean(models.iter().filter_map(|model| of(model)))).into()
        };
        vec![
            variant.into(),
            budget.to_string().into(),
            over(&|model| model.preference_accuracy),
            over(&|model| model.edit_accuracy),
            over(&|model| model.token_auc),
            over(&|model| model.edited_tokens.as_ref()?.f1),
            over(&|model| model.edited_tokens.as_ref()?.calibration_error),
            over(&|model| model.preference_calibration_error),
            models.len().to_string().into(),
        ]
    };
    let rows = groups(report).into_iter().map(row);
    let table = Table::new("reward-models", "Reward models on held-out data (%), means over seeds", 1, &head);
    table.with(rows).ruled_by(1).without_empty_columns().some()
}

/// Accuracy on a clean response against the same one with one fault, by kind.
pub fn kinds(report: &Report) -> Option<Table> {
    let mut kinds: Vec<&String> = report.reward_models.iter().flat_map(|m| m.single_fault_accuracy.keys()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let caption = "Accuracy on a clean response against the same one with a single fault (%), by kind";
    let mut table = Table::new("single-faults", caption, 1, &[("variant", ""), ("annotations", "annotations")]);
    let head = |kind: &&String| Head { title: kind.replace('_', " "), metric: "single_fault_accuracy" };
    table.head.extend(kinds.iter().map(head));
    let row = |(variant, budget, models): Group| -> Vec<Cell> {
        let of = |kind: &&String| mean(models.iter().filter_map(|m| m.single_fault_accuracy.get(*kind).copied()));
        let accuracies = kinds.iter().map(|kind| optional_percent(of(kind)).into());
        [variant.into(), budget.to_string().into()].into_iter().chain(accuracies).collect()
    };
    let rows: Vec<Vec<Cell>> = groups(report).into_iter().map(row).collect();
    if kinds.is_empty() { None } else { table.with(rows).ruled_by(1).some() }
}

/// How well token rewards find what is wrong, means over seeds.
pub fn detections(report: &Report) -> Option<Table> {
    let head = [
        ("variant", ""),
        ("against", ""),
        ("annotations", "annotations"),
        ("wrong", "wrong"),
        ("AUC", "token_auc"),
        ("average precision", "average_precision"),
        ("F1", "f1"),
        ("ECE", "calibration_error"),
    ];
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for (variant, budget, models) in groups(report) {
        let edits: Vec<&TokenQuality> = models.iter().filter_map(|model| model.edited_tokens.as_ref()).collect();
        let spans: Vec<&TokenQuality> = models.iter().filter_map(|model| model.error_spans.as_ref()).collect();
        let annotated: Vec<&TokenQuality> = models.iter().filter_map(|model| model.annotated.as_ref()).collect();
        let against = [("edits", edits), ("error spans", spans), ("its own labels", annotated)];
        for (against, all) in against.into_iter().filter(|(_, all)| !all.is_empty()) {
            let over = |of: fn(&TokenQuality) -> Option<f64>| -> Cell {
                optional_percent(mean(all.iter().filter_map(|quality| of(quality)))).into()
            };
            rows.push(vec![
                variant.into(),
                against.into(),
                budget.to_string().into(),
                over(|quality| Some(quality.wrong)),
                over(|quality| Some(quality.auc)),
                over(|quality| Some(quality.average_precision)),
                over(|quality| quality.f1),
                over(|quality| quality.calibration_error),
            ]);
        }
    }
    let caption = "Token rewards as a search for what is wrong on held-out data (%), means over seeds";
    Table::new("detection", caption, 2, &head).with(rows).ruled_by(2).some()
}

/// The points of a best-of-n curve that a table shows.
const BEST_OF: [usize; 4] = [1, 4, 16, 64];

/// The best of n samples of the reference by each reward model, as the oracle sees it.
pub fn best_of(report: &Report) -> Option<Table> {
    let head: Vec<(String, &str)> = BEST_OF.map(|n| (format!("n = {n}"), "best_of_n")).to_vec();
    let mut table = Table::new(
        "best-of-n",
        "Best of n samples of the reference: minus the faults, means over prompts and seeds",
        1,
        &[("variant", ""), ("annotations", "annotations")],
    );
    table.head.extend(head.into_iter().map(|(title, metric)| Head { title, metric }));
    let row = |(variant, budget, models): Group| -> Option<Vec<Cell>> {
        let at = |n: usize| mean(models.iter().filter_map(|model| Some(model.best_of_n.get(n - 1)?.gold)));
        at(1)?;
        let gold = BEST_OF.map(|n| optional(at(n), 2).into());
        Some([variant.into(), budget.to_string().into()].into_iter().chain(gold).collect())
    };
    table.with(groups(report).into_iter().filter_map(row)).ruled_by(1).some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::numbers::fixed;
    use crate::report::sample::report;

    #[test]
    fn means_are_over_seeds_and_search_tables_have_token_models_only() {
        let report = report();
        let rows = detections(&report).unwrap().rows;
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0][0].text.as_str(), rows[0][5].text.as_str()), ("token", fixed(47.0, 1).as_str()));
        let best = best_of(&report).unwrap().rows;
        assert_eq!(best.len(), 6);
        assert_eq!(best[0][3].text, fixed(-2.8 + 0.2 * 4.0_f64.ln(), 2));
        let rewards = rewards(&report).unwrap();
        assert_eq!(rewards.rows[0][2].text, "73.1", "mean of 73.0, 73.1 and 73.2");
    }
}

//! The table that ends a run on the terminal.
//!
//! Aligned plain text; where it is printed is left to `cli`.

use super::judges::JudgedWinRate;
use super::numbers::{fixed, optional, percent, plural, signed};
use super::schema::{Report, VariantResult};

/// The results, one row for each variant and budget, with the difference to the first variant.
///
/// # Units
/// Win rates in percent, differences in points, KL in nats per response, lengths in tokens, rewards in standard deviations
/// of the reference's return.
#[must_use]
pub fn terminal_table(report: &Report) -> String {
    let header =
        ["variant", "budget", "win rate", "interval", "difference", "interval", "KL", "length", "faults", "reward"];
    let mut rows = vec![header.map(ToOwned::to_owned).to_vec()];
    for budget in report.budgets() {
        rows.extend(report.at(budget).map(|variant| row(report, variant).to_vec()));
    }
    let mut text = aligned(&rows, 1);
    let seeds = report.variants.iter().map(|v| v.seeds.len()).max().unwrap_or(0);
    let (confidence, sample) =
        (fixed(100.0 * report.confidence, 0), [plural(report.prompts, "prompt"), plural(seeds, "seed")].join(" x "));
    let over = if seeds > 1 { "over prompts and seeds" } else { "over prompts only: one seed" };
    let legend = format!(
        "\nwin rate in % against the SFT reference, {sample}; difference in points to `{}`\n\
         {confidence} % intervals {over}; KL in nats, length in tokens, reward in SD of the reference's return\n",
        report.names().first().copied().unwrap_or_default()
    );
    text.push_str(&legend);
    if report.judges.len() > 1 {
        text.push_str(&judges(report));
    }
    text
}

/// What further judges say of the same responses, and how far every two agree.
fn judges(report: &Report) -> String {
    let mut header = vec!["judge".to_owned()];
    let first = report.judges.first().map(|judge| judge.win_rates.as_slice()).unwrap_or_default();
    header.extend(first.iter().map(|rate| format!("{}/{}", rate.variant, rate.budget)));
    header.extend(["pairs", "unjudged", "ties", "same in both orders", "first shown"].map(str::to_owned));
    let mut rows = vec![header];
    for judge in &report.judges {
        let rate = |of: &JudgedWinRate| {
            judge.win_rates.iter().find(|rate| (&rate.variant, rate.budget) == (&of.variant, of.budget))?.win_rate
        };
        let mut row = vec![judge.name.clone()];
        row.extend(first.iter().map(|of| optional(rate(of).map(|rate| 100.0 * rate), 1)));
        row.extend([judge.pairs.to_string(), judge.unjudged.to_string()]);
        let shares = [judge.tie_rate, judge.order_consistency, judge.first_position_rate];
        row.extend(shares.map(|share| optional(share.map(|share| 100.0 * share), 1)));
        rows.push(row);
    }
    let mut text = format!("\n{}", aligned(&rows, 1));
    let header = ["agreement", "pairs", "same winner", "of decided", "alpha"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(report.agreements.iter().map(|agreement| {
        let share = |share: Option<f64>| optional(share.map(|share| 100.0 * share), 1);
        vec![
            format!("{} and {}", agreement.a, agreement.b),
            agreement.pairs.to_string(),
            share(agreement.same),
            share(agreement.same_of_decided),
            optional(agreement.alpha, 3),
        ]
    }));
    text.push('\n');
    text.push_str(&aligned(&rows, 1));
    text.push_str("\nwin rates, ties, orders and agreement in %; alpha is Krippendorff's\n");
    text
}

fn row(report: &Report, variant: &VariantResult) -> [String; 10] {
    let baseline = report.names().first().copied().unwrap_or_default().to_owned();
    let difference = report.comparison(&variant.name, &baseline, variant.budget);
    let interval = |[low, high]: [f64; 2]| format!("{} to {}", fixed(low, 1), fixed(high, 1));
    [
        variant.name.clone(),
        variant.budget.to_string(),
        percent(variant.win_rate),
        interval(variant.ci.map(|share| 100.0 * share)),
        difference.as_ref().map_or_else(String::new, |d| signed(d.difference_points, 1)),
        difference.as_ref().map_or_else(String::new, |d| interval(d.ci)),
        optional(variant.kl_nats, 2),
        optional(variant.mean_length, 1),
        optional(variant.faults, 2),
        optional(variant.mean_reward, 2),
    ]
}

/// Columns to the width of their widest cell, the first `left` ones to the left and the others to the right.
pub fn aligned(rows: &[Vec<String>], left: usize) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    #[test]
    fn the_table_of_two_budgets() {
        let mut report = report();
        report.variants[2].mean_reward = None;
        report.judges.truncate(1);
        insta::assert_snapshot!(terminal_table(&report), @r"
    variant         budget  win rate      interval  difference      interval    KL  length  faults  reward
    sequence           300      65.5  62.4 to 68.3                            3.20    28.6    2.30    1.10
    sequence_edits     300      71.5  68.4 to 74.3        +6.0  -0.4 to 11.1  3.60    30.9    1.80    1.40
    token              300      77.5  74.4 to 80.3       +12.0   5.6 to 17.1  4.00    33.2    1.30       –
    sequence          1000      69.0  65.9 to 71.8                            3.20    28.6    2.30    1.10
    sequence_edits    1000      75.0  71.9 to 77.8        +6.0  -0.4 to 11.1  3.60    30.9    1.80    1.40
    token             1000      81.0  77.9 to 83.8       +12.0   5.6 to 17.1  4.00    33.2    1.30    1.70

    win rate in % against the SFT reference, 500 prompts x 3 seeds; difference in points to `sequence`
    95 % intervals over prompts and seeds; KL in nats, length in tokens, reward in SD of the reference's return
    ");
    }

    #[test]
    fn several_judges_are_shown_beside_each_other() {
        let mut report = report();
        report.variants.truncate(1);
        report.judges = ["oracle", "llm"].map(crate::report::sample::second_judge).to_vec();
        report.agreements = vec![crate::report::sample::agreement()];
        let text = terminal_table(&report);
        let shown = text.split("return\n").nth(1).unwrap();
        insta::assert_snapshot!(shown, @r"

    judge   sequence/300  token/300  pairs  unjudged  ties  same in both orders  first shown
    oracle          61.2       70.5    400         3  12.0                 81.5         58.0
    llm             61.2       70.5    400         3  12.0                 81.5         58.0

    agreement       pairs  same winner  of decided  alpha
    oracle and llm    397         74.3        81.0  0.612

    win rates, ties, orders and agreement in %; alpha is Krippendorff's
    ");
    }

    #[test]
    fn one_seed_is_said_to_be_one() {
        let mut report = report();
        report.variants.iter_mut().for_each(|v| v.seeds.truncate(1));
        let text = terminal_table(&report);
        assert!(text.contains("500 prompts x 1 seed;") && text.contains("over prompts only: one seed"), "{text}");
    }
}

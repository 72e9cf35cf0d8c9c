//! Tables of win rates: against the reference, and of every variant against every other.

use super::{Cell, Head, Table, interval};
use crate::report::heat;
use crate::report::numbers::{
    UNKNOWN, duration, fixed, optional, optional_percent, p_value, percent, plural, shortest, signed,
};
use crate::report::schema::{Comparison, Power, Report, VariantResult};

/// What was found, budget by budget: the best variant with all that the claim stands on.
pub fn headline(report: &Report) -> Table {
    let cost: f64 = report.stages.iter().filter_map(|stage| stage.wall_seconds).sum();
    let head = [
        ("best variant", ""),
        ("annotations", "annotations"),
        ("win rate", "win_rate"),
        ("interval", "ci"),
        ("effect (points)", "difference_points"),
        ("interval", "ci"),
        ("p (Holm)", "p_holm"),
        ("prompts", "prompts"),
        ("seeds", "seeds"),
        ("KL (nats)", "kl_nats"),
        ("length", "mean_length"),
        ("cost", "wall_seconds"),
    ];
    let names = report.names();
    let row = |budget: usize| -> Option<Vec<Cell>> {
        let best = report.at(budget).reduce(|best, v| if v.win_rate > best.win_rate { v } else { best })?;
        let against = report.at(budget).find(|v| names.first() == Some(&v.name.as_str()) && v.name != best.name);
        let against = against.or_else(|| {
            report.at(budget).filter(|v| v.name != best.name).reduce(|a, b| if b.win_rate > a.win_rate { b } else { a })
        });
        let gap = against.and_then(|other| report.comparison(&best.name, &other.name, budget));
        let effect = gap.as_ref().map_or_else(
            || Cell::from(UNKNOWN),
            |gap| Cell::from(signed(gap.difference_points, 1)).note(format!("over {}", gap.b)),
        );
        Some(vec![
            best.name.as_str().into(),
            budget.to_string().into(),
            Cell::from(percent(best.win_rate)).strong(true),
            interval(best.ci.map(percent)).into(),
            effect,
            gap.as_ref().map_or_else(String::new, |gap| interval(gap.ci.map(|x| fixed(x, 1)))).into(),
            gap.as_ref().map_or_else(String::new, |gap| p_value(gap.p_holm.unwrap_or(gap.p_value))).into(),
            report.prompts.to_string().into(),
            best.seeds.len().to_string().into(),
            optional(best.kl_nats, 2).into(),
            optional(best.mean_length, 1).into(),
            duration(cost).into(),
        ])
    };
    let caption = "The best variant of each budget with effect, interval, sample, KL, length and cost of the whole run";
    Table::new("headline", caption, 1, &head).with(report.budgets().into_iter().filter_map(row))
}

/// Every variant against the reference.
pub fn win_rates(report: &Report) -> Table {
    let head = [
        ("variant", ""),
        ("annotations", "annotations"),
        ("win rate", "win_rate"),
        ("interval", "ci"),
        ("letters", "letters"),
        ("won", "wins"),
        ("ties", "ties"),
        ("lost", "losses"),
        ("length-controlled", "length_controlled_win_rate"),
        ("KL (nats)", "kl_nats"),
        ("length (tokens)", "mean_length"),
        ("faults", "faults"),
        ("reward (SD)", "mean_reward"),
        ("KL coef.", "kl_coef"),
        ("validation", "validation_win_rate"),
    ];
    let count =
        |v: &VariantResult, n: usize| if v.wins + v.ties + v.losses > 0 { n.to_string() } else { UNKNOWN.into() };
    let row = |v: &VariantResult| -> Vec<Cell> {
        vec![
            v.name.as_str().into(),
            v.budget.to_string().into(),
            Cell::from(percent(v.win_rate)).strong(true),
            interval(v.ci.map(percent)).into(),
            v.letters.as_str().into(),
            count(v, v.wins).into(),
            count(v, v.ties).into(),
            count(v, v.losses).into(),
            optional_percent(v.length_controlled_win_rate).into(),
            optional(v.kl_nats, 2).into(),
            optional(v.mean_length, 1).into(),
            optional(v.faults, 2).into(),
            optional(v.mean_reward, 2).into(),
            v.kl_coef.map_or_else(|| UNKNOWN.to_owned(), shortest).into(),
            optional_percent(v.validation_win_rate).into(),
        ]
    };
    let mut rows: Vec<Vec<Cell>> = report.variants.iter().map(row).collect();
    let mut reference: Vec<Cell> = vec![Cell::default(); head.len()];
    reference[0] = "SFT reference".into();
    reference[10] = optional(report.sft.mean_length, 1).into();
    reference[11] = optional(report.sft.faults, 2).into();
    rows.push(reference);
    Table::new("win-rates", "Win rates against the SFT reference (%)", 1, &head)
        .with(rows)
        .ruled_by(1)
        .without_empty_columns()
}

/// For each budget every variant, and the reference, against every other: the row's share of direct comparisons.
pub fn matrices(report: &Report) -> Vec<Table> {
    report.budgets().into_iter().filter_map(|budget| matrix(report, budget)).collect()
}

fn matrix(report: &Report, budget: usize) -> Option<Table> {
    let variants: Vec<&VariantResult> = report.at(budget).collect();
    let compared = report.comparisons.iter().any(|c| c.budget == budget);
    let mut names: Vec<&str> = vec![REFERENCE];
    names.extend(variants.iter().map(|v| v.name.as_str()));
    let cell = |a: &str, b: &str| -> Cell {
        let of = |name: &str| variants.iter().find(|v| v.name == name);
        match (a, b) {
            (a, b) if a == b => Cell::default(),
            (REFERENCE, b) => of(b).map_or_else(Cell::default, |v| against_reference(v, true)),
            (a, REFERENCE) => of(a).map_or_else(Cell::default, |v| against_reference(v, false)),
            (a, b) => report.comparison(a, b, budget).map_or_else(Cell::default, |c| head_to_head(&c)),
        }
    };
    let rows = names
        .iter()
        .map(|a| std::iter::once(Cell::from(*a)).chain(names.iter().map(|b| cell(a, b))).collect::<Vec<_>>());
    let caption =
        format!("Row against column at {}: share of direct comparisons won (%)", plural(budget, "annotation"));
    let mut table = Table::new(format!("matrix-{budget}"), caption, 1, &[("row against column", "")]).with(rows);
    table.head.extend(names.iter().map(|name| Head { title: (*name).to_owned(), metric: "" }));
    (compared || variants.len() == 1).then_some(table)
}

/// How the reference is called beside variants.
pub const REFERENCE: &str = "SFT reference";

fn shaded(share: f64, note: String, metric: &'static str) -> Cell {
    // Lighter than a token's: there are small letters on it.
    let colour = heat::colour(share - 0.5, 0.9);
    Cell { text: percent(share), note, shade: Some(colour), metric, ..Cell::default() }
}

fn against_reference(v: &VariantResult, turned: bool) -> Cell {
    let ([low, high], share) =
        if turned { ([1.0 - v.ci[1], 1.0 - v.ci[0]], 1.0 - v.win_rate) } else { (v.ci, v.win_rate) };
    let ties = ties([v.wins, v.ties, v.losses]);
    shaded(share, format!("{}{ties}", interval([low, high].map(percent))), "win_rate").strong(low > 0.5 || high < 0.5)
}

fn head_to_head(c: &Comparison) -> Cell {
    let Some(share) = c.head_to_head else { return Cell::default() };
    let range = c.head_to_head_ci.map_or_else(String::new, |ci| interval(ci.map(percent)));
    let strong = c.head_to_head_ci.is_some_and(|[low, high]| low > 0.5 || high < 0.5);
    shaded(share, format!("{range}{}", ties([c.wins, c.ties, c.losses])), "head_to_head").strong(strong)
}

fn ties([wins, ties, losses]: [usize; 3]) -> String {
    let all = wins + ties + losses;
    if all == 0 { String::new() } else { format!("; {} ties", percent(ties as f64 / all as f64)) }
}

/// Direct comparisons, one row a pair.
pub fn direct(report: &Report) -> Option<Table> {
    let head = [
        ("comparison", ""),
        ("annotations", "annotations"),
        ("wins (%)", "head_to_head"),
        ("interval", "head_to_head_ci"),
        ("length-controlled", "length_controlled_head_to_head"),
        ("won", "wins"),
        ("ties", "ties"),
        ("lost", "losses"),
        ("difference (points)", "difference_points"),
        ("interval", "ci"),
        ("p", "p_value"),
        ("p (Holm)", "p_holm"),
    ];
    let row = |c: &Comparison| -> Vec<Cell> {
        vec![
            format!("{} against {}", c.a, c.b).into(),
            c.budget.to_string().into(),
            optional_percent(c.head_to_head).into(),
            c.head_to_head_ci.map_or_else(|| UNKNOWN.to_owned(), |ci| interval(ci.map(percent))).into(),
            optional_percent(c.length_controlled_head_to_head).into(),
            c.wins.to_string().into(),
            c.ties.to_string().into(),
            c.losses.to_string().into(),
            Cell::from(signed(c.difference_points, 1)).strong(!c.covers_zero()),
            interval(c.ci.map(|x| fixed(x, 1))).into(),
            p_value(c.p_value).into(),
            c.p_holm.map_or_else(|| UNKNOWN.to_owned(), p_value).into(),
        ]
    };
    let caption =
        "Variants against each other: direct comparisons, and differences of their win rates against the reference";
    Table::new("comparisons", caption, 1, &head).with(report.comparisons.iter().map(row)).ruled_by(1).some()
}

/// Other views of the responses against the reference.
pub fn views(report: &Report) -> Option<Table> {
    let head = [
        ("variant", ""),
        ("annotations", "annotations"),
        ("IQM of seeds", "iqm_win_rate"),
        ("interval", "iqm_ci"),
        ("KL k1", "sequence_k1"),
        ("KL k3", "sequence_k3"),
        ("k1 per token", "token_k1"),
        ("k3 per token", "token_k3"),
        ("seen from (points)", "detectable_points"),
    ];
    let row = |v: &VariantResult| -> Vec<Cell> {
        vec![
            v.name.as_str().into(),
            v.budget.to_string().into(),
            optional_percent(v.iqm_win_rate).into(),
            v.iqm_ci.map_or_else(|| UNKNOWN.to_owned(), |ci| interval(ci.map(percent))).into(),
            optional(v.kl.map(|kl| kl.sequence_k1), 2).into(),
            optional(v.kl.map(|kl| kl.sequence_k3), 2).into(),
            optional(v.kl.map(|kl| kl.token_k1), 3).into(),
            optional(v.kl.map(|kl| kl.token_k3), 3).into(),
            optional(v.power.as_ref().map(|power| power.detectable_points), 1).into(),
        ]
    };
    let caption = "Other views of the same responses: seeds, KL to the reference, and what could be seen";
    Table::new("views", caption, 1, &head).with(report.variants.iter().map(row)).ruled_by(1).some()
}

/// Differences prompt by prompt and seed by seed, and how large a run it takes.
pub fn pairs(report: &Report) -> Option<Table> {
    let head = [
        ("comparison", ""),
        ("annotations", "annotations"),
        ("better on", "better_prompts"),
        ("worse on", "worse_prompts"),
        ("sign test p", "sign_p"),
        ("P(seed is better)", "probability_of_improvement"),
        ("interval", "improvement_ci"),
        ("seen from (points)", "detectable_points"),
        ("prompts needed", "prompts_needed"),
        ("seeds needed", "seeds_needed"),
    ];
    let needed = |of: fn(&Power) -> Option<usize>, c: &Comparison| {
        c.power.as_ref().and_then(of).map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string())
    };
    let row = |c: &Comparison| -> Vec<Cell> {
        vec![
            format!("{} against {}", c.a, c.b).into(),
            c.budget.to_string().into(),
            c.better_prompts.to_string().into(),
            c.worse_prompts.to_string().into(),
            c.sign_p.map_or_else(|| UNKNOWN.to_owned(), p_value).into(),
            optional_percent(c.probability_of_improvement).into(),
            c.improvement_ci.map_or_else(|| UNKNOWN.to_owned(), |ci| interval(ci.map(percent))).into(),
            optional(c.power.as_ref().map(|power| power.detectable_points), 1).into(),
            needed(|power| power.prompts_needed, c).into(),
            needed(|power| power.seeds_needed, c).into(),
        ]
    };
    let caption = "The same differences prompt by prompt and seed by seed, and how large a run it takes to see one";
    Table::new("pairs", caption, 1, &head).with(report.comparisons.iter().map(row)).ruled_by(1).some()
}

/// Mean faults per response by kind.
pub fn faults(report: &Report) -> Option<Table> {
    let mut kinds: Vec<&str> =
        report.variants.iter().flat_map(|v| v.faults_by_kind.keys()).map(String::as_str).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut table = Table::new(
        "faults",
        "Mean faults per response, by kind",
        1,
        &[("variant", ""), ("annotations", "annotations")],
    );
    table.head.extend(kinds.iter().map(|kind| Head { title: kind.replace('_', " "), metric: "faults_by_kind" }));
    let row = |v: &VariantResult| -> Vec<Cell> {
        let by_kind = kinds.iter().map(|kind| fixed(v.faults_by_kind.get(*kind).copied().unwrap_or(0.0), 2).into());
        [v.name.as_str().into(), v.budget.to_string().into()].into_iter().chain(by_kind).collect()
    };
    if kinds.is_empty() { None } else { table.with(report.variants.iter().map(row)).ruled_by(1).some() }
}

/// How consistent the judge was.
pub fn judges(report: &Report) -> Option<Table> {
    let head = [
        ("judge", ""),
        ("pairs", "judged_pairs"),
        ("ties (%)", "tie_rate"),
        ("same in both orders (%)", "order_consistency"),
        ("first one preferred (%)", "first_position_rate"),
        ("right on held-out pairs (%)", "preference_accuracy"),
    ];
    let row = |judge: &crate::report::JudgeResult| -> Vec<Cell> {
        vec![
            judge.name.as_str().into(),
            judge.pairs.to_string().into(),
            optional_percent(judge.tie_rate).into(),
            optional_percent(judge.order_consistency).into(),
            optional_percent(judge.first_position_rate).into(),
            optional_percent(judge.preference_accuracy).into(),
        ]
    };
    let table = Table::new("judges", "Consistency of the judge over all pairs, each judged in both orders", 1, &head);
    table.with(report.judges.iter().map(row)).without_empty_columns().some()
}

/// The reference's own numbers, as (name, value, metric).
pub fn reference(report: &Report) -> Vec<(&'static str, String, &'static str)> {
    vec![
        ("SFT loss", format!("{} nats per token", optional(report.sft.final_loss, 3)), "final_loss"),
        ("faults of the reference", format!("{} per response", optional(report.sft.faults, 2)), "faults"),
        ("length of the reference", format!("{} tokens", optional(report.sft.mean_length, 1)), "mean_length"),
    ]
}

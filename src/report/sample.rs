//! A made-up report for tests: three variants, two budgets, three seeds, and texts that try to break out of a page.
//!
//! The numbers follow from formulas of their indices; none of them was measured.

use std::collections::BTreeMap;

mod judges;

pub use judges::{agreement, second_judge};

use super::*;
use crate::eval::{Bin, best_of_n_kl};

const NAMES: [&str; 3] = ["sequence", "sequence_edits", "token"];
const BUDGETS: [usize; 2] = [300, 1000];
const KINDS: [&str; 5] = ["off_topic", "omitted", "repeated", "rude", "unsupported"];

/// Text that must be shown and not obeyed.
pub const HOSTILE: &str =
    "\u{1b}[31m\u{202e}</script><script>alert('x')</script> <img src=x onerror=alert(1)> & \"quoted\" | `tick` ```";

pub fn report() -> Report {
    let mut report = Report {
        recipe: "finegrained".to_owned(),
        description: "Does a token-level reward model, learned from minimal edits, guide PPO better than a \
                      sequence-level one?"
            .to_owned(),
        judge: "oracle: fewer faults win, equal counts draw".to_owned(),
        judges: vec![judge(), second_judge("llm")],
        agreements: vec![agreement()],
        confidence: 0.95,
        bootstrap_samples: 5000,
        difference: 5.0,
        power: 0.8,
        prompts: 500,
        reward_models: reward_models(),
        label_agreement: Some(LabelAgreement { precision: 0.862, recall: 0.914, records: 400 }),
        samples_seed: 7,
        heatmaps: vec![heatmap()],
        differences: vec![KeyDifference {
            key: "reward.token.loss".to_owned(),
            values: vec![None, None, Some("pairwise_mean".to_owned())],
        }],
        examples: vec![example()],
        sft: SftResult { final_loss: Some(0.842), faults: Some(2.81), mean_length: Some(35.8) },
        warnings: vec![warning()],
        data: [("demonstrations", 40_000), ("training prompts", 20_000), ("test prompts", 500)]
            .map(|(name, count)| DataCount { name: name.to_owned(), count })
            .to_vec(),
        lengths: vec![Lengths {
            name: "prompts".to_owned(),
            count: 20_000,
            mean: 5.2,
            median: 5.0,
            longest: 9,
            bin_width: 1,
            bins: vec![0, 0, 10, 90, 2400, 9500, 6000, 1500, 400, 100],
        }],
        edits: BUDGETS.map(edits).to_vec(),
        skipped: vec![SkippedRows {
            reason: "too long".to_owned(),
            count: 3,
            example: format!("pairs.jsonl, line 7: {HOSTILE}"),
        }],
        missing: vec![
            MissingStage {
                label: "ppo/token/kl=0.3/budget=300/seed=2".to_owned(),
                status: "failed".to_owned(),
                error: Some("loss is NaN at step 7".to_owned()),
            },
            MissingStage { label: "responses/token/kl=0.3".to_owned(), status: "missing".to_owned(), error: None },
        ],
        recipe_toml: format!("# {HOSTILE}\nseeds = [0, 1, 2]\nbudgets = [300, 1000]\n\n[ppo]\nkl_coef = [0.03, 0.1]\n"),
        provenance: provenance(),
        ..Report::default()
    };
    for (b, budget) in BUDGETS.into_iter().enumerate() {
        for (v, name) in NAMES.into_iter().enumerate() {
            report.variants.push(variant(name, v, b, budget));
            report.curves.push(curve(name, v, b, budget));
            for kl_coef in [0.03, 0.1] {
                let validation_win_rate = Some(0.6 + 0.06 * v as f64 + 0.04 * b as f64 - 0.3 * (kl_coef - 0.03));
                report.grid.push(GridCell {
                    variant: name.to_owned(),
                    budget,
                    kl_coef,
                    validation_win_rate,
                    kl_nats: Some(0.12 / kl_coef + v as f64),
                    mean_reward: Some(0.9 + 0.1 * v as f64),
                    mean_score: Some(-1.4 + 0.2 * v as f64),
                    chosen: kl_coef < 0.05,
                });
            }
            report.comparisons.extend(NAMES[..v].iter().enumerate().map(|(w, other)| comparison(v, w, other, budget)));
        }
    }
    for (stage, seconds) in [("data", 0.4), ("sft", 52.1), ("reward", 9.2), ("ppo", 31.9), ("report", 0.2)] {
        report.stages.push(StageCost {
            label: format!("{stage} seed=0"),
            stage: stage.to_owned(),
            wall_seconds: Some(seconds),
            started: Some(1_700_000_000 + report.stages.len() as u64 * 40),
            tokens: (stage == "ppo").then_some(90_000),
            marks: if stage == "ppo" { vec![Mark { step: 30, seconds: 16.0 }] } else { Vec::new() },
            padding: (stage == "ppo").then_some(0.08),
            peak_memory_bytes: (stage != "data").then_some(120 << 20),
            cached: stage == "sft",
        });
    }
    report.verdict = super::verdict(&report);
    report
}

fn judge() -> JudgeResult {
    JudgeResult {
        name: "oracle".to_owned(),
        description: "oracle: fewer faults win, equal counts draw".to_owned(),
        pairs: 18_000,
        tie_rate: Some(0.21),
        order_consistency: Some(1.0),
        first_position_rate: Some(0.5),
        preference_accuracy: Some(0.93),
        primary: true,
        ..JudgeResult::default()
    }
}

fn provenance() -> Provenance {
    Provenance {
        version: "0.1.0".to_owned(),
        commit: Some("b07d531".to_owned()),
        dirty: Some(false),
        device: "flex (CPU)".to_owned(),
        threads: Some(2),
        command_line: "runner run recipes/finegrained.toml".to_owned(),
        date: "2026-01-02T03:04:05Z".to_owned(),
        wall_seconds: Some(412.5),
    }
}

fn win_rate(v: usize, b: usize) -> f64 {
    0.655 + 0.06 * v as f64 + 0.035 * b as f64
}

fn variant(name: &str, v: usize, b: usize, budget: usize) -> VariantResult {
    let win_rate = win_rate(v, b);
    let faults: BTreeMap<String, f64> = KINDS
        .iter()
        .enumerate()
        .map(|(k, kind)| ((*kind).to_owned(), 0.5 - 0.1 * v as f64 - 0.02 * k as f64))
        .collect();
    VariantResult {
        name: name.to_owned(),
        budget,
        win_rate,
        ci: [win_rate - 0.031, win_rate + 0.028],
        wins: 900,
        ties: 350,
        losses: 250,
        letters: if v == 2 { "a" } else { "b" }.to_owned(),
        length_controlled_win_rate: Some(win_rate - 0.021),
        iqm_win_rate: Some(win_rate - 0.002),
        iqm_ci: Some([win_rate - 0.012, win_rate + 0.02]),
        power: Some(power(1.0)),
        kl_coef: Some(0.03),
        kl_nats: Some(3.2 + 0.4 * v as f64),
        kl: Some(Divergence {
            sequence_k1: 3.2 + 0.4 * v as f64,
            sequence_k3: 3.3 + 0.4 * v as f64,
            token_k1: 0.11,
            token_k3: 0.12,
        }),
        mean_reward: Some(1.1 + 0.3 * v as f64),
        mean_length: Some(28.6 + 2.3 * v as f64),
        faults: Some(faults.values().sum()),
        faults_by_kind: faults,
        seeds: vec![0, 1, 2],
        win_rate_per_seed: vec![win_rate - 0.012, win_rate + 0.02, win_rate - 0.008],
        validation_win_rate: Some(win_rate + 0.006),
        warnings: if v == 2 && b == 0 { vec![warning()] } else { Vec::new() },
    }
}

pub fn warning() -> Warning {
    Warning {
        variant: "token".to_owned(),
        budget: 300,
        kl_coef: 0.1,
        round: None,
        chosen: true,
        seed: 2,
        iteration: 41,
        metric: "length".to_owned(),
        message: "mean length 54.4 is 1.52 times the reference's".to_owned(),
    }
}

fn comparison(v: usize, w: usize, other: &str, budget: usize) -> Comparison {
    let points = 6.0 * (v - w) as f64;
    Comparison {
        a: NAMES[v].to_owned(),
        b: other.to_owned(),
        budget,
        difference_points: points,
        ci: [points - 6.4, points + 5.1],
        p_value: 0.05 / points,
        p_holm: Some(0.3 / points),
        head_to_head: Some(0.5 + points / 120.0),
        head_to_head_ci: Some([0.46 + points / 120.0, 0.54 + points / 120.0]),
        length_controlled_head_to_head: Some(0.49 + points / 120.0),
        wins: 600,
        ties: 450,
        losses: 450,
        better_prompts: 210,
        worse_prompts: 150,
        sign_p: Some(0.0018),
        probability_of_improvement: Some(0.5 + points / 30.0),
        improvement_ci: Some([0.4, 1.0]),
        power: Some(power(1.6)),
    }
}

fn power(scale: f64) -> Power {
    Power {
        seed_variance: Some(2.0 * scale),
        prompt_variance: 420.0 * scale,
        residual_variance: 900.0 * scale,
        detectable_points: 3.4 * scale,
        prompts_needed: (scale < 1.5).then_some(420),
        seeds_needed: Some(4),
    }
}

fn curve(name: &str, v: usize, b: usize, budget: usize) -> Curve {
    let point = |seed: u64, step: usize| {
        let done = 1.0 - (-(step as f64) / 18.0).exp();
        let wobble = 0.018 * (step as f64 * 0.37 + seed as f64 * 2.1 + v as f64).sin();
        CurvePoint {
            step,
            tokens: Some(2000.0 * step as f64),
            win_rate: Some(0.48 + (win_rate(v, b) - 0.48) * done + wobble),
            kl_nats: Some((3.2 + 0.4 * v as f64) * done + wobble.abs() * 8.0),
            mean_reward: Some((1.1 + 0.3 * v as f64) * done + wobble * 5.0),
            mean_length: Some(35.8 + (2.3 * v as f64 - 7.2) * done + wobble * 60.0),
            mean_score: Some(-2.8 + done),
        }
    };
    let training = |point: CurvePoint| TrainingPoint {
        step: point.step,
        tokens: point.tokens,
        kl_nats: point.kl_nats,
        reward: point.mean_reward,
        length: point.mean_length,
    };
    let seed = |seed: u64| SeedCurve {
        seed,
        stage: "ppo seed=0".to_owned(),
        points: (0..=60).step_by(5).map(|step| point(seed, step)).collect(),
        training: (1..=60).map(|step| training(point(seed, step))).collect(),
    };
    Curve { variant: name.to_owned(), budget, seeds: (0..3).map(seed).collect() }
}

fn reward_models() -> Vec<RewardModelResult> {
    let mut all = Vec::new();
    for budget in BUDGETS {
        for (v, name) in NAMES.into_iter().enumerate() {
            all.extend((0..3).map(|seed| RewardModelResult {
                variant: name.to_owned(),
                budget,
                seed,
                preference_accuracy: Some(0.73 + 0.02 * v as f64 + 0.001 * seed as f64),
                preference_ci: Some([0.68, 0.79]),
                edit_accuracy: Some(0.91 + 0.03 * v as f64),
                edit_ci: Some([0.87, 0.99]),
                single_fault_accuracy: KINDS.iter().map(|k| ((*k).to_owned(), 0.6 + 0.02 * k.len() as f64)).collect(),
                token_auc: (v == 2).then_some(0.8),
                edited_tokens: (v == 2).then(token_quality),
                error_spans: None,
                preference_reliability: vec![
                    Bin { count: 200, predicted: 0.55, observed: 0.58 },
                    Bin { count: 100, predicted: 0.92, observed: 0.89 },
                ],
                preference_calibration_error: Some(0.03),
                distributions: vec![distribution("preferred", 18), distribution("less preferred", 14)],
                annotated: None,
                best_of_n: (1..=64).map(|n| best_of_n(n, v)).collect(),
            }));
        }
    }
    all
}

fn distribution(class: &str, peak: usize) -> ScoreDistribution {
    let mut shares = vec![0.0; 32];
    (shares[peak], shares[peak + 1]) = (0.75, 0.25);
    ScoreDistribution { of: "responses".to_owned(), class: class.to_owned(), count: 300, mean: 0.2, shares }
}

fn edits(budget: usize) -> EditStatistics {
    let counts = |all: &[(&str, usize)]| all.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
    EditStatistics {
        budget,
        edits: budget,
        mean_distance: 6.4,
        share_changed: 0.17,
        tokens_by_kind: counts(&[("deleted", 5000), ("substituted", 90), ("added", 1200), ("unchanged", 24_000)]),
        edits_by_kind: counts(&[("deletion", 600), ("addition", 120), ("mixed", 280)]),
        distances: vec![0, 10, 40, 100, 150],
    }
}

fn token_quality() -> TokenQuality {
    TokenQuality {
        tokens: 9000,
        wrong: 0.12,
        auc: 0.8,
        average_precision: 0.47,
        f1: Some(0.5),
        calibration_error: Some(0.021),
        reliability: vec![
            Bin { count: 8000, predicted: 0.06, observed: 0.05 },
            Bin { count: 1000, predicted: 0.61, observed: 0.68 },
        ],
    }
}

fn best_of_n(n: usize, v: usize) -> BestOfN {
    let gain = (n as f64).ln();
    BestOfN { n, kl_nats: best_of_n_kl(n), proxy: 0.4 * gain, gold: -2.8 + 0.2 * (v + 1) as f64 * gain }
}

fn heatmap() -> Heatmap {
    let tokens: Vec<String> =
        "the golden palace is a restaurant . ugh , it serves thai food . my cat likes golf . <eos>"
            .split(' ')
            .map(ToOwned::to_owned)
            .collect();
    let labels: String = (0..tokens.len()).map(|i| if matches!(i, 7 | 8 | 14..=18) { 'D' } else { 'U' }).collect();
    let last = tokens.len() - 1;
    let sequence = (0..tokens.len()).map(|i| if i == last { -1.31 } else { 0.0 }).collect();
    let token =
        labels.chars().enumerate().map(|(i, c)| 0.12 * (i as f64).sin() - if c == 'D' { 0.9 } else { 0.0 }).collect();
    let row = |name: &str, kind: &str, values| HeatmapRow { name: name.to_owned(), kind: kind.to_owned(), values };
    let advantages = (0..tokens.len()).map(|i| 0.2 * (i as f64).cos()).collect();
    Heatmap {
        drawn_from: "win".to_owned(),
        variant: Some("token".to_owned()),
        budget: 1000,
        seed: 0,
        outcome: Some(1.0),
        edited: Some("the golden palace is a restaurant . it serves thai food .".to_owned()),
        prompt: "golden palace thai".to_owned(),
        tokens,
        labels,
        rows: vec![
            row("sequence", "sequence", sequence),
            row("token", "token", token),
            row("token", "advantage", advantages),
        ],
    }
}

fn example() -> Example {
    let response = |name: &str, text: &str, faults: &[&str], outcome| ExampleResponse {
        name: name.to_owned(),
        text: text.to_owned(),
        faults: Some(faults.iter().map(|f| (*f).to_owned()).collect()),
        outcome,
        orders: outcome.map(|outcome| [outcome, outcome]),
    };
    Example {
        prompt: "golden palace thai cheap riverside".to_owned(),
        budget: 1000,
        seed: 0,
        responses: vec![
            response("reference", HOSTILE, &["rude", "omitted"], None),
            response("sequence", "the golden palace serves thai food .", &["omitted"], Some(1.0)),
            response(
                "token",
                "the golden palace serves thai food . it is cheap . it sits by the river .",
                &[],
                Some(1.0),
            ),
        ],
    }
}

//! A made-up sweep for tests: two factors and a sampled axis, a failed and a missing point.
//!
//! The numbers follow from formulas of their indices; none of them was measured.

use serde_json::json;

use super::schema::*;
use crate::report::Power;

const VARIANTS: [&str; 2] = ["sequence", "token"];
const LAMBDAS: [f64; 3] = [0.95, 0.9, 1.0];
const SIZES: [&str; 2] = ["small", "large"];

pub fn report() -> SweepReport {
    let level = |name: String, value| LevelSummary { name, value };
    let axes = vec![
        AxisSummary {
            name: "gae_lambda".to_owned(),
            sampled: false,
            levels: LAMBDAS.map(|x| level(x.to_string(), json!(x))).to_vec(),
        },
        AxisSummary {
            name: "size".to_owned(),
            sampled: false,
            levels: SIZES.map(|name| level(name.to_owned(), json!({ "model.hidden_size": name.len() }))).to_vec(),
        },
        AxisSummary {
            name: "seed".to_owned(),
            sampled: true,
            levels: (0..6).map(|i| level(rate(i / 2, i % 2).to_string(), json!(rate(i / 2, i % 2)))).collect(),
        },
    ];
    let mut report = SweepReport {
        sweep: "sweep".to_owned(),
        description: "Which advantages, and which size?".to_owned(),
        judge: "oracle: fewer faults win, equal counts draw".to_owned(),
        confidence: 0.95,
        bootstrap_samples: 5000,
        difference: 2.5,
        power: 0.8,
        first_variant: VARIANTS[0].to_owned(),
        keys: vec![KeySummary { key: "ppo.gae_lambda".to_owned(), values: LAMBDAS.map(|x| json!(x)).to_vec() }],
        best: Some(best()),
        axes,
        ..SweepReport::default()
    };
    for (i, lambda) in LAMBDAS.into_iter().enumerate() {
        for (j, size) in SIZES.into_iter().enumerate() {
            let status = match (i, j) {
                (1, 1) => Status::Failed,
                (2, 1) => Status::Missing,
                _ => Status::Done,
            };
            report.points.push(point(status, [lambda.to_string(), size.to_owned(), rate(i, j).to_string()]));
            report.results.extend((0..VARIANTS.len()).map(|v| result(status, i, j, v)));
        }
    }
    for quantity in quantities() {
        report.factors.extend(factor(&quantity));
        for (i, lambda) in LAMBDAS.into_iter().enumerate() {
            report.level_pairs.extend((0..2).map(|j| pair(&quantity, lambda, i, j)));
        }
        report.trends.push(Trend {
            axis: "seed".to_owned(),
            spearman: Some(0.6),
            missing: 2,
            values: (0..4).map(|i| value(rate(i / 2, i % 2), i, &quantity)).collect(),
            quantity,
        });
    }
    report.verdict = super::verdict(&report);
    report
}

/// The value of the sampled axis.
fn rate(lambda: usize, size: usize) -> f64 {
    [1e-4, 4e-4, 1.6e-3, 6.4e-3, 0.0256, 0.1024][2 * lambda + size]
}

fn quantities() -> [Quantity; 3] {
    let quantity = |variant: &str, against: Option<&str>| Quantity {
        variant: variant.to_owned(),
        against: against.map(str::to_owned),
        budget: Some(300),
    };
    [quantity("sequence", None), quantity("token", None), quantity("token", Some("sequence"))]
}

fn point(status: Status, levels: [String; 3]) -> PointSummary {
    let stage = "ppo/token/kl=0.1/budget=300/seed=0".to_owned();
    PointSummary {
        name: format!("gae_lambda={} size={} seed={}", levels[0], levels[1], levels[2]),
        levels: levels.map(Some).to_vec(),
        status,
        errors: if status == Status::Failed { vec![format!("`{stage}`: loss is NaN at step 7")] } else { Vec::new() },
        missing_stages: if status == Status::Done { Vec::new() } else { vec![stage] },
    }
}

fn result(status: Status, i: usize, j: usize, v: usize) -> PointResult {
    let levels = [LAMBDAS[i].to_string(), SIZES[j].to_owned(), rate(i, j).to_string()];
    let win_rate = 0.61 + 0.05 * v as f64 + 0.02 * i as f64 - 0.03 * j as f64;
    let measures = Measures {
        win_rate: Some(win_rate),
        validation_win_rate: Some(win_rate + 0.01),
        kl_nats: Some(3.1),
        mean_reward: Some(0.8),
        mean_length: Some(31.5),
        faults: Some(1.9),
        preference_accuracy: Some(0.74),
        edit_accuracy: Some(0.93),
        token_auc: (v == 1).then_some(0.81),
    };
    let seed =
        |seed| SeedResult { seed, measures: if status == Status::Done { measures } else { Measures::default() } };
    let result = PointResult {
        point: point(status, levels).name,
        variant: VARIANTS[v].to_owned(),
        budget: 300,
        status,
        seeds: vec![seed(0), seed(1)],
        ..PointResult::default()
    };
    if status != Status::Done {
        return result;
    }
    PointResult {
        kl_coef: Some(0.1),
        measures,
        ci: Some([win_rate - 0.03, win_rate + 0.03]),
        lead: (v == 1).then(|| effect(5.0, 1)),
        prompts: 200,
        warnings: if i + j == 0 { vec![crate::report::sample::warning()] } else { Vec::new() },
        ..result
    }
}

fn effect(points: f64, pairs: usize) -> Effect {
    let p_value = 0.02 / points.abs();
    let power = Some(Power {
        seed_variance: Some(6.0),
        prompt_variance: 900.0,
        residual_variance: 1200.0,
        detectable_points: 9.6 - points,
        prompts_needed: None,
        seeds_needed: Some(60 / pairs),
    });
    Effect { power, difference_points: points, ci: [points - 3.5, points + 3.2], p_value, pairs, ..Effect::default() }
}

fn factor(quantity: &Quantity) -> Vec<FactorLevel> {
    let level = |i: usize| FactorLevel {
        axis: "gae_lambda".to_owned(),
        level: LAMBDAS[i].to_string(),
        first_level: LAMBDAS[0].to_string(),
        quantity: quantity.clone(),
        points: if i == 0 { 2 } else { 1 },
        missing: usize::from(i > 0),
        mean_points: Some(60.0 + 2.0 * i as f64),
        effect: (i > 0).then(|| Effect { p_holm: Some(0.03), ..effect(2.2 * i as f64 - 0.4, 1) }),
    };
    (0..3).map(level).collect()
}

fn pair(quantity: &Quantity, lambda: f64, i: usize, j: usize) -> LevelPair {
    let there = i == 0 || j == 0;
    let even = if quantity.against.is_some() { 0.0 } else { 50.0 };
    LevelPair {
        axes: ["gae_lambda".to_owned(), "size".to_owned()],
        levels: [lambda.to_string(), SIZES[j].to_owned()],
        quantity: quantity.clone(),
        points: usize::from(there),
        missing: usize::from(!there),
        mean_points: there.then_some(even + 2.0 * i as f64 - 3.0 * j as f64),
    }
}

fn value(value: f64, i: usize, quantity: &Quantity) -> TrendValue {
    let even = if quantity.against.is_some() { 0.0 } else { 55.0 };
    TrendValue { value, mean_points: even + (2.1 * i as f64).sin() * 6.0 }
}

fn best() -> Best {
    Best {
        point: "gae_lambda=1 size=small seed=0.0256".to_owned(),
        variant: "token".to_owned(),
        budget: 300,
        validation_win_rate: 0.71,
        win_rate: 0.70,
        ci: [0.67, 0.73],
        candidates: 8,
        baseline: Some(Baseline {
            point: "gae_lambda=0.95 size=small seed=0.0001".to_owned(),
            win_rate: 0.66,
            effect: Some(effect(4.0, 1)),
        }),
    }
}

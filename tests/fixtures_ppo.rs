//! The mathematics against `fixtures/ppo`: values and gradients of every case of every file, through the library's own
//! functions. Hyper-parameters are read from the cases, so other vectors of the same format can be put in their place.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in tests a panic is a message, and a skipped fixture says so"
)]

mod vectors;

use burn::tensor::{Int, Tensor, TensorData};
use runner::labels::Label;
use runner::model::decoder::gather_log_probs;
use runner::ppo::gae::{Whitening, gae, whiten};
use runner::ppo::kl::adapt;
use runner::ppo::loss::{Clip, policy_loss, value_loss, weights};
use runner::ppo::shaping::Calibration;
use runner::ppo::{Aggregation, Credit, KlControl, KlEstimator};
use runner::reward::loss::{
    bradley_terry, class_cross_entropy, edited_weights, mean_weights, soft_cross_entropy, soft_target, weighted_sum,
};
use runner::reward::{EditedNormaliser, Kind, score};
use serde_json::{Value, from_value, json};
use vectors::{DOUBLE, SINGLE, cases, close, compress, device, grid, host, list, number, rows, tracked};

#[test]
fn advantages_and_returns() {
    cases("gae", |case| {
        let mask = rows(&case["mask"]);
        let part = |name: &str| compress(&rows(&case[name]), &mask);
        for (i, (rewards, values)) in part("rewards").iter().zip(part("values")).enumerate() {
            let (advantages, returns) = gae(rewards, &values, number(&case["gamma"]), number(&case["lambda"]));
            close(&advantages, &part("advantages")[i], DOUBLE, "advantages");
            close(&returns, &part("returns")[i], DOUBLE, "returns");
        }
    });
}

#[test]
fn whitened_values() {
    cases("whitening", |case| {
        let values = rows(&case["values"]);
        let mask = if case["mask"].is_null() {
            values.iter().map(|row| vec![1.0; row.len()]).collect()
        } else {
            rows(&case["mask"])
        };
        let mut whitened = compress(&values, &mask);
        let whitening = Whitening {
            shift_mean: case["shift_mean"].as_bool().unwrap(),
            unbiased: case["unbiased"].as_bool().unwrap(),
            epsilon: number(&case["eps"]),
        };
        whiten(&mut whitened, whitening);
        close(&whitened.concat(), &compress(&rows(&case["expected"]), &mask).concat(), DOUBLE, "whitened");
    });
}

#[test]
fn kl_estimators_and_shaped_rewards() {
    let kind: Kind = from_value(json!({ "sequence": { "data": "preferences" } })).unwrap();
    cases("kl", |case| {
        let mask = rows(&case["mask"]);
        let part = |name: &str| compress(&rows(&case[name]), &mask);
        let (new, old) = (part("logp").concat(), part("ref_logp").concat());
        let estimators = [("k1", KlEstimator::K1), ("k2", KlEstimator::K2), ("k3", KlEstimator::K3)];
        for (name, estimator) in estimators {
            let estimates: Vec<f64> = new.iter().zip(&old).map(|(new, old)| estimator.estimate(new - old)).collect();
            close(&estimates, &part(name).concat(), DOUBLE, name);
            let mean = estimates.iter().sum::<f64>() / estimates.len() as f64;
            close(&[mean], &[number(&case["masked_mean"][name])], DOUBLE, "masked mean");
        }
        // There is no clamped estimator on purpose: where the two differ, ours keeps the sign.
        let clamped: Vec<f64> =
            new.iter().zip(&old).map(|(new, old)| KlEstimator::K1.estimate(new - old).max(0.0)).collect();
        close(&clamped, &part("k1_clamped_at_zero").concat(), DOUBLE, "k1 clamped");

        let beta = number(&case["beta"]);
        let raw = Calibration { center: 0.0, scale: 1.0 };
        for (i, (new, old)) in part("logp").iter().zip(part("ref_logp")).enumerate() {
            let sum: f64 = new.iter().zip(&old).map(|(new, old)| KlEstimator::K1.estimate(new - old)).sum();
            close(&[sum], &[list(&case["sequence_sum_k1"])[i]], DOUBLE, "sequence KL");
            let tokens = part("token_rewards")[i].clone();
            // A sequence model's score stands at the last token; what stands before it is not looked at.
            let mut scores = vec![777.0; new.len()];
            if let Some(last) = scores.last_mut() {
                *last = list(&case["scores"])[i];
            }
            let at_last = Credit::EndOfSequence.rewards(&kind, &scores, raw);
            let both: Vec<f64> = tokens.iter().zip(&at_last).map(|(a, b)| a + b).collect();
            let kinds =
                [("reward_tokens", tokens), ("reward_score_at_last", at_last), ("reward_tokens_plus_score", both)];
            for (name, rewards) in kinds {
                let shaped = KlEstimator::K1.penalise(&rewards, new, &old, beta);
                close(&shaped, &part(name)[i], DOUBLE, name);
            }
        }
    });
}

#[test]
fn adaptive_kl_coefficient() {
    cases("adaptive_kl", |case| {
        let (kl, responses) = (list(&case["kl"]), list(&case["n_steps"]));
        let (target, clip) = (number(&case["target"]), number(&case["clip"]));
        let rule = |rate: &dyn Fn(f64) -> f64| {
            let mut beta = number(&case["init"]);
            kl.iter()
                .zip(&responses)
                .map(|(kl, n)| {
                    beta = adapt(beta, kl / target - 1.0, clip, rate(*n));
                    beta
                })
                .collect::<Vec<f64>>()
        };
        let horizon = number(&case["horizon"]);
        let expected = list(&case["beta_after_horizon_rule"]);
        close(&rule(&|n| n / horizon), &expected, DOUBLE, "horizon rule");
        let k_beta = number(&case["k_beta"]);
        close(&rule(&|_| k_beta), &list(&case["beta_after_k_beta_rule"]), DOUBLE, "k_beta rule");
        if clip.to_bits() == 0.2_f64.to_bits() {
            let control: KlControl =
                from_value(json!({ "adaptive": { "target": target, "horizon": horizon } })).unwrap();
            let mut beta = number(&case["init"]);
            let betas: Vec<f64> = std::iter::zip(&kl, case["n_steps"].as_array().unwrap())
                .map(|(kl, n)| {
                    beta = control.update(beta, *kl, usize::try_from(n.as_u64().unwrap()).unwrap());
                    beta
                })
                .collect();
            close(&betas, &expected, DOUBLE, "the recipe's controller");
        }
    });
}

/// Log-probabilities of all tokens, `[V, R]`, of logits `[R][V]`.
fn all_log_probs(logits: &Tensor<3>) -> Tensor<2> {
    let [_, r, v] = logits.dims();
    let ids: Vec<i64> = (0..v).flat_map(|id| vec![i64::try_from(id).unwrap(); r]).collect();
    gather_log_probs(logits.clone().repeat_dim(0, v), Tensor::from_data(TensorData::new(ids, [v, r]), &device()))
}

#[test]
fn log_probabilities_at_a_temperature() {
    cases("logprobs", |case| {
        let shape = [1, rows(&case["logits"]).len(), rows(&case["logits"])[0].len()];
        let temperature = number(&case["temperature"]);
        let logits = tracked(&rows(&case["logits"]).concat(), shape);
        let reference: Tensor<3> = grid(&rows(&case["ref_logits"]).concat(), shape);
        let ids: Vec<i64> = case["token_ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, shape[1]]), &device());

        let log_probs = gather_log_probs(logits.clone() / temperature, ids);
        close(&host(&log_probs), &list(&case["logprobs"]), SINGLE, "log-probabilities");
        let gradient = logits.grad(&log_probs.sum().backward()).unwrap();
        close(&host(&gradient), &rows(&case["grad_sum_logprobs_wrt_logits"]).concat(), SINGLE, "gradient");

        let all = all_log_probs(&(logits.clone() / temperature));
        let entropy = (all.clone().exp() * all.clone()).sum_dim(0).neg();
        close(&host(&entropy), &list(&case["entropy"]), SINGLE, "entropy");
        let kl = (all.clone().exp() * (all - all_log_probs(&(reference / temperature)))).sum_dim(0);
        close(&host(&kl), &list(&case["exact_kl"]), SINGLE, "exact KL");
        let gradient = logits.grad(&entropy.sum().backward()).unwrap();
        close(&host(&gradient), &rows(&case["grad_sum_entropy_wrt_logits"]).concat(), SINGLE, "entropy's gradient");
    });
}

/// Per-token weights of a masked rectangle, padding zero.
fn token_weights(mask: &[Vec<f64>], aggregation: Aggregation) -> Vec<f64> {
    let counts: Vec<usize> = mask.iter().map(|row| row.iter().filter(|&&m| m > 0.0).count()).collect();
    let (tokens, used) = (counts.iter().sum(), counts.iter().filter(|&&n| n > 0).count());
    mask.iter()
        .zip(counts)
        .flat_map(|(row, n)| {
            let mut real = weights(aggregation, n, tokens, used).into_iter();
            row.iter().map(move |&m| if m > 0.0 { f64::from(real.next().unwrap()) } else { 0.0 }).collect::<Vec<_>>()
        })
        .collect()
}

/// Share of unmasked tokens that are marked in `decided`.
fn share(decided: &Tensor<2>, mask: &[Vec<f64>]) -> f64 {
    host(decided).iter().sum::<f64>() / mask.concat().iter().sum::<f64>()
}

#[test]
fn clipped_policy_loss() {
    cases("policy_loss", |case| {
        let mask = rows(&case["mask"]);
        let shape = [mask.len(), mask[0].len()];
        let part = |name: &str| -> Tensor<2> { grid(&rows(&case[name]).concat(), shape) };
        let aggregation: Aggregation = from_value(case["aggregation"].clone()).unwrap();
        let clip =
            Clip { low: number(&case["clip_low"]), high: number(&case["clip_high"]), dual: case["dual_clip"].as_f64() };
        let weights = grid(&token_weights(&mask, aggregation), shape);
        let new = tracked(&rows(&case["new_logp"]).concat(), shape);
        let (loss, decided) =
            policy_loss(new.clone(), part("old_logp"), part("advantages"), &part("mask"), weights, clip);
        close(&host(&loss), &[number(&case["loss"])], SINGLE, "loss");
        if let Some(expected) = case["clip_fraction"].as_f64() {
            close(&[share(&decided, &mask)], &[expected], SINGLE, "clip fraction");
        }
        let gradient = new.grad(&loss.backward()).unwrap();
        close(&host(&gradient), &rows(&case["grad_new_logp"]).concat(), SINGLE, "gradient");

        // With an advantage of -1 and nothing clipped the loss is the mean ratio.
        let open = Clip { low: 1.0, high: 1e9, dual: None };
        let minus_one = part("mask").neg();
        let weights = grid(&token_weights(&mask, Aggregation::TokenMean), shape);
        let (ratio, _) = policy_loss(part("new_logp"), part("old_logp"), minus_one, &part("mask"), weights, open);
        close(&host(&ratio), &[number(&case["mean_ratio"])], SINGLE, "mean ratio");
        let ragged = |name: &str| compress(&rows(&case[name]), &mask).concat();
        for (name, estimator) in [("k1", KlEstimator::K1), ("k2", KlEstimator::K2), ("k3", KlEstimator::K3)] {
            let (new, old) = (ragged("new_logp"), ragged("old_logp"));
            let sum: f64 = new.iter().zip(&old).map(|(new, old)| estimator.estimate(old - new)).sum();
            let expected = number(&case[format!("approx_kl_{name}").as_str()]);
            close(&[sum / new.len() as f64], &[expected], DOUBLE, "KL from the old policy");
        }
    });
}

#[test]
fn clipped_value_loss() {
    cases("value_loss", |case| {
        let mask = rows(&case["mask"]);
        let shape = [mask.len(), mask[0].len()];
        let part = |name: &str| -> Tensor<2> { grid(&rows(&case[name]).concat(), shape) };
        let aggregation: Aggregation = from_value(case["aggregation"].clone()).unwrap();
        let weights = grid(&token_weights(&mask, aggregation), shape);
        let values = tracked(&rows(&case["values"]).concat(), shape);
        let clip = case["clip"].as_f64();
        let (loss, decided) =
            value_loss(values.clone(), part("old_values"), part("returns"), &part("mask"), weights, clip);
        close(&host(&loss), &[number(&case["loss"])], SINGLE, "loss");
        if let Some(expected) = case["clip_fraction"].as_f64() {
            close(&[share(&decided, &mask)], &[expected], SINGLE, "clip fraction");
        }
        let gradient = values.grad(&loss.backward()).unwrap();
        close(&host(&gradient), &rows(&case["grad_values"]).concat(), SINGLE, "gradient");
    });
}

/// Ragged rows as a rectangle filled up with `junk`, and its shape.
fn fill(rows: &[Vec<f64>], junk: f64) -> (Vec<f64>, [usize; 2]) {
    let columns = rows.iter().map(Vec::len).max().unwrap();
    let padded = rows.iter().flat_map(|row| row.iter().copied().chain(std::iter::repeat(junk)).take(columns));
    (padded.collect(), [rows.len(), columns])
}

/// One side of a pairwise loss: tracked rewards and the number that the loss compares.
fn side(case: &Value, name: &str, weights: &[Vec<f64>]) -> (Tensor<2>, Tensor<1>) {
    let (rewards, shape) = fill(&rows(&case[name]), 99.0);
    let rewards = tracked(&rewards, shape);
    (rewards.clone(), weighted_sum(rewards, grid(&fill(weights, 0.0).0, shape)))
}

fn check_gradients(case: &Value, loss: &Tensor<1>, sides: [(&str, &Tensor<2>); 2]) {
    let gradients = loss.backward();
    for (name, rewards) in sides {
        let (expected, _) = fill(&rows(&case[name]), 0.0);
        close(&host(&rewards.grad(&gradients).unwrap()), &expected, SINGLE, name);
    }
}

#[test]
fn bradley_terry_on_mean_token_rewards() {
    cases("bt_mean", |case| {
        let weights = |name: &str| -> Vec<Vec<f64>> {
            rows(&case[name]).iter().map(|row| mean_weights(row.len()).into_iter().map(f64::from).collect()).collect()
        };
        let (chosen, better) = side(case, "chosen", &weights("chosen"));
        let (rejected, worse) = side(case, "rejected", &weights("rejected"));
        close(&host(&better), &list(&case["mean_chosen"]), SINGLE, "mean of the chosen");
        close(&host(&worse), &list(&case["mean_rejected"]), SINGLE, "mean of the rejected");
        let n = better.dims()[0];
        let correct = std::iter::zip(host(&better), host(&worse)).filter(|(a, b)| a > b).count();
        close(&[correct as f64 / n as f64], &[number(&case["accuracy"])], DOUBLE, "accuracy");
        let loss = bradley_terry(better, worse, number(&case["margin"]), n);
        close(&host(&loss), &[number(&case["loss"])], SINGLE, "loss");
        check_gradients(case, &loss, [("grad_chosen", &chosen), ("grad_rejected", &rejected)]);
    });
}

#[test]
fn bradley_terry_on_edited_tokens() {
    cases("bt_edit_only", |case| {
        let normaliser: EditedNormaliser = from_value(case["normaliser"].clone()).unwrap();
        let weights = |name: &str, label: Label| -> Vec<Vec<f64>> {
            rows(&case[name])
                .iter()
                .map(|row| {
                    let labels: Vec<Label> =
                        row.iter().map(|&edited| if edited > 0.0 { label } else { Label::U }).collect();
                    edited_weights(&labels, normaliser).into_iter().map(f64::from).collect()
                })
                .collect()
        };
        let (chosen, better) = side(case, "chosen", &weights("chosen_edited", Label::A));
        let (rejected, worse) = side(case, "rejected", &weights("rejected_edited", Label::D));
        let margins = host(&(better.clone() - worse.clone()));
        close(&margins, &list(&case["margins"]), SINGLE, "margins");
        let n = better.dims()[0];
        let loss = bradley_terry(better, worse, 0.0, n);
        close(&host(&loss), &[number(&case["loss"])], SINGLE, "loss");
        check_gradients(case, &loss, [("grad_chosen", &chosen), ("grad_rejected", &rejected)]);
    });
}

/// `[N][R][C]` as padded numbers and their shape.
fn cube(value: &Value) -> (Vec<f64>, [usize; 3]) {
    let rows: Vec<Vec<Vec<f64>>> = from_value(value.clone()).unwrap();
    let columns = rows.iter().map(Vec::len).max().unwrap();
    let classes = rows.iter().flatten().map(Vec::len).max().unwrap();
    let padded = rows.iter().flat_map(|row| {
        let mut flat = row.concat();
        flat.resize(columns * classes, 0.0);
        flat
    });
    (padded.collect(), [rows.len(), columns, classes])
}

#[test]
fn token_level_continuous_reward() {
    let kind: Kind = from_value(json!({ "token": { "loss": "tlcr" } })).unwrap();
    cases("tlcr", |case| {
        let mut total = 0.0;
        for name in ["rejected", "modified"] {
            let side = &case[name];
            let (values, shape) = cube(&side["logits"]);
            let labels: Vec<Vec<String>> = from_value(side["labels"].clone()).unwrap();
            let target = |label: &String| {
                f64::from(match label.as_str() {
                    "neg" => soft_target(Label::D, false),
                    "neu" => soft_target(Label::U, name == "modified"),
                    "pos" => soft_target(Label::A, true),
                    other => panic!("unknown label `{other}`"),
                })
            };
            let targets: Vec<Vec<f64>> = labels.iter().map(|row| row.iter().map(target).collect()).collect();
            let (targets, rectangle) = fill(&targets, 0.5);
            let row_weights: Vec<Vec<f64>> =
                labels.iter().map(|row| mean_weights(row.len()).into_iter().map(f64::from).collect()).collect();
            let weights: Tensor<2> = grid(&fill(&row_weights, 0.0).0, rectangle);
            let targets: Tensor<2> = grid(&targets, rectangle);
            for (i, expected) in list(&side["sequence_losses"]).into_iter().enumerate() {
                let row = |x: &Tensor<2>| x.clone().narrow(0, i, 1);
                let logits: Tensor<3> = grid(&values, shape).narrow(0, i, 1);
                let loss = soft_cross_entropy(logits, row(&targets), row(&weights));
                close(&host(&loss), &[expected], SINGLE, "a sequence's loss");
            }
            let logits = tracked(&values, shape);
            let loss = soft_cross_entropy(logits.clone(), targets, weights / shape[0] as f64);
            close(&host(&loss), &[number(&side["mean_loss"])], SINGLE, "loss");
            total += host(&loss)[0];
            let gradient = logits.grad(&loss.backward()).unwrap();
            close(&host(&gradient), &cube(&side["grad_logits"]).0, SINGLE, "gradient");
            let rewards = score::ragged(
                &score::rewards(&kind, grid(&values, shape)),
                &labels.iter().map(Vec::len).collect::<Vec<_>>(),
            );
            close(&rewards.concat(), &rows(&side["rewards"]).concat(), SINGLE, "rewards");
        }
        close(&[total], &[number(&case["loss"])], SINGLE, "both sides");
    });
}

#[test]
fn three_class_cross_entropy() {
    cases("token_ce3", |case| {
        let class_weights: Option<Vec<f64>> = from_value(case["class_weights"].clone()).unwrap();
        let (values, shape) = cube(&case["logits"]);
        let (labels, rectangle) = fill(&rows(&case["labels"]), -100.0);
        let weight = |&label: &f64| match usize_class(label) {
            Some(class) => class_weights.as_ref().map_or(1.0, |weights| weights[class]),
            None => 0.0,
        };
        let weights: Tensor<2> = grid(&labels.iter().map(weight).collect::<Vec<_>>(), rectangle);
        let classes: Vec<i64> =
            labels.iter().map(|&label| i64::try_from(usize_class(label).unwrap_or(0)).unwrap()).collect();
        let classes = Tensor::<2, Int>::from_data(TensorData::new(classes, rectangle), &device());
        let logits = tracked(&values, shape);
        let loss = class_cross_entropy(logits.clone(), classes, weights.clone() / weights.sum().into_scalar::<f32>());
        close(&host(&loss), &[number(&case["loss"])], SINGLE, "loss");
        let gradient = logits.grad(&loss.backward()).unwrap();
        close(&host(&gradient), &cube(&case["grad_logits"]).0, SINGLE, "gradient");
        let labelled: Vec<(usize, usize)> =
            labels.iter().enumerate().filter_map(|(token, &label)| Some((token, usize_class(label)?))).collect();
        let predicted = |token: usize| (0..3).max_by(|&a, &b| values[3 * token + a].total_cmp(&values[3 * token + b]));
        let right = labelled.iter().filter(|&&(token, class)| predicted(token) == Some(class)).count();
        close(&[right as f64 / labelled.len() as f64], &[number(&case["accuracy"])], DOUBLE, "accuracy");
    });
}

fn usize_class(label: f64) -> Option<usize> {
    (0..3).find(|&class| (class as f64).to_bits() == label.to_bits())
}

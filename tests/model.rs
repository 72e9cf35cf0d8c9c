//! The network against a naive reference, and the equivalences that training and sampling lean on.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a message")]

mod toy;

use std::collections::BTreeSet;

use burn::tensor::{Int, Tensor, TensorData};
use runner::compute::Crew;
use runner::model::batch::cached_bias;
use runner::model::generate::{Sampling, sample};
use runner::model::gradient::{Share, gradients, split};
use runner::model::weights::host;
use runner::model::{Batch, Model, Pair};
use toy::{SPECIAL, VOCAB, architecture, device, language_model};

fn close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: numbers");
    for (i, (&a, b)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(a) - b).abs() <= tolerance * (1.0 + b.abs()), "{what}[{i}]: expected {b}, found {a}");
    }
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// The decoder once more, one row at a time in `f64` loops: weights row by row, logits of every position.
mod naive {
    use runner::model::architecture::{Architecture, Positions, Rope};

    pub fn logits(config: &Architecture, weights: &[Vec<f64>], ids: &[u32]) -> Vec<Vec<f64>> {
        let h = config.hidden_size;
        let mut x: Vec<Vec<f64>> = ids.iter().map(|&id| weights[0][id as usize * h..][..h].to_vec()).collect();
        for layer in weights[1..weights.len() - 2].chunks_exact(9) {
            let normed: Vec<Vec<f64>> = x.iter().map(|x| norm(config, x, &layer[0])).collect();
            let attended = attention(config, &normed, &layer[1..5]);
            for (x, attended) in x.iter_mut().zip(attended) {
                add(x, &attended);
                let normed = norm(config, x, &layer[5]);
                let gate = times(&normed, &layer[6]).into_iter().map(|g| g / (1.0 + (-g).exp()));
                let gated: Vec<f64> = gate.zip(times(&normed, &layer[7])).map(|(g, u)| g * u).collect();
                add(x, &times(&gated, &layer[8]));
            }
        }
        let [.., last_norm, head] = weights else { unreachable!("a model has a head") };
        x.iter().map(|x| times(&norm(config, x, last_norm), head)).collect()
    }

    #[allow(clippy::many_single_char_names, reason = "the letters of the formula")]
    fn attention(config: &Architecture, x: &[Vec<f64>], projections: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (heads, d) = (config.num_attention_heads, config.head_dim);
        let shared = heads / config.num_key_value_heads;
        let rotated = |w: &[f64]| -> Vec<Vec<f64>> {
            x.iter().enumerate().map(|(t, x)| rotate(config, t, &times(x, w))).collect()
        };
        let (q, k) = (rotated(&projections[0]), rotated(&projections[1]));
        let v: Vec<Vec<f64>> = x.iter().map(|x| times(x, &projections[2])).collect();
        let at = |t: usize| {
            let mut mixed = vec![0.0; heads * d];
            for head in 0..heads {
                let group = head / shared * d;
                let score = |s: usize| {
                    let products = q[t][head * d..][..d].iter().zip(&k[s][group..][..d]).map(|(q, k)| q * k);
                    (products.sum::<f64>() / (d as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = (0..=t).map(score).collect();
                let total: f64 = scores.iter().sum();
                for (s, score) in scores.iter().enumerate() {
                    for i in 0..d {
                        mixed[head * d + i] += score / total * v[s][group + i];
                    }
                }
            }
            times(&mixed, &projections[3])
        };
        (0..x.len()).map(at).collect()
    }

    fn rotate(config: &Architecture, position: usize, x: &[f64]) -> Vec<f64> {
        let d = config.head_dim;
        let Positions::Rotary { global: Rope { theta, .. }, .. } = &config.positions else {
            panic!("expected rotation")
        };
        let mut out = x.to_vec();
        for (head, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
            for i in 0..d / 2 {
                let angle = position as f64 * theta.powf(-2.0 * i as f64 / d as f64);
                let (a, b) = (head[i], head[i + d / 2]);
                out[i] = a * angle.cos() - b * angle.sin();
                out[i + d / 2] = b * angle.cos() + a * angle.sin();
            }
        }
        out
    }

    fn norm(config: &Architecture, x: &[f64], weight: &[f64]) -> Vec<f64> {
        let mean_square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = (mean_square + config.norm_eps).sqrt();
        x.iter().zip(weight).map(|(x, w)| x / scale * w).collect()
    }

    fn times(x: &[f64], matrix: &[f64]) -> Vec<f64> {
        let columns = matrix.len() / x.len();
        (0..columns).map(|j| x.iter().enumerate().map(|(i, x)| x * matrix[i * columns + j]).sum()).collect()
    }

    fn add(x: &mut [f64], y: &[f64]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }

    /// `log softmax(logits / temperature)[id]`.
    pub fn log_prob(logits: &[f64], temperature: f64, id: u32) -> f64 {
        let total: f64 = logits.iter().map(|x| (x / temperature).exp()).sum();
        logits[id as usize] / temperature - total.ln()
    }
}

const ROWS: [Pair; 3] = [
    Pair { prompt: &[5, 6, 7, 2, 9], response: &[3, 4, 1] },
    Pair { prompt: &[8, 9], response: &[10, 11, 3, 6, 7, 1] },
    Pair { prompt: &[4, 4, 2], response: &[2] },
];

/// The naive reference's log-probabilities of a response.
fn naive_log_probs(model: &Model, weights: &[Vec<f64>], row: Pair, temperature: f64) -> Vec<f64> {
    let ids = [row.prompt, row.response].concat();
    let logits = naive::logits(&model.config, weights, &ids);
    let before = &logits[row.prompt.len() - 1..];
    before.iter().zip(row.response).map(|(logits, &id)| naive::log_prob(logits, temperature, id)).collect()
}

fn wide(model: &Model) -> Vec<Vec<f64>> {
    model.weights.iter().map(|w| widen(&host(w))).collect()
}

#[test]
fn outputs_and_log_probabilities_are_those_of_the_naive_reference() {
    let model = language_model(1, 2.0);
    let weights = wide(&model);
    for row in ROWS {
        let batch = Batch::new(&[row], SPECIAL.pad, &device());
        let ids = [row.prompt, row.response].concat();
        let expected = naive::logits(&model.config, &weights, &ids);
        let logits = host(&model.project(model.hidden(&batch)));
        close(&logits, &expected.concat(), 1e-5, "logits");
        let before = &expected[row.prompt.len() - 1..ids.len() - 1];
        close(&host(&model.before_response(&batch)), &before.concat(), 1e-5, "logits that predict the response");
        let at = &expected[row.prompt.len()..];
        close(&host(&model.at_response(&batch)), &at.concat(), 1e-5, "outputs at the response");
        for temperature in [1.0, 0.7] {
            let expected = naive_log_probs(&model, &weights, row, temperature);
            close(&host(&model.log_probs(&batch, temperature)), &expected, 1e-5, "log-probabilities");
        }
    }
}

#[test]
fn padding_on_either_side_changes_nothing() {
    let model = language_model(2, 2.0);
    let together = Batch::new(&ROWS, SPECIAL.pad, &device());
    let columns = together.response_columns;
    let padded = host(&model.log_probs(&together, 0.7));
    let rewards = host(&model.with_head(1, 1.0, 3).at_response(&together));
    for (i, row) in ROWS.into_iter().enumerate() {
        let alone = Batch::new(&[row], SPECIAL.pad, &device());
        let n = row.response.len();
        let trimmed = widen(&host(&model.log_probs(&alone, 0.7)));
        close(&padded[i * columns..][..n], &trimmed, 1e-5, "log-probabilities");
        let trimmed = widen(&host(&model.with_head(1, 1.0, 3).at_response(&alone)));
        close(&rewards[i * columns..][..n], &trimmed, 1e-5, "rewards");
    }
}

#[test]
fn gradients_are_finite_differences_of_the_naive_reference() {
    const STEP: f64 = 1e-5;
    let model = language_model(3, 2.0);
    let nll = |weights: &[Vec<f64>]| -> f64 {
        -ROWS.iter().flat_map(|&row| naive_log_probs(&model, weights, row, 1.0)).sum::<f64>()
    };
    let outcome = gradients(&model, &[&ROWS[..]], &Crew::new(1), |model, rows| {
        let batch = Batch::new(rows, SPECIAL.pad, &device());
        Share { loss: (model.log_probs(&batch, 1.0).neg() * batch.response_mask).sum(), sums: [] }
    });
    let mut weights = wide(&model);
    let expected = nll(&weights);
    assert!((outcome.loss - expected).abs() < 1e-5 * expected, "loss: expected {expected}, found {}", outcome.loss);
    for (w, (gradient, name)) in outcome.gradients.iter().zip(model.names()).enumerate() {
        let gradient = host(gradient);
        assert_eq!(gradient.len(), weights[w].len(), "{name}");
        // A stride that shares no factor with the matrices' widths visits all rows and columns.
        for i in (0..gradient.len()).step_by(7) {
            let middle = weights[w][i];
            let mut at = |x: f64| {
                weights[w][i] = x;
                nll(&weights)
            };
            let slope = (at(middle + STEP) - at(middle - STEP)) / (2.0 * STEP);
            at(middle);
            close(&gradient[i..=i], &[slope], 2e-5, &format!("{name}, entry {i}"));
        }
    }
}

#[test]
fn cached_decoding_is_the_full_pass_at_every_step() {
    let model = language_model(4, 2.0);
    // All rows answer at equal length here, so that every step has all of them.
    let responses: [&[u32]; 3] = [&[3, 4, 1, 6], &[10, 11, 3, 6], &[2, 2, 5, 1]];
    let rows: Vec<Pair> =
        ROWS.iter().zip(responses).map(|(row, response)| Pair { prompt: row.prompt, response }).collect();
    let full = Batch::new(&rows, SPECIAL.pad, &device());
    let expected = model.before_response(&full);

    let prompts: Vec<Pair> = rows.iter().map(|row| Pair { prompt: row.prompt, response: &[] }).collect();
    let batch = Batch::new(&prompts, SPECIAL.pad, &device());
    let (q, n) = (batch.prompt_columns, rows.len());
    let mut cache = model.cache(n, q + 4);
    let hidden = model.extend(&batch.ids, &batch.positions, &batch.attention_bias, &mut cache);
    let mut logits = model.project(hidden.narrow(1, q - 1, 1));
    let starts: Vec<usize> = rows.iter().map(|row| q - row.prompt.len()).collect();
    for step in 0..4 {
        let all = widen(&host(&expected.clone().narrow(1, step, 1)));
        close(&host(&logits), &all, 1e-5, &format!("logits at step {step}"));
        let column = |values: Vec<usize>| -> Tensor<2, Int> {
            let values: Vec<i64> = values.into_iter().map(|x| i64::try_from(x).unwrap()).collect();
            Tensor::from_data(TensorData::new(values, [n, 1]), &device())
        };
        let ids = column(responses.iter().map(|response| response[step] as usize).collect());
        let positions = column(rows.iter().map(|row| row.prompt.len() + step).collect());
        let bias = cached_bias(&starts, cache.columns + 1, &device());
        logits = model.project(model.extend(&ids, &positions, &bias, &mut cache));
    }
}

/// Prompts of one to five tokens.
fn prompts(count: u32) -> Vec<Vec<u32>> {
    (0..count).map(|i| (0..=i % 5).map(|j| 2 + (i * 7 + j * 3) % 10).collect()).collect()
}

fn draw(model: &Model, prompts: &[Vec<u32>], sampling: Sampling, crew: usize) -> Vec<Vec<u32>> {
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let sampled = sample(model, &prompts, SPECIAL, sampling, 11, &Crew::new(crew), &|_| ());
    sampled.into_iter().map(|sampled| sampled.ids).collect()
}

#[test]
fn greedy_responses_are_the_full_pass_although_rows_leave_early() {
    let model = language_model(5, 4.0);
    let weights = wide(&model);
    let prompts = prompts(40);
    let responses = draw(&model, &prompts, Sampling::plain(0.0, 9), 1);
    let lengths: BTreeSet<usize> = responses.iter().map(Vec::len).collect();
    assert!(lengths.len() > 2 && lengths.contains(&9), "rows end at different steps: {lengths:?}");
    for (prompt, response) in prompts.iter().zip(&responses) {
        let eos = response.iter().position(|&id| id == SPECIAL.eos);
        assert_eq!(
            eos.map_or(9, |i| i + 1),
            response.len(),
            "a response ends at its first end of sequence: {response:?}"
        );
        let logits = naive::logits(&model.config, &weights, &[prompt.as_slice(), response].concat());
        for (t, &id) in response.iter().enumerate() {
            let logits = &logits[prompt.len() - 1 + t];
            let best = logits.iter().copied().fold(f64::MIN, f64::max);
            assert!(logits[id as usize] > best - 1e-4, "token {t} of {response:?} is not the most probable");
        }
    }
}

#[test]
fn a_sample_depends_on_its_prompt_and_place_only() {
    let model = language_model(6, 3.0);
    let prompts = prompts(30);
    let plain = Sampling::plain(1.0, 8);
    let all = draw(&model, &prompts, plain, 1);
    assert_eq!(draw(&model, &prompts, plain, 3), all, "the number of threads");
    assert_eq!(draw(&model, &prompts[..7], plain, 1), all[..7], "how many rows follow");
    let mut others = prompts.clone();
    for prompt in others.iter_mut().step_by(2) {
        *prompt = vec![9; 12];
    }
    let changed = draw(&model, &others, plain, 1);
    for i in (1..30).step_by(2) {
        assert_eq!(changed[i], all[i], "row {i} in a batch with longer prompts");
    }
    assert_ne!(changed, all);
}

#[test]
fn a_long_list_of_prompts_is_answered_as_each_prompt_alone() {
    let model = language_model(8, 3.0);
    // Some prompts several times, so that they are read once, and more than fit into one batch.
    let prompts: Vec<Vec<u32>> = prompts(40).into_iter().cycle().take(170).collect();
    let plain = Sampling::plain(1.0, 11);
    let all = draw(&model, &prompts, plain, 2);
    let lengths: BTreeSet<usize> = all.iter().map(Vec::len).collect();
    assert!(lengths.len() > 3, "rows end at different steps: {lengths:?}");
    // Row by row: one whose number is that of its stream, behind others that share none of its batch.
    for i in [0, 1, 63, 64, 99, 128, 169] {
        let alone: Vec<Vec<u32>> = (0..=i).map(|row| if row == i { prompts[i].clone() } else { vec![2] }).collect();
        assert_eq!(draw(&model, &alone, plain, 1)[i], all[i], "row {i}");
    }
}

#[test]
fn log_probabilities_kept_while_sampling_are_those_of_the_training_pass() {
    let model = language_model(9, 2.0);
    let prompts = prompts(90);
    let rows: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    for temperature in [1.0, 0.7] {
        let sampling = Sampling { top_k: Some(9), ..Sampling::plain(temperature, 9) };
        for (sampled, prompt) in sample(&model, &rows, SPECIAL, sampling, 3, &Crew::new(2), &|_| ()).iter().zip(&rows) {
            let batch = Batch::new(&[Pair { prompt, response: &sampled.ids }], SPECIAL.pad, &device());
            let expected = widen(&host(&model.log_probs(&batch, temperature)));
            let found: Vec<f32> = sampled.log_probs.iter().map(|&x| x as f32).collect();
            close(&found, &expected, 1e-5, "log-probabilities");
        }
    }
}

/// Pearson's statistic of `found` against `expected` probabilities, over the tokens that may occur.
fn chi_square(found: &[usize], expected: &[f64]) -> f64 {
    let n = found.iter().sum::<usize>() as f64;
    let cells = found.iter().zip(expected).filter(|(_, p)| **p > 0.0);
    cells.map(|(&k, p)| (k as f64 - n * p).powi(2) / (n * p)).sum()
}

fn distribution(logits: &[f64], temperature: f64, keep: impl Fn(usize) -> bool) -> Vec<f64> {
    let weight = |(id, x): (usize, &f64)| if keep(id) { (x / temperature).exp() } else { 0.0 };
    let weights: Vec<f64> = logits.iter().enumerate().map(weight).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / total).collect()
}

/// 99.9 % quantile of chi-square with 11 degrees of freedom, the most a vocabulary of 12 has.
const QUANTILE: f64 = 31.26;

#[test]
fn samples_follow_the_tempered_truncated_distribution() {
    let model = language_model(7, 1.0);
    let prompt = vec![5, 8, 3];
    let logits = naive::logits(&model.config, &wide(&model), &prompt).pop().unwrap();
    let count = |sampling: Sampling| {
        let mut found = vec![0_usize; VOCAB];
        for response in draw(&model, &vec![prompt.clone(); 4000], sampling, 1) {
            found[response[0] as usize] += 1;
        }
        found
    };
    let plain = Sampling::plain(0.7, 1);
    let found = count(plain);
    let expected = distribution(&logits, 0.7, |_| true);
    assert!(chi_square(&found, &expected) < QUANTILE, "{found:?} is not {expected:?}");
    let wrong = distribution(&logits, 1.0, |_| true);
    assert!(chi_square(&found, &wrong) > 2.0 * QUANTILE, "the test can tell temperatures apart");

    let mut order: Vec<usize> = (0..VOCAB).collect();
    order.sort_by(|&a, &b| expected[b].total_cmp(&expected[a]));
    let nucleus = |p: f64| {
        let mut mass = 0.0;
        let inside = order.iter().take_while(|&&id| {
            let before = mass;
            mass += expected[id];
            before < p
        });
        inside.copied().collect::<BTreeSet<usize>>()
    };
    for (sampling, keep) in [
        (Sampling { top_k: Some(3), ..plain }, order[..3].iter().copied().collect()),
        (Sampling { top_p: Some(0.6), ..plain }, nucleus(0.6)),
    ] {
        let found = count(sampling);
        let seen: BTreeSet<usize> = (0..VOCAB).filter(|&id| found[id] > 0).collect();
        assert_eq!(seen, keep, "{sampling:?}");
        assert!(keep.len() > 1 && keep.len() < VOCAB);
        let expected = distribution(&logits, 0.7, |id| keep.contains(&id));
        assert!(chi_square(&found, &expected) < QUANTILE, "{found:?} is not {expected:?} with {sampling:?}");
    }
}

#[test]
fn weights_survive_safetensors_to_the_last_bit() {
    let model = language_model(8, 2.0);
    let bytes = model.to_bytes();
    let read = Model::from_bytes(&bytes, &architecture(), &device()).unwrap();
    assert_eq!(read.to_bytes(), bytes);
    for ((a, b), name) in model.weights.iter().zip(&read.weights).zip(model.names()) {
        let bits = |w| host::<2>(w).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!((a.dims(), bits(a)), (b.dims(), bits(b)), "{name}");
    }
    let mut wider = architecture();
    wider.intermediate_size = 32.try_into().unwrap();
    let error = Model::from_bytes(&bytes, &wider, &device()).unwrap_err().to_string();
    assert_eq!(error, "tensor `layers.0.mlp.gate_proj`: expected shape [16, 32], found [16, 24]");
}

#[test]
fn shards_add_up_and_crews_do_not_matter() {
    let model = language_model(9, 2.0);
    let rows: Vec<Pair> = ROWS.iter().cycle().take(7).copied().collect();
    let run = |shards: usize, crew: usize| {
        let outcome = gradients(&model, &split(&rows, shards), &Crew::new(crew), |model, rows| {
            let batch = Batch::new(rows, SPECIAL.pad, &device());
            let loss = (model.log_probs(&batch, 1.0).neg() * batch.response_mask).sum() / 20.0;
            Share { loss, sums: [rows.len() as f64] }
        });
        assert_eq!(outcome.sums[0].to_bits(), 7_f64.to_bits(), "every row is in one shard");
        outcome.gradients.iter().flat_map(host).collect::<Vec<f32>>()
    };
    let whole = run(1, 1);
    for shards in [2, 3] {
        let cut = run(shards, 1);
        close(&cut, &widen(&whole), 1e-5, &format!("{shards} shards"));
        for crew in [2, 3] {
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&run(shards, crew)), bits(&cut), "{shards} shards on {crew} threads");
        }
    }
}

//! The network against a naive reference, and the equivalences that training and sampling lean on.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a message")]

mod naive;
mod toy;

use burn::tensor::{Int, Tensor, TensorData};
use naive::{close, wide, widen};
use runner::compute::Crew;
use runner::model::batch::cached_bias;
use runner::model::gradient::{Share, gradients, split};
use runner::model::weights::host;
use runner::model::{Batch, Model, Pair};
use toy::{SPECIAL, architecture, device, language_model};

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
    let run = |shards: usize, crew: &Crew| {
        let outcome = gradients(&model, &split(&rows, shards), crew, |model, rows| {
            let batch = Batch::new(rows, SPECIAL.pad, &model.device());
            let loss = (model.log_probs(&batch, 1.0).neg() * batch.response_mask).sum() / 20.0;
            Share { loss, sums: [rows.len() as f64] }
        });
        assert_eq!(outcome.sums[0].to_bits(), 7_f64.to_bits(), "every row is in one shard");
        outcome.gradients.iter().flat_map(host).collect::<Vec<f32>>()
    };
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let whole = run(1, &Crew::new(1));
    for shards in [2, 3] {
        let cut = run(shards, &Crew::new(1));
        close(&cut, &widen(&whole), 1e-5, &format!("{shards} shards"));
        for crew in [2, 3] {
            assert_eq!(bits(&run(shards, &Crew::new(crew))), bits(&cut), "{shards} shards on {crew} threads");
            let crew = Crew::on(vec![device(); crew], 1);
            assert_eq!(bits(&run(shards, &crew)), bits(&cut), "{shards} shards on {} devices", crew.devices());
        }
    }
}

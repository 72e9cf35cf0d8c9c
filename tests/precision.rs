//! `precision = "bf16"`: near `f32` where the device computes in it, refused where it does not.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

#[allow(dead_code, reason = "not all of it is needed here")]
mod tiny;

use tiny::Lab;

#[test]
fn a_device_that_does_not_compute_in_it_is_refused_with_those_that_do() {
    let lab = Lab::new();
    let check = |changes: &[&str]| {
        let changes = changes.iter().flat_map(|change| ["--set", change]);
        lab.said(&["check", "tiny.toml"].into_iter().chain(changes).collect::<Vec<_>>())
    };
    let said = check(&["precision='bf16'", "device='flex'"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    let expected = "`precision` `bf16` is for the devices `libtorch`, `libtorch:cuda:0`, `libtorch:mps`: found `flex`";
    assert!(said.err.contains(expected), "{}", said.err);
    check(&["precision='bf16'", "device='libtorch'"]).fine();
    let said = check(&["precision='fp8'"]);
    assert!(said.code == Some(2) && said.err.contains("`bf16`"), "{}", said.err);
}

#[cfg(feature = "tch")]
mod on_libtorch {
    use burn::tensor::{DType, Device};
    use runner::compute::{Crew, DeviceName, Precision};
    use runner::model::checkpoint::Learner;
    use runner::model::gradient::{Share, gradients};
    use runner::model::weights::host;
    use runner::model::{Batch, Model, Pair, optim};
    use serde_json::{Value, json};

    use super::Lab;
    use super::tiny;

    const VOCAB: usize = 40;

    /// LibTorch's CPU, or the card that `RUNNER_TEST_DEVICE` says.
    fn device() -> Device {
        let name = std::env::var("RUNNER_TEST_DEVICE").ok().filter(|name| name.starts_with("libtorch"));
        name.as_deref().unwrap_or("libtorch").parse::<DeviceName>().unwrap().open().unwrap()
    }

    fn model(device: &Device) -> Model {
        let table = json!({
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "intermediate_size": 48,
        });
        Model::init(&serde_json::from_value(table).unwrap(), VOCAB, VOCAB, 7, device)
    }

    fn optimizer(rate: f64) -> optim::Config {
        serde_json::from_value(json!({ "learning_rate": rate })).unwrap()
    }

    /// Losses of `steps` updates on the same rows, and the model after them.
    fn trained(model: &Model, precision: Precision, rate: f64, steps: usize) -> (Vec<f64>, Model) {
        let rows: Vec<Vec<u32>> =
            (0..8).map(|row| (0..12).map(|i| (row * 7 + i * i * 3) % VOCAB as u32).collect()).collect();
        let (config, crew) = (optimizer(rate), Crew::new(2).computing_in(precision));
        let mut learner = Learner::new(model.clone(), &config);
        let shards: Vec<&[Vec<u32>]> = rows.chunks(3).collect();
        let step = |_| {
            let outcome = gradients(&learner.model, &shards, &crew, |model, rows| {
                let rows: Vec<Pair> = rows.iter().map(|row| Pair { prompt: &row[..4], response: &row[4..] }).collect();
                let batch = Batch::new(&rows, 0, &model.device());
                Share { loss: model.log_probs(&batch, 1.0).neg().sum() / 64.0, sums: [] }
            });
            assert!(outcome.gradients.iter().all(|gradient| gradient.dtype() == DType::F32));
            learner.update(outcome.gradients, rate, &crew);
            outcome.loss
        };
        ((0..steps).map(step).collect(), learner.model)
    }

    #[test]
    fn losses_stay_near_those_of_f32_while_something_is_learned() {
        let model = model(&device());
        let (wide, _) = trained(&model, Precision::F32, 3e-3, 25);
        let (narrow, after) = trained(&model, Precision::Bf16, 3e-3, 25);
        assert!(wide[24] < 0.6 * wide[0], "{wide:?}");
        for (wide, narrow) in wide.iter().zip(&narrow) {
            // Eight bits of mantissa: 0.4 % for a number, less for a mean over many.
            assert!((wide - narrow).abs() < 0.02 * wide, "{wide} and {narrow}");
        }
        assert_ne!(wide[0].to_bits(), narrow[0].to_bits(), "nothing was computed in bf16");
        assert!(after.weights.iter().all(|w| w.dtype() == DType::F32));
    }

    #[test]
    fn weights_move_by_less_than_bf16_can_tell() {
        let model = model(&device());
        let (_, after) = trained(&model, Precision::Bf16, 1e-6, 3);
        let (mut moved, mut hidden) = (0, 0);
        for (before, after) in model.weights.iter().zip(&after.weights) {
            let rounded = |w: &burn::tensor::Tensor<2>| host(&w.clone().cast(DType::BF16));
            let (narrow_before, narrow_after) = (rounded(before), rounded(after));
            for (i, (before, after)) in host(before).iter().zip(host(after)).enumerate() {
                assert!((before - after).abs() < 4e-6, "three steps of at most 1e-6 each");
                let has_moved = before.to_bits() != after.to_bits();
                moved += usize::from(has_moved);
                hidden += usize::from(has_moved && narrow_before[i].to_bits() == narrow_after[i].to_bits());
            }
        }
        let all = model.parameters();
        assert!(moved > all / 2 && hidden > all / 2, "{moved} of {all} moved, {hidden} by less than bf16 can tell");
    }

    #[test]
    fn outputs_are_f32_and_near_those_of_f32_with_and_without_a_cache() {
        let device = device();
        let model = model(&device);
        let place = runner::compute::Place { device: None, precision: Precision::Bf16 };
        let narrow = model.on(place);
        assert!(narrow.weights.iter().all(|w| w.dtype() == DType::BF16));
        let row: Vec<u32> = (0..10).map(|i| i * 3 % VOCAB as u32).collect();
        let batch = Batch::new(&[Pair { prompt: &row[..1], response: &row[1..] }], 0, &device);
        let (wide, full) = (model.before_response(&batch), narrow.before_response(&batch));
        assert_eq!(full.dtype(), DType::F32);
        let mut cache = narrow.cache(1, 10);
        let ids = batch.ids.clone();
        let mut columns = Vec::new();
        for column in 0..9 {
            let one = ids.clone().narrow(1, column, 1);
            let position = batch.positions.clone().narrow(1, column, 1);
            let bias = batch.attention_bias.clone().narrow(2, column, 1).narrow(3, 0, column + 1);
            columns.push(narrow.project(narrow.extend(&one, &position, &bias, &mut cache)));
        }
        let cached = burn::tensor::Tensor::cat(columns, 1);
        let (wide, full, cached) = (host(&wide), host(&full), host(&cached));
        let largest = wide.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(apart(&wide, &full) < 0.03 * largest, "{} of {largest}", apart(&wide, &full));
        assert!(apart(&wide, &full) > 0.0);
        assert!(apart(&full, &cached) < 0.03 * largest, "{} of {largest}", apart(&full, &cached));
    }

    /// Losses of supervised training, to which nothing is sampled.
    fn losses(lab: &Lab, precision: &str) -> Vec<f64> {
        let device = std::env::var("RUNNER_TEST_DEVICE").ok().filter(|name| name.starts_with("libtorch"));
        let device = format!("device='{}'", device.as_deref().unwrap_or("libtorch"));
        let set = format!("precision='{precision}'");
        lab.said(&["run", "tiny.toml", "--set", &device, "--set", &set, "--store", precision]).fine();
        let results = lab.path(precision).join("results");
        let files = tiny::files(&results);
        let path = files.iter().find(|path| path.starts_with("sft") && path.ends_with("metrics.jsonl")).unwrap();
        let text = std::fs::read_to_string(results.join(path)).unwrap();
        let loss = |line: &str| serde_json::from_str::<Value>(line).unwrap()["values"]["loss"].as_f64().unwrap();
        text.lines().map(loss).collect()
    }

    #[test]
    fn a_whole_experiment_runs_in_bf16() {
        let lab = Lab::new();
        let (wide, narrow) = (losses(&lab, "f32"), losses(&lab, "bf16"));
        assert_eq!((wide.len(), narrow.len()), (20, 20));
        assert!(wide.iter().zip(&narrow).all(|(a, b)| (a - b).abs() < 0.02 * a), "{wide:?} and {narrow:?}");
        assert_ne!(wide, narrow);
    }
}

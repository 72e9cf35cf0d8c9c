//! Reading numeric fixtures and comparing with them.

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use runner::compute::DeviceName;
use serde_json::{Value, from_value};

/// Tolerance of tensor code, relative to 1 + |expected|.
pub const SINGLE: f64 = 1e-6;
/// Tolerance of host code.
pub const DOUBLE: f64 = 1e-9;

/// Calls `check` on every case of `ppo/<name>.json`; a panic names the case.
pub fn cases(name: &str, check: impl Fn(&Value)) {
    let folder = std::env::var_os("RUNNER_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let path = folder.join(format!("ppo/{name}.json"));
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no fixture at {}", path.display());
        return;
    };
    let file: Value = serde_json::from_str(&text).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(!cases.is_empty(), "`{name}.json` has no cases");
    for case in cases {
        eprintln!("{name}: {}", case["name"]);
        check(case);
    }
}

/// Compares number by number.
pub fn close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: numbers");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{what}[{i}]: expected {b}, found {a}");
    }
}

/// The device that the numbers are to be computed on: `flex`, or what `RUNNER_TEST_DEVICE` says.
pub fn device() -> Device {
    let name = std::env::var("RUNNER_TEST_DEVICE").unwrap_or_else(|_| "flex".to_owned());
    name.parse::<DeviceName>().unwrap().open().unwrap()
}

pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

pub fn list(value: &Value) -> Vec<f64> {
    from_value(value.clone()).unwrap()
}

pub fn rows(value: &Value) -> Vec<Vec<f64>> {
    from_value(value.clone()).unwrap()
}

/// Each row without its masked positions.
pub fn compress(rows: &[Vec<f64>], mask: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let keep = |(row, mask): (&Vec<f64>, &Vec<f64>)| {
        row.iter().zip(mask).filter(|&(_, &m)| m > 0.0).map(|(&x, _)| x).collect()
    };
    rows.iter().zip(mask).map(keep).collect()
}

/// Numbers as an `f32` tensor.
#[allow(clippy::cast_possible_truncation, reason = "fixtures' inputs are exact in f32")]
pub fn grid<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.iter().map(|&x| x as f32).collect(), shape), &device())
}

/// The same, with gradients.
pub fn tracked<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<D> {
    grid(values, shape).autodiff().require_grad()
}

/// A tensor's numbers.
pub fn host<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    runner::model::weights::host(tensor).into_iter().map(f64::from).collect()
}

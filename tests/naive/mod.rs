//! The decoder once more, one row at a time in `f64` loops: weights row by row, logits of every position.

#![allow(dead_code, reason = "not every test needs all of it")]

use runner::model::Model;
use runner::model::architecture::{Architecture, Positions, Rope};
use runner::model::weights::host;

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
    let rotated =
        |w: &[f64]| -> Vec<Vec<f64>> { x.iter().enumerate().map(|(t, x)| rotate(config, t, &times(x, w))).collect() };
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
    let Positions::Rotary { global: Rope { theta, .. }, .. } = &config.positions else { panic!("expected rotation") };
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

pub fn close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: numbers");
    for (i, (&a, b)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(a) - b).abs() <= tolerance * (1.0 + b.abs()), "{what}[{i}]: expected {b}, found {a}");
    }
}

pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// All weights of `model`, in the reference's order.
pub fn wide(model: &Model) -> Vec<Vec<f64>> {
    model.weights.iter().map(|w| widen(&host(w))).collect()
}

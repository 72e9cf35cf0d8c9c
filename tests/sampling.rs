//! Responses that are drawn: greedy and random ones, in batches that are kept full.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a message")]

mod naive;
mod toy;

use std::collections::BTreeSet;

use naive::{close, wide, widen};
use runner::compute::Crew;
use runner::model::generate::{Sampling, sample};
use runner::model::weights::host;
use runner::model::{Batch, Model, Pair};
use toy::{SPECIAL, VOCAB, device, language_model};

/// Prompts of one to five tokens.
fn prompts(count: u32) -> Vec<Vec<u32>> {
    (0..count).map(|i| (0..=i % 5).map(|j| 2 + (i * 7 + j * 3) % 10).collect()).collect()
}

fn draw(model: &Model, prompts: &[Vec<u32>], sampling: Sampling, crew: usize) -> Vec<Vec<u32>> {
    draw_by(&Crew::new(crew), model, prompts, sampling)
}

fn draw_by(crew: &Crew, model: &Model, prompts: &[Vec<u32>], sampling: Sampling) -> Vec<Vec<u32>> {
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let sampled = sample(model, &prompts, SPECIAL, sampling, 11, crew, &|_| ());
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
    let crew = Crew::on(vec![device(), device(), device()], 1);
    assert_eq!(draw_by(&crew, &model, &prompts, plain), all, "copies on several devices");
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

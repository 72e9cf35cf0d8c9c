//! Learning from word scores: three classes a token, and one score of the whole [TPPO].

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::loss::{class_cross_entropy, expected_class, mean_weights, squared_error, weighted_sum};
use super::train::{Example, grid};
use super::{Kind, Tppo};
use crate::model::{Batch, Model, Pair};

/// Classes of a token: bad, neither, good.
pub const CLASSES: usize = 3;

/// A response with scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Prompt ids.
    pub prompt: Vec<u32>,
    /// Response ids.
    pub ids: Vec<u32>,
    /// 0, 1 or 2 for each of `ids`; none where nobody scored it.
    pub scores: Vec<Option<u8>>,
    /// Of the response as a whole, from 0 to 2.
    pub sentence: u8,
}

/// Counts over a whole batch, with what a token of each class weighs.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    rows: usize,
    tokens: usize,
    weight: f64,
    classes: [f64; CLASSES],
}

impl Scored {
    fn classes(&self) -> impl Iterator<Item = usize> + '_ {
        self.scores.iter().flatten().map(|&score| usize::from(score).min(CLASSES - 1))
    }
}

impl Tppo {
    /// What a token of each class weighs: as the recipe says, else so that every class weighs the same over all of `all`.
    fn weights(&self, all: &[Scored]) -> [f64; CLASSES] {
        if let Some(weights) = self.class_weights {
            return weights.map(crate::units::Positive::get);
        }
        let mut counts = [0_usize; CLASSES];
        for class in all.iter().flat_map(Scored::classes) {
            counts[class] += 1;
        }
        let (total, seen) = (counts.iter().sum::<usize>(), counts.iter().filter(|count| **count > 0).count());
        counts.map(|count| total as f64 / (seen * count.max(1)) as f64)
    }
}

impl Example for Scored {
    type Prior = [f64; CLASSES];
    type Totals = Totals;

    fn prior(kind: &Kind, all: &[Self]) -> [f64; CLASSES] {
        if let Kind::Tppo(tppo) = kind { tppo.weights(all) } else { [1.0; CLASSES] }
    }

    fn rows(&self) -> Vec<Pair<'_>> {
        vec![Pair { prompt: &self.prompt, response: &self.ids }]
    }

    fn totals(&classes: &[f64; CLASSES], rows: &[&Self]) -> Totals {
        let tokens = rows.iter().map(|row| row.classes().count()).sum();
        let weight = rows.iter().flat_map(|row| row.classes()).map(|class| classes[class]).sum();
        Totals { rows: rows.len(), tokens, weight, classes }
    }

    fn judged(totals: &Totals) -> f64 {
        totals.tokens.max(1) as f64
    }

    fn loss(
        kind: &Kind,
        model: &Model,
        rows: &[&Self],
        totals: &Totals,
        pad: u32,
        device: &Device,
    ) -> (Tensor<1>, f64) {
        let pairs: Vec<Pair> = rows.iter().flat_map(|row| row.rows()).collect();
        let batch = Batch::new(&pairs, pad, device);
        let outputs = model.at_response(&batch);
        let targets = Targets::of(rows, totals, batch.response_columns, device);
        let found = outputs.clone().inner().argmax(2).reshape(targets.classes.dims());
        let right = found.equal(targets.classes.clone()).float() * targets.weights.clone().greater_elem(0.0).float();
        let correct = f64::from(right.sum().into_scalar::<f32>());
        let Kind::Tppo(tppo) = kind else { unreachable!("`train` gives word scores to `tppo` alone") };
        (tppo.loss(outputs, targets), correct)
    }
}

/// What the outputs on some rows of a batch are compared with.
#[derive(Clone, Debug)]
pub struct Targets {
    /// The class of every token, any where nobody scored it.
    classes: Tensor<2, Int>,
    /// What every token weighs: its share of the weights of the whole batch.
    weights: Tensor<2>,
    /// Weights of the mean over a response.
    means: Tensor<2>,
    /// The score of every response.
    sentences: Tensor<1>,
    /// Rows of the whole batch.
    rows: usize,
}

impl Targets {
    /// Of `rows` as a rectangle of `columns`.
    #[must_use]
    pub fn of(rows: &[&Scored], totals: &Totals, columns: usize, device: &Device) -> Self {
        let weight = |score: &Option<u8>| score.map_or(0.0, |class| totals.classes[usize::from(class)] / totals.weight);
        let weights = |row: &&Scored| row.scores.iter().map(|score| weight(score) as f32).collect::<Vec<_>>();
        let classes = rows.iter().flat_map(|row| {
            let mut classes: Vec<i64> = row.scores.iter().map(|score| i64::from(score.unwrap_or(0))).collect();
            classes.resize(columns, 0);
            classes
        });
        let classes = TensorData::new(classes.collect::<Vec<_>>(), [rows.len(), columns]);
        let sentences: Vec<f32> = rows.iter().map(|row| f32::from(row.sentence)).collect();
        Self {
            classes: Tensor::from_data(classes, device),
            weights: grid(rows.iter().map(weights), columns, device),
            means: grid(rows.iter().map(|row| mean_weights(row.ids.len())), columns, device),
            sentences: Tensor::from_data(TensorData::new(sentences, [rows.len()]), device),
            rows: totals.rows,
        }
    }
}

impl Tppo {
    /// Counts over the batch `rows`, when the recipe or all of `all` say what a class weighs.
    #[must_use]
    pub fn totals(&self, all: &[Scored], rows: &[&Scored]) -> Totals {
        Scored::totals(&self.weights(all), rows)
    }

    /// `lambda_local` times the class-weighted cross-entropy of the tokens, plus `lambda_global` times the squared error of
    /// the scores of the whole, which the mean of expected classes predicts [TPPO].
    ///
    /// # Shapes
    /// `logits` `[N, R, 3]`; result a scalar.
    #[must_use]
    pub fn loss(&self, logits: Tensor<3>, targets: Targets) -> Tensor<1> {
        let Targets { classes, weights, means, sentences, rows } = targets;
        let predicted = weighted_sum(expected_class(logits.clone()), means);
        class_cross_entropy(logits, classes, weights) * self.lambda_local.get()
            + squared_error(predicted, sentences, rows) * self.lambda_global.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_weigh_the_same_unless_told_otherwise() {
        let row = |scores: &[Option<u8>]| Scored {
            prompt: vec![1],
            ids: vec![2; scores.len()],
            scores: scores.to_vec(),
            sentence: 1,
        };
        let rows = [row(&[Some(0), Some(2), Some(2), None]), row(&[Some(2)])];
        let mut tppo: Tppo = serde_json::from_value(serde_json::json!({})).unwrap();
        // Class 1 does not occur: it neither weighs nor dilutes.
        let [bad, _, good] = tppo.weights(&rows);
        assert!((bad - 2.0).abs() < 1e-12 && (good - 4.0 / 6.0).abs() < 1e-12, "{bad} {good}");
        tppo = serde_json::from_value(serde_json::json!({ "class_weights": [3.0, 1.0, 0.5] })).unwrap();
        assert!((tppo.weights(&rows)[2] - 0.5).abs() < 1e-12);
    }
}

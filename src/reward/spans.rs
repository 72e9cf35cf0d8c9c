//! Learning from error spans: does this span have an error of the category, asked at its last token [FG-RLHF].

use burn::tensor::{Device, Tensor};

use super::Kind;
use super::loss::span_cross_entropy;
use super::train::{Example, grid};
use crate::labels::spans::Span;
use crate::model::{Batch, Model, Pair};

/// A response cut into spans.
#[derive(Clone, Debug, PartialEq)]
pub struct Marked {
    /// Prompt ids.
    pub prompt: Vec<u32>,
    /// Response ids.
    pub ids: Vec<u32>,
    /// Its spans, in order.
    pub spans: Vec<Span>,
}

impl Marked {
    /// A value for every token: that of the span which ends there, zero where none does.
    fn row(&self, value: impl Fn(&Span) -> f32) -> Vec<f32> {
        let mut row = vec![0.0; self.ids.len()];
        for span in &self.spans {
            row[span.last] = value(span);
        }
        row
    }
}

impl Example for Marked {
    type Prior = ();
    type Totals = usize;

    fn prior(_: &Kind, _: &[Self]) {}

    fn rows(&self) -> Vec<Pair<'_>> {
        vec![Pair { prompt: &self.prompt, response: &self.ids }]
    }

    fn totals((): &(), rows: &[&Self]) -> usize {
        rows.iter().map(|row| row.spans.len()).sum()
    }

    fn judged(spans: &usize) -> f64 {
        (*spans).max(1) as f64
    }

    fn loss(_: &Kind, model: &Model, rows: &[&Self], spans: &usize, pad: u32, device: &Device) -> (Tensor<1>, f64) {
        let pairs: Vec<Pair> = rows.iter().flat_map(|row| row.rows()).collect();
        let batch = Batch::new(&pairs, pad, device);
        let columns = batch.response_columns;
        let logits = model.at_response(&batch).reshape([rows.len(), columns]);
        let signs = grid(rows.iter().map(|row| row.row(|span| if span.error { 1.0 } else { -1.0 })), columns, device);
        let right = (logits.clone().inner() * signs.clone()).greater_elem(0.0).float();
        let correct = f64::from(right.sum().into_scalar::<f32>());
        (span_cross_entropy(logits, signs, *spans), correct)
    }
}

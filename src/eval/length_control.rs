//! Length-controlled win rates: what a model would win if its outputs were as long as the baseline's
//! [LENGTH-CONTROLLED].
//!
//! A logistic model explains the preferences by the difference of lengths, the difficulty of the instruction and the
//! model itself; the rate is its mean prediction without the first. From given weights, or fitted here.

use std::collections::BTreeMap;

use serde::Serialize;

use super::alpaca_eval::{mean, share, standard_deviation, standard_error};
use super::annotations::{Annotation, AnnotationError};
use super::logistic::{Sample, sigmoid};

/// Folds of the cross-validation.
const FOLDS: usize = 5;

/// A length-controlled win rate, under AlpacaEval's names, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LengthControlled {
    /// 100 x the mean of the predicted probabilities that the model wins, at equal lengths.
    pub length_controlled_winrate: f64,
    /// 100 x the standard error of that mean over instructions: how much predictions differ, not how sure the fit is.
    pub lc_standard_error: Option<f64>,
}

/// The logistic model's weights of one model against one baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GlmWeights {
    /// Of tanh of the standardised difference of lengths, `np.tanh(std_delta_len)`.
    pub length: f64,
    /// Of the instruction's difficulty, `instruction_difficulty`.
    pub difficulty: f64,
    /// Of being the model and not the baseline, `not_gamed_baseline.astype(float)`.
    pub model: f64,
}

/// Which difficulty belongs to an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// That of its `instruction_index`.
    Instruction,
    /// That of its row in the file: what AlpacaEval does, also where rows are missing and all later ones move up.
    AlpacaEvalCompat,
}

/// Why a table of weights or difficulties cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No comma-separated values.
    #[error("expected comma-separated values: {0}")]
    Csv(String),
    /// A column is missing.
    #[error("expected a column `{expected}`, found {found}")]
    Column {
        /// Its name.
        expected: &'static str,
        /// The columns that are there.
        found: String,
    },
    /// A cell is wrong, or its row's name.
    #[error("line {line}: expected {expected}, found `{found}`")]
    Cell {
        /// The line in the file, from 1.
        line: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// Why a length-controlled rate cannot be fitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// Less than one preference a fold.
    #[error("expected at least {FOLDS} preferences to fit a length-controlled win rate, found {0}")]
    TooFew(usize),
    /// Lengths do not vary.
    #[error(
        "expected the difference of lengths to vary between rows, found the same everywhere: nothing to control for"
    )]
    SameLengths,
}

impl GlmWeights {
    /// The weights of every model in a table as AlpacaEval writes them: names in the first column.
    ///
    /// # Errors
    /// A column is missing, a cell is no finite number, a model has two rows.
    pub fn read_all(text: &str) -> Result<BTreeMap<String, Self>, TableError> {
        let columns = ["np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)"];
        let rows = table(text, columns, |name| (!name.is_empty()).then(|| name.to_owned()), "a model's name")?;
        let weights = |[length, difficulty, model]: [f64; 3]| Self { length, difficulty, model };
        Ok(rows.into_iter().map(|(name, row)| (name, weights(row))).collect())
    }

    /// The weights of one model against another, from those of both against a third.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            length: self.length - other.length,
            difficulty: self.difficulty - other.difficulty,
            model: self.model - other.model,
        }
    }

    /// The rate on instructions of these difficulties; none without any.
    #[must_use]
    pub fn length_controlled(&self, difficulties: &[f64]) -> Option<LengthControlled> {
        let predict = |difficulty: &f64| 100.0 * sigmoid(self.model + self.difficulty * difficulty);
        let predictions: Vec<f64> = difficulties.iter().map(predict).collect();
        Some(LengthControlled {
            length_controlled_winrate: mean(&predictions)?,
            lc_standard_error: standard_error(&predictions),
        })
    }

    /// The weights that explain `comparisons`: an L1-regularised logistic regression on tanh of the standardised
    /// difference of lengths (baseline less model), the difficulty and a constant. Its strength is chosen by
    /// cross-validation over five folds: of comparison i of those with a known share, fold `group mod 5`.
    ///
    /// AlpacaEval's `length_controlled_noreg`: its `length_controlled_v1` also trains on two baselines that were told to
    /// be verbose or concise.
    ///
    /// # Errors
    /// Too few shares, or differences of lengths without spread.
    pub fn fit(comparisons: &[Compared]) -> Result<Self, FitError> {
        let differences: Vec<f64> = comparisons.iter().map(|c| c.lengths[0] - c.lengths[1]).collect();
        let known: Vec<(&Compared, &f64, f64)> = comparisons
            .iter()
            .zip(&differences)
            .filter_map(|(c, difference)| Some((c, difference, c.share?)))
            .collect();
        if known.len() < FOLDS {
            return Err(FitError::TooFew(known.len()));
        }
        let spread = standard_deviation(&differences).filter(|spread| *spread > 0.0).ok_or(FitError::SameLengths)?;
        let row = |(c, difference, _): &(&Compared, &f64, f64)| vec![(*difference / spread).tanh(), c.difficulty, 1.0];
        let features: Vec<Vec<f64>> = known.iter().map(row).collect();
        let targets: Vec<f64> = known.iter().map(|(_, _, share)| *share).collect();
        let folds: Vec<usize> = known.iter().map(|(c, ..)| c.group % FOLDS).collect();
        let fitted = Sample { features: &features, targets: &targets }.cross_validated(&folds);
        let [length, difficulty, model] = [0, 1, 2].map(|i| fitted.weights[i]);
        Ok(Self { length, difficulty, model })
    }
}

/// One comparison with the baseline, as a length-controlled rate sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// The model's share of the win: 1, 0, or between; none where nobody decided.
    pub share: Option<f64>,
    /// Lengths of the baseline's and the model's output, in any one unit.
    pub lengths: [f64; 2],
    /// How hard the instruction is; 0 for all where nothing is known.
    pub difficulty: f64,
    /// What may not be torn apart by the cross-validation, such as a prompt that several seeds answer.
    pub group: usize,
}

impl Compared {
    /// The comparisons behind `annotations`, each decided one a group of its own.
    ///
    /// # Errors
    /// The length of an output is not known.
    pub fn of(annotations: &[Annotation], difficulties: &[f64]) -> Result<Vec<Self>, AnnotationError> {
        let mut decided = 0;
        let rows = annotations.iter().zip(difficulties).enumerate();
        rows.map(|(row, (annotation, &difficulty))| {
            let share = annotation.preference.and_then(share);
            let group = decided;
            decided += usize::from(share.is_some());
            let [Some(baseline), Some(model)] = annotation.lengths else {
                let key = if annotation.lengths[0].is_none() { "output_1" } else { "output_2" };
                return Err(missing(row, &format!("`{key}` or `{key}_chars`, to know lengths")));
            };
            Ok(Self { share, lengths: [baseline, model], difficulty, group })
        })
        .collect()
    }
}

/// Difficulties by instruction, from a table with their numbers in the first column, as AlpacaEval writes it.
///
/// # Errors
/// No column `instruction_difficulty`, a cell that is no finite number, an instruction that is no number or comes twice.
pub fn read_difficulties(text: &str) -> Result<BTreeMap<usize, f64>, TableError> {
    let rows = table(text, ["instruction_difficulty"], |name| name.parse().ok(), "an instruction's number, from 0")?;
    Ok(rows.into_iter().map(|(instruction, [difficulty])| (instruction, difficulty)).collect())
}

/// The difficulty of every annotation.
///
/// # Errors
/// An annotation says no instruction, or one that has no difficulty.
pub fn difficulties(
    annotations: &[Annotation],
    table: &BTreeMap<usize, f64>,
    index: Index,
) -> Result<Vec<f64>, AnnotationError> {
    let known = table.last_key_value().map_or(0, |(last, _)| *last);
    let find = |(row, annotation): (usize, &Annotation)| {
        let instruction = match index {
            Index::AlpacaEvalCompat => row,
            Index::Instruction => annotation.instruction.ok_or_else(|| missing(row, "`instruction_index`"))?,
        };
        table.get(&instruction).copied().ok_or_else(|| AnnotationError::Row {
            row,
            expected: format!("an instruction that has a difficulty (0 to {known})"),
            found: format!("{instruction}"),
        })
    };
    annotations.iter().enumerate().map(find).collect()
}

fn missing(row: usize, expected: &str) -> AnnotationError {
    AnnotationError::Row { row, expected: expected.to_owned(), found: "none".to_owned() }
}

/// Rows of comma-separated values: what `name` makes of the first cell, and the numbers under `columns`.
fn table<K: Ord, const N: usize>(
    text: &str,
    columns: [&'static str; N],
    name: fn(&str) -> Option<K>,
    named: &str,
) -> Result<BTreeMap<K, [f64; N]>, TableError> {
    let broken = |error: csv::Error| TableError::Csv(error.to_string());
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(broken)?.clone();
    let mut places = [0; N];
    for (place, &column) in places.iter_mut().zip(&columns) {
        *place = header.iter().skip(1).position(|found| found == column).map(|place| place + 1).ok_or_else(|| {
            let found: Vec<String> = header.iter().map(|found| format!("`{found}`")).collect();
            TableError::Column { expected: column, found: found.join(", ") }
        })?;
    }
    let mut rows = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |expected: &str, found: &str| TableError::Cell {
            line,
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        let first = record.get(0).unwrap_or_default();
        let key = name(first).ok_or_else(|| cell(named, first))?;
        let mut numbers = [0.0; N];
        for ((number, &place), column) in numbers.iter_mut().zip(&places).zip(columns) {
            let text = record.get(place).unwrap_or_default();
            let parsed = text.parse().ok().filter(|x: &f64| x.is_finite());
            *number = parsed.ok_or_else(|| cell(&format!("a number under `{column}`"), text))?;
        }
        if rows.insert(key, numbers).is_some() {
            return Err(cell(&format!("{named} that no earlier row has"), first));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_whatever_their_first_column_is_called() {
        let text = "\u{20},np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)\r\n\"a, b\",-1,0.5,2e-1\r\n";
        let expected = GlmWeights { length: -1.0, difficulty: 0.5, model: 0.2 };
        assert_eq!(GlmWeights::read_all(text).unwrap(), BTreeMap::from([("a, b".to_owned(), expected)]));
        assert_eq!(
            read_difficulties("i,instruction_difficulty\n1,0.5\n0,-1\n").unwrap(),
            BTreeMap::from([(0, -1.0), (1, 0.5)])
        );
    }

    #[test]
    fn tables_with_faults_are_refused_with_their_place() {
        let error = |text: &str| read_difficulties(text).unwrap_err().to_string();
        assert_eq!(error("i,difficulty\n"), "expected a column `instruction_difficulty`, found `i`, `difficulty`");
        assert_eq!(
            error("i,instruction_difficulty\n0,1\nx,2\n"),
            "line 3: expected an instruction's number, from 0, found `x`"
        );
        assert_eq!(
            error("i,instruction_difficulty\n0,\n"),
            "line 2: expected a number under `instruction_difficulty`, found ``"
        );
        assert_eq!(
            error("i,instruction_difficulty\n0,nan\n"),
            "line 2: expected a number under `instruction_difficulty`, found `nan`"
        );
        assert_eq!(
            error("i,instruction_difficulty\n0,1\n0,2\n"),
            "line 3: expected an instruction's number, from 0 that no earlier row has, found `0`"
        );
        assert!(error("i,instruction_difficulty\n0\n").starts_with("expected comma-separated values: "));
    }

    #[test]
    fn difficulties_go_by_instruction_or_by_row() {
        let at = |instruction| Annotation { instruction, ..Annotation::default() };
        let table = BTreeMap::from([(0, 0.0), (1, 1.0), (2, 2.0)]);
        let rows = [at(Some(0)), at(Some(2))];
        assert_eq!(difficulties(&rows, &table, Index::Instruction).unwrap(), [0.0, 2.0]);
        assert_eq!(difficulties(&rows, &table, Index::AlpacaEvalCompat).unwrap(), [0.0, 1.0]);
        let error = |row, index| difficulties(&[at(row)], &BTreeMap::new(), index).unwrap_err().to_string();
        assert_eq!(error(None, Index::Instruction), "row 0 (from 0): expected `instruction_index`, found none");
        assert!(error(None, Index::AlpacaEvalCompat).contains("an instruction that has a difficulty"));
    }

    #[test]
    fn a_model_that_wins_by_length_alone_is_worth_half() {
        // Longer outputs win whoever wrote them.
        let compared = |i: usize| {
            let lengths = if i.is_multiple_of(3) { [120.0, 80.0] } else { [80.0, 120.0 + (i % 7) as f64] };
            let share = f64::from(u8::from(lengths[1] > lengths[0]));
            Compared { share: Some(if i % 11 == 5 { 1.0 - share } else { share }), lengths, difficulty: 0.0, group: i }
        };
        let rows: Vec<Compared> = (0..600).map(compared).collect();
        let weights = GlmWeights::fit(&rows).unwrap();
        let found = weights.length_controlled(&[0.0]).unwrap();
        let raw = 100.0 * rows.iter().filter_map(|row| row.share).sum::<f64>() / 600.0;
        assert!(raw > 60.0 && weights.length < -1.0, "{raw}, {weights:?}");
        assert!((found.length_controlled_winrate - 50.0).abs() < 5.0, "{found:?}");
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        let row = Compared { share: Some(1.0), lengths: [3.0, 5.0], difficulty: 0.0, group: 0 };
        assert_eq!(GlmWeights::fit(&[row; 4]), Err(FitError::TooFew(4)));
        assert_eq!(GlmWeights::fit(&[row; 9]), Err(FitError::SameLengths));
    }
}

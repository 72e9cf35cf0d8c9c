//! `runner winrate`: AlpacaEval's numbers of files of pairwise annotations.
//!
//! Reads files and shows; what the numbers are is `eval`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::{fs, iter};

use clap::{Args, ValueEnum};
use flate2::read::MultiGzDecoder;

use super::output::{self, Failure, note, table};
use crate::eval::{
    AlpacaEval, Annotation, Compared, GlmWeights, Index, LengthControlled, difficulties, read_difficulties,
};

#[derive(Args)]
pub(super) struct WinrateArgs {
    /// Annotations as AlpacaEval writes them: a JSON array or JSON Lines of rows with `preference`, also gzipped; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Weights of AlpacaEval's length-controlled model (CSV, a row for each model); wants `--difficulties`
    #[arg(long, value_name = "FILE", requires = "difficulties", conflicts_with = "fit")]
    weights: Option<PathBuf>,
    /// Difficulties of the instructions (CSV); for `--weights`, or for `--fit`
    #[arg(long, value_name = "FILE")]
    difficulties: Option<PathBuf>,
    /// Whose difficulty a row takes
    #[arg(long, value_enum, default_value_t = By::Instruction, requires = "difficulties")]
    index: By,
    /// The model's row in the weights [default: the file's `generator_2`]; for one file
    #[arg(long, value_name = "NAME", requires = "weights")]
    model: Option<String>,
    /// Fit the length-controlled model to each file instead of taking weights
    #[arg(long)]
    fit: bool,
    /// Write one JSON object a line, one for each file
    #[arg(long)]
    json: bool,
}

/// How a row finds its difficulty.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum By {
    /// That of its `instruction_index`
    Instruction,
    /// That of its place in the file, as in AlpacaEval's published numbers
    AlpacaEvalCompat,
}

/// What is needed for a length-controlled rate.
struct Control {
    /// By model; to be fitted where there are none.
    weights: Option<BTreeMap<String, GlmWeights>>,
    /// By instruction.
    difficulties: Option<BTreeMap<usize, f64>>,
    index: Index,
    /// The model's name in the weights, if it is not the file's.
    model: Option<String>,
}

pub(super) fn winrate(args: &WinrateArgs) -> Result<(), Failure> {
    if args.difficulties.is_some() && args.weights.is_none() && !args.fit {
        return Err(Failure::usage("expected `--weights FILE` or `--fit` beside `--difficulties`"));
    }
    if args.model.is_some() && args.files.len() > 1 {
        return Err(Failure::usage(format!("expected one file with `--model`, found {}", args.files.len())));
    }
    let control = control(args)?;
    let (mut results, mut faults) = (Vec::new(), Vec::new());
    for path in &args.files {
        match evaluate(path, control.as_ref()) {
            Ok(result) => results.push(result),
            Err(fault) => faults.push(format!("`{}`: {fault}", path.display())),
        }
    }
    if !faults.is_empty() {
        return Err(Failure::usage(faults.join("\nerror: ")));
    }
    if args.json {
        let line = |result: &AlpacaEval| serde_json::to_string(result).expect("names and finite numbers are JSON");
        return output::data(&results.iter().map(line).collect::<Vec<_>>().join("\n"));
    }
    output::data(&shown(&args.files, &results, control.is_some()))
}

fn control(args: &WinrateArgs) -> Result<Option<Control>, Failure> {
    if args.weights.is_none() && !args.fit {
        return Ok(None);
    }
    let fault = |path: &Path, error: &dyn Display| Failure::usage(format!("`{}`: {error}", path.display()));
    let weights = args.weights.as_deref().map(|path| {
        let text = text(path).map_err(|error| fault(path, &error))?;
        GlmWeights::read_all(&text).map_err(|error| fault(path, &error))
    });
    let difficulties = args.difficulties.as_deref().map(|path| {
        let text = text(path).map_err(|error| fault(path, &error))?;
        read_difficulties(&text).map_err(|error| fault(path, &error))
    });
    let index = match args.index {
        By::Instruction => Index::Instruction,
        By::AlpacaEvalCompat => Index::AlpacaEvalCompat,
    };
    let model = args.model.clone();
    Ok(Some(Control { weights: weights.transpose()?, difficulties: difficulties.transpose()?, index, model }))
}

/// The numbers of one file; what is odd about it is said on the way.
fn evaluate(path: &Path, control: Option<&Control>) -> Result<AlpacaEval, String> {
    let annotations = Annotation::read_all(&text(path)?).map_err(|error| error.to_string())?;
    let left_out = AlpacaEval::left_out(&annotations);
    let found = |row: usize| annotations[row].preference.unwrap_or_default();
    if let Some(&first) = left_out.first() {
        note(format!(
            "warning: `{}`: left out, as AlpacaEval does: {} of {} preferences, which are neither in 1 to 2 nor 0; the first \
             is {} in row {first} (from 0)",
            path.display(),
            left_out.len(),
            annotations.len(),
            found(first),
        ));
    }
    let mut result = AlpacaEval::new(&annotations).ok_or_else(|| {
        let first = left_out.first().map_or(0, |&row| row);
        format!("expected a preference from 1 to 2, or 0 for a draw, found none; row {first} has {}", found(first))
    })?;
    for warning in warnings(&annotations) {
        note(format!("warning: `{}`: {warning}", path.display()));
    }
    if let Some(control) = control {
        result.length_controlled = Some(control.rate(path, &annotations)?);
    }
    Ok(result)
}

/// What AlpacaEval does not look at, and a reader should.
fn warnings(annotations: &[Annotation]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (side, key) in [(0, "generator_1"), (1, "generator_2")] {
        let names: Vec<String> = names(annotations, side).iter().map(|name| format!("`{name}`")).collect();
        if names.len() > 1 {
            warnings.push(format!("expected one `{key}` in all rows, found {}: {}", names.len(), names.join(", ")));
        }
    }
    let mut seen = BTreeSet::new();
    let twice: Vec<usize> =
        annotations.iter().filter_map(|row| row.instruction).filter(|instruction| !seen.insert(*instruction)).collect();
    if let Some(first) = twice.first() {
        warnings.push(format!(
            "counted again, as AlpacaEval does: {} of {} rows, which repeat an instruction; the first has \
             `instruction_index` {first}",
            twice.len(),
            annotations.len()
        ));
    }
    warnings
}

fn names(annotations: &[Annotation], side: usize) -> BTreeSet<&str> {
    annotations.iter().filter_map(|annotation| annotation.generators[side].as_deref()).collect()
}

impl Control {
    fn rate(&self, path: &Path, annotations: &[Annotation]) -> Result<LengthControlled, String> {
        let by = |table: &BTreeMap<usize, f64>, index| {
            difficulties(annotations, table, index).map_err(|error| error.to_string())
        };
        let (baseline, model) = (names(annotations, 0), names(annotations, 1));
        let own = baseline.len() == 1 && baseline == model && self.model.is_none();
        let given = match &self.weights {
            // Against itself a model has no weights, by construction, and nothing can be fitted.
            _ if own => Some(GlmWeights::default()),
            Some(weights) => Some(self.given(weights, &baseline, &model)?),
            None => None,
        };
        let hardness = match &self.difficulties {
            None => vec![0.0; annotations.len()],
            Some(table) => by(table, self.index).map_err(|error| {
                let unnumbered = annotations.iter().any(|annotation| annotation.instruction.is_none());
                let hint = "\n\nhint: `--index alpaca_eval_compat` goes by the row's place in the file";
                if unnumbered && self.index == Index::Instruction { error + hint } else { error }
            })?,
        };
        let fitted = || -> Result<GlmWeights, String> {
            let compared = Compared::of(annotations, &hardness).map_err(|error| error.to_string())?;
            GlmWeights::fit(&compared).map_err(|error| error.to_string())
        };
        let weights = given.map_or_else(fitted, Ok)?;
        let rate =
            |hardness: &[f64]| weights.length_controlled(hardness).ok_or("expected at least one row, found none");
        // Where the two ways differ, a reader who compares with published numbers has to know.
        if let (Some(table), Index::Instruction) = (&self.difficulties, self.index)
            && let Ok(compat) = by(table, Index::AlpacaEvalCompat)
            && compat != hardness
        {
            let other = rate(&compat)?.length_controlled_winrate;
            note(format!(
                "note: `{}`: rows stand elsewhere than their instructions; by place, as AlpacaEval publishes it, the \
                 length-controlled win rate is {other:.6} (`--index alpaca_eval_compat`)",
                path.display()
            ));
        }
        Ok(rate(&hardness)?)
    }

    /// The model's weights less the baseline's. A baseline without a row is the one that all are measured against.
    fn given(
        &self,
        weights: &BTreeMap<String, GlmWeights>,
        baseline: &BTreeSet<&str>,
        model: &BTreeSet<&str>,
    ) -> Result<GlmWeights, String> {
        let one = |names: &BTreeSet<&str>, key: &str| match names.len() {
            0 | 1 => Ok(names.first().map(|name| (*name).to_owned())),
            n => Err(format!("expected one `{key}` to look up its weights, found {n}")),
        };
        let model = match &self.model {
            Some(model) => model.clone(),
            None => one(model, "generator_2")?.ok_or("expected `generator_2` to look up its weights, found none")?,
        };
        let own = weights.get(&model).ok_or_else(|| {
            let known: Vec<String> = weights.keys().map(|name| format!("`{name}`")).collect();
            format!(
                "expected a model that has weights ({}), found `{model}`; `--model NAME` names its row",
                known.join(", ")
            )
        })?;
        let baseline = one(baseline, "generator_1")?.and_then(|baseline| weights.get(&baseline)).copied();
        Ok(own.minus(baseline.unwrap_or_default()))
    }
}

fn shown(files: &[PathBuf], results: &[AlpacaEval], controlled: bool) -> String {
    let mut head = vec!["file", "win rate", "SE", "wins", "losses", "draws", "total", "discrete", "length"];
    if controlled {
        head.extend(["length-controlled", "SE"]);
    }
    let percent = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let row = |(file, result): (&PathBuf, &AlpacaEval)| -> Vec<String> {
        let counts = [result.n_wins, result.n_wins_base, result.n_draws, result.n_total].map(|n| n.to_string());
        let rest = [
            percent(Some(result.discrete_win_rate)),
            result.avg_length.map_or_else(|| "-".to_owned(), |length| length.to_string()),
        ];
        let control = result
            .length_controlled
            .map(|control| [percent(Some(control.length_controlled_winrate)), percent(control.lc_standard_error)]);
        iter::once(file.display().to_string())
            .chain([percent(Some(result.win_rate)), percent(result.standard_error)])
            .chain(counts)
            .chain(rest)
            .chain(control.into_iter().flatten())
            .collect()
    };
    table(&head, &files.iter().zip(results).map(row).collect::<Vec<_>>())
}

/// The text of a file, unpacked where it is packed by gzip, without the mark that some programs put before it.
fn text(path: &Path) -> Result<String, String> {
    let refused = |error: io::Error| format!("cannot read it: {error}");
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().read_to_end(&mut bytes).map_err(refused)?;
    } else {
        bytes = fs::read(path).map_err(refused)?;
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let packed = std::mem::take(&mut bytes);
        MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).map_err(refused)?;
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        format!("expected UTF-8 text, found other bytes from offset {}", error.utf8_error().valid_up_to())
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

//! The rows of files, one after another, whatever the files are: a file larger than memory is never held.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use minijinja::Value;
use minijinja::value::{DynObject, ValueKind};
use polars::prelude::{AnyValue, DataFrame, ParquetReader, PolarsResult, SerReader};
use polars_arrow::array::Array;
use polars_arrow::io::ipc::read::{FileReader, StreamReader, StreamState, read_file_metadata, read_stream_metadata};
use polars_arrow::record_batch::RecordBatchT;
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::example::{Fault, Kind as Bad};
use super::files::{Kind, expand, open};
use super::marked::{MARK, Marked};

/// One row: its columns by name. The values are those that templates know: objects in them keep the order of the file.
pub type Row = BTreeMap<String, Value>;

/// Where a row stands: the file, and its line or number from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: String,
    /// What `number` counts: `line` or `row`.
    pub unit: &'static str,
    /// From 1.
    pub number: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "`{}`, {} {}", self.file, self.unit, self.number)
    }
}

/// Bytes of a Parquet file that are held at a time, about.
const PART: usize = 64 << 20;

/// Gives every row of the files that `path` means to `take`, or why it cannot be read, until `take` says that it is enough.
///
/// # Errors
/// When a file cannot be read at all; what is wrong with a single row goes to `take`.
pub fn read(path: &Path, take: &mut dyn FnMut(Place, Result<Row, Fault>) -> bool) -> Result<()> {
    for file in expand(path)? {
        let (kind, text) = open(&file)?;
        let shown = file.display().to_string();
        let mut take = |unit, number, row| take(Place { file: shown.clone(), unit, number }, row);
        let more = match kind {
            Kind::JsonLines => lines(text, &mut take),
            Kind::JsonArray => array(text, &mut take),
            Kind::Separated(separator) => separated(text, separator, &mut take),
            Kind::Parquet => parquet(&file, &mut take),
            Kind::Arrow => arrow(&file, &mut take),
            Kind::ArrowStream => arrow_stream(&file, &mut take),
        };
        if !more.with_context(|| format!("`{}`", file.display()))? {
            break;
        }
    }
    Ok(())
}

/// A row with its unit and number; false when it was enough.
type Take<'a> = &'a mut dyn FnMut(&'static str, usize, Result<Row, Fault>) -> bool;

fn row(value: &Value) -> Result<Row, Fault> {
    let fields = value.as_object().filter(|_| value.kind() == ValueKind::Map).and_then(DynObject::try_iter_pairs);
    let fields = fields.ok_or_else(|| (Bad::Unreadable, format!("expected an object, found {}", named(value))))?;
    Ok(fields.map(|(name, value)| (name.as_str().unwrap_or_default().to_owned(), value)).collect())
}

/// What kind of value that is, for messages.
#[must_use]
pub fn named(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Bool => "true or false",
        ValueKind::Number => "a number",
        ValueKind::String => "a text",
        ValueKind::Seq => "a list",
        ValueKind::Map => "an object",
        _ => "null",
    }
}

/// The items of a list.
#[must_use]
pub fn items(value: &Value) -> Option<Vec<Value>> {
    (value.kind() == ValueKind::Seq).then(|| value.try_iter().ok())?.map(Iterator::collect)
}

fn lines(mut text: Box<dyn BufRead>, take: Take) -> Result<bool> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if text.read_until(b'\n', &mut line).with_context(|| format!("line {number}"))? == 0 {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let found = match std::str::from_utf8(&line) {
            Err(error) => Err((
                Bad::InvalidUtf8,
                format!("expected UTF-8, found other bytes from byte {}", error.valid_up_to() + 1),
            )),
            Ok(line) => serde_json::from_str(line)
                .map_err(|error| (Bad::Unreadable, bare(&error)))
                .and_then(|value| row(&value)),
        };
        if !take("line", number, found) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A message of `serde_json` without its place, which counts from the row.
fn bare(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).map_or(text.clone(), |bare| format!("{bare} (column {})", error.column()))
}

fn array(text: Box<dyn BufRead>, take: Take) -> Result<bool> {
    struct Rows<'a>(Take<'a>, &'a Cell<bool>);

    impl<'de> Visitor<'de> for Rows<'_> {
        type Value = bool;

        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("an array of objects")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
            let mut number = 0;
            while let Some(value) = seq.next_element::<Value>()? {
                number += 1;
                let is_marked = self.1.get() && serde_json::to_string(&value).is_ok_and(|text| text.contains(MARK));
                let utf8 = || (Bad::InvalidUtf8, "expected UTF-8, found other bytes".to_owned());
                if !(self.0)("row", number, if is_marked { Err(utf8()) } else { row(&value) }) {
                    while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }

    impl<'de> DeserializeSeed<'de> for Rows<'_> {
        type Value = bool;

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
            deserializer.deserialize_seq(self)
        }
    }

    let (text, any) = Marked::new(text);
    let mut deserializer = serde_json::Deserializer::from_reader(text);
    let more = Rows(take, &any).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(more)
}

fn separated(text: Box<dyn BufRead>, separator: u8, take: Take) -> Result<bool> {
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(text);
    let names = reader.headers().context("the line with the names")?.clone();
    let mut record = csv::StringRecord::new();
    loop {
        let number = usize::try_from(reader.position().line()).unwrap_or(usize::MAX);
        let found = match reader.read_record(&mut record) {
            Ok(false) => return Ok(true),
            Ok(true) if record.len() != names.len() => {
                Err((Bad::Unreadable, format!("expected {} values, found {}", names.len(), record.len())))
            }
            Ok(true) => Ok(names.iter().zip(&record).map(|(name, value)| (name.to_owned(), value.into())).collect()),
            Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
                Err((Bad::InvalidUtf8, "expected UTF-8, found other bytes".to_owned()))
            }
            Err(error) => return Err(error.into()),
        };
        // A quoted value may hold line breaks: a record is named by the line that it begins on.
        let number = record.position().filter(|_| found.is_ok()).map_or(number, |at| at.line() as usize);
        if !take("line", number, found) {
            return Ok(false);
        }
    }
}

/// A row group at a time, or a part of one that is large: what stands before a part is read again to find it.
fn parquet(path: &Path, take: Take) -> Result<bool> {
    let reader = || Ok::<_, anyhow::Error>(ParquetReader::new(BufReader::new(File::open(path)?)));
    let mut whole = reader()?;
    let groups = whole.get_metadata()?.row_groups.iter().map(|group| (group.num_rows(), group.total_byte_size()));
    let mut start = 0;
    for (rows, bytes) in groups {
        let part = rows.div_ceil(bytes.div_ceil(PART).max(1)).max(1);
        for first in (start..start + rows).step_by(part) {
            let frame = reader()?.with_slice(Some((first, part.min(start + rows - first)))).finish()?;
            if !table(&frame, first, take)? {
                return Ok(false);
            }
        }
        start += rows;
    }
    Ok(true)
}

fn arrow(path: &Path, take: Take) -> Result<bool> {
    let mut file = File::open(path)?;
    let metadata = read_file_metadata(&mut file)?;
    batches(FileReader::new(file, metadata, None, None), take)
}

fn arrow_stream(path: &Path, take: Take) -> Result<bool> {
    let mut file = BufReader::new(File::open(path)?);
    let metadata = read_stream_metadata(&mut file)?;
    let states = StreamReader::new(file, metadata, None);
    let whole = |state| match state {
        Ok(StreamState::Some(batch)) => Some(Ok(batch)),
        Ok(StreamState::Waiting) => None,
        Err(error) => Some(Err(error)),
    };
    batches(states.map_while(whole), take)
}

/// One batch after another: no more of a file is held than its largest one.
fn batches(batches: impl Iterator<Item = PolarsResult<RecordBatchT<Box<dyn Array>>>>, take: Take) -> Result<bool> {
    let mut first = 0;
    for batch in batches {
        let frame = DataFrame::from(batch?);
        if !table(&frame, first, take)? {
            return Ok(false);
        }
        first += frame.height();
    }
    Ok(true)
}

fn table(frame: &DataFrame, first: usize, take: Take) -> Result<bool> {
    for i in 0..frame.height() {
        let mut row = Row::new();
        for column in frame.columns() {
            let value = column.get(i).map_err(|error| anyhow!("column `{}`: {error}", column.name()))?;
            row.insert(column.name().to_string(), cell(&value));
        }
        if !take("row", first + i + 1, Ok(row)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A cell of a columnar file.
fn cell(value: &AnyValue) -> Value {
    let none = Value::from(());
    match value {
        AnyValue::Null => none,
        AnyValue::Boolean(value) => (*value).into(),
        AnyValue::String(text) => (*text).into(),
        AnyValue::StringOwned(text) => text.as_str().into(),
        AnyValue::List(series) => {
            (0..series.len()).map(|i| series.get(i).map_or_else(|_| none.clone(), |v| cell(&v))).collect()
        }
        AnyValue::Struct(..) | AnyValue::StructOwned(_) => {
            let (mut values, names) = (Vec::new(), fields(value));
            value._materialize_struct_av(&mut values);
            Value::from_pairs(names.into_iter().zip(values.iter().map(cell)))
        }
        AnyValue::Float32(_) | AnyValue::Float64(_) => value.extract::<f64>().map_or(none, Value::from),
        whole if whole.is_integer() => {
            let signed = whole.extract::<i64>().map(Value::from);
            signed.or_else(|| whole.extract::<u64>().map(Value::from)).unwrap_or(none)
        }
        other => other.to_string().into(),
    }
}

fn fields(value: &AnyValue) -> Vec<String> {
    match value {
        AnyValue::Struct(_, _, fields) => fields.iter().map(|field| field.name().to_string()).collect(),
        AnyValue::StructOwned(owned) => owned.1.iter().map(|field| field.name().to_string()).collect(),
        _ => Vec::new(),
    }
}

//! Pairwise annotations in AlpacaEval's format: two outputs to one instruction, and which is better.
//!
//! Reads text into checked rows, as lenient as AlpacaEval's own reader and no more. What follows from the rows is left to
//! `alpaca_eval` and `length_control`.

use serde_json::{Map, Value};

/// One judged pair of outputs: the baseline's first, the model's second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotation {
    /// The instruction's place in the benchmark, from 0, where the file says it (`instruction_index`).
    pub instruction: Option<usize>,
    /// Who wrote the outputs (`generator_1`, `generator_2`).
    pub generators: [Option<String>; 2],
    /// Lengths of the outputs in code points, from `output_1` and `output_2`, else from `output_1_chars` and
    /// `output_2_chars`.
    pub lengths: [Option<f64>; 2],
    /// As it stands in the file: 1 for the baseline, 2 for the model, between for how sure the annotator is, 1.5 and (in
    /// older files) 0 for a draw; none where the annotator's answer could not be read.
    pub preference: Option<f64>,
}

/// Why a text is no list of annotations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// No JSON, or not of this shape.
    #[error("expected a JSON array of annotations, or one JSON object after the other: {0}")]
    Json(String),
    /// A list of nothing.
    #[error("expected at least one annotation, found none")]
    Empty,
    /// No row has a preference.
    #[error("expected a number `preference` in at least one of {rows} rows, found none; row 0 has {keys}")]
    NoPreference {
        /// Rows in the file.
        rows: usize,
        /// The keys of the first.
        keys: String,
    },
    /// One row is wrong.
    #[error("row {row} (from 0): expected {expected}, found {found}")]
    Row {
        /// Index of the row.
        row: usize,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
}

impl Annotation {
    /// The annotations in `text`: a JSON array of objects, or objects one after the other (JSON Lines).
    ///
    /// A missing or null `preference` is an answer that could not be read. As Python's reader does, `NaN` is taken for
    /// null, half of a surrogate pair for one code point, and the last of two equal keys wins.
    ///
    /// # Errors
    /// Other text, no annotation, a row that is no object, a value of another type, no preference anywhere.
    pub fn read_all(text: &str) -> Result<Vec<Self>, AnnotationError> {
        let text = tolerated(text);
        let json = |error: serde_json::Error| AnnotationError::Json(error.to_string());
        let rows: Vec<Value> = if text.trim_start().starts_with('[') {
            serde_json::from_str(&text).map_err(json)?
        } else {
            serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().map_err(json)?
        };
        let Some(first) = rows.first() else { return Err(AnnotationError::Empty) };
        let annotations =
            rows.iter().enumerate().map(|(row, value)| Row::new(row, value)?.read()).collect::<Result<Vec<_>, _>>()?;
        if annotations.iter().all(|annotation| annotation.preference.is_none()) {
            let keys: Vec<String> =
                first.as_object().into_iter().flat_map(Map::keys).map(|k| format!("`{k}`")).collect();
            let keys = if keys.is_empty() { "no keys".to_owned() } else { keys.join(", ") };
            return Err(AnnotationError::NoPreference { rows: rows.len(), keys });
        }
        Ok(annotations)
    }
}

/// A row while it is read.
struct Row<'a> {
    row: usize,
    object: &'a Map<String, Value>,
}

impl<'a> Row<'a> {
    fn new(row: usize, value: &'a Value) -> Result<Self, AnnotationError> {
        match value {
            Value::Object(object) => Ok(Self { row, object }),
            other => Err(AnnotationError::Row { row, expected: "a JSON object".to_owned(), found: brief(other) }),
        }
    }

    fn read(&self) -> Result<Annotation, AnnotationError> {
        let count = |x: &f64| *x >= 0.0 && x.fract() == 0.0;
        let instruction = self.number("instruction_index", "a whole number, 0 or more", count)?;
        let generator = |key| self.value(key, "a text", |value| value.as_str().map(str::to_owned));
        let length = |text: &str, chars: &str| -> Result<Option<f64>, AnnotationError> {
            let written = self.value(text, "a text", |value| Some(value.as_str()?.chars().count() as f64))?;
            let said = self.number(chars, "a number of characters, 0 or more", |x| *x >= 0.0)?;
            match (written, said) {
                (Some(written), Some(said)) if written.to_bits() != said.to_bits() => {
                    Err(self.fault(chars, &format!("{written}, the length of `{text}`"), &said.to_string()))
                }
                (written, said) => Ok(written.or(said)),
            }
        };
        Ok(Annotation {
            #[allow(clippy::cast_sign_loss, reason = "whole and not negative")]
            instruction: instruction.map(|index| index as usize),
            generators: [generator("generator_1")?, generator("generator_2")?],
            lengths: [length("output_1", "output_1_chars")?, length("output_2", "output_2_chars")?],
            preference: self.number("preference", "a number (1 to 2, or 0 for a draw) or null", |_| true)?,
        })
    }

    fn number(&self, key: &str, expected: &str, fits: fn(&f64) -> bool) -> Result<Option<f64>, AnnotationError> {
        self.value(key, expected, |value| value.as_f64().filter(fits))
    }

    /// What `take` makes of the value under `key`; none where it is missing or null.
    fn value<T>(
        &self,
        key: &str,
        expected: &str,
        take: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, AnnotationError> {
        match self.object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => take(value).map(Some).ok_or_else(|| self.fault(key, expected, &brief(value))),
        }
    }

    fn fault(&self, key: &str, expected: &str, found: &str) -> AnnotationError {
        AnnotationError::Row { row: self.row, expected: format!("`{key}` to be {expected}"), found: found.to_owned() }
    }
}

/// A value in few words.
fn brief(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > 40 => "a long text".to_owned(),
        other => format!("`{other}`"),
    }
}

/// `text` with what Python's reader takes beyond JSON put into JSON: `NaN` as `null`, half of a surrogate pair as the
/// replacement character.
fn tolerated(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some(at) = rest.find(['"', '\\', 'N']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (taken, written) = if rest.starts_with('"') {
            quoted = !quoted;
            (1, "\"")
        } else if quoted && rest.starts_with('\\') {
            escape(rest)
        } else if !quoted && rest.starts_with("NaN") {
            (3, "null")
        } else {
            (1, &rest[..1])
        };
        out.push_str(written);
        rest = &rest[taken..];
    }
    out + rest
}

/// How many bytes the escape at the start of `text` takes, and what to write for it.
fn escape(text: &str) -> (usize, &str) {
    let surrogate = |at: usize, range: std::ops::Range<u32>| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        let unit = u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
        range.contains(&unit).then_some(())
    };
    if surrogate(0, 0xD800..0xDC00).and_then(|()| surrogate(6, 0xDC00..0xE000)).is_some() {
        (12, &text[..12])
    } else if surrogate(0, 0xD800..0xE000).is_some() {
        (6, "\\ufffd")
    } else {
        let taken = 1 + text[1..].chars().next().map_or(0, char::len_utf8);
        (taken, &text[..taken])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Annotation::read_all(text).unwrap_err().to_string()
    }

    #[test]
    fn arrays_and_objects_in_a_row_are_read_alike() {
        let one = r#"{"preference": 1.25, "output_2": "ä\"b", "instruction_index": 3, "generator_2": "m"}"#;
        let expected = Annotation {
            instruction: Some(3),
            generators: [None, Some("m".to_owned())],
            lengths: [None, Some(3.0)],
            preference: Some(1.25),
        };
        for text in [format!("[{one},\r\n{one}]"), format!("{one}\r\n{one}\r\n"), format!("\n{one}{one}")] {
            assert_eq!(Annotation::read_all(&text).unwrap(), [expected.clone(), expected.clone()], "{text}");
        }
    }

    #[test]
    fn what_python_writes_beyond_json_is_read() {
        let text =
            r#"[{"preference": NaN, "output_2": "NaN \\\" \ud83d\ude00 \ud83d."}, {"preference": 2, "preference": 1}]"#;
        let found = Annotation::read_all(text).unwrap();
        // NaN, space, backslash, quote, space, one smiley, space, half a smiley, full stop.
        assert_eq!((found[0].preference, found[0].lengths[1]), (None, Some(11.0)));
        assert_eq!(found[1].preference, Some(1.0));
    }

    #[test]
    fn what_is_no_list_of_annotations_is_refused_with_its_place() {
        assert_eq!(error("[]"), "expected at least one annotation, found none");
        assert_eq!(error(""), "expected at least one annotation, found none");
        assert!(error("[{\"preference\": 1},]").contains("at line 1 column 20"), "{}", error("[{\"preference\": 1},]"));
        assert!(error("[{\"preference\": Infinity}]").contains("line 1"));
        assert_eq!(error("[1]"), "row 0 (from 0): expected a JSON object, found `1`");
        assert_eq!(
            error(r#"[{"preference": 1}, {"preference": "2"}]"#),
            "row 1 (from 0): expected `preference` to be a number (1 to 2, or 0 for a draw) or null, found `\"2\"`"
        );
        assert_eq!(
            error(r#"{"preference": [1, 2]}"#),
            "row 0 (from 0): expected `preference` to be a number (1 to 2, or 0 for a draw) or null, found an array"
        );
        assert_eq!(
            error(r#"[{"preference": null, "x": 1}, {}]"#),
            "expected a number `preference` in at least one of 2 rows, found none; row 0 has `preference`, `x`"
        );
        assert_eq!(
            error(r#"[{"preference": 1, "output_2": "abc", "output_2_chars": 4}]"#),
            "row 0 (from 0): expected `output_2_chars` to be 3, the length of `output_2`, found 4"
        );
        assert!(error(r#"[{"preference": 1, "instruction_index": -1}]"#).contains("`instruction_index`"));
    }
}

//! What templates written for Jinja 2 expect of Python: methods of strings and dictionaries, how values are written, and
//! `json.dumps`.

use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind};

/// Has templates of `environment` know Python's methods, write values as Python does, and `tojson` as `json.dumps`.
pub fn speak(environment: &mut Environment) {
    environment.set_unknown_method_callback(|_, value, name, args| method(value, name, args));
    environment.set_formatter(|out, _, value| {
        out.write_str(&text(value)).map_err(|_| Error::new(ErrorKind::WriteFailure, "cannot write"))
    });
    environment.add_filter("tojson", |value: Value, options: Kwargs| to_json(&value, &options));
}

fn unknown() -> Error {
    Error::from(ErrorKind::UnknownMethod)
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Calls a method that Python's type has.
pub(super) fn method(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => string_method(value.as_str().unwrap_or_default(), method, args),
        ValueKind::Map => map_method(value, method, args),
        ValueKind::Seq => match method {
            "index" => {
                let (wanted,): (Value,) = from_args(args)?;
                let found = value.try_iter()?.position(|item| item == wanted);
                found.map(Value::from).ok_or_else(|| wrong(format!("{wanted} is not in the list")))
            }
            "count" => {
                let (wanted,): (Value,) = from_args(args)?;
                Ok(Value::from(value.try_iter()?.filter(|item| *item == wanted).count()))
            }
            _ => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let every = |test: fn(char) -> bool| Value::from(!text.is_empty() && text.chars().all(test));
    let cased =
        |other: fn(char) -> bool, own: fn(char) -> bool| Value::from(text.chars().any(own) && !text.chars().any(other));
    Ok(match method {
        "strip" | "lstrip" | "rstrip" => Value::from(strip(text, method, args)?),
        "split" => split(text, args)?,
        "rsplit" => rsplit(text, args)?,
        "splitlines" => {
            let (keep,): (Option<bool>,) = from_args(args)?;
            let lines = text
                .split_inclusive('\n')
                .map(|line| if keep == Some(true) { line } else { line.trim_end_matches(['\n', '\r']) });
            Value::from(lines.map(str::to_owned).collect::<Vec<_>>())
        }
        "startswith" => Value::from(affix(args, |part| text.starts_with(part))?),
        "endswith" => Value::from(affix(args, |part| text.ends_with(part))?),
        "removeprefix" => {
            let (part,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(part).unwrap_or(text))
        }
        "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(part).unwrap_or(text))
        }
        "upper" => Value::from(text.to_uppercase()),
        "lower" | "casefold" => Value::from(text.to_lowercase()),
        "title" => Value::from(title(text)),
        "capitalize" => Value::from(capitalize(text)),
        "replace" => {
            let (from, to, count): (&str, &str, Option<i64>) = from_args(args)?;
            Value::from(match count.and_then(|count| usize::try_from(count).ok()) {
                Some(count) => text.replacen(from, to, count),
                None => text.replace(from, to),
            })
        }
        "find" | "index" | "rfind" => {
            let (part,): (&str,) = from_args(args)?;
            let byte = if method == "rfind" { text.rfind(part) } else { text.find(part) };
            match byte {
                Some(byte) => Value::from(text[..byte].chars().count()),
                None if method == "index" => return Err(wrong("substring not found")),
                None => Value::from(-1),
            }
        }
        "count" => {
            let (part,): (&str,) = from_args(args)?;
            Value::from(if part.is_empty() { text.chars().count() + 1 } else { text.matches(part).count() })
        }
        "join" => {
            let (items,): (Value,) = from_args(args)?;
            let items: Vec<String> = items.try_iter()?.map(|item| self::text(&item)).collect();
            Value::from(items.join(text))
        }
        "isdigit" | "isdecimal" | "isnumeric" => every(char::is_numeric),
        "isalpha" => every(char::is_alphabetic),
        "isalnum" => every(char::is_alphanumeric),
        "isspace" => every(char::is_whitespace),
        "isupper" => cased(char::is_lowercase, char::is_uppercase),
        "islower" => cased(char::is_uppercase, char::is_lowercase),
        _ => return Err(unknown()),
    })
}

fn strip(text: &str, method: &str, args: &[Value]) -> Result<String, Error> {
    let (chars,): (Option<&str>,) = from_args(args)?;
    let is_stripped = |c: char| chars.map_or_else(|| c.is_whitespace(), |chars| chars.contains(c));
    let text = if method == "rstrip" { text } else { text.trim_start_matches(is_stripped) };
    Ok(if method == "lstrip" { text } else { text.trim_end_matches(is_stripped) }.to_owned())
}

fn split(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, most, options): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
    let most = most.or(options.get("maxsplit")?).and_then(|most| usize::try_from(most).ok());
    options.assert_all_used()?;
    let parts: Vec<String> = match (separator, most) {
        (Some(""), _) => return Err(wrong("empty separator")),
        (Some(separator), Some(most)) => text.splitn(most + 1, separator).map(str::to_owned).collect(),
        (Some(separator), None) => text.split(separator).map(str::to_owned).collect(),
        (None, None) => text.split_whitespace().map(str::to_owned).collect(),
        (None, Some(most)) => {
            let (mut parts, mut rest) = (Vec::new(), text.trim_start());
            while parts.len() < most && !rest.is_empty() {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                parts.push(rest[..end].to_owned());
                rest = rest[end..].trim_start();
            }
            parts.extend((!rest.is_empty()).then(|| rest.to_owned()));
            parts
        }
    };
    Ok(Value::from(parts))
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, most): (&str, Option<i64>) = from_args(args)?;
    if separator.is_empty() {
        return Err(wrong("empty separator"));
    }
    let most = most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
    let mut parts: Vec<String> = text.rsplitn(most, separator).map(str::to_owned).collect();
    parts.reverse();
    Ok(Value::from(parts))
}

fn affix(args: &[Value], test: impl Fn(&str) -> bool) -> Result<bool, Error> {
    let (parts,): (Value,) = from_args(args)?;
    match parts.as_str() {
        Some(part) => Ok(test(part)),
        None => Ok(parts.try_iter()?.any(|part| part.as_str().is_some_and(&test))),
    }
}

fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    first + &chars.as_str().to_lowercase()
}

fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

fn map_method(map: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    // A key of that name comes first only where it can be called, which data cannot.
    match method {
        "get" => {
            let (key, default): (Value, Option<Value>) = from_args(args)?;
            let found = map.get_item(&key)?;
            Ok(if found.is_undefined() { default.unwrap_or(Value::from(())) } else { found })
        }
        "keys" => Ok(Value::from(map.try_iter()?.collect::<Vec<_>>())),
        "values" => map.try_iter()?.map(|key| map.get_item(&key)).collect::<Result<Vec<_>, _>>().map(Value::from),
        "items" => {
            let pairs = map.try_iter()?.map(|key| map.get_item(&key).map(|value| Value::from(vec![key, value])));
            pairs.collect::<Result<Vec<_>, _>>().map(Value::from)
        }
        _ => Err(unknown()),
    }
}

/// A value as `str` writes it.
pub(super) fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        _ => repr(value),
    }
}

/// A value as `repr` writes it.
fn repr(value: &Value) -> String {
    let items = || value.try_iter().map(|items| items.map(|item| repr(&item)).collect::<Vec<_>>()).unwrap_or_default();
    match value.kind() {
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            let escaped = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r");
            let escaped = if quote == '\'' { escaped.replace('\'', "\\'") } else { escaped };
            format!("{quote}{escaped}{quote}")
        }
        ValueKind::Seq | ValueKind::Iterable => format!("[{}]", items().join(", ")),
        ValueKind::Map => {
            let keys: Vec<Value> = value.try_iter().map(Iterator::collect).unwrap_or_default();
            let pair =
                |key: &Value| format!("{}: {}", repr(key), repr(&value.get_item(key).unwrap_or(Value::UNDEFINED)));
            format!("{{{}}}", keys.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        _ => value.to_string(),
    }
}

/// `json.dumps(value, ensure_ascii=False, ...)`, which unlike Jinja's own filter escapes nothing for HTML.
pub(super) fn to_json(value: &Value, options: &Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = options.get("indent")?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(indent.as_usize().ok_or_else(|| wrong("expected a whole number as `indent`"))?),
        }),
    };
    let separators: Option<Vec<String>> = options.get("separators")?;
    let between = if indent.is_some() { "," } else { ", " };
    let separators = separators.unwrap_or_else(|| vec![between.to_owned(), ": ".to_owned()]);
    let [between, after_key] = separators.as_slice() else { return Err(wrong("expected two `separators`")) };
    let dump = Dump {
        indent,
        between,
        after_key,
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    if value.is_undefined() {
        return Err(wrong("an undefined value is not JSON"));
    }
    // What has no JSON is refused here; the text is written from the value itself, whose maps know the order of their keys.
    serde_json::to_value(value).map_err(|error| wrong(error.to_string()))?;
    let mut out = String::new();
    dump.write(value, 0, &mut out);
    Ok(out)
}

struct Dump<'a> {
    indent: Option<String>,
    between: &'a str,
    after_key: &'a str,
    ascii: bool,
    sorted: bool,
}

impl Dump<'_> {
    fn write(&self, value: &Value, depth: usize, out: &mut String) {
        let items = || value.try_iter().into_iter().flatten();
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = items().collect();
                self.list(['[', ']'], &items, depth, out, |item, out| self.write(item, depth + 1, out));
            }
            ValueKind::Map => {
                let pair = |key: Value| (key.to_string(), value.get_item(&key).unwrap_or_default());
                let mut pairs: Vec<(String, Value)> = items().map(pair).collect();
                if self.sorted {
                    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.list(['{', '}'], &pairs, depth, out, |(key, value), out| {
                    out.push_str(&self.string(key));
                    out.push_str(self.after_key);
                    self.write(value, depth + 1, out);
                });
            }
            ValueKind::String => out.push_str(&self.string(value.as_str().unwrap_or_default())),
            _ => out.push_str(&serde_json::to_string(value).unwrap_or_default()),
        }
    }

    fn list<T>(
        &self,
        [open, close]: [char; 2],
        items: &[T],
        depth: usize,
        out: &mut String,
        mut write: impl FnMut(&T, &mut String),
    ) {
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = self.indent.as_ref().filter(|_| !items.is_empty()) {
                out.push('\n');
                out.push_str(&indent.repeat(depth));
            }
        };
        out.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push_str(self.between);
            }
            line(depth + 1, out);
            write(item, out);
        }
        line(depth, out);
        out.push(close);
    }

    fn string(&self, text: &str) -> String {
        let quoted = serde_json::Value::from(text).to_string();
        if !self.ascii {
            return quoted;
        }
        let mut out = String::with_capacity(quoted.len());
        for c in quoted.chars() {
            match c {
                ' '..='~' => out.push(c),
                c => out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
            }
        }
        out
    }
}

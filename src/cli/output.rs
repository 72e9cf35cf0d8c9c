//! What a command says: data to stdout, talk to stderr, and how it ends.
//!
//! A reader that closes the pipe early (`runner ls | head -1`) has what it wants: that is an end, not a failure.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// A stage failed, or something on the way to it.
    Stage(String),
    /// The recipe or the command line is wrong.
    Usage(String),
    /// The recipe is wrong, and the message is complete.
    Recipe(String),
    /// Nobody reads any more.
    PipeClosed,
}

impl Failure {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Says what is wrong and returns the exit code.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Self::PipeClosed => ExitCode::SUCCESS,
            Self::Stage(message) => {
                note(format!("error: {message}"));
                ExitCode::from(1)
            }
            Self::Usage(message) => {
                note(format!("error: {message}"));
                ExitCode::from(2)
            }
            Self::Recipe(message) => {
                note(message.trim_end());
                ExitCode::from(2)
            }
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Stage(format!("{error:#}"))
    }
}

impl From<crate::store::Error> for Failure {
    fn from(error: crate::store::Error) -> Self {
        Self::Stage(error.to_string())
    }
}

/// Writes `text` to stdout, with a line's end.
pub(super) fn data(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::PipeClosed),
        Err(error) => Err(Failure::Stage(format!("cannot write to stdout: {error}"))),
    }
}

/// Writes `value` to stdout as indented JSON.
pub(super) fn json(value: &serde_json::Value) -> Result<(), Failure> {
    data(&format!("{value:#}"))
}

/// Says `text` on stderr.
pub(super) fn note(text: impl Display) {
    // A closed stderr is no reason to stop, and there is nowhere left to say so.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `rows` under `head`, columns aligned on the left.
pub(super) fn table<H: AsRef<str>, R: AsRef<[String]>>(head: &[H], rows: &[R]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|name| name.as_ref().chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let body = rows.iter().map(|row| line(&mut row.as_ref().iter().map(String::as_str)));
    std::iter::once(line(&mut head.iter().map(AsRef::as_ref))).chain(body).collect::<Vec<_>>().join("\n")
}

/// A number of bytes, in the largest unit that fits.
pub(super) fn size(bytes: u64) -> String {
    let mut units = ["KiB", "MiB", "GiB", "TiB"].into_iter();
    let (mut count, mut unit) = (bytes as f64, "B");
    while count >= 1024.0
        && let Some(larger) = units.next()
    {
        (count, unit) = (count / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{count:.1} {unit}") }
}

/// Seconds since 1970-01-01 UTC.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

/// How long ago, in the largest unit that fits.
pub(super) fn ago(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "1".to_owned()], ["größer".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["x", "count"], &rows), "x       count\na       1\ngrößer  22");
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        assert_eq!([0, 1023, 1024, 1_572_864].map(size), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]);
    }

    #[test]
    fn ages_have_one_unit() {
        assert_eq!(
            [0, 1, 59, 60, 7199, 90_000, 864_000].map(ago),
            [
                "0 seconds ago",
                "1 second ago",
                "59 seconds ago",
                "1 minute ago",
                "1 hour ago",
                "1 day ago",
                "10 days ago"
            ]
        );
    }
}

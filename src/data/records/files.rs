//! Which files a path means, and what they hold by their first bytes: names can lie and copies have none.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;

/// How rows are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One JSON object a line.
    JsonLines,
    /// One JSON array of objects.
    JsonArray,
    /// Values separated by this byte, names in the first line.
    Separated(u8),
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow's file format.
    Arrow,
    /// Apache Arrow's stream format, in which Hugging Face's `datasets` saves.
    ArrowStream,
}

/// Endings of files with rows, without those of compression.
const ENDINGS: [&str; 9] = ["jsonl", "ndjson", "json", "csv", "tsv", "parquet", "arrow", "feather", "ipc"];

/// The files that `path` means, in order: itself, what a pattern (`*`, `?`, `**`, `[...]`) matches, or of a folder the files with
/// rows in it and in its `data` folder; where it has none, those of its folders, if it is only one or they are splits.
///
/// # Errors
/// When there is none.
pub fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    let shown = path.display();
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let text = path.to_str().with_context(|| format!("`{shown}`: expected a path in UTF-8"))?;
    let mut files = if path.is_dir() {
        let mut found = with_rows(path)?;
        if path.join("data").is_dir() {
            found.extend(with_rows(&path.join("data"))?);
        }
        if found.is_empty() { below(path)? } else { found }
    } else {
        let matches = glob::glob(text).with_context(|| format!("`{shown}` is no pattern"))?;
        matches.collect::<Result<Vec<_>, _>>().with_context(|| format!("`{shown}`"))?
    };
    files.retain(|file| file.is_file());
    files.sort();
    let what = if path.is_dir() { "a folder without files of rows" } else { "no such file, and nothing that matches" };
    ensure!(!files.is_empty(), "cannot read dataset `{shown}`: expected {}, found {what}", ENDINGS.join(", "));
    Ok(files)
}

/// The files one level down: of all splits that `datasets` has saved, or of the one folder that has any.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read folder `{}`", folder.display()))?;
    let mut folders = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    folders.retain(|path| path.is_dir());
    folders.sort();
    let mut found = Vec::new();
    for folder in folders {
        let files = with_rows(&folder)?;
        found.extend((!files.is_empty()).then_some((folder, files)));
    }
    if found.len() > 1 && !folder.join("dataset_dict.json").is_file() {
        let names: Vec<String> = found.iter().map(|(folder, _)| format!("`{}`", folder.display())).collect();
        bail!("`{}`: expected one folder with rows in it, found {}", folder.display(), names.join(", "));
    }
    Ok(found.into_iter().flat_map(|(_, files)| files).collect())
}

fn with_rows(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read folder `{}`", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| has_rows(path)).collect())
}

/// Whether a file's name says that it holds rows.
#[must_use]
pub fn has_rows(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let bare = [".gz", ".zst"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    // What Hugging Face puts beside a dataset's rows.
    let beside = ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];
    !beside.contains(&bare) && bare.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending))
}

/// A file's text, decompressed, without a byte order mark, and its kind.
///
/// # Errors
/// When it cannot be read, or is empty.
pub fn open(path: &Path) -> Result<(Kind, Box<dyn BufRead>)> {
    let file = || File::open(path).with_context(|| format!("cannot read dataset `{}`", path.display()));
    let mut magic = [0; 6];
    let n = fill(&mut file()?, &mut magic).with_context(|| format!("cannot read dataset `{}`", path.display()))?;
    if magic.starts_with(b"PAR1") {
        return Ok((Kind::Parquet, Box::new(BufReader::new(file()?))));
    }
    if magic.starts_with(b"ARROW1") {
        return Ok((Kind::Arrow, Box::new(BufReader::new(file()?))));
    }
    if magic.starts_with(&[0xff; 4]) {
        return Ok((Kind::ArrowStream, Box::new(BufReader::new(file()?))));
    }
    let raw: Box<dyn Read> = match &magic[..n] {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(file()?)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(file()?)?),
        _ => Box::new(file()?),
    };
    let mut text = BufReader::with_capacity(1 << 16, raw);
    let place = || format!("cannot read dataset `{}`", path.display());
    if text.fill_buf().with_context(place)?.starts_with(b"\xef\xbb\xbf") {
        text.consume(3);
    }
    let first = loop {
        let buffer = text.fill_buf().with_context(place)?;
        if buffer.is_empty() {
            bail!("`{}`: expected rows, found an empty file", path.display());
        }
        match buffer.iter().position(|byte| !byte.is_ascii_whitespace()) {
            // Lines are counted from the file's beginning: only blanks that are no line breaks may go.
            _ if buffer[0] == b'\n' || buffer[0] == b'\r' => break after_blanks(buffer),
            Some(at) => break Some(buffer[at]),
            None => {
                let n = buffer.len();
                text.consume(n);
            }
        }
    };
    let name = path.to_string_lossy();
    let kind = match first {
        Some(b'{') => Kind::JsonLines,
        Some(b'[') => Kind::JsonArray,
        None => bail!("`{}`: expected rows, found blank lines", path.display()),
        Some(_) if name.contains(".tsv") => Kind::Separated(b'\t'),
        Some(_) if name.contains(".json") => Kind::JsonLines,
        Some(_) => Kind::Separated(separator(text.fill_buf().with_context(place)?)),
    };
    Ok((kind, Box::new(text)))
}

fn after_blanks(buffer: &[u8]) -> Option<u8> {
    buffer.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// A tab where the first line has more of them than commas.
fn separator(text: &[u8]) -> u8 {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let count = |separator: u8| line.split(|&byte| byte == separator).count();
    if count(b'\t') > count(b',') { b'\t' } else { b',' }
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match reader.read(&mut buffer[n..])? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
}

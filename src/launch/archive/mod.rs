//! A run in one file, to be carried to another store.
//!
//! A tar archive whose first entry lists every other one with size and checksum; then the run; its recipes and, of a
//! sweep, its report, for people; the files that it names, and its results as they lie in the store.

mod export;
mod import;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub use export::{Contents, Exported, export};
pub use import::{Imported, import};

use crate::store::FileRecord;

/// The first entry's name.
const INDEX: &str = "archive.json";

/// The version of the layout below.
const FORMAT: u32 = 1;

/// The first entry.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    format: u32,
    /// The run's id.
    run: String,
    /// Every other entry.
    entries: BTreeMap<String, FileRecord>,
}

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn by_name(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let endings = [(".tar.zst", Self::Zstd), (".tar.gz", Self::Gzip), (".tgz", Self::Gzip), (".tar", Self::None)];
        let found = endings.into_iter().find(|(ending, _)| name.ends_with(ending));
        found.map(|(_, compression)| compression).with_context(|| {
            format!("expected a file that ends in `.tar.zst`, `.tar.gz` or `.tar`, found `{}`", path.display())
        })
    }

    fn writer(self, file: File) -> io::Result<Writer> {
        Ok(match self {
            Self::None => Writer::None(io::BufWriter::new(file)),
            Self::Gzip => Writer::Gzip(flate2::write::GzEncoder::new(file, flate2::Compression::default())),
            Self::Zstd => Writer::Zstd(zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?),
        })
    }
}

/// Where an archive is written to.
enum Writer {
    None(io::BufWriter<File>),
    Gzip(flate2::write::GzEncoder<File>),
    Zstd(zstd::Encoder<'static, File>),
}

impl Writer {
    /// Ends the compressed stream; the bytes are on disk afterwards.
    fn finish(self) -> io::Result<()> {
        match self {
            Self::None(file) => file.into_inner().map_err(io::IntoInnerError::into_error)?,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        }
        .sync_all()
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(file) => file.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(file) => file.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// The archive's bytes, uncompressed; its first bytes tell how it is compressed, whatever it is called.
fn reader(path: &Path) -> Result<Box<dyn Read>> {
    let read = || -> io::Result<Box<dyn Read>> {
        let mut magic = Vec::new();
        File::open(path)?.take(4).read_to_end(&mut magic)?;
        let file = File::open(path)?;
        Ok(match magic.as_slice() {
            [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(file)?),
            [0x1f, 0x8b, ..] => Box::new(flate2::read::GzDecoder::new(file)),
            _ => Box::new(io::BufReader::new(file)),
        })
    };
    read().with_context(|| format!("cannot read `{}`", path.display()))
}

/// A plain relative path of `/` and names: what may be joined to a folder without leaving it.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['\\', '\0', ':'])
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn check_format(index: &Index) -> Result<()> {
    ensure!(index.format == FORMAT, "expected an archive of format {FORMAT}, found format {}", index.format);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_stay_below_are_plain() {
        assert!(["a", "results/sft/0/model", "..a/b."].iter().all(|name| is_plain(name)));
        let bad = ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\\b", "C:a", "a\0"];
        assert!(bad.iter().all(|name| !is_plain(name)));
    }

    #[test]
    fn the_ending_decides_how_it_is_written() {
        let by_name = |name: &str| Compression::by_name(Path::new(name)).ok();
        assert_eq!(by_name("x/run.tar.zst"), Some(Compression::Zstd));
        assert_eq!([by_name("run.tgz"), by_name("run.tar")], [Some(Compression::Gzip), Some(Compression::None)]);
        assert_eq!(by_name("run.zip"), None);
    }
}

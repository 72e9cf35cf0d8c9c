//! The file that annotations go to: appended, on the disk before anybody hears that it is saved, one writer at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::data::annotations::{Line, Record};

/// An open file of annotations.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    end: u64,
}

impl Log {
    /// Opens the file at `path`, makes it where there is none, and returns what it holds. A line that was being written when an
    /// earlier writer was killed is cut off: nobody was told that it is saved.
    ///
    /// # Errors
    /// When it cannot be read or written, is no file of annotations, or somebody else writes to it.
    pub fn open(path: &Path) -> Result<(Self, Record)> {
        let shown = path.display();
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| format!("cannot write `{shown}`"))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                bail!("`{shown}` is being written by another `runner annotate`: one page serves all annotators")
            }
            // A file system without locks: whoever starts two of them is on their own.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let record = Record::read(path)?;
        let end = record.whole;
        file.set_len(end).with_context(|| format!("cannot write `{shown}`"))?;
        Ok((Self { file, path: path.to_owned(), end }, record))
    }

    /// Appends `line` and waits until it is on the disk. After an error the file is as it was before.
    ///
    /// # Errors
    /// When it cannot be written, as on a full disk.
    pub fn append(&mut self, line: &Line) -> Result<()> {
        let bytes = serde_json::to_string(line)? + "\n";
        self.write(bytes.as_bytes()).with_context(|| format!("cannot write `{}`", self.path.display()))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        if let Err(error) = self.file.write_all(bytes).and_then(|()| self.file.sync_data()) {
            // What was half written would make the next line unreadable.
            let _ = self.file.set_len(self.end);
            return Err(error);
        }
        self.end += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::annotations::Draft;

    #[test]
    fn a_killed_writers_last_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/edits.jsonl");
        let draft = |item: &str| Line::Draft(Draft { item: item.into(), ..Draft::default() });
        let (mut log, record) = Log::open(&path).unwrap();
        assert!(record.drafts.is_empty());
        log.append(&draft("one")).unwrap();
        drop(log);
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"type\": \"dra").unwrap();
        let (mut log, record) = Log::open(&path).unwrap();
        assert_eq!(record.drafts.len(), 1);
        log.append(&draft("two")).unwrap();
        assert_eq!(Record::read(&path).unwrap().drafts.len(), 2);
        let error = Log::open(&path).unwrap_err().to_string();
        assert!(error.contains("is being written by another"), "{error}");
    }
}

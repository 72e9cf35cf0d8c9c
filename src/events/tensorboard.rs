//! Metrics as event files that `TensorBoard` reads: one run of its a training stage, written as training goes.
//!
//! A file is a sequence of records: length, its checksum, an `Event` message, its checksum [TENSORBOARD]. Only the five fields that
//! a scalar takes are written, so the messages are put together here.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Event, Sink};

/// Writes scalars into event files below a folder.
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, File>,
    /// After a failed write the run goes on without this sink.
    silent: bool,
}

impl TensorBoard {
    /// Files will be in folders of `folder` that are called like stages; nothing is made before there is something to write.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, state: Mutex::default() }
    }

    fn write(
        &self,
        files: &mut BTreeMap<String, File>,
        stage: &str,
        step: usize,
        values: &BTreeMap<String, f64>,
    ) -> io::Result<()> {
        if !files.contains_key(stage) {
            files.insert(stage.to_owned(), begun(&self.folder.join(stage), now())?);
        }
        let Some(file) = files.get_mut(stage) else { return Ok(()) };
        file.write_all(&record(&scalars(now(), step, values)))
    }
}

impl Sink for TensorBoard {
    fn emit(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Metrics { stage, step, values } if !state.silent => {
                if let Err(error) = self.write(&mut state.files, stage, *step, values) {
                    tracing::warn!("cannot write to `{}`, its curves end here: {error}", self.folder.display());
                    state.silent = true;
                }
            }
            Event::StageFinished { stage, .. }
            | Event::StageFailed { stage, .. }
            | Event::StageInterrupted { stage, .. } => {
                state.files.remove(stage);
            }
            _ => {}
        }
    }
}

/// A new event file in `folder`, with the record that says its version. Runs that continue add files; `TensorBoard` reads them in
/// the order of their names, which begin with the time.
fn begun(folder: &Path, now: f64) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let process = std::process::id();
    let name = (0..u32::MAX).map(|n| format!("events.out.tfevents.{now:.0}.runner.{process}.{n}"));
    let path = name.map(|name| folder.join(name)).find(|path| !path.exists()).unwrap_or_else(|| folder.join("events"));
    let mut file = File::options().create_new(true).append(true).open(path)?;
    let mut version = double(1, now);
    version.extend(bytes(3, b"brain.Event:2"));
    file.write_all(&record(&version))?;
    Ok(file)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64())
}

/// An `Event`: wall time (1), step (2), summary (5) with a value (1) for each scalar: tag (1), `simple_value` (2).
fn scalars(time: f64, step: usize, values: &BTreeMap<String, f64>) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut one = bytes(1, tag.as_bytes());
        one.push(2 << 3 | 5);
        one.extend((*value as f32).to_le_bytes());
        summary.extend(bytes(1, &one));
    }
    let mut event = double(1, time);
    event.push(2 << 3);
    event.extend(varint(step as u64));
    event.extend(bytes(5, &summary));
    event
}

fn double(field: u8, value: f64) -> Vec<u8> {
    let mut message = vec![field << 3 | 1];
    message.extend(value.to_le_bytes());
    message
}

fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    let mut message = vec![field << 3 | 2];
    message.extend(varint(value.len() as u64));
    message.extend(value);
    message
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut found = Vec::new();
    while value >= 0x80 {
        found.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    found.push(value as u8);
    found
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked(data).to_le_bytes());
    record
}

/// The checksum as records have it: rotated, so that data which holds checksums is no trouble.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The cyclic redundancy check with Castagnoli's polynomial, reflected.
fn crc32c(data: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !data.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn numbers_have_seven_bits_a_byte() {
        assert_eq!((varint(0), varint(127), varint(300)), (vec![0], vec![127], vec![0xac, 2]));
    }

    #[test]
    fn a_stage_has_a_folder_and_records_that_follow_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let sink = TensorBoard::new(dir.path().join("boards"));
        let stage = || "ppo/token/seed=0".to_owned();
        for step in 1..=3 {
            sink.emit(&Event::Metrics { stage: stage(), step, values: BTreeMap::from([("loss".to_owned(), 0.5)]) });
        }
        sink.emit(&Event::StageFinished { stage: stage(), wall_seconds: 1.0 });
        let folder = dir.path().join("boards/ppo/token/seed=0");
        let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        assert!(file.file_name().unwrap().to_string_lossy().starts_with("events.out.tfevents."));
        let (data, mut at, mut records) = (fs::read(file).unwrap(), 0, 0);
        while at < data.len() {
            let length = u64::from_le_bytes(data[at..at + 8].try_into().unwrap()) as usize;
            let body = &data[at + 12..at + 12 + length];
            assert_eq!(data[at + 12 + length..at + 16 + length], masked(body).to_le_bytes());
            (at, records) = (at + 16 + length, records + 1);
        }
        assert_eq!(records, 4, "the version and three steps");
    }
}

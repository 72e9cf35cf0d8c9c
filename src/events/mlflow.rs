//! Metrics as files of an `MLflow` file store: one of its runs a training stage.
//!
//! A run is a folder with `meta.yaml`, a file of lines `time value step` a metric, and one file a tag [MLFLOW].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Event, Sink};

/// States of a run, as `MLflow` numbers them.
const RUNNING: u8 = 1;
const FINISHED: u8 = 3;
const FAILED: u8 = 4;
const KILLED: u8 = 5;

/// Writes metrics into a file store.
#[derive(Debug)]
pub struct Mlflow {
    folder: PathBuf,
    /// The runner's run, which is an experiment to `MLflow`.
    experiment: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    runs: BTreeMap<String, Run>,
    /// After a failed write the run goes on without this sink.
    silent: bool,
}

#[derive(Debug)]
struct Run {
    id: String,
    folder: PathBuf,
    started: u128,
    files: BTreeMap<String, File>,
}

impl Mlflow {
    /// Runs will be in the experiment `experiment` of the file store in `folder`; nothing is made before there is something to
    /// write.
    #[must_use]
    pub fn new(folder: &Path, experiment: &str) -> Self {
        Self { folder: folder.to_owned(), experiment: experiment.to_owned(), state: Mutex::default() }
    }

    /// A number that is the experiment's as long as its name is.
    fn experiment_id(&self) -> String {
        let hash = blake3::hash(self.experiment.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        (u64::from_le_bytes(first) % 900_000_000_000_000_000 + 100_000_000_000_000_000).to_string()
    }

    fn take(&self, state: &mut State, event: &Event) -> io::Result<()> {
        match event {
            Event::Metrics { stage, step, values } => {
                if !state.runs.contains_key(stage) {
                    state.runs.insert(stage.clone(), self.begin(stage)?);
                }
                let Some(run) = state.runs.get_mut(stage) else { return Ok(()) };
                values.iter().try_for_each(|(name, value)| run.write(name, *step, *value))
            }
            Event::StageFinished { stage, .. } => self.end(&mut state.runs, stage, FINISHED),
            Event::StageFailed { stage, .. } => self.end(&mut state.runs, stage, FAILED),
            Event::StageInterrupted { stage, .. } => self.end(&mut state.runs, stage, KILLED),
            _ => Ok(()),
        }
    }

    fn begin(&self, stage: &str) -> io::Result<Run> {
        let (experiment, now) = (self.experiment_id(), now());
        let folder = self.folder.join(&experiment);
        let meta = folder.join("meta.yaml");
        if !meta.exists() {
            fs::create_dir_all(&folder)?;
            let (name, place) = (quoted(&self.experiment), place(&folder));
            fs::write(
                meta,
                format!(
                    "artifact_location: {place}\ncreation_time: {now}\nexperiment_id: '{experiment}'\nlast_update_time: {now}\n\
                     lifecycle_stage: active\nname: {name}\n"
                ),
            )?;
        }
        let unique = format!("{}\n{stage}\n{now}\n{}", self.experiment, std::process::id());
        let id = blake3::hash(unique.as_bytes()).to_hex()[..32].to_owned();
        let run = Run { folder: folder.join(&id), id, started: now, files: BTreeMap::new() };
        for inner in ["metrics", "params", "tags", "artifacts"] {
            fs::create_dir_all(run.folder.join(inner))?;
        }
        fs::write(run.folder.join("tags/mlflow.runName"), stage)?;
        fs::write(run.folder.join("tags/mlflow.source.name"), "runner")?;
        fs::write(run.folder.join("params/stage"), stage)?;
        run.meta(&experiment, stage, RUNNING, None)?;
        Ok(run)
    }

    fn end(&self, runs: &mut BTreeMap<String, Run>, stage: &str, status: u8) -> io::Result<()> {
        let Some(run) = runs.remove(stage) else { return Ok(()) };
        run.meta(&self.experiment_id(), stage, status, Some(now()))
    }
}

impl Run {
    fn write(&mut self, name: &str, step: usize, value: f64) -> io::Result<()> {
        if !self.files.contains_key(name) {
            let path = self.folder.join("metrics").join(name);
            self.files.insert(name.to_owned(), File::options().create(true).append(true).open(path)?);
        }
        let Some(file) = self.files.get_mut(name) else { return Ok(()) };
        writeln!(file, "{} {value} {step}", now())
    }

    fn meta(&self, experiment: &str, stage: &str, status: u8, ended: Option<u128>) -> io::Result<()> {
        let Self { id, started, .. } = self;
        let (name, place) = (quoted(stage), place(&self.folder.join("artifacts")));
        let ended = ended.map_or_else(|| "null".to_owned(), |time| time.to_string());
        fs::write(
            self.folder.join("meta.yaml"),
            format!(
                "artifact_uri: {place}\nend_time: {ended}\nentry_point_name: ''\nexperiment_id: '{experiment}'\nlifecycle_stage: active\n\
                 run_id: {id}\nrun_name: {name}\nrun_uuid: {id}\nsource_name: ''\nsource_type: 4\nsource_version: ''\n\
                 start_time: {started}\nstatus: {status}\ntags: []\nuser_id: runner\n"
            ),
        )
    }
}

impl Sink for Mlflow {
    fn emit(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.silent {
            return;
        }
        if let Err(error) = self.take(&mut state, event) {
            tracing::warn!("cannot write to `{}`, its metrics end here: {error}", self.folder.display());
            state.silent = true;
        }
    }
}

/// Milliseconds since 1970-01-01 UTC.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis())
}

/// `text` as YAML reads it back.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn place(folder: &Path) -> String {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    quoted(&format!("file://{}", whole.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_its_metrics_and_says_how_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let sink = Mlflow::new(dir.path(), "toy-1");
        let stage = || "sft/seed=0".to_owned();
        for step in 1..=2 {
            sink.emit(&Event::Metrics { stage: stage(), step, values: BTreeMap::from([("loss".to_owned(), 0.5)]) });
        }
        sink.emit(&Event::StageFailed { stage: stage(), error: "x".to_owned() });
        let experiment = dir.path().join(sink.experiment_id());
        let run =
            fs::read_dir(&experiment).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
        let lines = fs::read_to_string(run.join("metrics/loss")).unwrap();
        let ends: Vec<_> = lines.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(ends, ["0.5 1", "0.5 2"]);
        let meta = fs::read_to_string(run.join("meta.yaml")).unwrap();
        assert!(meta.contains("status: 4\n") && meta.contains("run_name: 'sft/seed=0'\n"), "{meta}");
        assert!(fs::read_to_string(experiment.join("meta.yaml")).unwrap().contains("name: 'toy-1'\n"));
    }
}

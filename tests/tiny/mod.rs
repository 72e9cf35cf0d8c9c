//! A folder with a recipe that runs in seconds, and the binary that runs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Small in every direction; checkpoints at every other step, so that a kill falls between two of them.
const RECIPE: &str = r#"
seeds = [0]
budgets = [24]

[dataset]
path = "WORLD"
format = "world"
demonstrations = 160
train_prompts = 32
validation_prompts = 12
test_prompts = 16
max_prompt_tokens = 10
max_response_tokens = 36

[tokenizer.word_level]

[model]
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1
intermediate_size = 32

[sft]
steps = 20
batch_size = 8
optimizer = { learning_rate = 1e-2, warmup_steps = 2 }

[preferences.simulated]
notice_rate = 0.9
label_noise = 0.0

[edits.simulated]

[reward]
epochs = 2
batch_size = 4
optimizer = { learning_rate = 1e-3 }

[ppo]
steps = 4
batch_size = 8
epochs = 2
minibatches = 2
kl_coef = 0.1
eval_every = 2
policy_optimizer = { learning_rate = 1e-3 }
value_optimizer = { learning_rate = 1e-3 }

[checkpoints]
every_steps = 2

[[variants]]
name = "sequence"
reward = { sequence = { data = "preferences" } }
credit = "end_of_sequence"

[[variants]]
name = "token"
reward = { token = { loss = "pairwise_edited_anchored" } }
credit = "per_token"

[judge.oracle]

[evaluation]
bootstrap_samples = 200
"#;

/// A folder of its own for every test.
pub struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    /// With the recipe `tiny.toml` in it.
    pub fn new() -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        let world = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/restaurants.toml");
        lab.write("tiny.toml", &RECIPE.replace("WORLD", world.to_str().unwrap()));
        lab
    }

    /// With a reward model as judge in that recipe, since a dataset without a world has no oracle.
    #[allow(dead_code, reason = "not every test file has such a dataset")]
    pub fn without_oracle() -> Self {
        let lab = Self::new();
        let recipe = fs::read_to_string(lab.path("tiny.toml")).unwrap();
        lab.write("tiny.toml", &recipe.replace("[judge.oracle]", "[judge.reward_model]"));
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The binary in this folder; nothing of the environment decides what it does.
    pub fn runner(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
        self.prepare(command.args(arguments));
        command
    }

    pub fn prepare(&self, command: &mut Command) {
        command.current_dir(self.dir.path()).env("NO_COLOR", "1");
        for variable in ["RUNNER_STORE", "RUNNER_LOG", "RUNNER_CLAIM_PATIENCE", "RAYON_NUM_THREADS"] {
            command.env_remove(variable);
        }
    }

    /// Runs it to its end.
    pub fn said(&self, arguments: &[&str]) -> Said {
        Said::of(&self.runner(arguments).output().unwrap())
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// For commands that must succeed.
    pub fn fine(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self
    }
}

/// Every file under `dir`, by its path from there; none where it does not exist.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(listing) = fs::read_dir(&folder) else { continue };
        for entry in listing {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// What the store's results say, without what a run says of itself: manifests, and the report's account of its making.
pub fn results(store: &Path) -> BTreeMap<String, Vec<u8>> {
    let root = store.join("results");
    let mut found = BTreeMap::new();
    for name in files(&root) {
        let mut bytes = fs::read(root.join(&name)).unwrap();
        let is = |extension: &str| name.extension().is_some_and(|found| found == extension);
        let tells_times = ["cost.tex", "headline.tex", "timeline.svg"].iter().any(|timed| name.ends_with(timed));
        if name.ends_with("manifest.json") || name.starts_with("report") && (is("html") || is("md") || tells_times) {
            continue;
        }
        if name.starts_with("report") && name.ends_with("report.json") {
            let mut report: Value = serde_json::from_slice(&bytes).unwrap();
            for key in ["provenance", "stages"] {
                assert!(report.as_object_mut().unwrap().remove(key).is_some(), "{key}");
            }
            bytes = report.to_string().into_bytes();
        }
        found.insert(name.display().to_string(), bytes);
    }
    found
}

/// Panics with the names of the results that differ.
pub fn assert_same(expected: &BTreeMap<String, Vec<u8>>, found: &BTreeMap<String, Vec<u8>>) {
    assert!(expected.len() > 30, "results to compare: {}", expected.len());
    let names = |one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
        one.iter().filter(|(name, bytes)| other.get(*name) != Some(*bytes)).map(|(name, _)| name.clone()).collect()
    };
    assert_eq!((names(expected, found), names(found, expected)), (vec![], vec![]));
}

//! `runner generate`, `score` and `bench` on a recipe that takes seconds.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use runner::model::{Batch, Config, Model, Pair};
use runner::store::{Artefact, Store};
use serde_json::{Value, json};

const RECIPE: &str = r#"
extends = "@ROOT@/recipes/finegrained.toml"
budgets = [8]

[dataset]
demonstrations = 200
train_prompts = 40
validation_prompts = 6
test_prompts = 6

[model]
hidden_size = 16
num_attention_heads = 2
num_key_value_heads = 2
intermediate_size = 32

[sft]
steps = 30
batch_size = 8
optimizer = { learning_rate = 4e-3, warmup_steps = 1 }

[reward]
epochs = 1
batch_size = 4
optimizer = { learning_rate = 1e-3, warmup_steps = 1 }

[ppo]
steps = 2
batch_size = 8
epochs = 1
kl_coef = 0.1
eval_every = 2
value_warmup_steps = 0
policy_optimizer = { learning_rate = 5e-4, warmup_steps = 1 }
value_optimizer = { learning_rate = 1e-3, warmup_steps = 1 }

[[variants]]
name = "token"
reward = { token = { loss = "pairwise_mean" } }
credit = "per_token_over_length"
"#;

const PROMPT: &str = "blue heron thai cheap riverside =>";

/// A folder with a store in which the recipe has been run.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("commands");
        // An older recipe's results would be found beside this one's.
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("mini.toml"), RECIPE.replace("@ROOT@", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let output = command(&dir, &["run", "mini.toml"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        dir
    })
}

fn command(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.args(arguments).current_dir(dir).env_remove("RUNNER_STORE").env_remove("RUNNER_LOG").env("NO_COLOR", "1");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn out(arguments: &[&str]) -> String {
    let output = command(folder(), arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn lines(arguments: &[&str]) -> Vec<Value> {
    out(arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The message of a usage error.
fn refused(arguments: &[&str]) -> String {
    let output = command(folder(), arguments);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""), "{}", text(&output.stderr));
    text(&output.stderr)
}

/// A file of the folder with `content`.
fn input(name: &str, content: &str) -> String {
    fs::write(folder().join(name), content).unwrap();
    name.to_owned()
}

/// The one result of `stage`.
fn result(stage: &str) -> Artefact {
    let store = Store::open(folder().join(".runner")).unwrap();
    store.all().unwrap().into_iter().find(|artefact| artefact.manifest.stage == stage).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|x| u32::try_from(x.as_u64().unwrap()).unwrap()).collect()
}

fn model(artefact: &Artefact) -> Model {
    let config: Config = serde_json::from_value(artefact.manifest.config["setting"]["model"].clone()).unwrap();
    Model::from_bytes(&artefact.read_bytes("model.safetensors").unwrap(), &config, &burn::tensor::Device::flex())
        .unwrap()
}

/// Logits (or rewards) that follow each prefix of `prompt + response` that ends before (or at) a response token, from
/// passes over single rows without padding.
fn outputs(model: &Model, prompt: &[u32], response: &[u32], at: bool) -> Vec<f64> {
    let batch = Batch::new(&[Pair { prompt, response }], 0, &model.device());
    let outputs = if at { model.at_response(&batch) } else { model.before_response(&batch) };
    runner::model::weights::host(&outputs).into_iter().map(f64::from).collect()
}

#[test]
fn greedy_samples_are_the_most_probable_tokens_whatever_the_seed() {
    let greedy =
        |seed| lines(&["generate", "--model", "sft/seed=0", "--prompt", PROMPT, "--greedy", "--seed", seed, "--json"]);
    let first = greedy("1");
    assert_eq!(first, greedy("2"));
    let (prompt, response) = (ids(&first[0]["prompt_ids"]), ids(&first[0]["response_ids"]));
    let model = model(&result("sft"));
    let logits = outputs(&model, &prompt, &response, false);
    for (logits, &id) in logits.chunks(model.outputs()).zip(&response) {
        assert!(logits.iter().all(|&x| x <= logits[id as usize] + 1e-5), "{id}");
    }
}

#[test]
fn samples_are_a_function_of_the_seed_and_of_the_prompts_place() {
    let sample = |seed: &str, prompts: &[&str]| {
        let mut arguments = vec!["generate", "--model", "ppo/token/kl=0.1/budget=8/seed=0", "--seed", seed];
        for prompt in prompts {
            arguments.extend(["--prompt", prompt]);
        }
        out(&arguments)
    };
    let both = sample("7", &[PROMPT, "=>"]);
    assert_eq!(both, sample("7", &[PROMPT, "=>"]));
    assert_ne!(both, sample("8", &[PROMPT, "=>"]));
    assert_eq!(both.lines().next().unwrap(), sample("7", &[PROMPT]).trim_end_matches('\n'));
}

#[test]
fn generation_stops_at_the_length_asked_for_and_top_1_is_greedy() {
    let sample = |more: &[&str]| {
        let base = ["generate", "--model", "sft/seed=0", "--prompt", PROMPT, "--json", "--max-new", "3"];
        lines(&[&base, more].concat())
    };
    assert!(ids(&sample(&[])[0]["response_ids"]).len() <= 3);
    assert_eq!(sample(&["--top-k", "1"]), sample(&["--greedy"]));
    assert_eq!(sample(&["--top-p", "0.000001"]), sample(&["--greedy"]));
}

#[test]
fn a_result_is_found_by_label_key_and_folder() {
    let artefact = result("sft");
    let dir = artefact.dir.to_str().unwrap();
    let by = |name: &str| out(&["generate", "--model", name, "--prompt", PROMPT]);
    let label = by("sft/seed=0");
    assert_eq!(label, by(&artefact.manifest.key.as_str()[..8]));
    assert_eq!(label, by(dir));
}

#[test]
fn log_probabilities_are_the_models() {
    let pair =
        |prompt: &str, response: &str| json!({ "id": response, "prompt": prompt, "response": response }).to_string();
    let rows = [pair(PROMPT, "welcome to blue heron ."), pair("=>", "it serves thai food . the prices are cheap .")];
    let file = input("texts.jsonl", &rows.join("\n\n"));
    let scored = lines(&["score", "--model", "sft/seed=0", "--input", &file, "--json"]);
    assert_eq!(scored.len(), 2);
    let generated =
        lines(&["generate", "--model", "sft/seed=0", "--prompt", PROMPT, "--prompt", "=>", "--max-new", "1", "--json"]);
    let model = model(&result("sft"));
    for (scored, generated) in scored.iter().zip(&generated) {
        let (prompt, response) = (ids(&generated["prompt_ids"]), ids(&scored["response_ids"]));
        let logits = outputs(&model, &prompt, &response, false);
        let expected: Vec<f64> = logits
            .chunks(model.outputs())
            .zip(&response)
            .map(|(logits, &id)| logits[id as usize] - logits.iter().map(|x| x.exp()).sum::<f64>().ln())
            .collect();
        let found = numbers(&scored["logprobs"]);
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?} {expected:?}");
        assert!((scored["logprob"].as_f64().unwrap() - expected.iter().sum::<f64>()).abs() < 1e-3);
        assert_eq!(scored["tokens"].as_array().unwrap().len(), response.len());
    }
    assert_eq!(scored[1]["id"], "it serves thai food . the prices are cheap .");
}

#[test]
fn rewards_are_the_models_and_ids_win_over_texts() {
    let generated =
        input("generated.jsonl", &out(&["generate", "--model", "sft/seed=0", "--prompt", PROMPT, "--json"]));
    let row: Value = serde_json::from_str(&fs::read_to_string(folder().join(&generated)).unwrap()).unwrap();
    let scored = lines(&["score", "--model", "reward/token/budget=8/seed=0", "--input", &generated, "--json"]);
    let response = ids(&row["response_ids"]);
    let expected = outputs(&model(&result("reward")), &ids(&row["prompt_ids"]), &response, true);
    let found = numbers(&scored[0]["rewards"]);
    assert_eq!((ids(&scored[0]["response_ids"]), found.len()), (response, expected.len()));
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?} {expected:?}");
    let mean = expected.iter().sum::<f64>() / expected.len() as f64;
    assert!((scored[0]["score"].as_f64().unwrap() - mean).abs() < 1e-4);
}

#[test]
fn an_unfinished_text_has_no_end_of_sequence() {
    let rows = [true, false]
        .map(|finished| json!({ "prompt": "=>", "response": "it serves", "finished": finished }).to_string());
    let file = input("unfinished.jsonl", &rows.join("\n"));
    let scored = lines(&["score", "--model", "sft/seed=0", "--input", &file, "--json"]);
    assert_eq!([0, 1].map(|i| ids(&scored[i]["response_ids"]).len()), [3, 2]);
}

#[test]
fn bad_lines_are_named() {
    let score = |content: &str| {
        refused(&["score", "--model", "sft/seed=0", "--input", &input(&format!("bad{}.jsonl", content.len()), content)])
    };
    let good = r#"{"prompt": "=>", "response": "it"}"#;
    for (line, message) in [
        ("{", "line 2: EOF while parsing an object"),
        (r#"{"prompt": 5, "response": "it"}"#, "line 2: invalid type: integer `5`, expected a string"),
        (r#"{"prompt": "=>"}"#, "line 2: expected `response` or `response_ids`, found neither"),
        (r#"{"response": "it"}"#, "line 2: expected `prompt` or `prompt_ids`, found neither"),
        (r#"{"prompt": "=>", "response_ids": []}"#, "line 2: expected at least one token in the response, found none"),
        (r#"{"prompt_ids": [1, 70000], "response": "it"}"#, "(rows of the embedding), found 70000"),
    ] {
        let error = score(&format!("{good}\n{line}\n"));
        assert!(error.starts_with("error: `bad") && error.contains(message), "{error}");
    }
    assert!(score("\n").contains("expected at least one line, found none"));
    let error = refused(&["score", "--model", "sft/seed=0", "--input", "nowhere.jsonl"]);
    assert!(error.starts_with("error: cannot read `nowhere.jsonl`"), "{error}");
}

#[test]
fn only_models_are_opened() {
    let ask = |model: &str| refused(&["generate", "--model", model, "--prompt", "a"]);
    assert!(
        ask("tokenizer")
            .contains("expected a model (a result of `sft`, `ppo`, `dpo` or `reward`), found a result of `tokenizer`")
    );
    assert!(ask("sft/seed=1").contains("did you mean `sft/seed=0`?"));
    assert!(
        ask("reward/token/budget=8/seed=0").contains(
            "expected a language model (a result of `sft` or `ppo`, or a `ForCausalLM`), found a reward model"
        )
    );
    let expected = "expected the folder of a result (`STORE/results/STAGE/KEY`) or of a checkpoint (with a `config.json`), found `.`";
    assert!(ask(".").contains(expected));
}

#[test]
fn sampling_flags_have_ranges() {
    for (flag, value, message) in [
        ("--temperature", "0", "expected a number above 0, found 0"),
        ("--top-p", "1.5", "expected a number between 0 and 1, found 1.5"),
        ("--top-p", "0", "expected a number above 0, found 0"),
        ("--top-k", "0", "invalid value '0'"),
        ("--max-new", "0", "invalid value '0'"),
    ] {
        let error = refused(&["generate", "--model", "sft/seed=0", "--prompt", "a", flag, value]);
        assert!(error.contains(message), "{error}");
    }
}

/// `runner bench` on a model of a few hundred weights.
const BENCH: [&str; 23] = [
    "bench",
    "--layers",
    "1",
    "--hidden",
    "8",
    "--heads",
    "2",
    "--ff",
    "16",
    "--vocab",
    "12",
    "--batch",
    "4",
    "--prompt",
    "3",
    "--new",
    "5",
    "--epochs",
    "2",
    "--minibatches",
    "2",
    "--reps",
    "2",
];

#[test]
fn the_benchmark_reports_every_part() {
    let output = command(Path::new(env!("CARGO_TARGET_TMPDIR")), &[&BENCH[..], &["--iters", "2", "--json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!(text(&output.stdout).lines().count(), 1);
    for (part, tokens) in [("sft", 32), ("rm", 64), ("logprob", 32), ("gen", 20), ("ppo", 20)] {
        let numbers_of = &report["parts"][part];
        assert!(numbers_of["flops"].as_f64().unwrap() > 0.0, "{part}");
        assert_eq!(numbers_of["tokens"], tokens, "{part}");
        let all = numbers(&numbers_of["all_s"]);
        assert_eq!(all.len(), 2, "{part}");
        let (median, rate) = (numbers_of["median_s"].as_f64().unwrap(), numbers_of["tokens_per_s"].as_f64().unwrap());
        assert!((median - f64::midpoint(all[0], all[1])).abs() < 1e-9 && all[0] > 0.0);
        assert!((rate * median / f64::from(tokens) - 1.0).abs() < 1e-9);
    }
    // 2 * 12 * 8 for embedding and output, 4 * 8 * 8 + 3 * 8 * 16 + 2 * 8 for the layer, 8 for the last norm.
    assert_eq!(report["parameters"], 856);
    let phases = report["parts"]["ppo"]["phases_s"].as_object().unwrap();
    for phase in ["rollout", "reference_logprobs", "rewards", "values", "gae", "update"] {
        assert!(phases.contains_key(phase), "{phase}");
    }
    let checks = &report["parts"];
    // Twice 640 for the layer's matrices and 24 for norms, 2 * 2 * 8 columns * 8 for attention; 2 * 8 * 12 for the head.
    assert_eq!(checks["logprob"]["flops"], 32.0 * f64::from(2 * (640 + 24) + 2 * 2 * 8 * 8 + 2 * 8 * 12));
    assert_eq!(checks["sft"]["flops"], 3.0 * checks["logprob"]["flops"].as_f64().unwrap());
    // Small random weights make every id about equally likely, and no response better than another.
    assert!((checks["logprob"]["checks"]["mean_logprob"].as_f64().unwrap() + 12_f64.ln()).abs() < 0.05);
    assert!((checks["sft"]["checks"]["first_loss"].as_f64().unwrap() - 12_f64.ln()).abs() < 0.05);
    assert!((checks["rm"]["checks"]["first_loss"].as_f64().unwrap() - 2_f64.ln()).abs() < 0.05);
}

#[test]
fn the_benchmark_does_the_parts_asked_for_and_refuses_what_does_not_divide() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let output = command(dir, &[&BENCH[..], &["--parts", "gen,sft", "--json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let parts: Vec<_> = report["parts"].as_object().unwrap().keys().collect();
    assert_eq!(parts, ["gen", "sft"]);
    let output = command(dir, &[&BENCH[..], &["--parts", "matmul", "--threads", "1", "--json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Eight products of 1024 x 1024 matrices, a multiplication and an addition each.
    assert_eq!(report["parts"]["matmul"]["flops"], 8.0 * 2.0 * 1024_f64.powi(3));
    for (flags, message) in [
        (["--batch", "3", "--minibatches", "2"], "expected a batch that is a multiple of minibatches (2), found 3"),
        (
            ["--hidden", "10", "--heads", "2"],
            "expected a hidden size that is a multiple of twice the heads (4), found 10",
        ),
        (["--vocab", "4", "--batch", "32"], "expected a vocabulary of more than 4 ids, found 4"),
        (["--epochs", "0", "--batch", "32"], "expected a whole number of at least 1, found 0"),
        (["--threads", "100000", "--batch", "32"], "expected at most 1024 threads, found 100000"),
    ] {
        let output = command(dir, &[&["bench"][..], &flags].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(message), "{}", text(&output.stderr));
    }
}

#[test]
fn gradient_checkpointing_takes_less_memory_for_the_same_losses() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let deep = ["bench", "--layers", "16", "--batch", "16", "--parts", "sft", "--reps", "1", "--json"];
    let measured = |more: &[&str]| {
        let output = command(dir, &[&deep[..], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let loss = report["parts"]["sft"]["checks"]["last_loss"].as_f64().unwrap();
        (report["peak_memory_bytes"].as_f64().unwrap(), loss)
    };
    let ((kept, loss), (again, same)) = (measured(&[]), measured(&["--gradient-checkpointing"]));
    assert!(again < 0.7 * kept, "{again} bytes instead of {kept}");
    assert!((loss - same).abs() < 1e-4, "{loss} and {same}");
}

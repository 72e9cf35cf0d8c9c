//! The endpoint client, the judges and the annotators that use it against a real server: `transformers serve` with a tiny checkpoint on
//! this machine. Skipped where one is missing, unless `RUNNER_REQUIRE_TRANSFORMERS` is set.
//!
//! It answers chat and completions with the noise of random weights, which no parser can read: what is tested is that requests
//! are understood, usage is counted, answers are kept, and what cannot be read is counted.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that panics fails, and one that is skipped says so"
)]

mod peers;
#[allow(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use runner::endpoint::{Client, Config, Request};
use serde_json::{Value, json};

use tiny::Lab;

/// The server; ends with the test.
struct Server {
    child: Child,
    port: u16,
    model: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The checkpoint that is served; none, with a notice, where the fixtures are missing.
fn checkpoint() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixtures = std::env::var_os("RUNNER_FIXTURES").map_or_else(|| root.join("../shared/fixtures"), PathBuf::from);
    let model = fixtures.join("hf/llama").canonicalize();
    if model.is_err() {
        eprintln!("skipped: no checkpoint `hf/llama` in `{}`", fixtures.display());
    }
    model.ok()
}

impl Server {
    /// None, with a notice, where the program or the checkpoint is missing.
    fn start() -> Option<Self> {
        let model = checkpoint()?;
        let program = peers::python("transformers, fastapi, uvicorn")?.with_file_name("transformers");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .arg("serve")
            .arg(&model)
            .args(["--host", "127.0.0.1", "--device", "cpu", "--port", &port.to_string()])
            .env("HF_HUB_OFFLINE", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, port, model };
        server.wait();
        Some(server)
    }

    /// Until it says that it is well.
    fn wait(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_mins(5) {
            assert!(self.child.try_wait().unwrap().is_none(), "`transformers serve` ended by itself");
            if self.health().is_some_and(|reply| reply.starts_with("HTTP/1.1 200")) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("`transformers serve` did not begin to answer");
    }

    fn health(&self) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        Some(reply)
    }

    fn table(&self, api: &str) -> Value {
        json!({
            "base_url": format!("http://127.0.0.1:{}/v1", self.port),
            "model": self.model,
            "api": api,
            "max_tokens": 8,
            "seed": 1,
            "conduct": { "concurrency": 2 },
        })
    }

    /// An `endpoint` in a recipe, on one line.
    fn endpoint(&self) -> String {
        let (port, model) = (self.port, json!(self.model));
        format!("endpoint = {{ base_url = \"http://127.0.0.1:{port}/v1\", model = {model}, max_tokens = 12 }}")
    }
}

/// Server and program are slow to start, so there is one for all that is asked of it.
#[test]
fn a_real_server_is_understood() {
    let Some(server) = Server::start() else { return };
    for api in ["chat", "completions"] {
        requests_are_answered_once(&server, api);
    }
    judges_ask_it(&server);
    an_annotator_asks_it(&server);
}

fn requests_are_answered_once(server: &Server, api: &str) {
    let config: Config = serde_json::from_value(server.table(api)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let requests = ["Where is it?", "What do they serve?", "Where is it?"].map(|text| Request::of("", text));
    let client = Client::new(&config, "test", folder.path()).unwrap();
    let answers = client.ask(&requests, &|_| {}).unwrap();
    assert_eq!(answers[0], answers[2]);
    assert!(answers.iter().all(|answer| answer.finish_reason.is_some()), "{answers:?}");
    assert!(answers[0].prompt_tokens > Some(2) && answers[0].completion_tokens <= Some(8), "{answers:?}");
    assert!(answers[0].completion_tokens > Some(0), "{answers:?}");
    let usage = client.usage();
    assert_eq!((usage.requests, usage.cached, usage.retries), (2, 1, 0));
    assert_eq!(client.ask(&requests, &|_| {}).unwrap(), answers);
    assert_eq!(client.usage().requests, 2);
}

fn judges_ask_it(server: &Server) {
    let lab = Lab::new();
    let recipe = fs::read_to_string(lab.path("tiny.toml")).unwrap();
    let endpoint = server.endpoint();
    let tables = format!(
        "[judge]\nprimary = \"oracle\"\n[judge.oracle]\n[judge.llm]\n{endpoint}\n[judge.revise]\nscore = \"chrf\"\n{endpoint}\n"
    );
    lab.write("tiny.toml", &recipe.replace("[judge.oracle]", &tables).replace("test_prompts = 16", "test_prompts = 3"));
    lab.said(&["run", "tiny.toml"]).fine();
    let report: Value =
        serde_json::from_str(&fs::read_to_string(lab.path("reports/tiny/report.json")).unwrap()).unwrap();
    let judge = |name: &str| report["judges"].as_array().unwrap().iter().find(|judge| judge["name"] == name).unwrap();
    let (llm, revise) = (judge("llm"), judge("revise"));
    // Noise has no verdict in it, and is a bad revision of anything.
    assert_eq!((&llm["pairs"], &llm["unjudged"]), (&json!(0), &json!(6)), "{llm}");
    assert_eq!(llm["usage"]["unparsable"], json!(12), "{llm}");
    assert!(llm["usage"]["prompt_tokens"].as_u64().unwrap() > 100, "{llm}");
    assert_eq!(revise["pairs"].as_u64().unwrap() + revise["unjudged"].as_u64().unwrap(), 6, "{revise}");
}

fn an_annotator_asks_it(server: &Server) {
    let lab = Lab::new();
    let base = fs::read_to_string(lab.path("tiny.toml")).unwrap();
    let edits = format!("[edits.llm]\nmax_share = 1.0\nattempts = 2\n{}\n", server.endpoint());
    let fewer =
        base.replace("budgets = [24]", "budgets = [6]").replace("validation_prompts = 12", "validation_prompts = 2");
    lab.write("tiny.toml", &fewer.replace("[edits.simulated]\n", &edits));
    let said = lab.said(&["run", "tiny.toml"]);
    let folder = lab.path(".runner/results/edits");
    let account = tiny::files(&folder).into_iter().find(|file| file.ends_with("annotator.json"));
    let account = account.unwrap_or_else(|| panic!("no account: {}", said.err));
    let account: Value = serde_json::from_str(&fs::read_to_string(folder.join(account)).unwrap()).unwrap();
    assert_eq!(account["model"], server.model.to_str().unwrap());
    let number = |key: &str| account[key].as_u64().unwrap();
    assert!(number("asked") > 0 && number("accepted") + number("flagged") == number("asked"), "{account}");
    assert!(!account["examples"].as_array().unwrap().is_empty(), "{account}");
    // What so small a model says is nonsense: refused are what is empty, identical or cut off. Nothing usable is an end with a
    // reason, anything usable a report.
    let edited = number("accepted") - number("good");
    assert_eq!(said.code, Some(i32::from(edited == 0)), "{edited} edits: {}", said.err);
}

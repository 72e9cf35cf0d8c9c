//! The endpoint client and the judges that use it against a real server: `transformers serve` with a tiny checkpoint on this machine.
//!
//! It answers chat and completions with the noise of random weights, which no parser can read: what is tested is that requests
//! are understood, usage is counted, answers are kept, and what cannot be read is counted.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that panics fails, and one that is skipped says so"
)]

#[allow(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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

impl Server {
    /// None, with a notice, where the program or the checkpoint is missing.
    fn start() -> Option<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let fixtures =
            std::env::var_os("RUNNER_FIXTURES").map_or_else(|| root.join("../shared/fixtures"), PathBuf::from);
        let Ok(model) = fixtures.join("hf/llama").canonicalize() else {
            eprintln!("skipped: no checkpoint in {}", fixtures.display());
            return None;
        };
        let program = std::env::var_os("RUNNER_PYTHON_ENV").map(|env| PathBuf::from(env).join("bin/transformers"));
        let Some(program) = program.filter(|program| program.exists()) else {
            eprintln!("skipped: RUNNER_PYTHON_ENV names no environment with `transformers`");
            return None;
        };
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
        for _ in 0..1200 {
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
}

#[test]
fn a_real_server_is_understood() {
    let Some(server) = Server::start() else { return };
    for api in ["chat", "completions"] {
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
    let lab = Lab::new();
    let recipe = fs::read_to_string(lab.path("tiny.toml")).unwrap();
    let endpoint = |table: &str| {
        let Value::Object(keys) = server.table("chat") else { panic!("a table") };
        let lines = keys.iter().filter(|(key, _)| *key != "conduct").map(|(key, value)| format!("{key} = {value}\n"));
        format!("[judge.{table}.endpoint]\n{}", lines.collect::<String>())
    };
    let tables = format!(
        "[judge]\nprimary = \"oracle\"\n[judge.oracle]\n[judge.llm]\n{}[judge.revise]\nscore = \"chrf\"\n{}",
        endpoint("llm"),
        endpoint("revise")
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

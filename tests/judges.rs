//! Several judges in one recipe, through the real binary: language models behind an endpoint on this machine, people's
//! verdicts and others' from files, their agreement, and a judge that is killed half-way.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod served;
#[allow(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use served::{Reply, Seen, Server, rules};
use tiny::{Lab, Said};

/// The tiny recipe with further judges.
fn lab(judges: &str) -> Lab {
    let lab = Lab::new();
    let recipe = fs::read_to_string(lab.path("tiny.toml")).unwrap();
    lab.write(
        "tiny.toml",
        &recipe.replace("[judge.oracle]", &format!("[judge]\nprimary = \"oracle\"\n[judge.oracle]\n{judges}")),
    );
    lab
}

fn endpoint(table: &str, server: &Server) -> String {
    let conduct = "conduct = { concurrency = 2, first_wait_seconds = 0.0 }";
    format!("[judge.{table}.endpoint]\nbase_url = \"{}\"\nmodel = \"rules\"\n{conduct}\n", server.base_url())
}

fn report(lab: &Lab) -> Value {
    serde_json::from_str(&fs::read_to_string(lab.path("reports/tiny/report.json")).unwrap()).unwrap()
}

fn judge<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["judges"].as_array().unwrap().iter().find(|judge| judge["name"] == name).unwrap()
}

fn questions(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|seen| seen.text.clone()).collect()
}

fn run(lab: &Lab) -> Said {
    lab.said(&["run", "tiny.toml"]).fine()
}

#[test]
fn four_judges_judge_the_same_responses_and_their_agreement_is_printed() {
    let server = Server::start(rules::decide);
    let tables =
        format!("[judge.reward_model]\n[judge.llm]\n{}{}", endpoint("llm", &server), endpoint("revise", &server));
    let lab = lab(&tables);
    let said = run(&lab);
    for pair in
        ["oracle and reward_model", "oracle and llm", "oracle and revise", "reward_model and llm", "llm and revise"]
    {
        assert!(said.out.contains(pair), "{pair}: {}", said.out);
    }
    let report = report(&lab);
    let names: Vec<&str> =
        report["judges"].as_array().unwrap().iter().map(|judge| judge["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["oracle", "reward_model", "llm", "revise"]);
    assert_eq!(report["agreements"].as_array().unwrap().len(), 6);
    let llm = judge(&report, "llm");
    // Two variants, 16 prompts, both orders; the same question is asked once.
    let asked = llm["usage"]["requests"].as_u64().unwrap() + llm["usage"]["cached"].as_u64().unwrap();
    assert_eq!(asked, 2 * 2 * 16);
    assert_eq!(llm["pairs"].as_u64().unwrap() + llm["unjudged"].as_u64().unwrap(), 2 * 16);
    assert!(llm["order_consistency"].is_number() && llm["first_position_rate"].is_number(), "{llm}");
    let seen = questions(&server.seen());
    assert_eq!(seen.len(), seen.iter().collect::<BTreeSet<_>>().len(), "no request is sent twice");
    // Again: nothing runs. With the results gone: they are made again from the answers, byte by byte, for nothing.
    run(&lab);
    let before = tiny::results(&lab.path(".runner"));
    for stage in ["opinions", "report"] {
        fs::remove_dir_all(lab.path(".runner/results").join(stage)).unwrap();
    }
    run(&lab);
    assert_eq!(server.count(), seen.len());
    let after = tiny::results(&lab.path(".runner"));
    let opinions = |results: &std::collections::BTreeMap<String, Vec<u8>>| -> Vec<Vec<u8>> {
        let mine = |name: &&String| name.ends_with("opinions.json");
        results.keys().filter(mine).map(|name| results[name].clone()).collect()
    };
    assert!(opinions(&before) == opinions(&after), "other opinions from the same answers");
    assert_eq!(opinions(&after).len(), 6);
}

/// The requests whose answers are on the disk.
fn answered(lab: &Lab) -> BTreeSet<String> {
    let folder = lab.path(".runner/answers");
    let texts = tiny::files(&folder).into_iter().map(|file| fs::read_to_string(folder.join(file)).unwrap());
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    // A line that the kill tore is no answer.
    let rows = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    rows.map(|row| row["request"].to_string()).collect()
}

/// Starts the run, waits until `there`, and kills it without a warning.
fn killed(lab: &Lab, there: impl Fn() -> bool) {
    let mut command = lab.runner(&["run", "tiny.toml", "--jobs", "1"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !there() {
        assert!(child.try_wait().unwrap().is_none(), "ended before it was killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Of at most 64 requests, about half.
const HALF: usize = 28;

#[test]
fn a_judge_that_is_killed_half_way_sends_nothing_again_that_was_answered() {
    let server = Server::start_idempotent(|seen| {
        std::thread::sleep(Duration::from_millis(100));
        rules::decide(seen)
    });
    let table = endpoint("llm", &server).replace("concurrency = 2", "concurrency = 6");
    let lab = lab(&format!("[judge.llm]\n{table}"));
    killed(&lab, || server.count() >= HALF);
    let answered = answered(&lab);
    assert!(answered.len() >= HALF - 6, "{} answers are kept", answered.len());
    run(&lab);
    let mut sent: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for seen in server.seen() {
        sent.entry(seen.body.to_string()).or_default().push(seen);
    }
    let twice: Vec<&String> = sent.keys().filter(|request| sent[*request].len() > 1).collect();
    // Only what was under way when the process died: its answer was lost with it. All six were, and the server is slow.
    assert!((1..=6).contains(&twice.len()), "{} requests were sent again", twice.len());
    assert!(twice.iter().all(|request| !answered.contains(*request)), "an answered request was sent again: {twice:?}");
    // These arrive under the same key, so that nothing is computed twice.
    let keys: BTreeSet<&str> = sent.values().flatten().map(|seen| seen.idempotency_key.as_deref().unwrap()).collect();
    assert_eq!((server.computed(), keys.len()), (sent.len(), sent.len()));
    assert!(sent.len() > HALF && answered.iter().all(|request| sent.contains_key(request)));
}

#[test]
fn a_judge_that_is_killed_between_two_requests_sends_none_twice() {
    // The process dies while it waits for an endpoint that is gone: nothing is under way.
    let first = Server::start_for(HALF, rules::decide);
    let table = endpoint("llm", &first)
        .replace("concurrency = 2, first_wait_seconds = 0.0", "concurrency = 1, first_wait_seconds = 60.0");
    let lab = lab(&format!("[judge.llm]\n{table}"));
    killed(&lab, || answered(&lab).len() == HALF);
    let second = Server::start_at(first.port, rules::decide);
    run(&lab);
    let seen = [first.seen(), second.seen()].concat();
    let distinct: BTreeSet<String> = questions(&seen).into_iter().collect();
    assert_eq!((first.count(), distinct.len()), (HALF, seen.len()), "a request was sent twice");
    assert_eq!(answered(&lab).len(), seen.len());
}

#[test]
fn styles_are_asked_and_read_each_in_its_own_way() {
    for (style, order, requests) in [("ranking", "both", 64), ("logprobs", "random", 32)] {
        let server = Server::start(rules::decide);
        let table = format!("[judge.llm]\nstyle = \"{style}\"\norder = \"{order}\"\n{}", endpoint("llm", &server));
        let lab = lab(&table);
        run(&lab);
        let report = report(&lab);
        let llm = judge(&report, "llm");
        let asked = llm["usage"]["requests"].as_u64().unwrap() + llm["usage"]["cached"].as_u64().unwrap();
        assert_eq!((asked, &llm["unjudged"]), (requests, &json!(0)), "{style}: {llm}");
        assert_eq!(llm["order_consistency"].is_null(), order == "random");
        let body = &server.seen()[0].body;
        assert_eq!(body["top_logprobs"].is_number(), style == "logprobs", "{body}");
    }
}

#[test]
fn what_cannot_be_read_is_counted_and_left_out() {
    let server = Server::start(|_| Reply::says("I cannot decide."));
    let lab = lab(&format!("[judge.llm]\n{}", endpoint("llm", &server)));
    run(&lab);
    let report = report(&lab);
    let llm = judge(&report, "llm");
    assert_eq!((&llm["pairs"], &llm["unjudged"], &llm["usage"]["unparsable"]), (&json!(0), &json!(32), &json!(64)));
    assert_eq!(llm["win_rates"][0]["win_rate"], Value::Null);
}

#[test]
fn revisions_are_compared_by_a_metric_without_asking_again() {
    let server = Server::start(rules::decide);
    let table = format!("[judge.revise]\nscore = \"chrf\"\n{}", endpoint("revise", &server));
    let lab = lab(&table);
    run(&lab);
    assert!(server.seen().iter().all(|seen| seen.question().contains("[Revised answer]")));
    let report = report(&lab);
    assert!(judge(&report, "revise")["pairs"].as_u64().unwrap() > 20);
}

#[test]
fn a_spent_budget_stops_the_stage_and_a_second_run_goes_on() {
    let server = Server::start(rules::decide);
    let mut table = format!("[judge.llm]\n{}", endpoint("llm", &server));
    table = table.replace("concurrency = 2", "concurrency = 2, budget = { requests = 20 }");
    let lab = lab(&table);
    let said = lab.said(&["run", "tiny.toml"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("its budget of 20 requests is spent"), "{}", said.err);
    assert_eq!(server.count(), 20);
    let recipe = fs::read_to_string(lab.path("tiny.toml")).unwrap();
    lab.write("tiny.toml", &recipe.replace("requests = 20", "requests = 99"));
    run(&lab);
    let seen = questions(&server.seen());
    assert_eq!(seen.len(), seen.iter().collect::<BTreeSet<_>>().len());
}

/// The verdicts of people and of a file decide what they know; the rest is left out.
#[test]
fn people_and_files_judge_what_they_know() {
    let server = Server::start(rules::decide);
    let lab = lab(&format!("[judge.llm]\n{}", endpoint("llm", &server)));
    run(&lab);
    // What the responses were, from the questions that were asked.
    let pair = |seen: &Seen| {
        let part = |begin: &str, end: &str| {
            let rest = seen.question().split_once(begin)?.1;
            Some(rest.split_once(end)?.0.to_owned())
        };
        let prompt = part("[User's question]\n", "\n\n[")?;
        let a = part("[Start of assistant A's answer]\n", "\n[End")?;
        let b = part("[Start of assistant B's answer]\n", "\n[End")?;
        (a != b).then_some((prompt, a, b))
    };
    let pairs: Vec<_> = server.seen().iter().filter_map(pair).collect();
    assert!(pairs.len() > 10);
    let mut people = String::new();
    for (i, (prompt, a, b)) in pairs.iter().enumerate().take(8) {
        for (annotator, winner) in [("ada", json!(0)), ("bob", if i % 2 == 0 { json!(0) } else { json!("tie") })] {
            let row = json!({ "prompt": prompt, "responses": [a, b], "winner": winner, "annotator": annotator });
            people += &row.to_string();
            people.push('\n');
        }
    }
    lab.write("people.jsonl", &people);
    let alpaca: Vec<Value> = pairs
        .iter()
        .map(|(prompt, a, b)| json!({ "instruction": prompt, "output_1": a, "output_2": b, "preference": 2 }))
        .collect();
    lab.write("annotations.json", &Value::from(alpaca).to_string());
    let recipe = fs::read_to_string(lab.path("tiny.toml")).unwrap();
    lab.write(
        "tiny.toml",
        &format!("{recipe}\n[judge.human]\npath = \"people.jsonl\"\n[judge.file]\npath = \"annotations.json\"\n"),
    );
    run(&lab);
    let report = report(&lab);
    let (human, file) = (judge(&report, "human"), judge(&report, "file"));
    assert!(human["unjudged"].as_u64().unwrap() > 0 && human["pairs"].as_u64().unwrap() > 0, "{human}");
    assert!(human["annotator_alpha"].is_number(), "{human}");
    assert!(file["pairs"].as_u64() > human["pairs"].as_u64(), "{file}");
    let names = [&report["agreements"]].map(|list| list.as_array().unwrap().len());
    assert_eq!(names, [6], "oracle, human, file, llm");
    // A changed file is another judge.
    lab.write("people.jsonl", &people.replace("\"tie\"", "1"));
    let plan = lab.said(&["plan", "tiny.toml"]).fine().out;
    let human: Vec<&str> = plan.lines().filter(|line| line.starts_with("opinions/human")).collect();
    assert!(human.len() == 2 && human.iter().all(|line| line.contains("run:")), "{plan}");
}

/// A language model alone decides, also on the validation prompts from which coefficients are chosen.
#[test]
fn a_language_model_can_be_the_only_judge() {
    let server = Server::start(rules::decide);
    let lab = Lab::new();
    let recipe = fs::read_to_string(lab.path("tiny.toml")).unwrap();
    let recipe = recipe.replace("[judge.oracle]", &format!("[judge.llm]\n{}", endpoint("llm", &server)));
    lab.write("tiny.toml", &recipe.replace("kl_coef = 0.1", "kl_coef = [0.1, 0.2]"));
    run(&lab);
    let report = report(&lab);
    let prompts = report["prompts"].as_u64().unwrap();
    assert!((10..=16).contains(&prompts), "{prompts}");
    assert!(report["variants"][0]["validation_win_rate"].is_number());
    assert_eq!(report["comparisons"][0]["head_to_head"], Value::Null);
    assert!(report["judge"].as_str().unwrap().starts_with("language model `rules`"));
}

#[test]
fn bad_tables_are_refused_with_what_to_do() {
    let server = Server::start(rules::decide);
    let lab = lab(&format!("[judge.llm]\n{}", endpoint("llm", &server)));
    let said = |overrides: &[&str]| {
        let sets: Vec<&str> = overrides.iter().flat_map(|text| ["--set", text]).collect();
        let said = lab.said(&[&["check", "tiny.toml"][..], &sets].concat());
        assert_eq!(said.code, Some(2), "{}", said.out);
        said.err
    };
    assert!(said(&["judge.primary=human"]).contains("the primary judge is `human`, which `[judge]` does not have"));
    assert!(said(&["judge.human.path=nowhere.jsonl"]).contains("cannot read `nowhere.jsonl`"));
    assert!(said(&["judge.llm.endpoint.temprature=1"]).contains("did you mean `temperature`?"));
    let run = |overrides: &[&str]| {
        let sets: Vec<&str> = overrides.iter().flat_map(|text| ["--set", text]).collect();
        lab.said(&[&["run", "tiny.toml"][..], &sets].concat()).err
    };
    let error = run(&["judge.llm.endpoint.api_key_env=RUNNER_TEST_NO_SUCH_KEY"]);
    assert!(error.contains("`RUNNER_TEST_NO_SUCH_KEY`, which is not set"), "{error}");
    let error =
        run(&["judge.llm.endpoint.base_url=\"http://127.0.0.1:1/v1\"", "judge.llm.endpoint.conduct.max_retries=1"]);
    assert!(error.contains("no answer after 2 tries"), "{error}");
}

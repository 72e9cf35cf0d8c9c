//! Language models as annotators, against an endpoint that answers as a test wants and misbehaves now and then: whole runs,
//! checks and second questions, and what is kept after a failure. `tests/transformers_serve.rs` asks a real server.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod served;
#[allow(dead_code, reason = "every test uses a part")]
mod tiny;

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use served::{Reply, Seen, Server};
use tiny::Lab;

/// What stands between two marks of a question.
fn between<'a>(question: &'a str, from: &str, to: &str) -> &'a str {
    let rest = question.split_once(from).map_or("", |(_, rest)| rest);
    rest.split_once(to).map_or(rest, |(text, _)| text).trim()
}

/// A small number that depends on a text alone.
fn lot(text: &str) -> u32 {
    text.bytes().map(u32::from).sum::<u32>() % 6
}

/// An edit of `response`, as good as the lot says; once it was told off it does better, but for one lot in six.
fn edited(response: &str, again: bool) -> String {
    let words: Vec<&str> = response.split_whitespace().collect();
    let edit = words.iter().enumerate().filter(|(i, _)| *i != 1).map(|(_, word)| *word).collect::<Vec<_>>().join(" ");
    match (lot(response), again) {
        (0, _) => "GOOD".to_owned(),
        (1, false) => format!("Here is the edited answer: {edit}"),
        (2, _) => "something else altogether that nobody asked for in this world or in any other one".to_owned(),
        (3, false) => response.to_owned(),
        (4, false) => String::new(),
        _ => edit,
    }
}

/// Scores for every word, one too few at first for some.
fn scored(response: &str, again: bool) -> String {
    let count = response.split_whitespace().count();
    let lines = (1..=count).map(|number| format!("{number} {}", number % 3)).collect::<Vec<_>>();
    let kept = if lot(response) == 1 && !again { count - 1 } else { count };
    format!("{}\noverall: 1", lines[..kept].join("\n"))
}

/// The annotators of all tables in one.
fn annotator(seen: &Seen) -> String {
    let question = seen.question();
    let again = question.contains("Your last reply was:");
    if question.contains("Answer to edit:") {
        edited(between(question, "Answer to edit:\n", "\n\nYour last reply"), again)
    } else if question.contains("Its words:") {
        scored(between(question, "Answer:\n", "\n\nIts words:"), again)
    } else if again || seen.body["model"] == "steady" {
        // It prefers the shorter answer.
        let length = |from: &str, to: &str| between(question, from, to).len();
        let first = length("Answer 1:\n", "\n\nAnswer 2:") <= length("Answer 2:\n", "\n\nWhich answer");
        if first { "1".to_owned() } else { "2".to_owned() }
    } else {
        "Both are fine.".to_owned()
    }
}

/// `tiny.toml` with language models wherever one can be asked.
fn recipe(server: &Server, conduct: &str) -> String {
    let endpoint =
        |model: &str| format!("{{ base_url = \"{}\", model = \"{model}\", conduct = {conduct} }}", server.base_url());
    let (steady, talker) = (endpoint("steady"), endpoint("talker"));
    format!(
        r#"
extends = "tiny.toml"
preferences = {{ llm = {{ annotators = [{{ endpoint = {steady} }}, {{ endpoint = {talker} }}], label_noise = 0.25 }} }}
edits = {{ llm = {{ endpoint = {steady}, prompt = "edit.jinja", max_share = 0.4, attempts = 2 }} }}
labels.llm_words = {{ endpoint = {talker} }}

[[variants]]
name = "token"
reward = {{ token = {{ loss = "pairwise_edited_anchored" }} }}
credit = "per_token"

[[variants]]
name = "tppo"
reward = {{ tppo = {{}} }}
credit = "per_token_over_length"
"#
    )
}

/// A lab with the recipe `llm.toml` and a question of its own.
fn lab(server: &Server, conduct: &str) -> Lab {
    let lab = Lab::new();
    let base = fs::read_to_string(lab.path("tiny.toml")).unwrap();
    // A table of another choice replaces that of the base.
    lab.write(
        "tiny.toml",
        &base
            .replace("[preferences.simulated]\nnotice_rate = 0.9\nlabel_noise = 0.0\n", "")
            .replace("[edits.simulated]\n", ""),
    );
    lab.write("edit.jinja", runner::llm::prompts::EDIT);
    lab.write("llm.toml", &recipe(server, conduct));
    lab
}

const PATIENT: &str = "{ first_wait_seconds = 0.0, concurrency = 4 }";

/// Every seventh request meets with a fault, another one each time.
fn faulty(seen: &Seen) -> Reply {
    match (seen.number % 7, seen.number % 4) {
        (3, 0) => Reply::status(503),
        (3, 1) => Reply::Malformed,
        (3, 2) => Reply::Cut,
        (3, _) => Reply::Status(429, vec![("retry-after", "0".to_owned())], "slow down".to_owned()),
        _ => Reply::says(annotator(seen)),
    }
}

fn report(lab: &Lab) -> Value {
    serde_json::from_str(&fs::read_to_string(lab.path("reports/llm/report.json")).unwrap()).unwrap()
}

/// How often each question was asked, by its body.
fn asked(server: &Server) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for seen in server.seen() {
        *counts.entry(seen.text).or_default() += 1;
    }
    counts
}

#[test]
fn a_run_is_annotated_by_language_models_and_says_how_they_did() {
    let server = Server::start(faulty);
    let lab = lab(&server, PATIENT);
    let said = lab.said(&["run", "llm.toml"]).fine();
    assert!(said.err.contains("were flagged and left out"), "{}", said.err);
    let report = report(&lab);
    let accounts = report["annotators"].as_array().unwrap();
    let account = |task: &str| accounts.iter().find(|account| account["task"] == task).unwrap();
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    for account in accounts {
        assert_eq!(number(&account["accepted"]) + number(&account["flagged"]), number(&account["asked"]), "{account}");
        assert!(account["stage"].as_str().unwrap().contains("budget=24/seed=0"), "{account}");
    }

    let edits = account("edits");
    let rejections = |check: &str| edits["rejections"][check].as_u64().unwrap_or(0);
    assert!(rejections("preamble") > 0 && rejections("identical") > 0 && rejections("empty") > 0, "{edits}");
    // A rewrite is asked for twice and then flagged.
    assert_eq!(rejections("rewrite"), 2 * edits["flagged"].as_u64().unwrap(), "{edits}");
    assert!(number(&edits["flagged"]) > 0 && number(&edits["good"]) > 0, "{edits}");
    let shares: usize = edits["shares"].as_array().unwrap().iter().map(number).sum();
    assert_eq!(shares, number(&edits["accepted"]) - number(&edits["good"]), "{edits}");
    let labelled = report["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"].as_str().unwrap().starts_with("labelled edits"));
    assert_eq!(number(&labelled.unwrap()["count"]), shares);
    let page = fs::read_to_string(lab.path("reports/llm/index.html")).unwrap();
    let markdown = fs::read_to_string(lab.path("reports/llm/report.md")).unwrap();
    for text in [&page, &markdown] {
        assert!(
            text.contains("Language models as annotators")
                && text.contains("it changes nothing, and does not say GOOD")
        );
    }

    let preferences = account("preferences");
    assert!(preferences["rejections"]["none named"].as_u64().unwrap() > 0, "the talker is asked twice: {preferences}");
    assert!(number(&preferences["flipped"]) > 0, "{preferences}");
    assert!((0.01..0.99).contains(&preferences["first_shown"].as_f64().unwrap()), "both orders: {preferences}");
    let words = account("word scores");
    assert!(words["rejections"]["word missing"].as_u64().unwrap_or(0) > 0 && words["flagged"] == 0, "{words}");

    // Questions that were answered are asked once; the others again, and none goes astray.
    let before = server.count();
    assert!(asked(&server).values().all(|&count| count <= 4), "{:?}", asked(&server));
    let again = lab.said(&["run", "llm.toml"]).fine();
    assert!(again.err.contains("nothing to do"), "{}", again.err);
    // Results that are lost are made again from answers that are kept.
    fs::remove_dir_all(lab.path(".runner/results/edits")).unwrap();
    fs::remove_dir_all(lab.path(".runner/results/report")).unwrap();
    let edits_before = report["edits"].clone();
    lab.said(&["run", "llm.toml", "--set", "evaluation.bootstrap_samples=150"]).fine();
    assert_eq!(server.count(), before, "nothing is asked twice");
    assert_eq!(self::report(&lab)["edits"], edits_before);
}

#[test]
fn a_spent_budget_ends_the_run_and_the_next_goes_on_from_there() {
    let server = Server::start(|seen| Reply::says(annotator(seen)));
    let lab = lab(&server, "{ concurrency = 1, budget = { requests = 9 } }");
    let said = lab.said(&["run", "llm.toml", "--jobs", "1"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("budget"), "{}", said.err);
    let spent = server.count();
    assert!(spent <= 18, "two endpoints with 9 requests each, {spent} sent");
    // How an endpoint is treated is in no key: the same run with a larger budget.
    lab.write("llm.toml", &recipe(&server, PATIENT));
    lab.said(&["run", "llm.toml"]).fine();
    assert!(asked(&server).values().all(|&count| count == 1), "every question is asked once: {:?}", asked(&server));
}

#[test]
fn a_changed_question_asks_again_and_a_bad_one_is_named() {
    let server = Server::start(|seen| Reply::says(annotator(seen)));
    let lab = lab(&server, PATIENT);
    let plan = |arguments: &[&str]| lab.said(arguments).fine().out;
    let key = |plan: &str, label: &str| -> String {
        let line = plan.lines().find(|line| line.starts_with(label)).unwrap();
        line.split_whitespace().nth(2).unwrap().to_owned()
    };
    let before = plan(&["plan", "llm.toml"]);
    lab.write("edit.jinja", "{% block system %}Shorter!{% endblock %}{% block user %}{{ response }}{% endblock %}");
    let after = plan(&["plan", "llm.toml"]);
    assert_ne!(key(&before, "edits/"), key(&after, "edits/"));
    assert_eq!(key(&before, "preferences/"), key(&after, "preferences/"));
    let patient = plan(&["plan", "llm.toml", "--set", "edits.llm.endpoint.conduct.max_retries=9"]);
    assert_eq!(key(&after, "edits/"), key(&patient, "edits/"), "how it is treated changes no edit");

    lab.write("edit.jinja", "{% if %}");
    let said = lab.said(&["plan", "llm.toml"]);
    assert!(said.code != Some(0) && said.err.contains("edit.jinja"), "{}", said.err);
    fs::remove_file(lab.path("edit.jinja")).unwrap();
    let said = lab.said(&["check", "llm.toml"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert!(said.err.contains("cannot read `") && said.err.contains("edit.jinja"), "{}", said.err);
    let said = lab.said(&["check", "llm.toml", "--set", "edits={simulated={}}"]);
    assert!(said.err.contains("`[edits.simulated]` needs `[preferences.simulated]`"), "{}", said.err);
}

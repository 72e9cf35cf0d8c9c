//! The endpoint client against a server that misbehaves in every way a server does.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod served;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use runner::endpoint::{Client, Config, Request};
use serde_json::{Value, json};

use served::{Reply, Seen, Server};

fn config(server: &Server, changes: Value) -> Config {
    let mut conduct = json!({ "first_wait_seconds": 0.0, "timeout_seconds": 5.0, "concurrency": 1 });
    let mut table = json!({ "base_url": server.base_url(), "model": "tiny" });
    let Value::Object(changes) = changes else { panic!("a table") };
    for (key, value) in changes {
        if ["api", "seed", "api_key_env"].contains(&key.as_str()) {
            table[key] = value;
        } else {
            conduct[key] = value;
        }
    }
    table["conduct"] = conduct;
    serde_json::from_value(table).unwrap()
}

fn client(config: &Config, folder: &Path) -> Client {
    Client::new(config, "judge.llm", folder).unwrap()
}

fn questions(count: usize) -> Vec<Request> {
    (0..count).map(|i| Request::of("", &format!("question {i}"))).collect()
}

fn echo(seen: &Seen) -> Reply {
    Reply::says(format!("answer to {}", seen.question()))
}

fn texts(client: &Client, requests: &[Request]) -> anyhow::Result<Vec<String>> {
    Ok(client.ask(requests, &|_| {})?.into_iter().map(|answer| answer.text).collect())
}

#[test]
fn answers_come_in_order_are_kept_and_never_asked_for_again() {
    let server = Server::start(echo);
    let folder = tempfile::tempdir().unwrap();
    let config = config(&server, json!({ "concurrency": 4 }));
    let requests = [questions(20), questions(3)].concat();
    let expected: Vec<String> = (0..20).chain(0..3).map(|i| format!("answer to question {i}")).collect();
    let first = client(&config, folder.path());
    assert_eq!(texts(&first, &requests).unwrap(), expected);
    assert_eq!((server.count(), first.usage().requests, first.usage().cached), (20, 20, 3));
    assert_eq!((first.usage().prompt_tokens, first.usage().completion_tokens), (40, 80));
    drop(first);
    let second = client(&config, folder.path());
    assert_eq!(texts(&second, &requests).unwrap(), expected);
    assert_eq!((server.count(), second.usage().requests, second.usage().cached), (20, 0, 23));
}

#[test]
fn both_apis_are_spoken() {
    let server = Server::start(echo);
    let folder = tempfile::tempdir().unwrap();
    for (api, path) in [("chat", "/v1/chat/completions"), ("completions", "/v1/completions")] {
        let client = client(&config(&server, json!({ "api": api, "seed": 7 })), folder.path());
        assert_eq!(texts(&client, &questions(1)).unwrap(), ["answer to question 0"]);
        let seen = server.seen().pop().unwrap();
        assert_eq!((seen.path.as_str(), &seen.body["seed"], &seen.authorization), (path, &json!(7), &None));
    }
}

#[test]
fn every_passing_failure_is_tried_again() {
    let failures = [
        Reply::status(429),
        Reply::status(500),
        Reply::status(503),
        Reply::Malformed,
        Reply::Cut,
        Reply::Silence(Duration::ZERO),
    ];
    let count = failures.len();
    let server = Server::start(move |seen| failures.get(seen.number).cloned().unwrap_or_else(|| echo(seen)));
    let folder = tempfile::tempdir().unwrap();
    let client = client(&config(&server, json!({ "max_retries": 6 })), folder.path());
    assert_eq!(texts(&client, &questions(2)).unwrap(), ["answer to question 0", "answer to question 1"]);
    assert_eq!((server.count(), client.usage().requests, client.usage().retries), (count + 2, 8, 6));
    let bodies: Vec<String> = server.seen().into_iter().take(count + 1).map(|seen| seen.text).collect();
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "a retry is the same request: {bodies:?}");
}

#[test]
fn a_lost_answer_is_asked_for_under_the_same_key_and_a_broken_one_under_another() {
    let failures =
        [Reply::status(500), Reply::Cut, Reply::Malformed, Reply::status(429), Reply::Silence(Duration::ZERO)];
    let server = Server::start(move |seen| failures.get(seen.number).cloned().unwrap_or_else(|| echo(seen)));
    let folder = tempfile::tempdir().unwrap();
    texts(&client(&config(&server, json!({})), folder.path()), &questions(2)).unwrap();
    let keys: Vec<String> = server.seen().into_iter().map(|seen| seen.idempotency_key.unwrap()).collect();
    let key = &keys[0];
    let after = |broken: usize| format!("{key}-{broken}");
    assert_eq!(keys[1..6], [after(1), after(1), after(2), after(2), after(2)]);
    assert!(
        key.len() >= 32 && keys.len() == 7 && !keys[6].starts_with(key),
        "another request has another key: {keys:?}"
    );
}

#[test]
fn a_silent_endpoint_is_given_up_and_asked_again() {
    let server = Server::start(|seen| match seen.number {
        0 => Reply::Silence(Duration::from_secs(20)),
        _ => echo(seen),
    });
    let folder = tempfile::tempdir().unwrap();
    let client = client(&config(&server, json!({ "timeout_seconds": 0.3 })), folder.path());
    assert_eq!(texts(&client, &questions(1)).unwrap(), ["answer to question 0"]);
    assert_eq!(client.usage().retries, 1);
}

#[test]
fn nobody_sends_before_retry_after_is_over() {
    let headers = [
        "1".to_owned(),
        // A date has whole seconds: two from now are at least one.
        (chrono::Utc::now() + chrono::Duration::seconds(3)).format("%a, %d %b %Y %H:%M:%S GMT").to_string(),
    ];
    let server = Server::start(move |seen| match headers.get(seen.number) {
        Some(header) => Reply::Status(429, vec![("retry-after", header.clone())], "slow down".to_owned()),
        None => echo(seen),
    });
    let folder = tempfile::tempdir().unwrap();
    let client = client(&config(&server, json!({})), folder.path());
    texts(&client, &questions(1)).unwrap();
    let at: Vec<_> = server.seen().iter().map(|seen| seen.at).collect();
    assert!(at[1] - at[0] >= Duration::from_secs(1), "{:?}", at[1] - at[0]);
    assert!(at[2] - at[0] >= Duration::from_secs(2), "{:?}", at[2] - at[0]);
}

#[test]
fn a_wait_that_is_too_long_ends_the_work_and_says_so() {
    let server =
        Server::start(|_| Reply::Status(503, vec![("retry-after", "9999".to_owned())], "maintenance".to_owned()));
    let folder = tempfile::tempdir().unwrap();
    let error = texts(&client(&config(&server, json!({})), folder.path()), &questions(3)).unwrap_err();
    let said = format!("{error:#}");
    assert!(said.contains("wait for 9999 s") && said.contains("maintenance"), "{said}");
    assert_eq!(server.count(), 1);
}

#[test]
fn what_lasts_is_not_tried_again_and_keeps_what_was_answered() {
    let server = Server::start(|seen| match seen.question() {
        "question 3" => Reply::Status(400, vec![], r#"{"error": "too long"}"#.to_owned()),
        _ => echo(seen),
    });
    let folder = tempfile::tempdir().unwrap();
    let config = config(&server, json!({}));
    let error = texts(&client(&config, folder.path()), &questions(6)).unwrap_err();
    let said = format!("{error:#}");
    assert!(said.contains("3 of 6 requests are answered and kept") && said.contains("status 400"), "{said}");
    assert!(said.contains("too long"), "{said}");
    assert_eq!(server.count(), 4);
    texts(&client(&config, folder.path()), &questions(3)).unwrap();
    assert_eq!(server.count(), 4);
}

#[test]
fn tries_end() {
    let server = Server::start(|_| Reply::status(500));
    let folder = tempfile::tempdir().unwrap();
    let client = client(&config(&server, json!({ "max_retries": 2 })), folder.path());
    let said = format!("{:#}", texts(&client, &questions(1)).unwrap_err());
    assert!(said.contains("no answer after 3 tries: status 500"), "{said}");
    assert_eq!(server.count(), 3);
}

#[test]
fn no_more_requests_are_under_way_than_allowed() {
    static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let server = Server::start(|seen| {
        MOST.fetch_max(UNDER_WAY.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
        echo(seen)
    });
    let folder = tempfile::tempdir().unwrap();
    let config = config(&server, json!({ "concurrency": 3 }));
    let (one, two) = (client(&config, folder.path()), client(&config, folder.path()));
    std::thread::scope(|scope| {
        scope.spawn(|| texts(&one, &questions(24)[..12]).unwrap());
        scope.spawn(|| texts(&two, &questions(24)[12..]).unwrap());
    });
    assert_eq!((server.count(), MOST.load(Ordering::SeqCst)), (24, 3));
}

#[test]
fn two_clients_that_want_the_same_ask_once() {
    let server = Server::start(|seen| {
        std::thread::sleep(Duration::from_millis(20));
        echo(seen)
    });
    let folder = tempfile::tempdir().unwrap();
    let config = config(&server, json!({ "concurrency": 4 }));
    let (one, two) = (client(&config, folder.path()), client(&config, folder.path()));
    std::thread::scope(|scope| {
        scope.spawn(|| texts(&one, &questions(10)).unwrap());
        scope.spawn(|| texts(&two, &questions(10)).unwrap());
    });
    assert_eq!(server.count(), 10);
    assert_eq!(one.usage().cached + two.usage().cached, 10);
}

#[test]
fn the_budget_is_never_exceeded_and_the_next_process_goes_on() {
    let server = Server::start(echo);
    let folder = tempfile::tempdir().unwrap();
    let ask = |budget: Value, count| {
        let config = config(&server, json!({ "concurrency": 4, "budget": budget }));
        texts(&client(&config, folder.path()), &questions(count)).map_err(|error| format!("{error:#}"))
    };
    let said = ask(json!({ "requests": 5 }), 9).unwrap_err();
    assert!(said.contains("5 of 9 requests are answered and kept") && said.contains("budget of 5 requests"), "{said}");
    assert_eq!(server.count(), 5);
    // The same table, even in another client: what was answered is free, anything more is not.
    assert!(ask(json!({ "requests": 5 }), 9).is_err());
    assert_eq!(server.count(), 5);
    assert!(ask(json!({ "requests": 9 }), 9).is_ok());
    assert_eq!(server.count(), 9);
    let said = ask(json!({ "tokens": 100 }), 10).unwrap_err();
    assert!(said.contains("budget of 100 tokens"), "{said}");
    assert_eq!(server.count(), 9);
}

#[test]
fn money_is_counted_by_the_price_table() {
    let server = Server::start(echo);
    let folder = tempfile::tempdir().unwrap();
    let prices = json!({ "prompt_per_million": 1e6, "completion_per_million": 2e6 });
    let client = client(&config(&server, json!({ "prices": prices })), folder.path());
    texts(&client, &questions(3)).unwrap();
    // Two words asked and four answered.
    assert_eq!(client.usage().money, Some(3.0 * (2.0 + 8.0)));
}

#[test]
fn a_key_that_is_not_there_is_named() {
    let server = Server::start(echo);
    let folder = tempfile::tempdir().unwrap();
    let config = config(&server, json!({ "api_key_env": "RUNNER_TEST_NO_SUCH_KEY" }));
    let error = Client::new(&config, "judge.llm", folder.path()).err().unwrap().to_string();
    assert!(error.contains("`RUNNER_TEST_NO_SUCH_KEY`, which is not set"), "{error}");
}

/// Cargo sets this variable for tests; its value stands in for a key.
#[test]
fn the_key_is_sent_and_neither_stored_nor_shown() {
    let key = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let secret = key.clone();
    let server = Server::start(move |seen| match seen.number {
        0 => Reply::says(format!("your key is {secret}")),
        _ => Reply::Status(401, vec![], format!("wrong key: {secret}")),
    });
    let folder = tempfile::tempdir().unwrap();
    let client = client(&config(&server, json!({ "api_key_env": "CARGO_MANIFEST_DIR" })), folder.path());
    assert_eq!(texts(&client, &questions(1)).unwrap(), ["your key is ***"]);
    assert_eq!(server.seen()[0].authorization, Some(format!("Bearer {key}")));
    let said = format!("{:#}", texts(&client, &questions(2)).unwrap_err());
    assert!(said.contains("wrong key: ***") && !said.contains(&key), "{said}");
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains(&key), "{text}");
    }
}

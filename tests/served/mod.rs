//! An OpenAI-compatible endpoint on this machine that answers as a test wants, misbehaves as a test wants, and remembers
//! what it was asked.

#![allow(dead_code, reason = "each test and example uses its own part")]

pub mod rules;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub authorization: Option<String>,
    pub idempotency_key: Option<String>,
    pub text: String,
    pub body: Value,
    pub at: Instant,
    /// How many arrived before it.
    pub number: usize,
}

impl Seen {
    /// What a model would read last: the last message, or the whole prompt.
    pub fn question(&self) -> &str {
        let messages = self.body["messages"].as_array();
        let last = messages.and_then(|messages| messages.last()).map_or(&self.body["prompt"], |last| &last["content"]);
        last.as_str().unwrap_or_default()
    }
}

/// What the endpoint does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers with this text.
    Says(String),
    /// Answers with the first token of the list, and the list as its alternatives.
    Tokens(Vec<(String, f64)>),
    /// Another status than 200, with headers and a body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// 200 and half a JSON object.
    Malformed,
    /// The connection ends in the middle of the body.
    Cut,
    /// Nothing is said for so long; then the connection ends.
    Silence(Duration),
}

impl Reply {
    pub fn says(text: impl Into<String>) -> Self {
        Self::Says(text.into())
    }

    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), "busy".to_owned())
    }
}

/// The endpoint; it ends with the process.
pub struct Server {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    decide: Box<dyn Fn(&Seen) -> Reply + Send + Sync>,
    seen: Mutex<Vec<Seen>>,
    computed: AtomicUsize,
    /// Replies by `Idempotency-Key`, where these are kept; one that is being computed is waited for.
    kept: Option<Mutex<HashMap<String, Arc<OnceLock<Reply>>>>>,
}

impl Server {
    /// Listens on a free port and answers as `decide` says.
    pub fn start(decide: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(0, decide)
    }

    pub fn start_at(port: u16, decide: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(port, usize::MAX, false, decide)
    }

    /// Knows `Idempotency-Key`: a request that is sent again gets the reply of the first time, whoever is still there to hear it.
    pub fn start_idempotent(decide: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(0, usize::MAX, true, decide)
    }

    /// Is gone before it answers the last of so many requests: whoever sends another one finds nobody.
    pub fn start_for(requests: usize, decide: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(0, requests, false, decide)
    }

    fn listen(
        port: u16,
        requests: usize,
        keeps: bool,
        decide: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a port to listen on");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State {
            decide: Box::new(decide),
            seen: Mutex::default(),
            computed: AtomicUsize::new(0),
            kept: keeps.then(Mutex::default),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let mut listener = Some(listener);
            for number in 1..=requests {
                let Some(Ok((stream, _))) = listener.as_ref().map(TcpListener::accept) else { continue };
                if number == requests {
                    listener = None;
                }
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { port, state }
    }

    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// All that arrived, in order.
    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.state.seen).clone()
    }

    pub fn count(&self) -> usize {
        locked(&self.state.seen).len()
    }

    /// How many replies were computed: of all that arrived, those that were not kept.
    pub fn computed(&self) -> usize {
        self.state.computed.load(Ordering::SeqCst)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: &TcpStream, state: &State) {
    let mut reader = BufReader::new(stream);
    let Some(mut seen) = read(&mut reader) else { return };
    {
        let mut log = locked(&state.seen);
        seen.number = log.len();
        log.push(seen.clone());
    }
    let compute = || {
        state.computed.fetch_add(1, Ordering::SeqCst);
        (state.decide)(&seen)
    };
    let reply = match state.kept.as_ref().zip(seen.idempotency_key.clone()) {
        Some((kept, key)) => {
            let place = Arc::clone(locked(kept).entry(key).or_default());
            place.get_or_init(compute).clone()
        }
        None => compute(),
    };
    answer(stream, &seen, reply);
}

fn read(reader: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split_whitespace().nth(1)?.to_owned();
    let (mut length, mut authorization, mut idempotency_key) = (0, None, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            "idempotency-key" => idempotency_key = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let body = serde_json::from_str(&text).unwrap_or_default();
    Some(Seen { path, authorization, idempotency_key, text, body, at: Instant::now(), number: 0 })
}

fn answer(stream: &TcpStream, seen: &Seen, reply: Reply) {
    match reply {
        Reply::Says(text) => respond(stream, 200, &[], &completion(seen, &text, &[]).to_string()),
        Reply::Tokens(tokens) => {
            let first = tokens.first().map(|(token, _)| token.clone()).unwrap_or_default();
            respond(stream, 200, &[], &completion(seen, &first, &tokens).to_string());
        }
        Reply::Status(status, headers, body) => respond(stream, status, &headers, &body),
        Reply::Malformed => respond(stream, 200, &[], r#"{"choices": [{"message": {"conte"#),
        Reply::Cut => {
            let whole = completion(seen, "never seen", &[]).to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", whole.len());
            send(stream, &format!("{head}{}", &whole[..whole.len() / 2]));
        }
        Reply::Silence(time) => std::thread::sleep(time),
    }
}

/// The reply of either API; a word is a token.
fn completion(seen: &Seen, text: &str, alternatives: &[(String, f64)]) -> Value {
    let words = |text: &str| text.split_whitespace().count();
    let usage = json!({
        "prompt_tokens": words(seen.question()),
        "completion_tokens": words(text),
        "total_tokens": words(seen.question()) + words(text),
    });
    let choice = if seen.path.ends_with("/chat/completions") {
        let list: Vec<Value> =
            alternatives.iter().map(|(token, logprob)| json!({ "token": token, "logprob": logprob })).collect();
        let logprobs = list.first().map(|first| {
            json!({ "content": [{ "token": first["token"], "logprob": first["logprob"], "top_logprobs": list }] })
        });
        json!({ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text }, "logprobs": logprobs })
    } else {
        json!({ "index": 0, "finish_reason": "stop", "text": text })
    };
    json!({ "id": "1", "object": "completion", "model": seen.body["model"], "choices": [choice], "usage": usage })
}

fn respond(stream: &TcpStream, status: u16, headers: &[(&str, String)], body: &str) {
    let own = [("content-type", "application/json".to_owned()), ("content-length", body.len().to_string())];
    let lines = headers.iter().chain(&own).map(|(name, value)| format!("{name}: {value}\r\n"));
    send(stream, &format!("HTTP/1.1 {status} Any\r\nconnection: close\r\n{}\r\n{body}", lines.collect::<String>()));
}

/// A client that has gone away is none of the server's business.
fn send(mut stream: &TcpStream, text: &str) {
    if stream.write_all(text.as_bytes()).is_ok() {
        let _ = stream.flush();
    }
}

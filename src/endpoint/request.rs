//! What is asked: messages, and the body of the HTTP request that they become.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Api, Config};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// One question to a language model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// How many alternatives to each token of the answer are asked for, with their log-probabilities; none where not needed.
    pub top_logprobs: Option<u32>,
    /// Tokens of the answer at most, where fewer than the endpoint's table allows.
    pub max_tokens: Option<usize>,
    /// Tells repeated questions apart: is added to the table's seed, so that each has an answer of its own.
    pub repeat: u64,
}

impl Request {
    /// An instruction and a question; no instruction where it is empty.
    #[must_use]
    pub fn of(system: &str, user: &str) -> Self {
        let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
        let mut messages = vec![message("user", user)];
        if !system.is_empty() {
            messages.insert(0, message("system", system));
        }
        Self { messages, ..Self::default() }
    }

    /// Asks for `count` alternatives to each token.
    #[must_use]
    pub const fn with_top_logprobs(mut self, count: u32) -> Self {
        self.top_logprobs = Some(count);
        self
    }

    /// Lets the answer have at most `tokens`.
    #[must_use]
    pub const fn with_max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    pub(super) fn max_tokens(&self, config: &Config) -> usize {
        self.max_tokens.map_or(config.max_tokens.get(), |tokens| tokens.min(config.max_tokens.get()))
    }

    /// As it is sent.
    pub(super) fn sealed(&self, config: &Config) -> Sealed {
        let url = format!("{}/{}", config.base_url.trim_end_matches('/'), path(config.api));
        let mut body = json!({
            "model": config.model,
            "temperature": config.temperature.get(),
            "max_tokens": self.max_tokens(config),
        });
        match config.api {
            Api::Chat => body["messages"] = json!(self.messages),
            Api::Completions => {
                let texts: Vec<&str> = self.messages.iter().map(|message| message.content.as_str()).collect();
                body["prompt"] = json!(texts.join("\n\n"));
            }
        }
        if let Some(seed) = config.seed.or((self.repeat > 0).then_some(0)) {
            body["seed"] = json!(seed + self.repeat);
        }
        if let Some(count) = self.top_logprobs {
            match config.api {
                Api::Chat => {
                    body["logprobs"] = json!(true);
                    body["top_logprobs"] = json!(count);
                }
                Api::Completions => body["logprobs"] = json!(count),
            }
        }
        Sealed::new(url, &body)
    }
}

const fn path(api: Api) -> &'static str {
    match api {
        Api::Chat => "chat/completions",
        Api::Completions => "completions",
    }
}

/// A request as it is sent, and the key of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) url: String,
    pub(super) body: String,
    /// A hash of both.
    pub(super) key: String,
}

impl Sealed {
    fn new(url: String, body: &Value) -> Self {
        let body = body.to_string();
        let mut hasher = blake3::Hasher::new();
        hasher.update(url.as_bytes()).update(b"\n").update(body.as_bytes());
        let key = hasher.finalize().to_hex().to_string();
        Self { url, body, key }
    }

    /// By which an endpoint that knows `Idempotency-Key` [IDEMPOTENCY] recognises the request when it is sent again because its answer
    /// was lost: by a time-out, a broken connection or a kill. It then computes nothing anew. After a reply that was no answer the
    /// key is another one, or that reply would come again.
    pub(super) fn idempotency_key(&self, broken_replies: u32) -> String {
        if broken_replies == 0 { self.key.clone() } else { format!("{}-{broken_replies}", self.key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(api: &str) -> Config {
        serde_json::from_value(json!({ "base_url": "http://127.0.0.1:1/v1/", "model": "m", "api": api })).unwrap()
    }

    #[test]
    fn each_api_has_its_own_form() {
        let request = Request::of("Be brief.", "Why?").with_top_logprobs(5).with_max_tokens(7);
        let chat = request.sealed(&config("chat"));
        let body: Value = serde_json::from_str(&chat.body).unwrap();
        assert_eq!(chat.url, "http://127.0.0.1:1/v1/chat/completions");
        assert_eq!(
            body,
            json!({
                "model": "m", "temperature": 0.0, "max_tokens": 7, "logprobs": true, "top_logprobs": 5,
                "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Why?" }],
            })
        );
        let plain = request.sealed(&config("completions"));
        let body: Value = serde_json::from_str(&plain.body).unwrap();
        assert_eq!(plain.url, "http://127.0.0.1:1/v1/completions");
        assert_eq!(
            body,
            json!({ "model": "m", "temperature": 0.0, "max_tokens": 7, "logprobs": 5, "prompt": "Be brief.\n\nWhy?" })
        );
    }

    #[test]
    fn the_key_is_of_the_full_request() {
        let (request, config) = (Request::of("", "Why?"), config("chat"));
        let key = request.sealed(&config).key;
        assert_eq!(request.sealed(&config).key, key);
        let other = Request { repeat: 1, ..request.clone() };
        let changed = [
            other.sealed(&config).key,
            Request::of("", "Why not?").sealed(&config).key,
            request.clone().with_max_tokens(3).sealed(&config).key,
            request.sealed(&Config { model: "n".to_owned(), ..config.clone() }).key,
            request.sealed(&Config { base_url: "http://127.0.0.1:2/v1".to_owned(), ..config.clone() }).key,
            request.sealed(&Config { seed: Some(3), ..config }).key,
        ];
        assert!(changed.iter().all(|other| *other != key), "{changed:?}");
    }
}

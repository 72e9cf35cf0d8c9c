//! What came back: text, why it ended, alternatives to its tokens, and what it cost.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a language model answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Why it ended, in the endpoint's words: `stop`, `length`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// For each token of the answer the likeliest alternatives; empty where the endpoint gave none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_logprobs: Vec<Vec<TokenLogprob>>,
    /// Tokens of the prompt, as the endpoint counts them; none where it does not.
    #[serde(default)]
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer.
    #[serde(default)]
    pub completion_tokens: Option<u64>,
}

/// A token that could have stood somewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// Its text.
    pub token: String,
    /// Its log-probability, in nats.
    pub logprob: f64,
}

impl Answer {
    /// Reads the body of a reply, of either API.
    ///
    /// # Errors
    /// When it is no JSON, or has no answer in it: what was expected, and how the body begins.
    pub(super) fn parse(body: &str) -> Result<Self, String> {
        let begins = || body.chars().take(200).collect::<String>();
        let reply: Value =
            serde_json::from_str(body).map_err(|error| format!("expected JSON, found `{}` ({error})", begins()))?;
        let choice = &reply["choices"][0];
        let message = &choice["message"];
        // A refusal stands where the text would; a model that called a tool or said nothing has a null.
        let text = [&message["content"], &message["refusal"], &choice["text"]].into_iter().find_map(Value::as_str);
        let text = match text {
            Some(text) => text.to_owned(),
            None if message.is_object() => String::new(),
            None => return Err(format!("expected `choices` with a `message` or `text`, found `{}`", begins())),
        };
        Ok(Self {
            text,
            finish_reason: choice["finish_reason"].as_str().map(str::to_owned),
            top_logprobs: alternatives(&choice["logprobs"]),
            prompt_tokens: reply["usage"]["prompt_tokens"].as_u64(),
            completion_tokens: reply["usage"]["completion_tokens"].as_u64(),
        })
    }
}

/// Chat: a list of tokens with lists of `token` and `logprob`; completions: a list of objects from token to log-probability.
fn alternatives(logprobs: &Value) -> Vec<Vec<TokenLogprob>> {
    if let Some(tokens) = logprobs["content"].as_array() {
        let of = |token: &Value| -> Vec<TokenLogprob> {
            let list = token["top_logprobs"].as_array();
            list.into_iter().flatten().filter_map(|entry| TokenLogprob::deserialize(entry).ok()).collect()
        };
        return tokens.iter().map(of).collect();
    }
    let of = |token: &Value| -> Vec<TokenLogprob> {
        let entries = token.as_object().into_iter().flatten();
        entries
            .filter_map(|(token, logprob)| Some(TokenLogprob { token: token.clone(), logprob: logprob.as_f64()? }))
            .collect()
    };
    logprobs["top_logprobs"].as_array().into_iter().flatten().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_apis_are_read() {
        let chat = r#"{"choices":[{"message":{"role":"assistant","content":"m"},"finish_reason":"stop","logprobs":{"content":[
            {"token":"m","logprob":-0.1,"top_logprobs":[{"token":"m","logprob":-0.1},{"token":"M","logprob":-2.5}]}]}}],
            "usage":{"prompt_tokens":12,"completion_tokens":1,"total_tokens":13}}"#;
        let plain = r#"{"choices":[{"text":"m","finish_reason":"stop","logprobs":{"tokens":["m"],"token_logprobs":[-0.1],
            "top_logprobs":[{"m":-0.1,"M":-2.5}]}}],"usage":{"prompt_tokens":12,"completion_tokens":1}}"#;
        for body in [chat, plain] {
            let answer = Answer::parse(body).unwrap();
            assert_eq!((answer.text.as_str(), answer.finish_reason.as_deref()), ("m", Some("stop")));
            assert_eq!((answer.prompt_tokens, answer.completion_tokens), (Some(12), Some(1)));
            let mut first = answer.top_logprobs[0].clone();
            first.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
            let first: Vec<_> = first.iter().map(|entry| (entry.token.as_str(), entry.logprob)).collect();
            assert_eq!(first, [("m", -0.1), ("M", -2.5)]);
        }
    }

    #[test]
    fn what_is_no_answer_is_said_to_be_none() {
        for (body, expected) in [("<html>", "expected JSON"), ("{}", "expected `choices`"), ("", "expected JSON")] {
            let error = Answer::parse(body).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let silent = r#"{"choices":[{"message":{"role":"assistant","content":null}}]}"#;
        assert_eq!(Answer::parse(silent).unwrap().text, "");
    }
}

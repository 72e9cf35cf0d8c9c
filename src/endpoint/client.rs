//! The client: asks what is not known yet, several at a time, again where that may help.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use ureq::Agent;

use super::answer::Answer;
use super::answers::{Answers, Found};
use super::ledger::{Ledger, Tokens, Usage};
use super::patience::{Failure, pause};
use super::request::{Request, Sealed};
use super::{Config, Prices};

/// Shorter keys are placeholders; taking them out of texts would only damage these.
const SHORTEST_SECRET: usize = 8;

/// Asks one endpoint on behalf of one recipe table.
pub struct Client {
    config: Config,
    key: Option<String>,
    agent: Agent,
    answers: Arc<Answers>,
    ledger: Arc<Ledger>,
    usage: Mutex<Usage>,
}

impl Client {
    /// A client of the endpoint in `config`, whose answers are kept in `folder`. `purpose` names the recipe's table in messages,
    /// and what is spent under one purpose counts against one budget.
    ///
    /// # Errors
    /// When the key's environment variable is not set, the address is none, or the folder cannot be written to.
    pub fn new(config: &Config, purpose: &str, folder: &Path) -> Result<Self> {
        let key = match &config.api_key_env {
            Some(name) => Some(std::env::var(name).map_err(|_| {
                anyhow!("`{purpose}` takes its key from the environment variable `{name}`, which is not set")
            })?),
            None => None,
        };
        ensure!(
            ["http://", "https://"].iter().any(|scheme| config.base_url.starts_with(scheme)),
            "`base_url` of `{purpose}`: expected an address such as `http://127.0.0.1:8000/v1`, found `{}`",
            config.base_url
        );
        let agent = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs_f64(config.conduct.timeout_seconds.get())))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build()
            .new_agent();
        let answers = Answers::open(folder, &config.base_url, &config.model)?;
        let ledger = Ledger::named(&format!("{purpose}\n{}\n{}", folder.display(), serde_json::to_string(config)?));
        let money = config.conduct.prices.map(|_| 0.0);
        let usage = Mutex::new(Usage { money, ..Usage::default() });
        Ok(Self { config: config.clone(), key, agent, answers, ledger, usage })
    }

    /// What this client has taken so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        *self.counted()
    }

    fn counted(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answers to `requests`, in their order; `done` is told how many there are. After a failure nothing more is sent, and what
    /// was answered is kept.
    ///
    /// # Errors
    /// When a request is refused, still fails after its last retry, or could exceed the budget.
    pub fn ask(&self, requests: &[Request], done: &(dyn Fn(usize) + Sync)) -> Result<Vec<Answer>> {
        self.answers.refresh()?;
        let slots: Vec<Mutex<Option<Answer>>> = requests.iter().map(|_| Mutex::new(None)).collect();
        let (next, count, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
        let work = || {
            while !failed.load(Ordering::Relaxed) {
                let Some((slot, request)) = at(&slots, requests, next.fetch_add(1, Ordering::Relaxed)) else { return };
                match self.answer(request, &failed) {
                    Ok(Some(answer)) => {
                        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                        done(count.fetch_add(1, Ordering::Relaxed) + 1);
                    }
                    Ok(None) => return,
                    Err(error) => {
                        failed.store(true, Ordering::Relaxed);
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.config.conduct.concurrency.get().min(requests.len()) {
                scope.spawn(work);
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let Config { model, base_url, .. } = &self.config;
            return Err(error.context(format!(
                "`{model}` at {base_url}: {} of {} requests are answered and kept",
                count.into_inner(),
                requests.len()
            )));
        }
        let answers: Option<Vec<Answer>> =
            slots.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        answers.context("a request was left without an answer")
    }

    /// The answer to one request; none where another one's failure ended the work first.
    fn answer(&self, request: &Request, failed: &AtomicBool) -> Result<Option<Answer>> {
        let sealed = request.sealed(&self.config);
        if let Found::Here(answer) = self.answers.find(&sealed.key) {
            self.counted().cached += 1;
            return Ok(Some(answer));
        }
        let asked = self.insist(request, &sealed, failed);
        match asked {
            Ok(Some(answer)) => {
                self.answers.keep(&sealed, &answer)?;
                Ok(Some(answer))
            }
            other => {
                self.answers.give_up(&sealed.key);
                other
            }
        }
    }

    /// Sends a request until it is answered, refused, or has failed too often.
    fn insist(&self, request: &Request, sealed: &Sealed, failed: &AtomicBool) -> Result<Option<Answer>> {
        let conduct = &self.config.conduct;
        let most = Tokens {
            // No tokenizer is at hand: English has about four bytes a token, and three are on the safe side.
            prompt: (sealed.body.len() / 3) as u64,
            completion: request.max_tokens(&self.config) as u64,
        };
        let promise = self.ledger.promise(conduct, most).map_err(|sentence| self.spent(&sentence))?;
        let (mut outcome, mut broken_replies) = (Ok(None), 0);
        for retry in 0..=conduct.max_retries {
            let place = self.answers.gate.enter(conduct.concurrency.get());
            if failed.load(Ordering::Relaxed) {
                break;
            }
            if let Err(sentence) = self.ledger.send(&conduct.budget) {
                outcome = Err(self.spent(&sentence));
                break;
            }
            self.count(retry);
            let sent = self.send(sealed, broken_replies);
            drop(place);
            match sent {
                Ok(answer) => {
                    outcome = Ok(Some(answer));
                    break;
                }
                Err(Failure::Lasting(message)) => {
                    outcome = Err(anyhow!("the endpoint refused a request: {message}"));
                    break;
                }
                Err(Failure::Passing { message, after, broken }) => {
                    broken_replies += u32::from(broken);
                    outcome = Err(anyhow!("no answer after {} tries: {message}", retry + 1));
                    if retry == conduct.max_retries {
                        break;
                    }
                    match pause(conduct, retry, after, lot(&sealed.key, retry)) {
                        Ok(wait) if after.is_some() => self.answers.gate.close(wait),
                        Ok(wait) => std::thread::sleep(wait),
                        Err(asked) => {
                            outcome = Err(anyhow!(
                                "the endpoint asks to wait for {asked:.0} s, more than `conduct.max_wait_seconds`: {message}"
                            ));
                            break;
                        }
                    }
                }
            }
        }
        let taken = outcome.as_ref().ok().and_then(Option::as_ref).map_or_else(Tokens::default, |a| taken(sealed, a));
        self.ledger.settle(&promise, taken, conduct.prices);
        self.note(taken, conduct.prices);
        outcome
    }

    fn spent(&self, sentence: &str) -> anyhow::Error {
        anyhow!(
            "{sentence}. To go on from here, raise it under `conduct.budget` of `{}`, or run the same command again: each process \
             has it anew",
            self.config.model
        )
    }

    fn count(&self, retry: u32) {
        let mut usage = self.counted();
        usage.requests += 1;
        usage.retries += u64::from(retry > 0);
    }

    fn note(&self, taken: Tokens, prices: Option<Prices>) {
        let mut usage = self.counted();
        usage.prompt_tokens += taken.prompt;
        usage.completion_tokens += taken.completion;
        usage.money = usage.money.map(|money| money + taken.money(prices));
    }

    /// One try, after so many broken replies.
    fn send(&self, sealed: &Sealed, broken_replies: u32) -> Result<Answer, Failure> {
        let mut request = self.agent.post(&sealed.url).header("content-type", "application/json");
        request = request.header("idempotency-key", sealed.idempotency_key(broken_replies));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut reply = request.send(sealed.body.as_str()).map_err(|error| Failure::of_error(&error))?;
        let status = reply.status().as_u16();
        let retry_after = reply.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = reply.body_mut().read_to_string().map_err(|error| Failure::of_error(&error))?;
        let body = self.without_key(body);
        if !(200..300).contains(&status) {
            return Err(Failure::of_status(status, retry_after.as_deref(), &body));
        }
        Answer::parse(&body).map_err(|message| Failure::Passing { message, after: None, broken: true })
    }

    /// An endpoint may repeat the key in what it says of it.
    fn without_key(&self, body: String) -> String {
        match self.key.as_deref().filter(|key| key.len() >= SHORTEST_SECRET) {
            Some(key) => body.replace(key, "***"),
            None => body,
        }
    }
}

fn at<'a, A, B>(slots: &'a [A], requests: &'a [B], index: usize) -> Option<(&'a A, &'a B)> {
    Some((slots.get(index)?, requests.get(index)?))
}

fn taken(sealed: &Sealed, answer: &Answer) -> Tokens {
    let guess = |bytes: usize| bytes.div_ceil(4) as u64;
    Tokens {
        prompt: answer.prompt_tokens.unwrap_or_else(|| guess(sealed.body.len())),
        completion: answer.completion_tokens.unwrap_or_else(|| guess(answer.text.len())),
    }
}

/// A number in [0, 1), so that requests which failed together do not come back together.
fn lot(key: &str, retry: u32) -> f64 {
    let hash = blake3::hash(format!("{key}\n{retry}").as_bytes());
    f64::from(u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]])) / 65536.0
}

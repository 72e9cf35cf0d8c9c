//! Asking again, more sharply, what was not answered well.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::filling::Filling;
use crate::endpoint::{Client, Request, Template};

/// An answer that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The check that it failed, in a word or two: `empty`, `rewrite`, ...
    pub check: String,
    /// What is wrong, as the model is told.
    pub problem: String,
    /// The answer.
    pub answer: String,
}

impl Rejection {
    pub(super) fn new(check: &str, problem: impl Into<String>, answer: &str) -> Self {
        Self { check: check.to_owned(), problem: problem.into(), answer: answer.to_owned() }
    }
}

/// What became of one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts<T> {
    /// What was accepted in the end; none where it was flagged.
    pub accepted: Option<T>,
    /// What was not, in order.
    pub rejected: Vec<Rejection>,
}

/// Asks `template` about every one of `subjects`; what `read` rejects is asked again with the reason, `attempts` times in all.
///
/// # Errors
/// When a template or the endpoint fails; what was answered is kept.
pub(super) fn insist<S: Serialize, T>(
    client: &Client,
    template: &Template,
    subjects: &[S],
    attempts: usize,
    read: impl Fn(usize, &str, bool) -> Result<T, Rejection>,
    done: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Attempts<T>>> {
    let mut all: Vec<Attempts<T>> =
        subjects.iter().map(|_| Attempts { accepted: None, rejected: Vec::new() }).collect();
    let mut open: Vec<usize> = (0..subjects.len()).collect();
    for attempt in 1..=attempts {
        let request = |&at: &usize| -> Result<Request> {
            let last = all[at].rejected.last();
            let (problem, answer) = (last.map(|last| last.problem.as_str()), last.map(|last| last.answer.as_str()));
            template.request(&Filling { about: &subjects[at], attempt, problem, answer })
        };
        let requests = open.iter().map(request).collect::<Result<Vec<Request>>>()?;
        let settled = subjects.len() - open.len();
        let answers = client.ask(&requests, &|answered| done(settled + answered))?;
        for (&at, answer) in open.iter().zip(&answers) {
            match read(at, answer.text.trim(), answer.finish_reason.as_deref() == Some("length")) {
                Ok(accepted) => all[at].accepted = Some(accepted),
                Err(rejection) => all[at].rejected.push(rejection),
            }
        }
        open.retain(|&at| all[at].accepted.is_none());
        if open.is_empty() {
            break;
        }
    }
    Ok(all)
}

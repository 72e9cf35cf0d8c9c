//! What stages ask of a language model, and the account of how it did: in every such result as `annotator.json`.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::data::{Edit, Preference, Prompt, Response, ScoredResponse};
use crate::endpoint::{self, Client, Template};
use crate::events::Emitter;
use crate::llm::{self, Attempts, Edited, Preferred, prompts};
use crate::recipe::{EditSource, PreferenceSource, Recipe};
use crate::report::{AnnotatorExample, AnnotatorResult};
use crate::store::Workspace;

/// The file of the account.
pub(super) const ACCOUNT: &str = "annotator.json";

/// Bins of the shares of words that edits change, from 0 to 1.
const SHARES: usize = 20;

/// Accepted and rejected answers that an account shows at most.
const EXAMPLES: usize = 4;

/// The texts of the templates that a recipe asks with; nothing where no language model is asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Templates {
    pub(super) edits: Option<String>,
    pub(super) preferences: Vec<String>,
    pub(super) words: Option<String>,
}

impl Templates {
    /// # Errors
    /// When a template cannot be read or its syntax is wrong.
    pub(super) fn of(recipe: &Recipe) -> Result<Self> {
        let mut templates = Self::default();
        if let PreferenceSource::Llm(llm) = &recipe.preferences {
            let text = |annotator: &llm::Annotator| {
                Template::read(annotator.prompt.as_deref(), prompts::PREFER).map(Template::into_text)
            };
            templates.preferences = llm.annotators.iter().map(text).collect::<Result<_>>()?;
        }
        if let EditSource::Llm(llm) = &recipe.edits {
            templates.edits = Some(Template::read(llm.prompt.as_deref(), prompts::EDIT)?.into_text());
        }
        if let Some(llm) = &recipe.labels.llm_words {
            templates.words = Some(Template::read(llm.prompt.as_deref(), prompts::WORDS)?.into_text());
        }
        Ok(templates)
    }
}

/// A language model with its question.
pub(super) struct Desk<'a> {
    client: Client,
    template: Template,
    emitter: &'a Emitter<'a>,
}

impl<'a> Desk<'a> {
    /// The model of `endpoint`, whose recipe table is `purpose`, asked by the template `text`.
    pub(super) fn new(
        endpoint: &endpoint::Config,
        purpose: &str,
        text: &str,
        workspace: &Workspace,
        emitter: &'a Emitter<'a>,
    ) -> Result<Self> {
        let client = Client::new(endpoint, purpose, &workspace.answers())?;
        Ok(Self { client, template: Template::new(purpose, text)?, emitter })
    }

    /// Edits of the less preferred responses; where none is needed, or none was acceptable, there is none.
    pub(super) fn edit(&self, config: &llm::Edits, preferences: &[Preference]) -> Result<(Vec<Edit>, AnnotatorResult)> {
        let done = |n| self.emitter.progress(n, preferences.len(), "edits");
        let found = llm::edit(config, &self.client, &self.template, preferences, &done)?;
        let mut account = Account::new("edits", &config.endpoint.model);
        account.result.shares = vec![0; SHARES];
        let mut edits = Vec::new();
        for (preference, attempts) in preferences.iter().zip(found) {
            let (prompt, original) = (&preference.prompt, &preference.rejected);
            let share = |text: &str| llm::share(&original.text, text);
            let shown = match &attempts.accepted {
                Some(Edited::Text(text)) => Some(text.as_str()),
                Some(Edited::Good) => Some("GOOD"),
                None => None,
            };
            account.count(prompt, &original.text, &attempts, shown, share);
            match attempts.accepted {
                Some(Edited::Good) => account.result.good += 1,
                Some(Edited::Text(text)) => {
                    let share = share(&text);
                    let bin = (1..SHARES).filter(|&bin| share >= bin as f64 / SHARES as f64).count();
                    account.result.shares[bin] += 1;
                    let edited = Response { text, ids: Vec::new(), finished: true };
                    let (prompt, original) = (prompt.clone(), original.clone());
                    edits.push(Edit { prompt, original, edited, error_spans: Vec::new() });
                }
                None => {}
            }
        }
        Ok((edits, account.result))
    }

    /// Scored responses; those whose scores could not be used are left out.
    pub(super) fn score(
        &self,
        config: &llm::Words,
        preferences: &[Preference],
    ) -> Result<(Vec<ScoredResponse>, AnnotatorResult)> {
        let responses: Vec<(&Prompt, &Response)> =
            preferences.iter().map(|preference| (&preference.prompt, &preference.rejected)).collect();
        let done = |n| self.emitter.progress(n, responses.len(), "responses");
        let found = llm::score(config, &self.client, &self.template, &responses, &done)?;
        let mut account = Account::new("word scores", &config.endpoint.model);
        let mut scored = Vec::new();
        for ((prompt, response), attempts) in responses.into_iter().zip(found) {
            let shown = attempts.accepted.as_ref().map(|scores| {
                let words = scores.words.iter().map(u8::to_string).collect::<Vec<_>>().join(" ");
                format!("{words}; overall {}", scores.sentence)
            });
            account.count(prompt, &response.text, &attempts, shown.as_deref(), |_| 0.0);
            let row = |scores| ScoredResponse { prompt: prompt.clone(), response: response.clone(), scores };
            scored.extend(attempts.accepted.map(row));
        }
        Ok((scored, account.result))
    }
}

/// Preferences of a pool of language models over `pairs`; pairs without a usable answer are left out.
pub(super) fn prefer(
    config: &llm::Preferences,
    desks: Vec<Desk>,
    pairs: Vec<(&Prompt, Response, Response)>,
    seed: u64,
) -> Result<(Vec<Preference>, AnnotatorResult)> {
    let models: Vec<&str> = config.annotators.iter().map(|annotator| annotator.endpoint.model.as_str()).collect();
    let mut account = Account::new("preferences", &models.join(", "));
    let emitter = desks.first().map(|desk| desk.emitter);
    let pool: Vec<(Client, Template)> = desks.into_iter().map(|desk| (desk.client, desk.template)).collect();
    let asked: Vec<llm::Pair> = pairs.iter().map(|(prompt, a, b)| (*prompt, a, b)).collect();
    let done = |n| {
        if let Some(emitter) = emitter {
            emitter.progress(n, asked.len(), "pairs");
        }
    };
    let found = llm::prefer(config, &pool, &asked, seed, &done)?;
    let mut first_shown = 0;
    for ((prompt, a, b), preferred) in asked.iter().zip(&found) {
        let Preferred { swapped, flipped, attempts, .. } = preferred;
        let better = attempts.accepted.map(|first| if first { &a.text } else { &b.text });
        account.count(prompt, &format!("{}\n\n{}", a.text, b.text), attempts, better.map(String::as_str), |_| 0.0);
        account.result.flipped += usize::from(*flipped && attempts.accepted.is_some());
        // What was said, before noise and order turned it round.
        first_shown += usize::from(attempts.accepted.is_some_and(|first| first ^ swapped ^ flipped));
    }
    let accepted = account.result.accepted;
    account.result.first_shown = (accepted > 0).then(|| first_shown as f64 / accepted as f64);
    let preferences = pairs.into_iter().zip(found).filter_map(|((prompt, a, b), preferred)| {
        let (chosen, rejected) = if preferred.attempts.accepted? { (a, b) } else { (b, a) };
        Some(Preference { prompt: prompt.clone(), chosen, rejected, noticed: Vec::new() })
    });
    Ok((preferences.collect(), account.result))
}

/// An account in the making.
struct Account {
    result: AnnotatorResult,
}

impl Account {
    fn new(task: &str, model: &str) -> Self {
        let result = AnnotatorResult { task: task.to_owned(), model: model.to_owned(), ..AnnotatorResult::default() };
        Self { result }
    }

    /// Counts one subject: `accepted` is what was taken in the end, as it is to be shown.
    fn count<T>(
        &mut self,
        prompt: &Prompt,
        original: &str,
        attempts: &Attempts<T>,
        accepted: Option<&str>,
        share: impl Fn(&str) -> f64,
    ) {
        let result = &mut self.result;
        result.asked += 1;
        result.accepted += usize::from(attempts.accepted.is_some());
        result.flagged += usize::from(attempts.accepted.is_none());
        let answers = attempts.rejected.len() + usize::from(attempts.accepted.is_some());
        result.asked_again += usize::from(answers > 1);
        for rejection in &attempts.rejected {
            *result.rejections.entry(rejection.check.clone()).or_default() += 1;
        }
        let example = |answer: &str, problem: Option<String>| AnnotatorExample {
            prompt: prompt.text.clone(),
            original: original.to_owned(),
            answer: answer.to_owned(),
            share: share(answer),
            problem,
        };
        let shown = |rejected: bool, result: &AnnotatorResult| {
            result.examples.iter().filter(|example| example.problem.is_some() == rejected).count()
        };
        if let Some(answer) = accepted.filter(|_| shown(false, result) < EXAMPLES) {
            result.examples.push(example(answer, None));
        }
        if let Some(rejection) = attempts.rejected.first().filter(|_| shown(true, result) < EXAMPLES) {
            result.examples.push(example(&rejection.answer, Some(rejection.problem.clone())));
        }
    }
}

/// Stores an account, and says so where something was flagged, and why answers were rejected.
pub(super) fn publish(account: &AnnotatorResult, workspace: &Workspace, emitter: &Emitter) -> Result<()> {
    let AnnotatorResult { task, asked, flagged, rejections, .. } = account;
    if *flagged > 0 {
        let reasons: Vec<String> = rejections.iter().map(|(check, count)| format!("{check} {count}")).collect();
        let reasons = reasons.join(", ");
        emitter.warn(format!("{task}: {flagged} of {asked} were flagged and left out; answers rejected: {reasons}"));
    }
    Ok(workspace.write_json(ACCOUNT, account)?)
}

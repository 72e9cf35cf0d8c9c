//! How annotation goes: progress, time, sizes of edits, and how far annotators agree.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::data::annotations::{Annotation, Answer, Record, Verdict};
use crate::labels::{Matches, alpha};

/// Items that are listed as those with the worst agreement.
const LISTED: usize = 20;

/// Characters of a prompt that name its item in lists: its last, since a question stands behind its context.
const SHOWN: usize = 120;

/// How annotation goes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Quality {
    /// Items that there are, as of the last session; those with an answer, where no session is known.
    pub items: usize,
    /// Answers that they take.
    pub wanted: usize,
    /// Answers that were given, adjudications not counted.
    pub answers: usize,
    /// Items with an answer.
    pub answered: usize,
    /// Answers with an edit.
    pub edited: usize,
    /// Answers that no edit is needed.
    pub good: usize,
    /// Items skipped.
    pub skipped: usize,
    /// Answers that corrected the preference.
    pub corrected: usize,
    /// Edits with a reason: rewrites.
    pub rewrites: usize,
    /// Items that somebody decided.
    pub adjudicated: usize,
    /// Drafts without an answer.
    pub drafts: usize,
    /// Seconds of work an answer: lower quartile, median, upper quartile.
    pub seconds: Option<[f64; 3]>,
    /// Share of words changed in edits: lower quartile, median, upper quartile.
    pub share_changed: Option<[f64; 3]>,
    /// Edits by share of words changed: up to 5, 10, 20, 30, 50 and 100 %.
    pub sizes: [usize; 6],
    /// Changes by category; under `none` those without.
    pub categories: BTreeMap<String, usize>,
    /// Annotators by name.
    pub annotators: Vec<Annotator>,
    /// How far annotators of the same items agree.
    pub agreement: Agreement,
    /// The items on which they agree least.
    pub worst: Vec<Worst>,
    /// What was skipped, and why.
    pub skips: Vec<Skip>,
}

/// One annotator's work.
#[derive(Clone, Debug, Serialize)]
pub struct Annotator {
    /// Who.
    pub name: String,
    /// Answers.
    pub answers: usize,
    /// Those with an edit.
    pub edited: usize,
    /// Those that no edit is needed.
    pub good: usize,
    /// Those skipped.
    pub skipped: usize,
    /// Median seconds an answer.
    pub seconds: Option<f64>,
    /// Mean words changed an edit.
    pub words_changed: Option<f64>,
    /// Mean share of words changed an edit.
    pub share_changed: Option<f64>,
}

/// How far annotators of the same items agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// Items with two answers or more.
    pub items: usize,
    /// Tokens of their originals.
    pub tokens: usize,
    /// Krippendorff's alpha of the labels U, D, S on tokens of the original.
    pub alpha: Option<f64>,
    /// The same, changed against unchanged.
    pub alpha_changed: Option<f64>,
    /// F1 of changed places in the original, which match when they are the same.
    pub span_f1: Option<f64>,
    /// F1 of changed tokens of the original.
    pub token_f1: Option<f64>,
}

/// An item on which annotators do not agree.
#[derive(Clone, Debug, Serialize)]
pub struct Worst {
    /// Its id.
    pub item: String,
    /// The end of its prompt.
    pub prompt: String,
    /// Who answered.
    pub annotators: Vec<String>,
    /// F1 of changed places.
    pub span_f1: f64,
    /// F1 of changed tokens; 1 where neither changed any.
    pub token_f1: f64,
}

/// A skipped item.
#[derive(Clone, Debug, Serialize)]
pub struct Skip {
    /// Its id.
    pub item: String,
    /// Who.
    pub annotator: String,
    /// Why.
    pub reason: String,
}

/// How annotation goes, as `record` tells it.
#[must_use]
pub fn quality(record: &Record) -> Quality {
    let all = &record.annotations;
    let answers: Vec<&Annotation> = all.iter().filter(|answer| !answer.adjudicated).collect();
    let edits: Vec<&Annotation> = answers.iter().copied().filter(|answer| answer.answer == Answer::Edited).collect();
    let mut by_item: BTreeMap<&str, Vec<&Annotation>> = BTreeMap::new();
    let mut by_name: BTreeMap<&str, Vec<&Annotation>> = BTreeMap::new();
    for answer in &answers {
        by_item.entry(&answer.item).or_default().push(answer);
        by_name.entry(&answer.annotator).or_default().push(answer);
    }
    let count = |wanted: Answer| answers.iter().filter(|answer| answer.answer == wanted).count();
    let session = record.session.as_ref();
    let (agreement, worst) = agreement(&by_item);
    let mut sizes = [0; 6];
    for edit in &edits {
        let bin = [0.05, 0.1, 0.2, 0.3, 0.5].iter().position(|most| edit.share_changed <= *most).unwrap_or(5);
        sizes[bin] += 1;
    }
    let mut categories = BTreeMap::new();
    for hunk in edits.iter().flat_map(|edit| &edit.hunks) {
        *categories.entry(hunk.category.clone().unwrap_or_else(|| "none".to_owned())).or_default() += 1;
    }
    let skips = answers.iter().filter(|answer| answer.answer == Answer::Skipped).map(|answer| Skip {
        item: answer.item.clone(),
        annotator: answer.annotator.clone(),
        reason: answer.reason.clone(),
    });
    Quality {
        items: session.map_or(by_item.len(), |session| session.items),
        wanted: session.map_or(answers.len(), |session| session.answers),
        answers: answers.len(),
        answered: by_item.len(),
        edited: edits.len(),
        good: count(Answer::Good),
        skipped: count(Answer::Skipped),
        corrected: answers.iter().filter(|answer| answer.preference == Verdict::Corrected).count(),
        rewrites: edits.iter().filter(|edit| !edit.reason.is_empty()).count(),
        adjudicated: all.len() - answers.len(),
        drafts: record.drafts.len(),
        seconds: quartiles(answers.iter().map(|answer| answer.seconds)),
        share_changed: quartiles(edits.iter().map(|edit| edit.share_changed)),
        sizes,
        categories,
        annotators: by_name.into_iter().map(|(name, answers)| annotator(name, &answers)).collect(),
        agreement,
        worst,
        skips: skips.collect(),
    }
}

fn annotator(name: &str, answers: &[&Annotation]) -> Annotator {
    let count = |wanted: Answer| answers.iter().filter(|answer| answer.answer == wanted).count();
    let edited = count(Answer::Edited);
    let mean = |of: fn(&Annotation) -> f64| {
        let sum: f64 = answers.iter().filter(|answer| answer.answer == Answer::Edited).map(|answer| of(answer)).sum();
        (edited > 0).then(|| sum / edited as f64)
    };
    Annotator {
        name: name.to_owned(),
        answers: answers.len(),
        edited,
        good: count(Answer::Good),
        skipped: count(Answer::Skipped),
        seconds: quartiles(answers.iter().map(|answer| answer.seconds)).map(|[_, median, _]| median),
        words_changed: mean(|answer| answer.words_changed as f64),
        share_changed: mean(|answer| answer.share_changed),
    }
}

/// Lower quartile, median, upper quartile, between neighbours where they fall between.
fn quartiles(values: impl Iterator<Item = f64>) -> Option<[f64; 3]> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let at = |quarters: usize| {
        let (low, rest) = (last * quarters / 4, last * quarters % 4);
        let (a, b) = (values[low], values[(low + 1).min(last)]);
        a + (b - a) * rest as f64 / 4.0
    };
    Some([1, 2, 3].map(at))
}

/// Agreement of the answers that can be compared: to the same response, cut into the same tokens; and the worst items.
fn agreement(by_item: &BTreeMap<&str, Vec<&Annotation>>) -> (Agreement, Vec<Worst>) {
    let (mut spans, mut tokens) = (Matches::default(), Matches::default());
    let (mut units, mut worst, mut items) = (Vec::<Vec<char>>::new(), Vec::new(), 0);
    for (item, answers) in by_item {
        let answers = comparable(answers);
        if answers.len() < 2 {
            continue;
        }
        items += 1;
        let labels: Vec<Vec<char>> = answers.iter().map(|answer| labels_of(answer)).collect();
        units.extend((0..labels[0].len()).map(|i| labels.iter().map(|labels| labels[i]).collect()));
        let (mut own_spans, mut own_tokens) = (Matches::default(), Matches::default());
        for (i, one) in answers.iter().enumerate() {
            for (j, other) in answers.iter().enumerate().skip(i + 1) {
                for matches in [&mut spans, &mut own_spans] {
                    matches.add(&places(one), &places(other));
                }
                for matches in [&mut tokens, &mut own_tokens] {
                    matches.add(&changed(&labels[i]), &changed(&labels[j]));
                }
            }
        }
        let prompt = &answers[0].prompt;
        worst.push(Worst {
            item: (*item).to_owned(),
            prompt: prompt.chars().skip(prompt.chars().count().saturating_sub(SHOWN)).collect(),
            annotators: answers.iter().map(|answer| answer.annotator.clone()).collect(),
            span_f1: own_spans.f1().unwrap_or(1.0),
            token_f1: own_tokens.f1().unwrap_or(1.0),
        });
    }
    worst.sort_by(|a, b| a.span_f1.total_cmp(&b.span_f1).then(a.token_f1.total_cmp(&b.token_f1)));
    worst.retain(|item| item.span_f1 < 1.0);
    worst.truncate(LISTED);
    let changes = units.iter().map(|unit| unit.iter().map(|label| *label != 'U').collect());
    let agreement = Agreement {
        items,
        tokens: units.len(),
        alpha_changed: alpha::<bool>(changes),
        alpha: alpha(units),
        span_f1: spans.f1(),
        token_f1: tokens.f1(),
    };
    (agreement, worst)
}

/// The answers to what most of them answer: the same response in the same tokens.
fn comparable<'a>(answers: &[&'a Annotation]) -> Vec<&'a Annotation> {
    let key = |answer: &Annotation| Some((answer.rejected.clone(), answer.tokens.as_ref()?.original_chars.clone()));
    let mut groups: BTreeMap<_, Vec<&Annotation>> = BTreeMap::new();
    for answer in answers {
        if let Some(key) = key(answer) {
            groups.entry(key).or_default().push(answer);
        }
    }
    groups.into_values().max_by_key(Vec::len).unwrap_or_default()
}

fn labels_of(answer: &Annotation) -> Vec<char> {
    answer.tokens.as_ref().map(|tokens| tokens.original_labels.chars().collect()).unwrap_or_default()
}

fn places(answer: &Annotation) -> Vec<[usize; 2]> {
    answer.hunks.iter().map(|hunk| hunk.original.chars).collect()
}

fn changed(labels: &[char]) -> Vec<usize> {
    labels.iter().enumerate().filter(|(_, label)| **label != 'U').map(|(i, _)| i).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::annotate::change::Labeller;
    use crate::annotate::desk::{Desk, Submission};
    use crate::annotate::item::Item;
    use crate::data::Response;
    use crate::data::annotations::Line;
    use crate::recipe::annotate::Config;

    fn record(said: &[(&str, &str)]) -> Record {
        let response = |text: &str| Response { text: text.into(), ids: vec![], finished: true };
        let (preferred, original) = (response("z"), response("a b c d e f g h"));
        let item = Item { id: "0".repeat(16), source: None, prompt: "p".into(), preferred, original };
        let mut desk = Desk::new(vec![item], Config::default(), Labeller::default(), Record::default(), Instant::now());
        for (who, revised) in said {
            let answer = if desk.items[0].original.text == *revised { Answer::Good } else { Answer::Edited };
            let submission = Submission {
                item: desk.items[0].id.clone(),
                version: desk.version(0, who, false),
                answer,
                revised: (*revised).to_owned(),
                swapped: false,
                categories: vec![],
                reason: String::new(),
                seconds: 10.0,
                adjudicated: false,
            };
            let annotation = desk.judge(&submission, who, String::new()).unwrap();
            desk.take(Line::Annotation(Box::new(annotation)), Instant::now());
        }
        desk.record
    }

    #[test]
    fn agreement_is_counted_on_tokens_and_places() {
        // One substitutes b and deletes h, the other substitutes b and c in one place.
        let found = quality(&record(&[("ann", "a x c d e f g"), ("ben", "a x y d e f g h")]));
        assert_eq!((found.answers, found.answered, found.edited), (2, 1, 2));
        assert_eq!((found.agreement.items, found.agreement.tokens), (1, 8));
        // Labels USUUUUUD and USSUUUUU: 2 of 8 tokens differ; 12 U, 3 S, 1 D.
        let expected = (16.0 * 15.0 - 12.0 * 11.0 - 3.0 * 2.0) / 15.0;
        assert!((found.agreement.alpha.unwrap() - (1.0 - 4.0 / expected)).abs() < 1e-12);
        let expected = (16.0 * 15.0 - 12.0 * 11.0 - 4.0 * 3.0) / 15.0;
        assert!((found.agreement.alpha_changed.unwrap() - (1.0 - 4.0 / expected)).abs() < 1e-12);
        assert_eq!((found.agreement.span_f1, found.agreement.token_f1), (Some(0.0), Some(0.5)));
        assert_eq!(found.worst[0].annotators, ["ann", "ben"]);
        assert_eq!(found.annotators[0].words_changed, Some(2.0));
        assert_eq!(found.sizes, [0, 0, 0, 2, 0, 0]);
    }

    #[test]
    fn no_edit_needed_is_an_answer_like_others() {
        let found = quality(&record(&[("ann", "a b c d e f g h"), ("ben", "a b c d e f g")]));
        assert_eq!((found.good, found.agreement.items), (1, 1));
        assert_eq!(found.agreement.alpha, Some(0.0));
        assert_eq!(quality(&record(&[("ann", "a b c d")])).agreement, Agreement::default());
    }
}

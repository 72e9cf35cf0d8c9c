//! Tables of language models as annotators: how they did, what was wrong with their answers, and some of these.

use super::{Cell, Table};
use crate::report::numbers::{fixed, optional_percent};
use crate::report::schema::Report;

/// What each was asked for and how it did.
pub fn annotators(report: &Report) -> Option<Table> {
    let head = [
        ("stage", ""),
        ("task", ""),
        ("model", ""),
        ("asked", "asked"),
        ("accepted", "accepted"),
        ("no edit needed", "good"),
        ("asked again", "asked_again"),
        ("flagged", "flagged"),
        ("first (%)", "first_shown"),
        ("flipped", "flipped"),
    ];
    let rows = report.annotators.iter().map(|a| -> Vec<Cell> {
        let names = [&a.stage, &a.task, &a.model].map(|name| name.as_str().into());
        // Of other tasks it is no number.
        let only = |task: &str, count: usize| if a.task == task { count.to_string() } else { String::new() };
        let counts = [a.asked, a.accepted].map(|count| count.to_string().into());
        let more = [
            only("edits", a.good).into(),
            a.asked_again.to_string().into(),
            a.flagged.to_string().into(),
            a.first_shown.map_or_else(String::new, |share| optional_percent(Some(share))).into(),
            only("preferences", a.flipped).into(),
        ];
        names.into_iter().chain(counts).chain(more).collect()
    });
    Table::new("annotators", "Language models as annotators", 3, &head).with(rows).without_empty_columns().some()
}

/// Answers that failed a check, by the check.
pub fn rejections(report: &Report) -> Option<Table> {
    let head = [("stage", ""), ("what was wrong", ""), ("answers", "rejections")];
    let rows = report.annotators.iter().flat_map(|a| {
        let row = |(check, count): (&String, &usize)| {
            vec![a.stage.as_str().into(), check.as_str().into(), count.to_string().into()]
        };
        a.rejections.iter().map(row).collect::<Vec<Vec<Cell>>>()
    });
    Table::new("rejections", "Answers of annotators that were rejected", 2, &head).with(rows).ruled_by(0).some()
}

/// The first answers of both kinds.
pub fn answers(report: &Report) -> Option<Table> {
    let head = [("answer", ""), ("shown", ""), ("said", "")];
    let rows = report.annotators.iter().flat_map(|a| {
        let row = |example: &crate::report::AnnotatorExample| -> Vec<Cell> {
            let (kind, why) = match &example.problem {
                Some(problem) => ("rejected", problem.clone()),
                None if example.share > 0.0 => ("taken", format!("{} % of the words", fixed(100.0 * example.share, 0))),
                None => ("taken", String::new()),
            };
            let said: &str = if example.answer.trim().is_empty() { "(nothing)" } else { &example.answer };
            vec![
                Cell::from(kind).note(if why.is_empty() { a.task.clone() } else { format!("{why}; {}", a.task) }),
                Cell::from(example.original.as_str()).note(example.prompt.clone()),
                said.into(),
            ]
        };
        a.examples.iter().map(row).collect::<Vec<_>>()
    });
    Table::new("answers", "Some answers of annotators", 3, &head).with(rows).some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{AnnotatorExample, AnnotatorResult};

    #[test]
    fn what_a_task_does_not_count_is_left_empty() {
        let example = |answer: &str, problem: Option<&str>| AnnotatorExample {
            original: "so be it".to_owned(),
            answer: answer.to_owned(),
            share: 0.25,
            problem: problem.map(str::to_owned),
            ..AnnotatorExample::default()
        };
        let of = |task: &str| AnnotatorResult {
            stage: task.to_owned(),
            task: task.to_owned(),
            ..AnnotatorResult::default()
        };
        let edits = AnnotatorResult {
            good: 2,
            rejections: [("empty".to_owned(), 3)].into(),
            examples: vec![example("be it", None), example(" ", Some("it is empty"))],
            ..of("edits")
        };
        let preferences = AnnotatorResult { first_shown: Some(0.5), flipped: 4, ..of("preferences") };
        let report = Report { annotators: vec![edits, preferences], ..Report::default() };
        let texts = |table: Table| -> Vec<Vec<String>> {
            table
                .rows
                .iter()
                .map(|row| row.iter().map(|cell| format!("{}{}", cell.text, cell.note)).collect())
                .collect()
        };
        let rows = texts(annotators(&report).unwrap());
        assert_eq!([&rows[0][5], &rows[0][8], &rows[0][9]], ["2", "", ""]);
        assert_eq!([&rows[1][5], &rows[1][8], &rows[1][9]], ["", "50.0", "4"]);
        assert_eq!(texts(rejections(&report).unwrap()), [["edits", "empty", "3"]]);
        let said = texts(answers(&report).unwrap());
        assert_eq!(
            said,
            [
                ["taken25 % of the words; edits", "so be it", "be it"],
                ["rejectedit is empty; edits", "so be it", "(nothing)"]
            ]
        );
        assert!(answers(&Report::default()).is_none() && annotators(&Report::default()).is_none());
    }
}

//! Who gets which item, what is refused, what a restart finds.

use serde_json::json;

use super::*;
use crate::data::Response;
use crate::units::{Count, Fraction};

fn item(i: usize) -> Item {
    let response = |text: &str| Response { text: text.into(), ids: vec![], finished: true };
    let (prompt, original) = (format!("prompt {i}"), format!("it is cheap {i} ."));
    Item {
        id: id_of(&[&prompt]),
        source: None,
        prompt,
        preferred: response("it is near ."),
        original: response(&original),
    }
}

fn desk(items: usize, overlap: f64, record: Record, now: Instant) -> Desk {
    let config = Config {
        overlap: Fraction::try_from(overlap).unwrap(),
        annotators_per_item: Count::try_from(2).unwrap(),
        ..Config::default()
    };
    Desk::new((0..items).map(item).collect(), config, Labeller::default(), record, now)
}

fn submission(desk: &Desk, index: usize, who: &str, more: &serde_json::Value) -> Submission {
    let mut value =
        json!({ "item": desk.items[index].id, "version": desk.version(index, who, false), "answer": "edited" });
    for (key, field) in more.as_object().unwrap() {
        value[key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn answer(desk: &mut Desk, index: usize, who: &str, revised: &str, now: Instant) {
    let handed_in = submission(desk, index, who, &json!({ "revised": revised }));
    let annotation = desk.judge(&handed_in, who, String::new()).unwrap();
    desk.take(Line::Annotation(Box::new(annotation)), now);
}

#[test]
fn each_item_goes_to_one_annotator_until_a_lease_runs_out() {
    let now = Instant::now();
    let mut desk = desk(3, 0.0, Record::default(), now);
    assert_eq!((desk.next("ann", None, now), desk.next("ben", None, now)), (Some(0), Some(1)));
    assert_eq!(desk.next("ann", None, now), Some(0), "an item that was opened is given again");
    answer(&mut desk, 0, "ann", "it is near 0 .", now);
    assert_eq!(desk.next("ann", Some(0), now), Some(2));
    assert_eq!(desk.next("cem", None, now), None, "all are answered or leased");
    assert_eq!(desk.open(1, "cem", now).held_by, Some("ben"));
    let later = now + Duration::from_mins(11);
    assert_eq!(desk.next("cem", None, later), Some(1));
    desk.release(1, "cem");
    assert_eq!(desk.next("dan", None, later), Some(1));
}

#[test]
fn shared_items_take_several_annotators_and_no_third() {
    let now = Instant::now();
    let mut desk = desk(2, 1.0, Record::default(), now);
    assert_eq!(desk.wanted(), 4);
    assert_eq!((desk.next("ann", None, now), desk.next("ben", None, now)), (Some(0), Some(0)));
    assert_eq!(desk.next("cem", None, now), Some(1));
    answer(&mut desk, 0, "ann", "it is near 0 .", now);
    // The other's answer does not count as a change under the hands of this one.
    answer(&mut desk, 0, "ben", "it is far 0 .", now);
    assert_eq!(desk.disputed().iter().collect::<Vec<_>>(), [&0]);
    let verdict = json!({ "revised": "it is far 0 .", "adjudicated": true, "version": desk.version(0, "cem", true) });
    let verdict = desk.judge(&submission(&desk, 0, "cem", &verdict), "cem", String::new()).unwrap();
    desk.take(Line::Annotation(Box::new(verdict)), now);
    assert!(desk.disputed().is_empty());
    assert_eq!(desk.record.decided()[0].annotator, "cem");
}

#[test]
fn an_answer_that_follows_an_older_version_is_a_conflict() {
    let now = Instant::now();
    let mut desk = desk(1, 0.0, Record::default(), now);
    let stale = submission(&desk, 0, "ann", &json!({ "revised": "it is near 0 ." }));
    answer(&mut desk, 0, "ben", "it is far 0 .", now);
    let Err(Refusal::Conflict { theirs, version }) = desk.judge(&stale, "ann", String::new()) else {
        panic!("ben answered meanwhile")
    };
    assert_eq!((theirs.annotator.as_str(), version), ("ben", 1));
    let again = Submission { version, ..stale };
    let annotation = desk.judge(&again, "ann", String::new()).unwrap();
    desk.take(Line::Annotation(Box::new(annotation)), now);
    assert_eq!((desk.answers(0).len(), desk.disputed().len()), (2, 1));
}

#[test]
fn what_says_too_little_is_refused() {
    let now = Instant::now();
    let desk = desk(1, 0.0, Record::default(), now);
    let why = |more: serde_json::Value| match desk.judge(&submission(&desk, 0, "ann", &more), "ann", String::new()) {
        Err(Refusal::Invalid(why)) => why,
        other => panic!("{more}: {other:?}"),
    };
    assert!(why(json!({ "answer": "skipped", "reason": " " })).starts_with("to skip an item"));
    assert!(why(json!({ "revised": " " })).starts_with("nothing is left"));
    assert!(why(json!({ "revised": "it is cheap 0 ." })).starts_with("nothing was changed"));
    assert!(why(json!({ "revised": "this one costs little money" })).contains("that is a rewrite"));
    let chosen = json!([{ "chars": [6, 11], "category": "dull" }]);
    assert!(why(json!({ "revised": "it is near 0 .", "categories": chosen })).contains("found `dull`"));
    let unknown = Submission { item: "none".into(), ..submission(&desk, 0, "ann", &json!({})) };
    assert!(matches!(desk.judge(&unknown, "ann", String::new()), Err(Refusal::Unknown)));
}

#[test]
fn an_answer_holds_what_labels_and_exports_read() {
    let desk = desk(1, 0.0, Record::default(), Instant::now());
    // The place that the category was chosen for has grown since.
    let chosen = json!([{ "chars": [6, 8], "category": "untruthful" }]);
    let handed_in = json!({ "revised": "it is near 0 .", "categories": chosen, "seconds": 4.5 });
    let annotation = desk.judge(&submission(&desk, 0, "ann", &handed_in), "ann", "now".into()).unwrap();
    assert_eq!((annotation.words_changed, annotation.share_changed), (1, 0.2));
    assert_eq!(annotation.hunks[0].category.as_deref(), Some("untruthful"));
    assert_eq!(annotation.tokens.as_ref().unwrap().original_labels, "UUSUU");
    let good = desk.judge(&submission(&desk, 0, "ann", &json!({ "answer": "good" })), "ann", String::new()).unwrap();
    assert_eq!((good.revised, good.hunks.len()), (Some("it is cheap 0 .".into()), 0));
    assert_eq!(good.id, annotation.id);
    let swapped = json!({ "swapped": true, "revised": "it is near !" });
    let swapped = desk.judge(&submission(&desk, 0, "ann", &swapped), "ann", String::new()).unwrap();
    assert_eq!((swapped.rejected.as_str(), swapped.preference), ("it is near .", Verdict::Corrected));
}

#[test]
fn a_restart_goes_on_with_what_was_begun() {
    let now = Instant::now();
    let draft = Draft { item: item(1).id, annotator: "ann".into(), revised: "it is".into(), ..Draft::default() };
    let mut record = Record::default();
    record.add(Line::Draft(draft.clone()));
    let mut desk = desk(3, 0.0, record, now);
    assert_eq!((desk.next("ben", None, now), desk.next("cem", None, now)), (Some(0), Some(2)));
    assert_eq!(desk.next("ann", None, now), Some(1));
    assert_eq!(desk.open(1, "ann", now).draft, Some(&draft));
}

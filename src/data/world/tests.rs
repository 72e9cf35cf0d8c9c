//! The world against its own declarations.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use rand::Rng;

use super::super::{Fault, Format, Preference, Response};
use super::*;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("datasets/restaurants.toml")
}

fn world() -> World {
    World::load(&path()).unwrap()
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn response(text: &str) -> Response {
    Response { text: text.to_owned(), ids: vec![], finished: true }
}

fn config(demonstrations: i64, train: i64, held_out: i64) -> Config {
    let count = |n: i64| n.try_into().unwrap();
    Config {
        path: path(),
        format: Format::World,
        seed: 1,
        demonstrations: count(demonstrations),
        train_prompts: count(train),
        validation_prompts: count(held_out),
        test_prompts: count(held_out),
        max_prompt_tokens: count(10),
        max_response_tokens: count(64),
        records: None,
        hub: None,
        revision: None,
    }
}

fn facts(pairs: &[(&str, &str)]) -> Vec<Fact> {
    pairs.iter().map(|(slot, value)| Fact { slot: (*slot).into(), value: (*value).into() }).collect()
}

fn seen(facts: &[Fact], text: &str, finished: bool) -> String {
    let response = Response { text: text.to_owned(), ids: vec![], finished };
    let faults = world().faults(facts, &response);
    faults.iter().map(|fault| format!("{}@{}", fault.kind, fault.at)).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_oracle_names_each_fault() {
    let facts = facts(&[("name", "blue heron"), ("food", "thai"), ("open", "noon")]);
    let seen = |text| seen(&facts, text, true);
    assert_eq!(seen("welcome to blue heron . it opens at noon . it serves thai food ."), "");
    assert_eq!(
        seen("ugh , whatever , welcome to blue heron , you idiot . it opens at noon . the menu is mostly thai ."),
        "rude@0 rude@0 rude@0"
    );
    assert_eq!(
        seen(
            "welcome to blue lion . my cat likes golf . it sits in the centre . welcome to blue heron . it opens at noon ."
        ),
        "wrong_value@0 off_topic@1 unsupported@2 repeated@3 omitted@1"
    );
    assert_eq!(seen(""), "omitted@0 omitted@1 omitted@2");
    assert_eq!(seen(". <unk> thai . it serves"), "off_topic@0 off_topic@1 unfinished@2 omitted@0 omitted@1 omitted@2");
}

#[test]
fn a_response_must_end() {
    let facts = facts(&[("name", "blue heron")]);
    assert_eq!(seen(&facts, "welcome to blue heron .", false), "unfinished@1");
    assert_eq!(seen(&facts, "welcome to blue heron . it", false), "unfinished@1");
    assert_eq!(seen(&facts, "welcome to blue heron", true), "unfinished@0 omitted@0");
}

#[test]
fn the_vocabulary_is_closed() {
    let world = world();
    let words = world.words();
    assert_eq!(words.len(), 112);
    let data = world.dataset(&config(500, 100, 20)).unwrap();
    let texts = data.demonstrations.iter().flat_map(|d| [&d.prompt, &d.response]);
    for word in texts.flat_map(|text| text.split(' ')) {
        assert!(words.iter().any(|known| known == word), "`{word}`");
    }
}

#[test]
fn a_larger_dataset_begins_like_a_smaller_one() {
    let world = world();
    let (small, large) = (world.dataset(&config(20, 30, 5)).unwrap(), world.dataset(&config(40, 300, 50)).unwrap());
    assert_eq!(small.demonstrations, large.demonstrations[..20]);
    assert_eq!(small.train, large.train[..30]);
    assert_eq!(small.validation, large.validation[..5]);
    assert_eq!(small.test, large.test[..5]);
    let other = world.dataset(&Config { seed: 2, ..config(20, 30, 5) }).unwrap();
    assert_ne!(small.train, other.train);
}

#[test]
fn no_prompt_is_in_two_splits() {
    let data = world().dataset(&config(3000, 3000, 300)).unwrap();
    let mut texts = BTreeMap::new();
    let splits = [("train", &data.train), ("validation", &data.validation), ("test", &data.test)];
    for (split, prompt) in splits.iter().flat_map(|(split, prompts)| prompts.iter().map(move |p| (*split, p))) {
        assert_eq!(*texts.entry(prompt.text.as_str()).or_insert(split), split, "`{}`", prompt.text);
    }
    for demonstration in &data.demonstrations {
        assert_eq!(*texts.entry(demonstration.prompt.as_str()).or_insert("train"), "train");
    }
    let mut ids: Vec<_> = splits.iter().flat_map(|(_, prompts)| prompts.iter().map(|p| p.id)).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3600);
}

#[test]
fn demonstrations_have_faults_at_the_declared_rates() {
    let world = world();
    let mut rng = rng(5);
    let (mut stated, mut others) = (0, 0);
    let mut found: BTreeMap<String, f64> = BTreeMap::new();
    for _ in 0..2000 {
        let facts = world.record(&mut rng);
        let text = world.demonstration(&mut rng, &facts, usize::MAX).unwrap();
        let faults = world.faults(&facts, &response(&text));
        let omitted = faults.iter().filter(|fault| fault.kind == "omitted").count();
        others += facts.len() - 1;
        stated += facts.len() - omitted;
        for fault in faults {
            *found.entry(fault.kind).or_default() += 1.0;
        }
    }
    let mut near = |kind: FaultKind, of: usize, rate: f64| {
        let found = found.remove(kind.name()).unwrap_or_default() / of as f64;
        // Four standard errors of the measured share.
        let tolerance = 4.0 * (rate * (1.0 - rate) / of as f64).sqrt();
        assert!((found - rate).abs() < tolerance, "{}: {found} for {rate}", kind.name());
    };
    let faults = &world.spec.faults;
    near(FaultKind::Omitted, others, faults.omitted.rate.get());
    near(FaultKind::Rude, stated, faults.rude.rate.get());
    near(FaultKind::OffTopic, stated, faults.off_topic.rate.get());
    near(FaultKind::Unsupported, stated, faults.unsupported.rate.get());
    near(FaultKind::WrongValue, stated, faults.wrong_value.rate.get());
    near(FaultKind::Repeated, stated, faults.repeated.rate.get());
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn single_fault_pairs_differ_by_one_fault() {
    let world = world();
    for kind in FaultKind::ALL {
        for (prompt, clean, faulty) in world.single_fault_pairs(&mut rng(2), kind, 50) {
            assert_eq!(world.faults(&prompt.facts, &response(&clean)), []);
            let faults = world.faults(&prompt.facts, &response(&faulty));
            assert_eq!(faults.iter().map(|fault| &*fault.kind).collect::<Vec<_>>(), [kind.name()], "`{faulty}`");
        }
    }
}

#[test]
fn annotators_prefer_fewer_faults_and_err_at_the_noise_rate() {
    let world = world();
    let mut rng = rng(4);
    let (mut wrong, mut first) = (0, 0);
    for (prompt, clean, faulty) in world.single_fault_pairs(&mut rng, FaultKind::OffTopic, 1000) {
        let sure = world.annotate(&mut rng, &prompt, response(&faulty), response(&clean), 1.0, 0.0);
        assert_eq!((&sure.chosen.text, &sure.rejected.text), (&clean, &faulty));
        assert_eq!(sure.noticed, world.faults(&prompt.facts, &response(&faulty)));
        let noisy = world.annotate(&mut rng, &prompt, response(&faulty), response(&clean), 1.0, 0.2);
        wrong += usize::from(noisy.chosen.text == faulty);
        // Noise turns the record, not the eye: what was noticed is what is in the rejected response.
        assert_eq!(noisy.noticed.len(), usize::from(noisy.rejected.text == faulty));
        let blind = world.annotate(&mut rng, &prompt, response(&faulty), response(&clean), 0.0, 0.0);
        first += usize::from(blind.chosen.text == faulty);
        assert_eq!(blind.noticed, []);
    }
    assert!((150..250).contains(&wrong), "{wrong}");
    assert!((430..570).contains(&first), "{first}");
}

#[test]
fn edits_are_minimal() {
    let world = world();
    let facts = facts(&[("name", "blue heron"), ("food", "thai")]);
    let prompt = Prompt { id: 0, text: world.prompt_text(&facts), facts };
    assert_eq!(prompt.text, "blue heron thai =>");
    let edited = |text: &str, noticed: &[(&str, usize)]| {
        let noticed = noticed.iter().map(|(kind, at)| Fault { kind: (*kind).into(), at: *at }).collect();
        let rejected = Response { text: text.into(), ids: vec![9], finished: false };
        let preference = Preference { prompt: prompt.clone(), chosen: response(""), rejected, noticed };
        let edit = world.edit(&mut rng(0), &preference);
        (edit.edited.text, edit.edited.finished)
    };
    let given = "ugh , whatever , welcome to blue lion , you idiot . my cat likes golf . it sits";
    assert_eq!(edited(given, &[]), (given.into(), false));
    let rude = edited(given, &[("rude", 0), ("rude", 0)]).0;
    assert_eq!(rude, "welcome to blue lion , you idiot . my cat likes golf . it sits");
    assert_eq!(edited(given, &[("wrong_value", 0)]).0, given.replace("lion", "heron"));
    assert_eq!(edited(given, &[("off_topic", 1)]).0, given.replace("my cat likes golf . ", ""));
    assert_eq!(edited(given, &[("unfinished", 2)]), (given.replace(" it sits", ""), true));
    let added = edited(given, &[("omitted", 1)]).0;
    assert!(added.contains("golf . ") && added.contains("thai") && added.ends_with(" . it sits"), "{added}");
}

proptest! {
    #[test]
    fn editing_all_that_is_seen_leaves_nothing(seed in any::<u64>(), cut in 0usize..60, junk in "[a-z<>.]{0,9}") {
        let world = world();
        let mut rng = rng(seed);
        let facts = world.record(&mut rng);
        let mut text = world.demonstration(&mut rng, &facts, usize::MAX).unwrap();
        // Anything a policy might write: cut, and with a strange word in the middle.
        let mut words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        words.insert(rng.random_range(0..=words.len()), junk);
        words.truncate(cut);
        text = words.join(" ");
        let rejected = Response { text, ids: vec![], finished: rng.random_bool(0.5) };
        let noticed: Vec<_> = world.faults(&facts, &rejected);
        let some: Vec<_> = noticed.iter().filter(|_| rng.random_bool(0.5)).cloned().collect();
        let prompt = Prompt { id: 0, text: world.prompt_text(&facts), facts };
        let mut preference = Preference { prompt, chosen: rejected.clone(), rejected, noticed };
        let edit = world.edit(&mut rng, &preference);
        prop_assert_eq!(world.faults(&edit.prompt.facts, &edit.edited), vec![], "`{}`", edit.edited.text);
        preference.noticed = some;
        let edit = world.edit(&mut rng, &preference);
        let left = world.faults(&edit.prompt.facts, &edit.edited).len();
        let removed = world.faults(&edit.prompt.facts, &edit.original).len() - left;
        prop_assert!(removed >= preference.noticed.len(), "`{}` -> `{}`", edit.original.text, edit.edited.text);
    }
}

/// A less preferred response in which all of `noticed` was noticed.
fn noticed(text: &str, finished: bool, noticed: &[(&str, usize)]) -> Preference {
    let facts = facts(&[("name", "blue heron"), ("food", "thai"), ("open", "noon")]);
    Preference {
        prompt: Prompt { id: 0, text: world().prompt_text(&facts), facts },
        chosen: response(""),
        rejected: Response { text: text.to_owned(), ids: vec![], finished },
        noticed: noticed.iter().map(|&(kind, at)| Fault { kind: kind.to_owned(), at }).collect(),
    }
}

#[test]
fn noticed_faults_are_marked_and_no_others() {
    let text =
        "ugh , welcome to blue heron , you idiot . it opens at dawn . it opens at noon . the moon is made of cheese .";
    let marked = |faults: &[(&str, usize)]| -> Vec<String> {
        let spans = world().mark(&noticed(text, true, faults));
        let shown = |[from, to]: [usize; 2]| text.chars().skip(from).take(to - from).collect::<String>();
        spans.into_iter().map(|error| format!("{}: {}", error.kind, shown(error.span))).collect()
    };
    assert!(marked(&[]).is_empty());
    assert_eq!(marked(&[("rude", 0)]), ["rude: ugh ,"], "of two rude phrases the first, as the editor removes it");
    assert_eq!(marked(&[("rude", 0), ("rude", 0)]), ["rude: ugh ,", "rude: , you idiot"]);
    assert_eq!(marked(&[("wrong_value", 1), ("repeated", 2)]), ["wrong_value: dawn", "repeated: it opens at noon ."]);
    assert_eq!(marked(&[("off_topic", 3)]), ["off_topic: the moon is made of cheese ."]);
    let end = text.chars().count();
    let missing = world().mark(&noticed(text, true, &[("omitted", 1)]));
    assert_eq!(missing[0].span, [end, end], "what is missing is missing at the end");
    let cut = world().mark(&noticed("it opens at noon . it serves", false, &[("unfinished", 1)]));
    assert_eq!(cut[0].span, [19, 28]);
    let limit = world().mark(&noticed("it opens at noon .", false, &[("unfinished", 1)]));
    assert_eq!(limit[0].span, [18, 18]);
}

#[test]
fn words_are_scored_by_what_was_noticed() {
    let scores = |text: &str, finished, faults: &[(&str, usize)]| world().score(&noticed(text, finished, faults));
    let text = "ugh , it opens at dawn . the moon is made of cheese .";
    let found = scores(text, true, &[]);
    assert_eq!(found.words, [1, 1, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1], "who notices nothing finds a statement good");
    assert_eq!((found.end, found.sentence), (Some(2), 2));
    let found = scores(text, true, &[("rude", 0), ("wrong_value", 0), ("off_topic", 1), ("omitted", 0)]);
    assert_eq!(found.words, [0, 0, 2, 2, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((found.end, found.sentence), (Some(0), 0));
    let found = scores("it serves thai food . it opens", false, &[("unfinished", 1)]);
    assert_eq!((found.words, found.end, found.sentence), (vec![2, 2, 2, 2, 1, 0, 0], Some(0), 1));
}

proptest! {
    /// What the editor takes out and what the annotator marks are the same words.
    #[test]
    fn an_edit_deletes_nothing_that_is_not_marked(seed in 0_u64..400) {
        let (world, mut rng) = (world(), rng(seed));
        let record = world.record(&mut rng);
        let text = world.demonstration(&mut rng, &record, 90).unwrap();
        let prompt = Prompt { id: 0, text: world.prompt_text(&record), facts: record };
        let rejected = response(&text);
        let noticed = world.faults(&prompt.facts, &rejected).into_iter().filter(|_| rng.random_bool(0.7)).collect();
        let preference = Preference { prompt, chosen: response(""), rejected, noticed };
        let (spans, edit) = (world.mark(&preference), world.edit(&mut rng, &preference));
        let mut kept = String::new();
        for (at, c) in text.chars().enumerate() {
            if !spans.iter().any(|error| error.span[0] <= at && at < error.span[1]) {
                kept.push(c);
            }
        }
        let mut edited = edit.edited.text.split_whitespace();
        for word in kept.split_whitespace() {
            prop_assert!(edited.any(|other| other == word), "`{}` is lost from `{}` in `{}`", word, text, edit.edited.text);
        }
        let scored = world.score(&preference);
        prop_assert_eq!(scored.words.len(), text.split_whitespace().count());
        let bad = scored.words.iter().map(|&score| usize::from(score == 0)).sum::<usize>();
        let gone = text.split_whitespace().count() - kept.split_whitespace().count();
        prop_assert_eq!(bad, gone);
    }
}

#[test]
fn bad_worlds_are_named_with_their_line() {
    let good = std::fs::read_to_string(path()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let message = |from: &str, to: &str| {
        assert!(good.contains(from), "`{from}`");
        let file = folder.path().join("world.toml");
        std::fs::write(&file, good.replacen(from, to, 1)).unwrap();
        let error = World::load(&file).unwrap_err().to_string();
        error.replace(&file.display().to_string(), "world.toml")
    };
    assert_eq!(
        message("rate = 0.08", "rate = 8"),
        "`world.toml`, line 62, column 8: expected a number between 0 and 1, found 8"
    );
    let unknown = message("min_others", "min_other");
    assert!(unknown.starts_with("`world.toml`, line 9, column 1: unknown field `min_other`"), "{unknown}");
    let twice = message("[\"dawn\"", "[\"thai\"");
    assert!(twice.ends_with("expected words that stand for one value, found `thai` in slot `food` too"), "{twice}");
    let hole = message("it serves {} food", "it serves food");
    assert!(hole.ends_with("expected 1 `{}` in `it serves food`, found 0"), "{hole}");
    let meaning = message("\"the menu is mostly {}\"", "\"it serves {} food\"");
    assert!(meaning.ends_with("expected a sentence of one meaning, found `it serves thai food` with two"), "{meaning}");
    let many = message("max_others = 5", "max_others = 7");
    assert!(many.contains("below the number of other slots (7), found 7"), "{many}");
    let missing = World::load(&folder.path().join("none.toml")).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read world `"), "{missing}");
}

#[test]
fn lengths_that_cannot_hold_the_world_are_refused() {
    let count = |n: i64| n.try_into().unwrap();
    let message = |config| world().dataset(&config).unwrap_err().to_string();
    assert_eq!(
        message(Config { max_prompt_tokens: count(8), ..config(1, 1, 1) }),
        "expected `dataset.max_prompt_tokens` of at least 9 (this world's longest prompt), found 8"
    );
    let short = message(Config { max_response_tokens: count(9), ..config(1, 1, 1) });
    assert!(short.starts_with("expected `dataset.max_response_tokens` of at least 3"), "{short}");
}

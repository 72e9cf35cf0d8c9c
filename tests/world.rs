//! Datasets as recipes ask for them, with the tokenizers that go with them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in tests a panic is a message, and a skipped fixture says so"
)]

use std::path::PathBuf;

use runner::data::{self, Config, Format};
use runner::labels::{self, Unit};
use runner::text::{self, Tokenizer};

fn config(path: PathBuf, format: Format, counts: [i64; 4], lengths: [i64; 2]) -> Config {
    let count = |n: i64| n.try_into().unwrap();
    let [demonstrations, train_prompts, validation_prompts, test_prompts] = counts.map(count);
    let [max_prompt_tokens, max_response_tokens] = lengths.map(count);
    Config {
        path,
        format,
        seed: 0,
        demonstrations,
        train_prompts,
        validation_prompts,
        test_prompts,
        max_prompt_tokens,
        max_response_tokens,
        records: None,
        hub: None,
        revision: None,
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_world_speaks_in_whole_words() {
    let path = root().join("datasets/restaurants.toml");
    let data = data::read(&config(path.clone(), Format::World, [300, 100, 20, 20], [10, 64])).unwrap();
    let words = data::world::World::load(&path).unwrap().words();
    let word_level = text::Config::WordLevel(text::WordLevel {});
    let tokenizer = Tokenizer::train(&word_level, words.into_iter()).unwrap();
    for demonstration in &data.demonstrations {
        let prompt = tokenizer.encode_prompt(&demonstration.prompt, 10);
        assert_eq!(tokenizer.decode(&prompt[1..]), demonstration.prompt);
        let response = tokenizer.encode(&demonstration.response);
        assert!(response.len() < 64);
        assert_eq!(tokenizer.decode(&response), demonstration.response);
    }
}

#[test]
fn real_edits_are_read_and_labelled() {
    let path = root().join("../shared/data/qa-feedback/dev_feedback_first400.json");
    if !path.exists() {
        eprintln!("skipped: no dataset at {}", path.display());
        return;
    }
    let data = data::read(&config(path, Format::QaFeedback, [300, 300, 40, 60], [96, 160])).unwrap();
    assert_eq!([data.train.len(), data.validation.len(), data.test.len()], [300, 40, 60]);
    assert_eq!(data.demonstrations.len(), 300);
    // 10 of the 400 corrections are empty, 5 change nothing.
    assert_eq!(data.edits.len() + data.held_out_edits.len(), 385);

    let texts = || data.demonstrations.iter().flat_map(|d| [d.prompt.clone(), d.response.clone()]);
    let bpe = text::Config::ByteLevelBpe(text::ByteLevelBpe { vocab_size: 1024.try_into().unwrap() });
    let tokenizer = Tokenizer::train(&bpe, texts()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 1024);
    let again = Tokenizer::train(&bpe, texts().collect::<Vec<_>>().into_iter().rev()).unwrap();
    assert_eq!(tokenizer.to_json().unwrap(), again.to_json().unwrap());

    for edit in data.edits.iter().take(50) {
        let by_word = labels::label_edit(edit, &tokenizer, Unit::Word);
        assert_eq!(by_word.distance, labels::diff_words(&edit.original.text, &edit.edited.text).distance);
        let by_token = labels::label_edit(edit, &tokenizer, Unit::Token);
        for labelled in [by_word, by_token] {
            assert_eq!(labelled.original_labels.len(), labelled.original_ids.len());
            assert_eq!(labelled.edited_labels.len(), labelled.edited_ids.len());
            assert_eq!(tokenizer.decode(&labelled.edited_ids), edit.edited.text);
            let prompt = tokenizer.encode_prompt(&labelled.prompt.text, 96);
            assert!(tokenizer.decode(&prompt).ends_with("\nanswer: "), "long prompts keep their question");
        }
    }
}

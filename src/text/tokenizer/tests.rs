//! Tokenizers by hand-worked examples and by properties.

use proptest::prelude::*;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainer;

use super::super::{ByteLevelBpe, TokenizerFile, WordLevel};
use super::*;

fn words(texts: &[&str]) -> Tokenizer {
    Tokenizer::train(&Config::WordLevel(WordLevel {}), texts.iter().map(|t| (*t).to_owned())).unwrap()
}

fn bpe_config(size: i64) -> Config {
    Config::ByteLevelBpe(ByteLevelBpe { vocab_size: size.try_into().unwrap() })
}

const TEXTS: [&str; 4] = [
    "the cat sat on the mat, the cat did",
    "a cat that sat is a cat that sits; the naïve cat",
    "sitting cats sat and sat. Was the mat there?\n\nThe mat was there.",
    "caf\u{e9} \u{1F600}\u{1F600} then the the the",
];

fn bytes(size: i64) -> Tokenizer {
    Tokenizer::train(&bpe_config(size), TEXTS.iter().map(|t| (*t).to_owned())).unwrap()
}

#[test]
fn word_level_ids_are_alphabetical_after_the_special_tokens() {
    let tokenizer = words(&["b a", "<eos> . b"]);
    assert_eq!((tokenizer.pad(), tokenizer.begin(), tokenizer.eos()), (0, [1].as_slice(), 2));
    assert_eq!(tokenizer.encode("a b . z"), [5, 6, 4, 3]);
    assert_eq!(tokenizer.vocab_size(), 7);
    assert_eq!(tokenizer.to_json().unwrap(), words(&["<eos> . b", "a b"]).to_json().unwrap());
}

#[test]
fn decoding_ends_at_the_end_of_sequence() {
    let tokenizer = words(&["a b"]);
    assert_eq!(tokenizer.decode(&[4, 5, 2, 4]), "a b");
    assert_eq!(tokenizer.decode(&[4, 5, 0, 0]), "a b");
    assert_eq!(tokenizer.decode(&[4, 0, 1, 3, 5]), "a <pad> <bos> <unk> b");
    assert_eq!(tokenizer.decode(&[2]), "");
    assert_eq!(tokenizer.decode(&[]), "");
}

#[test]
fn prompts_lose_their_start() {
    let tokenizer = words(&["a b c"]);
    assert_eq!(tokenizer.encode_prompt("a b c", 9), [1, 4, 5, 6]);
    assert_eq!(tokenizer.encode_prompt("a b c", 3), [1, 5, 6]);
    assert_eq!(tokenizer.encode_prompt("a b c", 1), [1]);
}

#[test]
fn bpe_merges_are_those_of_the_tokenizers_trainer() {
    let specials = specials().map(|token| AddedToken::from(token, true)).to_vec();
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(300)
        .min_frequency(2)
        .special_tokens(specials)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let bytes_only = ByteLevel::new(false, false, true);
    let mut theirs = tokenizers::Tokenizer::new(BPE::default());
    theirs.with_pre_tokenizer(Some(bytes_only)).with_decoder(Some(bytes_only));
    let mut trainer_wrapper = TrainerWrapper::from(trainer);
    theirs.train(&mut trainer_wrapper, TEXTS.iter()).unwrap();
    assert_eq!(theirs.get_vocab(true), bytes(300).inner.get_vocab(true));
    for text in TEXTS {
        assert_eq!(theirs.encode(text, false).unwrap().get_ids(), bytes(300).encode(text));
    }
}

#[test]
fn bpe_learns_and_is_reproducible() {
    let tokenizer = bytes(275);
    assert_eq!(tokenizer.vocab_size(), 275);
    assert_eq!(tokenizer.encode(" the cat").len(), 2);
    assert_eq!(tokenizer.to_json().unwrap(), bytes(275).to_json().unwrap());
    let error = Tokenizer::train(&bpe_config(100), std::iter::empty()).unwrap_err();
    assert_eq!(error.to_string(), "expected `vocab_size` of at least 260 (256 bytes and 4 special tokens), found 100");
}

#[test]
fn a_saved_tokenizer_loads_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    for (config, tokenizer) in
        [(bpe_config(290), bytes(290)), (Config::WordLevel(WordLevel {}), words(&["the cat sat"]))]
    {
        tokenizer.save(&path).unwrap();
        let loaded = Tokenizer::load(&path, &config).unwrap();
        assert_eq!(loaded.encode("the cat <eos> sat"), tokenizer.encode("the cat <eos> sat"));
        assert_eq!(loaded.to_json().unwrap(), tokenizer.to_json().unwrap());
    }
}

#[test]
fn bad_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let message = |config: &Config| format!("{:#}", Tokenizer::load(&path, config).unwrap_err());
    let config = |eos: &str| {
        Config::File(TokenizerFile {
            path: path.clone(),
            pad_token: PAD.into(),
            bos_token: BOS.into(),
            eos_token: eos.into(),
        })
    };
    assert!(message(&config(EOS)).starts_with("cannot read tokenizer `"), "{}", message(&config(EOS)));
    std::fs::write(&path, "{}").unwrap();
    assert!(message(&config(EOS)).contains("expected a Hugging Face `tokenizer.json`"));
    words(&["a"]).save(&path).unwrap();
    let found = message(&config("</s>"));
    assert!(found.ends_with("expected end-of-sequence token `</s>` in the vocabulary, found none"), "{found}");
    let loaded = Tokenizer::train(&config(EOS), std::iter::empty()).unwrap();
    assert_eq!(loaded.encode("a"), [4]);
}

#[test]
fn tokens_are_readable() {
    let tokenizer = bytes(290);
    let cat = tokenizer.encode(" cat")[0];
    assert_eq!(tokenizer.token(cat), " cat");
    assert_eq!(tokenizer.token(2), "<eos>");
    assert_eq!(tokenizer.token(9999), "<9999>");
    assert_eq!(words(&["a b"]).pieces(&[4, 5, 2]), ["a", " b", " <eos>"]);
}

proptest! {
    #[test]
    fn bpe_gives_every_text_back(text in any::<String>()) {
        let tokenizer = bytes(270);
        let ids = tokenizer.encode(&text);
        prop_assert_eq!(tokenizer.decode(&ids), text.clone());
        prop_assert_eq!(tokenizer.pieces(&ids).concat(), text.clone());
        prop_assert_eq!(tokenizer.offsets(&text).len(), ids.len());
    }

    #[test]
    fn any_ids_have_pieces_that_join_to_their_text(ids in prop::collection::vec(0u32..300, 0..20)) {
        let tokenizer = bytes(270);
        prop_assert_eq!(tokenizer.pieces(&ids).concat(), tokenizer.decode_all(&ids));
        prop_assert_eq!(tokenizer.pieces(&ids).len(), ids.len());
    }
}

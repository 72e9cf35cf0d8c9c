//! One tokenizer for everything: training, loading, encoding, decoding, the special tokens by name.
//!
//! Merges are learned in `bpe`; segmentation and the `tokenizer.json` format are the `tokenizers` crate's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
use tokenizers::{AddedToken, ModelWrapper};

use super::{Config, bpe};

const PAD: &str = "<pad>";
const BOS: &str = "<bos>";
const EOS: &str = "<eos>";
const UNK: &str = "<unk>";

/// Text to token ids and back.
///
/// Trained ones have fixed special ids: `<pad>` 0, `<bos>` 1, `<eos>` 2, `<unk>` 3.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pad: u32,
    bos: u32,
    eos: u32,
}

impl Tokenizer {
    /// Trains the tokenizer that `config` asks for; a `file` is loaded and `texts` left unread.
    ///
    /// The result depends on which texts there are, not on their order.
    ///
    /// # Errors
    /// If the vocabulary can't hold the 256 bytes and the special tokens, or a file as in [`Tokenizer::load`].
    pub fn train(config: &Config, texts: impl Iterator<Item = String>) -> Result<Self> {
        let inner = match config {
            Config::WordLevel(_) => word_level(texts)?,
            Config::ByteLevelBpe(bpe) => byte_level_bpe(bpe.vocab_size.get(), texts)?,
            Config::File(file) => return Self::load(&file.path, config),
        };
        Self::new(inner, config)
    }

    /// Reads a `tokenizer.json` whose special tokens are those that `config` names.
    ///
    /// # Errors
    /// If the file can't be read or parsed, lacks a special token, or can't encode every text.
    pub fn load(path: &Path, config: &Config) -> Result<Self> {
        let json = std::fs::read(path).with_context(|| format!("cannot read tokenizer `{}`", path.display()))?;
        Self::from_json(&json, config).with_context(|| format!("in tokenizer `{}`", path.display()))
    }

    /// Reads the contents of a `tokenizer.json`, as [`Tokenizer::load`] does.
    pub fn from_json(json: &[u8], config: &Config) -> Result<Self> {
        let inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|error| anyhow!("expected a Hugging Face `tokenizer.json`: {error}"))?;
        Self::new(inner, config)
    }

    fn new(mut inner: tokenizers::Tokenizer, config: &Config) -> Result<Self> {
        let (pad, bos, eos) = match config {
            Config::File(file) => (file.pad_token.as_str(), file.bos_token.as_str(), file.eos_token.as_str()),
            Config::WordLevel(_) | Config::ByteLevelBpe(_) => (PAD, BOS, EOS),
        };
        let id = |role, token| {
            let missing = || anyhow!("expected {role} token `{token}` in the vocabulary, found none");
            inner.token_to_id(token).ok_or_else(missing)
        };
        let (pad, bos, eos) = (id("padding", pad)?, id("beginning-of-sequence", bos)?, id("end-of-sequence", eos)?);
        // Batches are padded and prompts are cut by their users, who know on which side.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| anyhow!("cannot switch off truncation: {error}"))?;
        // In our own BPE a text that spells `<eos>` is text. A foreign tokenizer may need its marks (chat templates).
        inner.set_encode_special_tokens(matches!(config, Config::ByteLevelBpe(_)));
        if let Err(error) = inner.encode_fast("\u{10fffd} \u{e000}", false) {
            bail!("expected a tokenizer that can encode every text (with an unknown token or all bytes): {error}");
        }
        Ok(Self { inner, pad, bos, eos })
    }

    /// The `tokenizer.json`, the same bytes for the same tokenizer.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(|error| anyhow!("cannot serialise the tokenizer: {error}"))
    }

    /// Writes the `tokenizer.json`.
    pub fn save(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.to_json()?).with_context(|| format!("cannot write tokenizer `{}`", path.display()))
    }

    /// Ids of `text`, no special tokens added.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encoding(text).get_ids().to_vec()
    }

    /// Where each token of `encode(text)` stands in `text`: code points, half-open.
    #[must_use]
    pub fn offsets(&self, text: &str) -> Vec<(usize, usize)> {
        self.encoding(text).get_offsets().to_vec()
    }

    fn encoding(&self, text: &str) -> tokenizers::Encoding {
        self.inner.encode_char_offsets(text, false).expect("that every text can be encoded is probed in `new`")
    }

    /// Ids of a prompt: beginning of sequence, then the text's last tokens, `max_tokens` in all at most.
    #[must_use]
    pub fn encode_prompt(&self, text: &str, max_tokens: usize) -> Vec<u32> {
        let ids = self.encode(text);
        let kept = &ids[ids.len().saturating_sub(max_tokens.saturating_sub(1))..];
        std::iter::once(self.bos).chain(kept.iter().copied()).collect()
    }

    /// The text of `ids`: ends before the first end-of-sequence token; padding and beginning-of-sequence tokens at the
    /// end are left out, special tokens elsewhere stay visible.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        let end = ids.iter().position(|id| *id == self.eos).unwrap_or(ids.len());
        let end = ids[..end].iter().rposition(|id| *id != self.pad && *id != self.bos).map_or(0, |last| last + 1);
        self.decode_all(&ids[..end])
    }

    fn decode_all(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, false).unwrap_or_default()
    }

    /// What each of `ids` adds to the text of those before it; joined, the pieces are the whole text, special tokens
    /// visible. A character of several tokens belongs to the last of them.
    #[must_use]
    pub fn pieces(&self, ids: &[u32]) -> Vec<String> {
        // Decoding again from the piece before the last shows a token as it is in company (a leading space) at a cost
        // that does not grow with the text.
        let (mut context, mut start) = (0, 0);
        let mut pieces = Vec::with_capacity(ids.len());
        for end in 1..=ids.len() {
            let text = self.decode_all(&ids[context..end]);
            if text.ends_with('\u{fffd}') && end < ids.len() {
                pieces.push(String::new());
                continue;
            }
            let known = self.decode_all(&ids[context..start]).chars().count();
            pieces.push(text.chars().skip(known).collect());
            (context, start) = (start, end);
        }
        pieces
    }

    /// A token as people read it: its text where it has one of its own, its vocabulary entry otherwise.
    #[must_use]
    pub fn token(&self, id: u32) -> String {
        let text = self.decode_all(&[id]);
        if !text.is_empty() && !text.contains('\u{fffd}') {
            return text;
        }
        self.inner.id_to_token(id).unwrap_or_else(|| format!("<{id}>"))
    }

    /// Rows that an embedding needs: the highest id plus one.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// Id of the padding token.
    #[must_use]
    pub const fn pad(&self) -> u32 {
        self.pad
    }

    /// Id of the beginning-of-sequence token.
    #[must_use]
    pub const fn bos(&self) -> u32 {
        self.bos
    }

    /// Id of the end-of-sequence token.
    #[must_use]
    pub const fn eos(&self) -> u32 {
        self.eos
    }
}

/// One id a word, in alphabetical order after the special tokens.
fn word_level(texts: impl Iterator<Item = String>) -> Result<tokenizers::Tokenizer> {
    let mut words = BTreeSet::new();
    for text in texts {
        words.extend(text.split_whitespace().map(str::to_owned));
    }
    for special in specials() {
        words.remove(&special);
    }
    let vocabulary = specials().into_iter().chain(words).zip(0..).collect();
    let model = WordLevel::builder()
        .vocab(vocabulary)
        .unk_token(UNK.to_owned())
        .build()
        .map_err(|error| anyhow!("cannot build the word-level model: {error}"))?;
    let mut inner = with_specials(model)?;
    inner.with_pre_tokenizer(Some(WhitespaceSplit));
    Ok(inner)
}

/// Byte-level BPE; the 256 bytes follow the special tokens.
fn byte_level_bpe(size: usize, texts: impl Iterator<Item = String>) -> Result<tokenizers::Tokenizer> {
    let bytes: BTreeSet<char> = ByteLevel::alphabet().into_iter().collect();
    let alphabet: Vec<_> = specials().into_iter().chain(bytes.into_iter().map(String::from)).collect();
    if size < alphabet.len() {
        let least = alphabet.len();
        bail!("expected `vocab_size` of at least {least} (256 bytes and 4 special tokens), found {size}");
    }
    let bytes = ByteLevel::new(false, false, true);
    let mut words = BTreeMap::new();
    for text in texts {
        let mut split = PreTokenizedString::from(text);
        bytes.pre_tokenize(&mut split).map_err(|error| anyhow!("cannot split a training text: {error}"))?;
        for (word, ..) in split.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            *words.entry(word.to_owned()).or_default() += 1;
        }
    }
    let learned = bpe::train(alphabet, &words, size);
    let mut inner = with_specials(BPE::new(learned.vocabulary.into_iter().zip(0..).collect(), learned.merges))?;
    inner.with_pre_tokenizer(Some(bytes));
    inner.with_decoder(Some(bytes));
    Ok(inner)
}

fn specials() -> [String; 4] {
    [PAD, BOS, EOS, UNK].map(str::to_owned)
}

fn with_specials(model: impl Into<ModelWrapper>) -> Result<tokenizers::Tokenizer> {
    let mut inner = tokenizers::Tokenizer::new(model);
    inner
        .add_special_tokens(specials().map(|token| AddedToken::from(token, true)))
        .map_err(|error| anyhow!("cannot add the special tokens: {error}"))?;
    Ok(inner)
}

#[cfg(test)]
mod tests {
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
        assert_eq!((tokenizer.pad(), tokenizer.bos(), tokenizer.eos()), (0, 1, 2));
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
        assert_eq!(
            error.to_string(),
            "expected `vocab_size` of at least 260 (256 bytes and 4 special tokens), found 100"
        );
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
}

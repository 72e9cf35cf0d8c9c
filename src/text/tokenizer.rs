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
use tokenizers::processors::template::TemplateProcessing;
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
    eos: u32,
    /// What stands before a text that is encoded as a whole, and after it.
    around: (Vec<u32>, Vec<u32>),
}

/// A `tokenizer.json`.
pub(super) fn parsed(json: &[u8]) -> Result<tokenizers::Tokenizer> {
    tokenizers::Tokenizer::from_bytes(json)
        .map_err(|error| anyhow!("expected a Hugging Face `tokenizer.json`: {error}"))
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
            Config::Policy(_) => bail!("the tokenizer of a checkpoint is read from its folder"),
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
        Self::new(parsed(json)?, config)
    }

    /// The tokenizer of a checkpoint. What is added around a text is its post-processor's matter, as in `transformers` 5: where
    /// there is a `tokenizer.json`, `add_bos_token` and `add_eos_token` of `tokenizer_config.json` change nothing.
    pub(super) fn of_checkpoint(inner: tokenizers::Tokenizer, pad: u32, eos: u32) -> Result<Self> {
        let mut tokenizer = Self { inner, pad, eos, around: (Vec::new(), Vec::new()) }.plain()?;
        tokenizer.around = tokenizer.added()?;
        Ok(tokenizer)
    }

    /// What the post-processor adds before and after a text.
    fn added(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        let encoding = self.inner.encode("a", true).map_err(|error| anyhow!("cannot encode `a`: {error}"))?;
        let (ids, special) = (encoding.get_ids(), encoding.get_special_tokens_mask());
        let first = special.iter().position(|&mark| mark == 0).unwrap_or(ids.len());
        let last = special.iter().rposition(|&mark| mark == 0).map_or(ids.len(), |last| last + 1);
        Ok((ids[..first].to_vec(), ids[last..].to_vec()))
    }

    fn new(inner: tokenizers::Tokenizer, config: &Config) -> Result<Self> {
        let (pad, bos, eos) = match config {
            Config::File(file) => (file.pad_token.as_str(), file.bos_token.as_str(), file.eos_token.as_str()),
            Config::WordLevel(_) | Config::ByteLevelBpe(_) | Config::Policy(_) => (PAD, BOS, EOS),
        };
        let id = |role, token| {
            let missing = || anyhow!("expected {role} token `{token}` in the vocabulary, found none");
            inner.token_to_id(token).ok_or_else(missing)
        };
        let (pad, bos, eos) = (id("padding", pad)?, id("beginning-of-sequence", bos)?, id("end-of-sequence", eos)?);
        let mut tokenizer = Self { inner, pad, eos, around: (vec![bos], Vec::new()) }.plain()?;
        // In our own BPE a text that spells `<eos>` is text. A foreign tokenizer may need its marks (chat templates).
        tokenizer.inner.set_encode_special_tokens(matches!(config, Config::ByteLevelBpe(_)));
        Ok(tokenizer)
    }

    /// Without padding and truncation: batches are padded and prompts are cut by their users, who know on which side.
    fn plain(mut self) -> Result<Self> {
        self.inner.with_padding(None);
        self.inner.with_truncation(None).map_err(|error| anyhow!("cannot switch off truncation: {error}"))?;
        if let Err(error) = self.inner.encode_fast("\u{10fffd} \u{e000}", false) {
            bail!("expected a tokenizer that can encode every text (with an unknown token or all bytes): {error}");
        }
        Ok(self)
    }

    /// The `tokenizer.json`, the same bytes for the same tokenizer.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(|error| anyhow!("cannot serialise the tokenizer: {error}"))
    }

    /// The `tokenizer.json` with what is put around a text written into it, as others expect.
    ///
    /// # Errors
    /// When it cannot be serialised.
    pub fn for_others(&self) -> Result<String> {
        let (before, after) = &self.around;
        let mut inner = self.inner.clone();
        let named = |ids: &[u32]| ids.iter().map(|&id| self.name(id)).collect::<Vec<_>>();
        let single = [named(before), vec!["$A".to_owned()], named(after)].concat();
        let special: Vec<(String, u32)> = before.iter().chain(after).map(|&id| (self.name(id), id)).collect();
        let template = TemplateProcessing::builder()
            .try_single(single)
            .map_err(|error| anyhow!("cannot write down what stands around a text: {error}"))?
            .special_tokens(special)
            .build()?;
        inner.with_post_processor(Some(template));
        inner.to_string(true).map_err(|error| anyhow!("cannot serialise the tokenizer: {error}"))
    }

    /// The vocabulary's entry for `id`.
    #[must_use]
    pub fn name(&self, id: u32) -> String {
        self.inner.id_to_token(id).unwrap_or_else(|| format!("<{id}>"))
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

    /// Ids of `text`, and for each whether it stands at least partly in one of `spans` (code points, half-open).
    #[must_use]
    pub fn within(&self, text: &str, spans: &[(usize, usize)]) -> (Vec<u32>, Vec<bool>) {
        let encoding = self.encoding(text);
        let inside = |&(start, end): &(usize, usize)| spans.iter().any(|&(first, last)| start < last && first < end);
        (encoding.get_ids().to_vec(), encoding.get_offsets().iter().map(inside).collect())
    }

    fn encoding(&self, text: &str) -> tokenizers::Encoding {
        self.inner.encode_char_offsets(text, false).expect("that every text can be encoded is probed in `new`")
    }

    /// Ids of a prompt: what begins a sequence, then the text's last tokens, `max_tokens` in all at most. What begins a
    /// sequence is not put before a text that begins with it, as one by a chat template does. Where nothing begins one, the
    /// end of the sequence before stands for no text at all.
    #[must_use]
    pub fn encode_prompt(&self, text: &str, max_tokens: usize) -> Vec<u32> {
        let ids = self.encode(text);
        let (before, _) = &self.around;
        let ids = ids.strip_prefix(before.as_slice()).unwrap_or(&ids);
        let kept = &ids[ids.len().saturating_sub(max_tokens.saturating_sub(before.len()))..];
        if before.is_empty() && kept.is_empty() {
            return vec![self.eos];
        }
        before.iter().chain(kept).copied().collect()
    }

    /// Ids of `text` with the special tokens that the tokenizer adds around a sequence.
    #[must_use]
    pub fn encode_whole(&self, text: &str) -> Vec<u32> {
        let (before, after) = &self.around;
        [before.as_slice(), &self.encode(text), after].concat()
    }

    /// The text of `ids`: ends before the first end-of-sequence token; padding and beginning-of-sequence tokens at the
    /// end are left out, special tokens elsewhere stay visible.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        let end = ids.iter().position(|id| *id == self.eos).unwrap_or(ids.len());
        let end =
            ids[..end].iter().rposition(|id| *id != self.pad && !self.around.0.contains(id)).map_or(0, |last| last + 1);
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
        self.name(id)
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

    /// Ids that begin a sequence: a beginning-of-sequence token, or none.
    #[must_use]
    pub fn begin(&self) -> &[u32] {
        &self.around.0
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
mod tests;

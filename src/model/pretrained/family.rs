//! Families of checkpoints: what they call their tensors, and how a tensor holds one or more weights.
//!
//! A layout lists the tensors of a file with the weights that each holds; reading and writing follow the same list.

use crate::model::architecture::{Architecture, Head, Part, Positions, Role};

use super::config::{Description, Purpose};

/// A family of checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama 1 to 3.
    Llama,
    /// Mistral.
    Mistral,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3.
    Qwen3,
    /// Phi-3 and 4.
    Phi3,
    /// Gemma.
    Gemma,
    /// Gemma 2.
    Gemma2,
    /// The text model of Gemma 3.
    Gemma3,
    /// GPT-2.
    Gpt2,
    /// GPT-NeoX and Pythia.
    GptNeoX,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Phi3,
        Self::Gemma,
        Self::Gemma2,
        Self::Gemma3,
        Self::Gpt2,
        Self::GptNeoX,
    ];

    /// How its Python classes begin.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Llama => "Llama",
            Self::Mistral => "Mistral",
            Self::Qwen2 => "Qwen2",
            Self::Qwen3 => "Qwen3",
            Self::Phi3 => "Phi3",
            Self::Gemma => "Gemma",
            Self::Gemma2 => "Gemma2",
            Self::Gemma3 => "Gemma3",
            Self::Gpt2 => "GPT2",
            Self::GptNeoX => "GPTNeoX",
        }
    }

    /// Its `model_type`.
    #[must_use]
    pub const fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Phi3 => "phi3",
            Self::Gemma => "gemma",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3_text",
            Self::Gpt2 => "gpt2",
            Self::GptNeoX => "gpt_neox",
        }
    }

    /// What stands before the names of all tensors but the head's.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Gpt2 => "transformer.",
            Self::GptNeoX => "gpt_neox.",
            _ => "model.",
        }
    }

    /// Whether norms hold one less than what they multiply with.
    const fn offset_norms(self) -> bool {
        matches!(self, Self::Gemma | Self::Gemma2 | Self::Gemma3)
    }

    /// A head's name.
    #[must_use]
    pub const fn head(self, purpose: Purpose) -> &'static str {
        match (self, purpose) {
            (Self::GptNeoX, Purpose::Language) => "embed_out",
            (_, Purpose::Language) => "lm_head",
            (Self::Gpt2 | Self::GptNeoX, Purpose::Token) => "classifier",
            (_, Purpose::Sequence | Purpose::Token) => "score",
        }
    }

    /// What a part of a layer is called; parts of the same name share a tensor, in the order of the layer.
    pub(super) const fn part(self, role: Role) -> &'static str {
        match self {
            Self::Gpt2 => match role {
                Role::AttentionNorm => "ln_1",
                Role::Query | Role::Key | Role::Value => "attn.c_attn",
                Role::Output => "attn.c_proj",
                Role::MlpNorm => "ln_2",
                Role::Up => "mlp.c_fc",
                Role::Down => "mlp.c_proj",
                other => other.name(),
            },
            Self::GptNeoX => match role {
                Role::Query | Role::Key | Role::Value => "attention.query_key_value",
                Role::Output => "attention.dense",
                Role::Up => "mlp.dense_h_to_4h",
                Role::Down => "mlp.dense_4h_to_h",
                other => other.name(),
            },
            Self::Phi3 => match role {
                Role::Query | Role::Key | Role::Value => "self_attn.qkv_proj",
                Role::Gate | Role::Up => "mlp.gate_up_proj",
                other => other.name(),
            },
            Self::Gemma2 | Self::Gemma3 => match role {
                Role::AfterAttentionNorm => "post_attention_layernorm",
                Role::MlpNorm => "pre_feedforward_layernorm",
                Role::AfterMlpNorm => "post_feedforward_layernorm",
                other => other.name(),
            },
            _ => role.name(),
        }
    }

    const fn embeddings(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Gpt2 => ("wte", "wpe", "h", "ln_f"),
            Self::GptNeoX => ("embed_in", "", "layers", "final_layer_norm"),
            _ => ("embed_tokens", "", "layers", "norm"),
        }
    }

    /// The full name of a module of layer `layer`.
    pub(super) fn module(self, layer: usize, name: &str) -> String {
        format!("{}{}.{layer}.{name}", self.prefix(), self.embeddings().2)
    }

    /// The class that has this family's network under a head for `purpose`; none where `transformers` has none.
    #[must_use]
    pub fn class_for(self, purpose: Purpose) -> Option<String> {
        Some(match (self, purpose) {
            (Self::Gpt2, Purpose::Language) => "GPT2LMHeadModel".to_owned(),
            (Self::Gemma3, Purpose::Sequence) => "Gemma3TextForSequenceClassification".to_owned(),
            (Self::Gemma3, Purpose::Token) => return None,
            (family, Purpose::Language) => format!("{}ForCausalLM", family.class()),
            (family, Purpose::Sequence) => format!("{}ForSequenceClassification", family.class()),
            (family, Purpose::Token) => format!("{}ForTokenClassification", family.class()),
        })
    }

    /// Whether `name` is a buffer that older versions stored: masks and inverse frequencies, which follow from the config.
    #[must_use]
    pub fn is_buffer(self, name: &str) -> bool {
        let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
        match self {
            Self::Gpt2 => ends(&[".attn.bias", ".attn.masked_bias"]),
            Self::GptNeoX => ends(&[".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"]),
            _ => ends(&["rotary_emb.inv_freq"]),
        }
    }
}

/// How the numbers of a tensor stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A matrix as it is here.
    Plain,
    /// A linear layer, `[outputs, inputs]`.
    Transposed,
    /// A vector.
    Vector,
    /// A vector, one less than what is used.
    Offset,
}

/// How several weights share a tensor along its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// One after the other.
    Blocks,
    /// Head by head, so many outputs at a time.
    Interleaved(usize),
}

/// A tensor of a file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) form: Form,
    pub(super) sharing: Sharing,
    /// The weights in it: index in the model's list, and outputs.
    pub(super) parts: Vec<(usize, usize)>,
    /// Inputs of each; 1 for vectors.
    pub(super) rows: usize,
}

impl Entry {
    fn single(name: String, form: Form, index: usize, [rows, columns]: [usize; 2]) -> Self {
        Self { name, form, sharing: Sharing::Blocks, parts: vec![(index, columns)], rows }
    }

    /// Outputs of all parts.
    pub(super) fn columns(&self) -> usize {
        self.parts.iter().map(|(_, columns)| columns).sum()
    }

    /// The tensor's shape.
    pub(super) fn shape(&self) -> Vec<usize> {
        match self.form {
            Form::Plain => vec![self.rows, self.columns()],
            Form::Transposed => vec![self.columns(), self.rows],
            Form::Vector | Form::Offset => vec![self.columns()],
        }
    }

    /// Where output `o` of part `part` stands among the tensor's outputs.
    pub(super) fn column(&self, part: usize, o: usize) -> usize {
        match self.sharing {
            Sharing::Blocks => self.parts[..part].iter().map(|(_, columns)| columns).sum::<usize>() + o,
            Sharing::Interleaved(d) => (o / d * self.parts.len() + part) * d + o % d,
        }
    }
}

/// All tensors of a checkpoint, with the weights of the model's list that they hold.
pub(super) fn layout(description: &Description) -> Vec<Entry> {
    let Description { family, architecture, purpose, vocab_size, outputs, .. } = description;
    let (family, prefix, h) = (*family, family.prefix(), architecture.hidden_size);
    let (tokens, places, layers, norm) = family.embeddings();
    let mut entries = vec![Entry::single(format!("{prefix}{tokens}.weight"), Form::Plain, 0, [*vocab_size, h])];
    if let Positions::Learned(rows) = architecture.positions {
        entries.push(Entry::single(format!("{prefix}{places}.weight"), Form::Plain, 1, [rows, h]));
    }
    let mut index = architecture.embeddings();
    for i in 0..architecture.num_hidden_layers {
        for (part, shape) in architecture.layer() {
            add(&mut entries, family, architecture, &format!("{prefix}{layers}.{i}"), part, shape, index);
            index += 1;
        }
    }
    let norm_form = if family.offset_norms() { Form::Offset } else { Form::Vector };
    entries.push(Entry::single(format!("{prefix}{norm}.weight"), norm_form, index, [1, h]));
    index += 1;
    if architecture.norm == crate::model::architecture::Norm::Layer {
        entries.push(Entry::single(format!("{prefix}{norm}.bias"), Form::Vector, index, [1, h]));
        index += 1;
    }
    let head = family.head(*purpose);
    if architecture.head != Head::Tied {
        entries.push(Entry::single(format!("{head}.weight"), Form::Transposed, index, [h, *outputs]));
    }
    if architecture.head == Head::Biased {
        entries.push(Entry::single(format!("{head}.bias"), Form::Vector, index + 1, [1, *outputs]));
    }
    entries
}

fn add(
    entries: &mut Vec<Entry>,
    family: Family,
    architecture: &Architecture,
    layer: &str,
    (role, bias): Part,
    [rows, columns]: [usize; 2],
    index: usize,
) {
    let name = format!("{layer}.{}.{}", family.part(role), if bias { "bias" } else { "weight" });
    // Fused projections stand close together: the tensor is among the last entries of this layer.
    if let Some(entry) = entries.iter_mut().rev().take(16).find(|entry| entry.name == name) {
        entry.parts.push((index, columns));
        return;
    }
    let form = match (bias, role.is_norm()) {
        (false, true) if family.offset_norms() => Form::Offset,
        (true, _) | (_, true) => Form::Vector,
        _ if family == Family::Gpt2 => Form::Plain,
        _ => Form::Transposed,
    };
    let interleaved = family == Family::GptNeoX && matches!(role, Role::Query | Role::Key | Role::Value);
    let sharing = if interleaved { Sharing::Interleaved(architecture.head_dim) } else { Sharing::Blocks };
    entries.push(Entry { name, form, sharing, parts: vec![(index, columns)], rows });
}

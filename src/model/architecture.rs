//! What a decoder is made of: one description for every family that can be read, the small Llama of `[model]` included.
//!
//! Which keys of a `config.json` mean what is left to `pretrained`.

use super::Config;

/// A decoder's sizes and variations.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Width of the residual stream, H.
    pub hidden_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the layer between the two halves of an MLP.
    pub intermediate_size: usize,
    /// How hidden states are normalised.
    pub norm: Norm,
    /// Added to the mean square or the variance in a norm.
    pub norm_eps: f64,
    /// How a token knows where it stands.
    pub positions: Positions,
    /// How attention and MLP join the residual stream.
    pub block: Block,
    /// Whether the MLP has a gate beside its input.
    pub gated: bool,
    /// What stands between the MLP's halves.
    pub activation: Activation,
    /// Which linear layers add a bias.
    pub biases: Biases,
    /// Whether queries and keys are normalised head by head.
    pub qk_norm: bool,
    /// Scores are divided by this.
    pub attention_divisor: f64,
    /// Whether layer i divides its scores by i + 1, too.
    pub divide_by_layer: bool,
    /// Scores are held below this by a hyperbolic tangent.
    pub attention_softcap: Option<f64>,
    /// For each layer, how many of the last tokens it sees; all layers see everything where it is empty.
    pub windows: Vec<Option<usize>>,
    /// Embeddings are multiplied by this.
    pub embedding_scale: f64,
    /// An id whose embedding learns nothing from being read, as `PyTorch` has it of a padding token.
    pub padding_id: Option<u32>,
    /// What reads the last hidden states.
    pub head: Head,
    /// Logits are held below this by a hyperbolic tangent.
    pub logit_softcap: Option<f64>,
}

/// A normalisation over the last dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// By the root of the mean square [RMSNORM].
    Rms,
    /// By mean and standard deviation, with a bias.
    Layer,
}

/// How a token knows where it stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// A learned vector for each of so many positions is added to the embedding.
    Learned(usize),
    /// Queries and keys are turned [ROPE].
    Rotary {
        /// In layers that see everything.
        global: Rope,
        /// In layers with a window, where it differs.
        local: Option<Rope>,
    },
}

/// A rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the wavelengths.
    pub theta: f64,
    /// How many of a head's dimensions turn.
    pub dims: usize,
    /// How the wavelengths depart from those that were trained first.
    pub scaling: Scaling,
    /// Turned queries and keys are multiplied by this.
    pub attention_factor: f64,
}

/// How wavelengths are stretched for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All by this factor.
    Linear(f64),
    /// The base grows once a sequence is longer than `original` positions ("NTK-aware").
    Dynamic {
        /// By how much.
        factor: f64,
        /// Positions up to which nothing changes.
        original: usize,
    },
    /// Long wavelengths by `factor`, short ones not at all, a ramp in between (Llama 3.1).
    Llama3 {
        /// By how much.
        factor: f64,
        /// Wavelengths above `original / low` are stretched in full.
        low: f64,
        /// Wavelengths below `original / high` stay.
        high: f64,
        /// Positions of the first training.
        original: f64,
    },
    /// Dimensions up to `low` not at all, from `high` on by `factor`, a ramp in between [YARN].
    Yarn {
        /// By how much.
        factor: f64,
        /// Where the ramp begins.
        low: f64,
        /// Where it ends.
        high: f64,
    },
    /// Every dimension by a factor of its own, others for sequences longer than `original` positions [LONGROPE].
    Long {
        /// Up to `original` positions.
        short: Vec<f64>,
        /// Beyond.
        long: Vec<f64>,
        /// Positions of the first training.
        original: usize,
    },
}

/// How attention and MLP join the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// One after the other, each behind a norm.
    Sequential,
    /// Both read the layer's input, each behind a norm of its own.
    Parallel,
    /// One after the other, each between two norms.
    Sandwich,
}

/// What stands between an MLP's halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x sigmoid(x)`.
    Silu,
    /// `x Phi(x)`.
    Gelu,
    /// Its approximation by a hyperbolic tangent.
    GeluTanh,
    /// `x sigmoid(1.702 x)`.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
}

/// Which linear layers add a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// Attention's output.
    pub output: bool,
    /// The MLP.
    pub mlp: bool,
}

/// What reads the last hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A matrix of its own.
    Linear,
    /// A matrix and a bias.
    Biased,
    /// The embedding's matrix.
    Tied,
}

/// What a weight does in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The norm before attention.
    AttentionNorm,
    /// Queries.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
    /// Attention's output.
    Output,
    /// The norm over a head's queries.
    QueryNorm,
    /// The norm over a head's keys.
    KeyNorm,
    /// The norm after attention, in a sandwich.
    AfterAttentionNorm,
    /// The norm before the MLP.
    MlpNorm,
    /// The MLP's gate.
    Gate,
    /// The MLP's first half.
    Up,
    /// The MLP's second half.
    Down,
    /// The norm after the MLP, in a sandwich.
    AfterMlpNorm,
}

/// A weight of a layer: what it does, and whether it is that part's bias.
pub type Part = (Role, bool);

impl Role {
    /// Its name within a layer.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AttentionNorm => "input_layernorm",
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::QueryNorm => "self_attn.q_norm",
            Self::KeyNorm => "self_attn.k_norm",
            Self::AfterAttentionNorm => "after_attention_norm",
            Self::MlpNorm => "post_attention_layernorm",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
            Self::AfterMlpNorm => "after_mlp_norm",
        }
    }

    /// Whether it is a norm's weight.
    #[must_use]
    pub const fn is_norm(self) -> bool {
        matches!(
            self,
            Self::AttentionNorm
                | Self::QueryNorm
                | Self::KeyNorm
                | Self::AfterAttentionNorm
                | Self::MlpNorm
                | Self::AfterMlpNorm
        )
    }
}

impl Architecture {
    /// The weights of one layer in order, with their shapes: linear layers `[inputs, outputs]`, the rest `[1, n]`.
    #[must_use]
    pub fn layer(&self) -> Vec<(Part, [usize; 2])> {
        let (h, f, d) = (self.hidden_size, self.intermediate_size, self.head_dim);
        let (q, kv) = (self.num_attention_heads * d, self.num_key_value_heads * d);
        let mut parts = Vec::new();
        let mut add = |role, [rows, columns]: [usize; 2], bias| {
            parts.push(((role, false), [rows, columns]));
            if bias {
                parts.push(((role, true), [1, columns]));
            }
        };
        let (norm_bias, sandwich) = (self.norm == Norm::Layer, self.block == Block::Sandwich);
        add(Role::AttentionNorm, [1, h], norm_bias);
        add(Role::Query, [h, q], self.biases.qkv);
        add(Role::Key, [h, kv], self.biases.qkv);
        add(Role::Value, [h, kv], self.biases.qkv);
        add(Role::Output, [q, h], self.biases.output);
        if self.qk_norm {
            add(Role::QueryNorm, [1, d], false);
            add(Role::KeyNorm, [1, d], false);
        }
        if sandwich {
            add(Role::AfterAttentionNorm, [1, h], norm_bias);
        }
        add(Role::MlpNorm, [1, h], norm_bias);
        if self.gated {
            add(Role::Gate, [h, f], self.biases.mlp);
        }
        add(Role::Up, [h, f], self.biases.mlp);
        add(Role::Down, [f, h], self.biases.mlp);
        if sandwich {
            add(Role::AfterMlpNorm, [1, h], norm_bias);
        }
        parts
    }

    /// Name and shape of every weight, in order.
    #[must_use]
    pub fn shapes(&self, vocab_size: usize, outputs: usize) -> Vec<(String, [usize; 2])> {
        let h = self.hidden_size;
        let mut shapes = vec![("embed_tokens".to_owned(), [vocab_size, h])];
        if let Positions::Learned(rows) = self.positions {
            shapes.push(("embed_positions".to_owned(), [rows, h]));
        }
        let layer = self.layer();
        for i in 0..self.num_hidden_layers {
            shapes.extend(layer.iter().map(|&((role, bias), shape)| {
                (format!("layers.{i}.{}{}", role.name(), if bias { ".bias" } else { "" }), shape)
            }));
        }
        shapes.push(("norm".to_owned(), [1, h]));
        if self.norm == Norm::Layer {
            shapes.push(("norm.bias".to_owned(), [1, h]));
        }
        if self.head != Head::Tied {
            shapes.push(("head".to_owned(), [h, outputs]));
        }
        if self.head == Head::Biased {
            shapes.push(("head.bias".to_owned(), [1, outputs]));
        }
        shapes
    }

    /// The same trunk under a head of its own without bias.
    #[must_use]
    pub fn headed(&self) -> Self {
        Self { head: Head::Linear, logit_softcap: None, ..self.clone() }
    }

    /// Weights before the first layer: the embeddings.
    #[must_use]
    pub const fn embeddings(&self) -> usize {
        if matches!(self.positions, Positions::Learned(_)) { 2 } else { 1 }
    }

    /// Weights of the head.
    #[must_use]
    pub const fn head_weights(&self) -> usize {
        match self.head {
            Head::Tied => 0,
            Head::Linear => 1,
            Head::Biased => 2,
        }
    }

    /// Tokens that a sequence can have at most, where there is a limit.
    #[must_use]
    pub const fn max_positions(&self) -> Option<usize> {
        match self.positions {
            Positions::Learned(rows) => Some(rows),
            Positions::Rotary { .. } => None,
        }
    }

    /// How many of the last tokens layer `i` sees, where that is limited.
    #[must_use]
    pub fn window(&self, i: usize) -> Option<usize> {
        self.windows.get(i).copied().flatten()
    }
}

impl From<&Config> for Architecture {
    fn from(config: &Config) -> Self {
        let head_dim = config.head_dim();
        Self {
            hidden_size: config.hidden_size.get(),
            num_hidden_layers: config.num_hidden_layers.get(),
            num_attention_heads: config.num_attention_heads.get(),
            num_key_value_heads: config.num_key_value_heads.get(),
            head_dim,
            intermediate_size: config.intermediate_size.get(),
            norm: Norm::Rms,
            norm_eps: config.rms_norm_eps.get(),
            positions: Positions::Rotary {
                global: Rope {
                    theta: config.rope_theta.get(),
                    dims: head_dim,
                    scaling: Scaling::None,
                    attention_factor: 1.0,
                },
                local: None,
            },
            block: Block::Sequential,
            gated: true,
            activation: Activation::Silu,
            biases: Biases::default(),
            qk_norm: false,
            attention_divisor: (head_dim as f64).sqrt(),
            divide_by_layer: false,
            attention_softcap: None,
            windows: Vec::new(),
            embedding_scale: 1.0,
            padding_id: None,
            head: Head::Linear,
            logit_softcap: None,
        }
    }
}

impl From<&Self> for Architecture {
    fn from(architecture: &Self) -> Self {
        architecture.clone()
    }
}

//! `runner`: a declarative experiment runner for fine-grained RLHF.
//!
//! One TOML recipe says the whole experiment: dataset, minimal edits, token labels, reward models, PPO, judged win
//! rates, report. The rooms below stand in the order in which they may import: each knows those before it and none
//! after.
//!
//! Shape letters used in all docstrings: B batch, Q prompt tokens, R response tokens, T = Q + R, V vocabulary,
//! H hidden size, N pairs. A mask is true (or 1) where a token counts.

pub mod units;

pub mod events;

pub mod compute;

pub mod text;

pub mod endpoint;

pub mod data;

pub mod labels;

pub mod llm;

pub mod model;

pub mod sft;

pub mod reward;

pub mod ppo;

pub mod dpo;

pub mod judge;

pub mod eval;

pub mod report;

pub mod recipe;

pub mod store;

pub mod stage;

pub mod launch;

pub mod annotate;

pub mod bench;

pub mod cli;

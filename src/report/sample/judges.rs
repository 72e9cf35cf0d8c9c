//! Judges beside the first one, and how far they agree.

use super::HOSTILE;
use crate::endpoint::Usage;
use crate::report::{JudgeAgreement, JudgeResult, JudgedWinRate};

/// A judge beside the first one.
pub fn second_judge(name: &str) -> JudgeResult {
    let rate = |variant: &str, win_rate| JudgedWinRate {
        variant: variant.to_owned(),
        budget: 300,
        prompts: 199,
        win_rate: Some(win_rate),
        ci: Some([win_rate - 0.05, win_rate + 0.05]),
    };
    JudgeResult {
        name: name.to_owned(),
        description: format!("language model `{HOSTILE}`, both orders"),
        pairs: 400,
        unjudged: 3,
        tie_rate: Some(0.12),
        order_consistency: Some(0.815),
        first_position_rate: Some(0.58),
        annotator_alpha: Some(0.7),
        win_rates: vec![rate("sequence", 0.612), rate("token", 0.705)],
        usage: Some(Usage { requests: 820, retries: 14, unparsable: 6, prompt_tokens: 91_000, ..Usage::default() }),
        ..JudgeResult::default()
    }
}

/// How far two judges agree.
pub fn agreement() -> JudgeAgreement {
    JudgeAgreement {
        a: "oracle".to_owned(),
        b: "llm".to_owned(),
        pairs: 397,
        same: Some(0.743),
        decided: 310,
        same_of_decided: Some(0.81),
        alpha: Some(0.612),
    }
}

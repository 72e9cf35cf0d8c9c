//! Stage `labels`: what each edit did to each token, and how well that agrees with people's error spans.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::execute::Inputs;
use super::policy::Setting;
use crate::data::Edit;
use crate::labels::{self, Agreement, LabelledEdit, agreement, label_edit};
use crate::report::LabelAgreement;
use crate::store::Workspace;

pub(super) const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) labels: labels::Config,
    pub(super) setting: Setting,
}

pub(super) fn run(config: &Config, inputs: &Inputs, workspace: &Workspace) -> Result<()> {
    let tokenizer = config.setting.tokenizer(inputs)?;
    let edits = inputs.artefact("edits")?;
    for (from, to) in [("edits.jsonl", "labels.jsonl"), ("held_out.jsonl", "held_out.jsonl")] {
        let edits: Vec<Edit> = edits.read_jsonl(from)?;
        let labelled = edits.iter().map(|edit| {
            let mut labelled = label_edit(edit, &tokenizer, config.labels.unit);
            labelled.truncate(config.setting.max_response_tokens);
            labelled
        });
        // An edit beyond the length limit leaves two equal sides; nothing can be learned from it.
        let labelled: Vec<LabelledEdit> = labelled.filter(|edit| edit.original_ids != edit.edited_ids).collect();
        workspace.write_jsonl(to, &labelled)?;
    }
    let corrections: Vec<Edit> = inputs.artefact("data")?.read_jsonl("corrections.jsonl")?;
    Ok(workspace.write_json("agreement.json", &agreement_with_spans(&corrections))?)
}

/// Word-level agreement with human error spans over all records of the dataset; none where nobody marked any.
fn agreement_with_spans(edits: &[Edit]) -> Option<LabelAgreement> {
    edits.iter().any(|edit| !edit.error_spans.is_empty()).then(|| {
        let mut total = Agreement::default();
        for edit in edits {
            total += agreement(&edit.original.text, &edit.edited.text, &edit.error_spans);
        }
        LabelAgreement {
            precision: total.precision().unwrap_or(0.0),
            recall: total.recall().unwrap_or(0.0),
            records: edits.len(),
        }
    })
}

//! Events in words, for people; shared by the sinks that write to a terminal or a log.
//!
//! Progress and metrics have no sentence: they come too often for one.

use super::Event;
use crate::units::duration;

/// A line about `event`, or none if it is not worth one.
pub(super) fn sentence(event: &Event) -> Option<String> {
    match event {
        // A run without work is the command's to comment on.
        Event::RunStarted { stages, cached, .. } if stages == cached => None,
        Event::RunStarted { recipe, stages, cached } => {
            Some(format!("{recipe}: {stages} stages, {cached} cached, {} to run", stages.saturating_sub(*cached)))
        }
        Event::StageStarted { stage, resumed_from: Some(step), .. } => {
            Some(format!("  {stage}: resumes at step {step}"))
        }
        Event::StageStarted { stage, .. } => Some(format!("  {stage}: starts")),
        Event::StageWaiting { stage, owner, .. } => {
            let owner = owner.as_deref().unwrap_or("another process");
            Some(format!("  {stage}: waits for {owner}, which computes the same"))
        }
        Event::Progress { .. } | Event::Metrics { .. } | Event::RunFinished { ran: 0, failed: 0, .. } => None,
        Event::Warning { stage, message } if stage.is_empty() => Some(format!("warning: {message}")),
        Event::Warning { stage, message } => Some(format!("warning: {stage}: {message}")),
        Event::StageFinished { stage, wall_seconds } => Some(format!("✓ {stage} ({})", duration(*wall_seconds))),
        Event::StageFailed { stage, error } => Some(format!("✗ {stage}: {error}")),
        Event::StageInterrupted { stage, step, folder } => {
            Some(format!("  {stage}: stopped after step {step}, saved in `{folder}`"))
        }
        Event::RunInterrupted => {
            Some("interrupted: what is done is kept; the same command goes on from there".to_owned())
        }
        Event::RunFinished { ran, cached, failed, wall_seconds } => {
            let failed = if *failed == 0 { String::new() } else { format!(", {failed} failed") };
            Some(format!("done in {}: {ran} ran, {cached} cached{failed}", duration(*wall_seconds)))
        }
    }
}

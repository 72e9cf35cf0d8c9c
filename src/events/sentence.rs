//! Events in words, for people; shared by the sinks that write to a terminal or a log.
//!
//! Progress and metrics have no sentence: they come too often for one.

use super::Event;

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

/// Seconds as a person says them.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = std::time::Duration::try_from_secs_f64(seconds.round()).map_or(0, |duration| duration.as_secs());
    match whole {
        0..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_fits() {
        let said: Vec<_> = [0.04, 9.96, 59.96, 61.2, 3599.6, 7260.0].into_iter().map(duration).collect();
        assert_eq!(said, ["0.0 s", "10.0 s", "1 min 00 s", "1 min 01 s", "1 h 00 min", "2 h 01 min"]);
    }
}

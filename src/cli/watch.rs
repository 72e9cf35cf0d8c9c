//! `runner watch`: a run from the outside, whoever works on it.
//!
//! Reads events and results, writes nothing, and can be ended at any time.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::output::{self, Failure, note, table};
use super::{StoreArgs, runs};
use crate::events::{Plain, Sink, Timed, sparkline};
use crate::launch::{Board, Frozen, StageHistory, Standing, State, Summaries, Summary, Task};
use crate::store::Store;
use crate::units::duration;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// Stages that are all listed; of more, only what is at work or went wrong.
const LISTED: usize = 40;

/// Stages whose curves are drawn.
const DRAWN: usize = 3;

/// Letters of a curve.
const WIDTH: usize = 32;

/// Curves that are worth a line, and what they are called.
const CURVES: [(&str, &str); 4] =
    [("reward", "reward"), ("kl_nats", "KL in nats"), ("win_rate", "win rate"), ("loss", "loss")];

#[derive(Args)]
pub(super) struct WatchArgs {
    /// The run: its id, a tag, or a recipe's name for its last run [default: the last one at work]
    run: Option<String>,
    /// Say how it stands and end
    #[arg(long)]
    once: bool,
    /// Write JSON, a line for each look
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) fn watch(args: &WatchArgs) -> Result<(), Failure> {
    let store = args.store.open()?;
    let run = match &args.run {
        Some(name) => runs::find(&store, name)?,
        None => at_work(&store)?,
    };
    let board = Board::of(&run, &store);
    if args.once {
        return if args.json { output::json(&as_json(&run, &board)) } else { output::data(&frame(&run, &board)) };
    }
    match (args.json, io::stdout().is_terminal()) {
        (true, _) => {
            let say = |board: &Board| output::data(&as_json(&run, board).to_string());
            follow(&run, &store, board, |_, board| say(board))?;
        }
        (false, true) => redraw(&run, &store, board)?,
        (false, false) => lines(&run, &store, board)?,
    }
    conclude(&run, &store)
}

/// The last active run that a process works on.
fn at_work(store: &Store) -> Result<Frozen, Failure> {
    let all = Summaries::of(store).all()?;
    match all.into_iter().find(|summary| summary.state == State::Running) {
        Some(summary) => Ok(Frozen::open(&summary.id, store)?),
        None => Err(Failure::usage(format!(
            "no run is at work in `{}`\n\nhint: `runner ls` lists all, `runner watch RUN --once` says how one stands",
            store.root().display()
        ))),
    }
}

/// Looks until nobody works on the run any more; a run that nobody began, or that waits in a queue, is waited for.
fn follow(
    run: &Frozen,
    store: &Store,
    mut board: Board,
    mut look: impl FnMut(&[Timed], &Board) -> Result<(), Failure>,
) -> Result<(), Failure> {
    look(&[], &board)?;
    loop {
        // In this order: what a process wrote before it went is read.
        let attended = board.history.is_attended();
        let news = board.history.read_on();
        if !news.is_empty() {
            look(&news, &board)?;
        }
        let queued = || Task::is_any_queued(run, store);
        if !attended && (board.history.has_begun() || is_done(run, &board)) && !queued() {
            return Ok(());
        }
        thread::sleep(INTERVAL);
    }
}

fn is_done(run: &Frozen, board: &Board) -> bool {
    board.standings(run).iter().all(|(standing, _)| *standing == Standing::Done)
}

/// One picture, drawn again and again.
fn redraw(run: &Frozen, store: &Store, board: Board) -> Result<(), Failure> {
    let picture = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
    picture.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let followed = follow(run, store, board, |_, board| {
        picture.set_message(frame(run, board));
        picture.tick();
        Ok(())
    });
    picture.abandon();
    followed
}

/// How it stands, then a line for what happens.
fn lines(run: &Frozen, store: &Store, board: Board) -> Result<(), Failure> {
    output::data(&frame(run, &board))?;
    let plain = Plain::new(Box::new(io::stdout()), Duration::from_secs(5));
    follow(run, store, board, |news, _| {
        for line in news {
            plain.emit(&line.event);
        }
        Ok(())
    })
}

/// Says how the run ended; its exit code is that of the run.
fn conclude(run: &Frozen, store: &Store) -> Result<(), Failure> {
    let summary = Summary::refresh(run, store)?;
    let Summary { done, stages, failed, .. } = summary;
    let command = &run.submission.command_line;
    match summary.state {
        State::Done => {
            let best =
                summary.headline.as_ref().map_or_else(String::new, |best| format!(", best {}", runs::best(best)));
            note(format!("{}: done{best}", run.id));
            Ok(())
        }
        State::Failed => Err(Failure::Stage(format!(
            "{}: {failed} of {stages} stages failed\n\nhint: `runner show {}` says why; with the cause removed, the same \
             command goes on from there: {command}",
            run.id, run.id
        ))),
        _ => Err(Failure::Stage(format!(
            "{}: nobody works on it any more, {done} of {stages} stages are done\n\nhint: what is done is kept; the same \
             command goes on from there: {command}",
            run.id
        ))),
    }
}

/// How the run stands, for people.
fn frame(run: &Frozen, board: &Board) -> String {
    let standings = board.standings(run);
    let done = standings.iter().filter(|(standing, _)| *standing == Standing::Done).count();
    let how = match (board.history.is_attended(), done == standings.len()) {
        (true, _) => "running",
        (false, true) => "done",
        (false, false) if board.history.has_begun() => "nobody works on it",
        (false, false) => "not begun",
    };
    let mut text = format!("{}: {done} of {} stages done, {how}\n", run.id, standings.len());
    let all = standings.len() <= LISTED;
    let listed = run.plan.nodes.iter().zip(&standings).filter(|(_, (standing, _))| all || standing.is_news());
    let rows: Vec<_> = listed.map(|(node, (standing, past))| row(&node.label, standing, *past)).collect();
    if !rows.is_empty() {
        text.push_str(&table(&["stage", "state", "progress", "rate", "left"], &rows));
        text.push('\n');
    }
    for (label, name, curve) in curves(run, &standings) {
        writeln!(text, "{label}: {name} {}", self::curve(curve)).expect("a string takes all that is written to it");
    }
    for (stage, message) in &board.history.warnings {
        let of = if stage.is_empty() { String::new() } else { format!("{stage}: ") };
        writeln!(text, "warning: {of}{message}").expect("a string takes all that is written to it");
    }
    text
}

fn row(label: &str, standing: &Standing, past: Option<&StageHistory>) -> [String; 5] {
    let at_work = matches!(standing, Standing::Running | Standing::Stopped);
    let progress = past.and_then(|past| past.progress.as_ref()).filter(|_| at_work);
    let rate = past.and_then(StageHistory::rate).filter(|_| *standing == Standing::Running);
    let unit = progress.map_or("", |(.., unit)| unit.as_str());
    let state = match standing {
        Standing::Failed { error } => format!("failed: {}", error.lines().next().unwrap_or_default()),
        other => other.name().to_owned(),
    };
    [
        label.to_owned(),
        state,
        progress.map_or_else(String::new, |(done, total, unit)| format!("{done}/{total} {unit}")),
        rate.map_or_else(String::new, |(rate, _)| format!("{rate:.1} {unit}/s")),
        rate.map_or_else(String::new, |(_, left)| duration(left)),
    ]
}

/// The curves of the stages that were heard of last: (label, what is measured, values).
fn curves<'a>(
    run: &'a Frozen,
    standings: &[(Standing, Option<&'a StageHistory>)],
) -> Vec<(&'a str, &'static str, &'a [f64])> {
    let pasts = run.plan.nodes.iter().zip(standings).filter_map(|(node, (_, past))| Some((node, (*past)?)));
    let mut pasts: Vec<_> = pasts.filter(|(_, past)| !past.curves.is_empty()).collect();
    pasts.sort_by(|a, b| b.1.last.total_cmp(&a.1.last));
    pasts.truncate(DRAWN);
    let mut drawn = Vec::new();
    for (node, past) in pasts {
        for (metric, name) in CURVES {
            drawn.extend(past.curves.get(metric).map(|values| (node.label.as_str(), name, values.as_slice())));
        }
    }
    drawn
}

/// A curve in letters, from its first value to its last, with both.
fn curve(values: &[f64]) -> String {
    let mut finite = values.iter().copied().filter(|value| value.is_finite());
    let Some(first) = finite.next() else { return String::new() };
    format!("{} {first:.3} to {:.3}", sparkline(values, WIDTH, None), finite.next_back().unwrap_or(first))
}

/// How the run stands, for programs.
fn as_json(run: &Frozen, board: &Board) -> Value {
    let standings = board.standings(run);
    let stages = run.plan.nodes.iter().zip(&standings).map(|(node, (standing, past))| {
        let rate = past.and_then(StageHistory::rate).filter(|_| *standing == Standing::Running);
        let progress = past.and_then(|past| past.progress.as_ref());
        json!({
            "label": node.label,
            "standing": standing,
            "progress": progress.map(|(done, total, unit)| json!({ "done": done, "total": total, "unit": unit })),
            "per_second": rate.map(|(rate, _)| rate),
            "seconds_left": rate.map(|(_, left)| left),
            "curves": past.map(|past| &past.curves),
        })
    });
    let stages: Vec<_> = stages.collect();
    json!({ "run": run.id, "attended": board.history.is_attended(), "stages": stages, "warnings": board.history.warnings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_shown_with_its_ends() {
        assert_eq!(curve(&[0.0, 0.5, 1.0]), "▁▄█ 0.000 to 1.000");
        assert_eq!(curve(&[2.0, f64::NAN]), "▁ 2.000 to 2.000");
        assert_eq!(curve(&[]), "");
    }
}

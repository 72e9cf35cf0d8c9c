//! What Ctrl-C and a polite kill do to a run: one sentence, and the exit code 130.
//!
//! Nothing is rounded off: the store loses nothing to a kill at any moment, so the process ends where it stands.

use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use super::output::{Failure, note};

/// The exit code of an interrupted run.
const INTERRUPTED: i32 = 130;

/// From now on, an interrupt says what it leaves.
pub(super) fn listen() -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::Stage(format!("cannot listen for interrupts: {error}")))?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Progress bars leave the cursor behind them.
            note("\ninterrupted: what is done is kept; the same command goes on from there");
            // Without destructors or exit handlers: other threads are in the middle of their work.
            low_level::exit(INTERRUPTED);
        }
    });
    Ok(())
}

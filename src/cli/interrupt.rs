//! What a signal does to a run: training saves at its next step, the process says where, and ends with the exit code 130.
//!
//! A second signal ends it at once. Either way nothing is lost but the work since the last checkpoints: the store loses
//! nothing to a kill at any moment.

use std::sync::{Arc, Once};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use super::output::{Failure, note};
use crate::events::{Event, Sink};
use crate::stage::stop::Stop;

/// The exit code of an interrupted run.
const INTERRUPTED: i32 = 130;

/// From now on a signal asks the run to stop; once all is saved, `sink` hears of it and the process ends.
pub(super) fn listen(sink: Arc<dyn Sink>) -> Result<Arc<Stop>, Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])
        .map_err(|error| Failure::Stage(format!("cannot listen for interrupts: {error}")))?;
    let stop = Arc::new(Stop::new(move || end(&*sink)));
    let asked = Arc::clone(&stop);
    thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            // Progress bars leave the cursor behind them.
            note("\nstopping: training saves at its next step (a second signal stops at once)");
            thread::spawn(move || asked.ask());
        }
        if signals.next().is_some() {
            low_level::exit(INTERRUPTED);
        }
    });
    Ok(stop)
}

/// Says that the run was interrupted, and ends the process.
pub(super) fn end(sink: &dyn Sink) -> ! {
    static ENDING: Once = Once::new();
    // Whoever comes second waits here for the end.
    ENDING.call_once(|| {
        sink.emit(&Event::RunInterrupted);
        // Without destructors or exit handlers: other threads are in the middle of their work.
        low_level::exit(INTERRUPTED);
    });
    loop {
        thread::park();
    }
}

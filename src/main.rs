//! The command `runner`; all of it stands in the library's `cli`.

use std::ffi::{c_int, c_long};
use std::process::ExitCode;

// Training allocates and frees the same tensor sizes over and over: the system's allocator gives the pages back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[allow(unsafe_code)]
unsafe extern "C" {
    fn mi_option_set_default(option: c_int, value: c_long);
}

/// Has the allocator keep what is freed for what comes next. By default it gives memory back after 10 ms, and a step of a
/// large model then spends more time on pages that the system clears than on anything else. `MIMALLOC_PURGE_DELAY` still
/// decides where it is set.
#[allow(unsafe_code)]
fn keep_freed_memory() {
    /// `mi_option_purge_delay`: the same number in mimalloc's versions 2 and 3.
    const PURGE_DELAY: c_int = 15;
    // SAFETY: a function of the allocator above, which takes any number for an option and any value for it.
    unsafe { mi_option_set_default(PURGE_DELAY, -1) }
}

fn main() -> ExitCode {
    keep_freed_memory();
    runner::cli::main()
}

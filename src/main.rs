//! The command `runner`; all of it stands in the library's `cli`.

use std::process::ExitCode;

// Training allocates and frees the same tensor sizes over and over: the system's allocator gives the pages back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    runner::cli::main()
}

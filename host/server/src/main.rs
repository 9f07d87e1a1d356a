//! The `cordboard` binary: see `cordboard --help`.

use std::process::ExitCode;

/// Threads free what others have allocated (datagrams, envelopes); mimalloc makes that cheap.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cordboard::cli::run()
}

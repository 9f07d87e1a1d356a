//! The `cordboard` binary: see `cordboard --help`.

use std::process::ExitCode;

/// Threads free what others have allocated (datagrams, envelopes); mimalloc makes that cheap.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Two megabytes zeroed for an allocator's few pages or an instance's stack cost more than they
    // save: thousands of small calls live side by side here.
    // SAFETY: the call takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    cordboard::cli::run()
}

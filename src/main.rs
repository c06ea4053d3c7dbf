//! The program: hands over to [`postroad::cli`] and ends with its exit code.

use std::process::ExitCode;

/// The engine allocates small and often, from many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    postroad::cli::main()
}

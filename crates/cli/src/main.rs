//! The program `mainstay`; everything it does is in the library beside it.

/// Requests allocate little and often, and tasks free what others allocated.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    mainstay_cli::main()
}

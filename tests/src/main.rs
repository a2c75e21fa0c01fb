//! The shipped program under a name of its own: these tests run what they were built with, and
//! nothing of it is theirs.

fn main() -> std::process::ExitCode {
    mainstay_cli::main()
}

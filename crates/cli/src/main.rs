//! The program `mainstay`; everything it does is in the library beside it.

fn main() -> std::process::ExitCode {
    mainstay_cli::main()
}

//! The executable: starts the command line and turns its result into an exit code; must not do anything else.

fn main() -> std::process::ExitCode {
    mctl::cli::main()
}

//! The command line: arguments, settings, exit codes; must not contain work.

pub mod env;

pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}

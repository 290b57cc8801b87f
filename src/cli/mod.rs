//! The command line: arguments, settings, exit codes; must not contain work.

pub mod env;
pub mod manager;
pub mod status;
pub mod verify;

pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}

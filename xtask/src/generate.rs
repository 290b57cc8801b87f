//! `cargo xtask generate`: files that are committed but written by mctl itself; must not contain their content.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::{host, vendor};

/// Options of `cargo xtask generate`.
#[derive(clap::Args)]
pub struct Args {
    /// Writes nothing; fails when a file is not as it would be written.
    #[arg(long)]
    pub check: bool,
}

/// The command line's reference; schema and CRD stand in `schema/` and are held by a unit test.
const CLI: &str = "docs/cli.md";

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    vendor::run(vendor::Args::default())?;
    host::run(
        "generate",
        host::cargo().args(["build", "--locked", "--workspace", "--bin", "mctl"]),
    )?;
    let mctl = host::target().join("debug/mctl");
    let text = reference(&|words| {
        Ok(String::from_utf8(ask(
            &mctl,
            &[words, &["--help"]].concat(),
        )?)?)
    })?;
    ensure!(
        settle(&host::root().join(CLI), text.as_bytes(), args.check)?,
        "not up to date: {CLI}; run `cargo xtask generate` and commit the result"
    );
    Ok(())
}

fn ask(mctl: &Path, words: &[&str]) -> anyhow::Result<Vec<u8>> {
    // Width and colours must not depend on who runs it.
    host::output(
        Command::new(mctl)
            .args(words)
            .env("COLUMNS", "100")
            .env("NO_COLOR", "1"),
    )
}

/// Compares or writes one file; false when it was stale and only compared.
fn settle(path: &Path, bytes: &[u8], check: bool) -> anyhow::Result<bool> {
    let same = std::fs::read(path).is_ok_and(|found| found == bytes);
    if !same && !check {
        host::write_atomically(path, bytes, 0o644)?;
        println!("generate: wrote {}", path.display());
    }
    Ok(same || !check)
}

/// The command line's reference: every command's own help, outer ones first.
fn reference(help: &dyn Fn(&[&str]) -> anyhow::Result<String>) -> anyhow::Result<String> {
    let mut text =
        "# Command line\n\n<!-- Written by `cargo xtask generate`; do not edit. -->\n".to_owned();
    let mut open = vec![Vec::<String>::new()];
    while let Some(words) = open.pop() {
        let parts: Vec<&str> = words.iter().map(String::as_str).collect();
        let own =
            help(&parts).with_context(|| format!("no help for `mctl {}`", words.join(" ")))?;
        let title = [vec!["mctl"], parts].concat().join(" ");
        text += &format!("\n## `{title}`\n\n```text\n{}\n```\n", own.trim_end());
        for name in subcommands(&own).into_iter().rev() {
            open.push([words.clone(), vec![name]].concat());
        }
        if open.len() > 200 {
            bail!("the help of `{title}` names itself as its own command");
        }
    }
    Ok(text)
}

/// Names under `Commands:` in a help text.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    // Wrapped descriptions are indented further than names.
    let names = lines
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: &str = "Tool\n\nUsage: mctl <COMMAND>\n\nCommands:\n  plan    What would be done,\n          in order\n  config  The document\n  help    Print help\n\nOptions:\n  -h\n";

    #[test]
    fn names_are_read_from_help() {
        assert_eq!(subcommands(TOP), ["plan", "config"]);
        assert!(subcommands("Usage: x\n").is_empty());
    }

    #[test]
    fn the_reference_holds_commands_in_order_with_their_own() {
        let help = |words: &[&str]| {
            Ok(match words {
                [] => TOP.to_owned(),
                ["config"] => "Commands:\n  init  Start\n".to_owned(),
                words => format!("help of {}\n", words.join(" ")),
            })
        };
        let text = reference(&help).unwrap();
        let titles: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("## "))
            .collect();
        assert_eq!(
            titles,
            [
                "## `mctl`",
                "## `mctl plan`",
                "## `mctl config`",
                "## `mctl config init`"
            ]
        );
    }

    #[test]
    fn a_stale_file_is_reported_or_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        assert!(!settle(&path, b"x", true).unwrap());
        assert!(!path.exists());
        assert!(settle(&path, b"x", false).unwrap() && settle(&path, b"x", true).unwrap());
    }
}

//! Every step of a bootstrap under a contract: the real plan, the real steps and the real engine against a world in memory,
//! with crashes and faults at the points where they meet. `cargo xtask test contract`; needs nothing but this executable.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "../it/bundle_fixture.rs"]
#[allow(dead_code)]
mod bundle_fixture;
#[path = "../support/kubernetes/mod.rs"]
mod fake;
mod gate;
mod outside;
mod picture;
mod run;
mod scene;
mod sections;
mod world;

use std::{process::ExitCode, time::Instant};

use sections::{Figures, Section};

fn main() -> ExitCode {
    // Sections by name; a run without names takes those that find nothing any more.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let begin = Instant::now();
    let mut all = Figures::default();
    for section in Section::ALL {
        let named = wanted.iter().any(|w| w == section.name);
        if !(named || wanted.is_empty() && section.by_default) {
            continue;
        }
        let started = Instant::now();
        let figures = (section.run)();
        println!(
            "{:<10} {figures} in {:.1} s",
            section.name,
            started.elapsed().as_secs_f64()
        );
        for violation in figures.violations.iter().take(20) {
            println!("  VIOLATION {violation}");
        }
        if figures.violations.len() > 20 {
            println!("  and {} more", figures.violations.len() - 20);
        }
        all.add(figures);
    }
    println!("contract   {all} in {:.1} s", begin.elapsed().as_secs_f64());
    if all.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

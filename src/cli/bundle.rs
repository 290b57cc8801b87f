//! `mctl bundle`.

use std::{fmt::Write, path::PathBuf, time::Instant};

use serde::Serialize;

use super::verify::{Output, show};
use crate::{
    Result,
    bundle::{Bundle, Progress},
    report::printer,
};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check every digest of a bundle
    Verify {
        /// Bundle: a folder or a tar file
        path: PathBuf,
    },
    /// Show what a bundle holds
    Inspect {
        /// Bundle: a folder or a tar file
        path: PathBuf,
        /// Form of the output
        #[arg(long, short, value_enum, default_value_t = Output::Human)]
        output: Output,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Verify { path } => verify(&Bundle::open(path)?),
        Command::Inspect { path, output } => inspect(&Bundle::open(path)?, *output),
    }
}

fn verify(bundle: &Bundle) -> Result<()> {
    let start = Instant::now();
    let Progress { blobs, bytes, .. } = bundle.verify(&|_| {})?;
    let seconds = start.elapsed().as_secs_f64();
    printer::out(&format!(
        "{} is whole: {blobs} blobs, {}, {seconds:.1} s ({}/s)",
        bundle.path().display(),
        size(bytes),
        size(per_second(bytes, seconds)),
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    profile: Option<String>,
    size: u64,
    images: Vec<Image>,
}

#[derive(Serialize)]
struct Image {
    reference: String,
    digest: String,
    size: u64,
}

fn inspect(bundle: &Bundle, output: Output) -> Result<()> {
    let mut content = Content {
        profile: bundle.profile()?.map(|profile| profile.name),
        size: bundle.size(),
        images: Vec::new(),
    };
    for reference in bundle.references() {
        if let Some((descriptor, _)) = bundle.resolve(&reference) {
            content.images.push(Image {
                digest: descriptor.digest.to_string(),
                size: bundle.image_size(&descriptor.digest),
                reference,
            });
        }
    }
    show(output, &content, || {
        let mut out = format!(
            "{}: {} images, {}, profile {}\n",
            bundle.path().display(),
            content.images.len(),
            size(content.size),
            content.profile.as_deref().unwrap_or("none"),
        );
        for image in &content.images {
            let digest = image.digest.get(..19).unwrap_or(&image.digest);
            let _ = writeln!(
                out,
                "{digest}  {:>8}  {}",
                size(image.size),
                image.reference
            );
        }
        out
    })
}

/// Decimal units, three significant digits at least.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    for (unit, factor) in UNITS {
        if bytes >= factor {
            let tenths = u128::from(bytes) * 10 / u128::from(factor);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn per_second(bytes: u64, seconds: f64) -> u64 {
    (bytes as f64 / seconds.max(0.001)) as u64
}

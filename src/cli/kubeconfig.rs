//! `mctl kubeconfig`.

use crate::{
    Error, Result,
    config::ClusterName,
    report::printer,
    steps::state::{MANAGEMENT, State},
};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Management cluster
    name: ClusterName,
    /// Print the path of the file instead of its content
    #[arg(long)]
    path: bool,
}

/// Prints the admin kubeconfig.
pub fn run(args: &Args) -> Result<()> {
    let state = State::open(&args.name)?;
    let text = state.kubeconfig(MANAGEMENT)?.ok_or_else(|| {
        Error::failed(format!("`{}` has no control plane yet", args.name))
            .at(state.file(MANAGEMENT).display().to_string())
            .because("its bootstrap has not come to the step `control-plane`")
            .fix("go on with `mctl bootstrap`")
            .state("nothing was changed")
    })?;
    if args.path {
        printer::out(&state.file(MANAGEMENT).display().to_string())
    } else {
        printer::out_raw(&text)
    }
}

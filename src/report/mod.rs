//! Shows a run: bars on a terminal, lines otherwise, JSON events on request. Reads events only; must not influence the run.

mod bars;
pub mod bootstrap;
mod lines;
pub mod printer;
pub mod summary;

use std::io::IsTerminal;

use tokio::{sync::mpsc::UnboundedReceiver, task::JoinHandle};

use crate::{
    engine::{event::Event, view::RunView},
    env,
};

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Bars on a terminal, else lines.
    #[default]
    Auto,
    /// Bars.
    Bars,
    /// Lines.
    Lines,
    /// One JSON event per line on standard output.
    Json,
}

/// Shows the events until the sender is gone; the task returns the final picture.
pub fn spawn(output: Output, events: UnboundedReceiver<Event>) -> JoinHandle<RunView> {
    let plain = env::get("CI").is_some() || env::get("TERM").is_some_and(|t| t == "dumb");
    match output {
        Output::Json => tokio::spawn(json(events)),
        Output::Bars => tokio::spawn(bars::show(events)),
        Output::Auto if std::io::stderr().is_terminal() && !plain => {
            tokio::spawn(bars::show(events))
        }
        Output::Auto | Output::Lines => tokio::spawn(lines::show(events)),
    }
}

/// A reader that goes away does not end the run: it goes on without a view.
async fn json(mut events: UnboundedReceiver<Event>) -> RunView {
    let mut view = RunView::default();
    let mut shown = true;
    while let Some(event) = events.recv().await {
        view.apply(&event);
        if let Ok(line) = serde_json::to_string(&event)
            && shown
            && let Err(e) = printer::out(&line)
        {
            shown = false;
            printer::err(&format!(
                "events are no longer shown: {}; the run goes on, and the journal has them all",
                e.line()
            ));
        }
    }
    view
}

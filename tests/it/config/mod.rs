//! The document: reading, messages, schema, output.

mod cases;
mod command;
mod documents;
mod generated;
mod hostile;
mod messages;

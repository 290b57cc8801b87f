//! The document: reading, messages, schema, output.

mod cases;

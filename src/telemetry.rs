//! Tracing set-up: where diagnostics of the program itself go. Must not be used for progress (events) or results (printer).

//! The move against API servers in memory: stopped at every request and journal record, disturbed at every request.

mod cases;
mod crash;
mod faults;
mod world;

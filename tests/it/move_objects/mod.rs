//! The move against API servers in memory: stopped at every request and journal record, disturbed at every request, with its
//! journal or its source lost, by two movers at once, and with bugs that must be caught.

mod cases;
mod crash;
mod faults;
mod lost;
mod movers;
mod planted;
mod seeds;
mod tally;
mod world;

//! The whole thing from outside: the real binary, a real pty, real HTTP, a real journal.
//!
//! Nothing here sleeps to wait for something: a test waits for bytes on the pty, a line of the log,
//! the end of a process or an answer of the API, each with a deadline. No port and no path is fixed,
//! so that all of it runs in parallel.

#[cfg(test)]
mod api;
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod authority;
#[cfg(test)]
mod aws_issued;
#[cfg(test)]
mod batches;
#[cfg(test)]
mod board;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod crash;
mod dependencies;
#[cfg(test)]
mod device_keys;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod fixture_check;
#[cfg(test)]
mod fixture_kit;
#[cfg(test)]
mod floor;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod hardening;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod judges;
#[cfg(test)]
mod labels;
#[cfg(test)]
mod least_privilege;
#[cfg(test)]
mod monitor;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod reconcile;
#[cfg(test)]
mod rehearsal;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod report;
#[cfg(test)]
mod scanner;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod service;
mod starved;
#[cfg(test)]
mod token;
#[cfg(test)]
mod torture;
#[cfg(test)]
mod wire;

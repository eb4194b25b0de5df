//! linemint gives manufactured devices their identity, on the line, exactly once.
//!
//! # The parts
//!
//! ```text
//!   T4  cli ─────────────── one file for each command
//!        │
//!   T3  station ─────────── engine, intake, scribe, vault, deliveries, worker, supervisor
//!       rehearsal ───────── a simulated AWS, simulated fixtures, an audit
//!       doctor ──────────── looks at a station from outside, changes nothing
//!        │
//!   T2  fixture::port   cloud::aws, cloud::pace   pki::issuer   journal::{log, store, copy, keys}
//!       control::server, control::client          config        durable_fs, telemetry, timesync, hardening, os, service_manager
//!        │               delivery
//!        │                     (adapters: each does one kind of I/O, none names another)
//!   T1  line ────────────── decides: inputs in, actions out; no I/O, no clock, no waiting
//!       device ──────────── one device: events, state, steps, plan, retries
//!       batch ───────────── work orders, and their lists of serial numbers
//!       report ───────────── the end-of-shift report: summaries, their fold, its four formats, its signature
//!       fixture, cloud, pki, journal, control ── their types, traits and pure rules
//!        │
//!   T0  clock, error
//! ```
//! Arrows run downwards only; a test keeps it so.
//!
//! # The way of one device
//!
//! A fixture says `unit`. [`line`](mod@line) looks whether the serial is known, decides `admitted`, and
//! asks for `ack` to be sent *after* that record is on disk. Then it asks for what
//! [`device::plan`] says is ready: a certificate from the CA (its key sealed on disk before the
//! certificate is journaled), and at the same time locker, policy and thing from AWS; when the
//! certificate is journaled, its registration; then the two attachments. Each answer becomes an
//! event; the device is the fold of its events. When the cloud holds everything, the credentials
//! go to the fixture; its `written` with the right hash becomes `passed`, on disk before `pass`
//! is said; then the key is destroyed, and that is journaled too. Where the fixture can store nothing (a
//! scanner), the credentials become files in a [directory](delivery), and that they are on disk is what counts.
//!
//! # Why it can be killed at any instant
//!
//! * Every outward action names the record that must be on disk first ([`line::Action::after`](crate::line::Action::after)).
//! * Every request to AWS follows from configuration, serial and generation alone, so that a
//!   repetition is the same request ([`device::steps`]); what exists already is read and compared.
//! * A certificate is issued once and journaled before AWS hears of it: signing again would make
//!   another one. Where AWS signs, the intent is journaled first, and what an unanswered call may have
//!   made is looked for before it is repeated ([`device::request`]).
//! * A restart reads the unfinished devices and asks [`device::plan`] the same question again.
//!
//! # Where this differs from the house rules' sketch
//!
//! The decisions of intake and worker live in one synchronous state machine, [`line`](mod@line), instead of
//! in tasks: nothing can interleave inside it, and a simulation can drive it without a runtime.
//! The `Cloud` trait has one method that takes a [`cloud::Call`], instead of a method for each
//! operation: so pace, statistics, faults and recording each need one place only.

pub mod batch;
pub mod cli;
pub mod clock;
pub mod cloud;
pub mod config;
pub mod control;
pub mod delivery;
pub mod device;
pub mod doctor;
pub mod durable_fs;
pub mod error;
pub mod fixture;
pub mod hardening;
pub mod histogram;
pub mod journal;
pub mod label;
pub mod line;
pub mod os;
pub mod pki;
pub mod reconcile;
pub mod rehearsal;
pub mod report;
mod sabotage;
pub mod service_manager;
pub mod shift;
#[cfg(test)]
mod simulation;
pub mod station;
pub mod telemetry;
pub mod timesync;

//! The line against the protocol and against AWS as it can go wrong.
//!
//! The scenarios are written from the protocol's text, one rule at a time; what a fixture hears is compared
//! as short lines (`ack 1`, `fail timeout 1 SN1 retry`). [`harness`] plays everything around the line and
//! checks at each action what has to hold always: nothing is promised or risked before it is on disk.

mod account;
mod anew;
mod batch_lockers;
mod batches;
mod breaker;
mod clock;
mod clones;
mod conversation;
mod delivery;
mod directory;
mod doubt;
mod expiry;
mod from_csr;
mod given_up;
mod harness;
mod hindrances;
mod issuing;
mod labels;
mod lingering;
mod lockers;
mod managed;
mod operator;
mod patience;
mod places;
mod presentations;
mod principals;
mod proof;
mod property;
mod refused;
mod reload;
mod renewal;
mod setup;
mod shelf;
mod starts;
mod steps;
mod trouble;
mod waits;

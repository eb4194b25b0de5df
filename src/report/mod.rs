//! The report of a shift, a time or a batch: the truth that a line lead signs.
//!
//! ```text
//!  journal ──> index: a Summary for each device, a Slot for each five minutes
//!                    └──> fold: one look at each of the selection ──> Report ──> text, JSON, HTML
//!                                                                └──> each Summary a line of CSV
//! ```
//! A device belongs to the shift in which it was first presented, and is in exactly one [class](summary::Class).
//! What it is classed by is how it stands when the report is made; what is counted of the station (downtime,
//! and the total that the classes have to add up to) is counted by time, as it was journaled.

pub mod cloud;
pub mod fold;
mod handover;
mod hours;
pub mod keys;
pub mod limits;
pub mod merge;
pub mod model;
pub mod render;
mod rows;
pub mod selection;
pub mod sign;
pub mod slot;
pub mod source;
pub mod summary;

#[cfg(test)]
pub(crate) mod tests;

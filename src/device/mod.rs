//! One device: its names, its rules, its life.

pub mod rules;
pub mod serial;

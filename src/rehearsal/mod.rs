//! A simulated world for the station: an AWS of its own and fixtures on ptys.

pub mod cloud;
pub mod fixture;

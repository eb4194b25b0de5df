//! The simulated world that a station can be rehearsed in: no account, no hardware.

pub mod fixture;

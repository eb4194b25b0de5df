//! linemint: device identities, made on the manufacturing line, exactly once.

pub mod cli;
pub mod clock;
pub mod cloud;
pub mod control;
pub mod device;
pub mod durable_fs;
pub mod error;
pub mod fixture;
pub mod journal;
pub mod line;
pub mod pki;

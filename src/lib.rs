//! linemint: device identities, made on the manufacturing line, exactly once.

pub mod cli;
pub mod clock;
pub mod cloud;
pub mod device;
pub mod error;
pub mod fixture;
pub mod pki;
pub mod rehearsal;

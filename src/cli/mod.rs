//! The commands, one file each.

pub mod daemon;
pub mod device;
pub mod drain;
pub mod status;
mod text;

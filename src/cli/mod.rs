//! The command line: one file for each command.

pub mod ca;
pub mod check_config;
pub mod cloud;
pub mod fixture;

//! What the station must not forget.

pub mod keys;

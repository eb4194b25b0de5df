//! A world to rehearse in: the same station, with nothing real around it.
//!
//! [`cloud`] plays AWS over HTTP on loopback, so that the very SDK clients of production speak
//! to it: with AWS's quotas, AWS's odd status codes, faults before and after the effect, and an
//! audit that says whether the account holds exactly what it should.

pub mod cloud;

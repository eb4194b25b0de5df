//! The seeds, the sabotages, and every place once.

mod everywhere;
mod sabotages;
mod seeds;

//! The seeds, the sabotages, and every place once.

mod seeds;

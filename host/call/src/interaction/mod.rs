//! Interactions and their records.

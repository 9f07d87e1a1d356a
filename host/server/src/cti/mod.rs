//! Events on their way to the adapters: from the outbox, in order for each subject, at least once,
//! with retries, and into the dead letters when an adapter gives one up.

pub mod deliver;
pub mod lanes;

pub use deliver::{AdapterView, Delivery};

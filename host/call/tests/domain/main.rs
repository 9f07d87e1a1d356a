//! The domain, driven as a shell would drive it: one input at a time, in virtual time.

mod agents;
mod harness;
mod interactions;
mod offers;
mod phones;
mod places;
mod policies;
mod random;
mod recovery;

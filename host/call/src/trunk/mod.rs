//! Who sends a call, and whether it is admitted.

//! The decisions of a registrar (RFC 3261 10.3).

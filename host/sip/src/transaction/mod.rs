//! The four transaction machines of RFC 3261 17 and RFC 6026, as pure tables in virtual time.

//! The table of legal hand-offs between stations.

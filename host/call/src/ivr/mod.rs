//! Verbs of the script that runs on a call.

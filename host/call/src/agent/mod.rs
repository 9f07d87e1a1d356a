//! Agents and their states.

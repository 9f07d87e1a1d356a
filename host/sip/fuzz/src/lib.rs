//! The fuzz targets as plain functions; `fuzz_targets/` hands them to libFuzzer.

pub mod second_opinion;
pub mod targets;

//! Cordboard plugins in Rust.
//!
//! A plugin is a component of one of five worlds, and this crate has a module (and a cargo
//! feature of the same name) for each: [`ivr`], [`router`], [`policy`], [`redirect`], [`cti`].
//! An author imports one of them whole (`use cordboard_sdk::ivr::*;`), implements its trait and
//! names the type to its macro; the README has the smallest example of each.
//!
//! Compiled for `wasm32-wasip2` the functions here call the host. Compiled natively they call a
//! double in the module's `testing` part, so that `cargo test` runs a plugin without a host.
//! This crate opens no socket, reads no file and keeps nothing between two questions.

mod host;

#[cfg(feature = "cti")]
pub mod cti;
#[cfg(feature = "ivr")]
pub mod ivr;
#[cfg(feature = "policy")]
pub mod policy;
#[cfg(feature = "redirect")]
pub mod redirect;
#[cfg(feature = "router")]
pub mod router;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub mod log {
    //! Lines into the call's trace: `log::info!("{digits} was dialled")`. The host cuts a line
    //! at 1,024 bytes and drops lines beyond the world's bound (256 a call for scripts).
    pub use crate::host::{Level, line};
    pub use crate::{__debug as debug, __error as error, __info as info, __warn as warn};
}

pub use host::{SettingError, setting, setting_or, setting_required};

#[doc(hidden)]
pub use host::enter as __enter;
#[doc(hidden)]
pub use wit_bindgen as __wit_bindgen;

#[cfg(all(
    target_arch = "wasm32",
    any(
        all(feature = "ivr", feature = "router"),
        all(feature = "ivr", feature = "policy"),
        all(feature = "ivr", feature = "redirect"),
        all(feature = "ivr", feature = "cti"),
        all(feature = "router", feature = "policy"),
        all(feature = "router", feature = "redirect"),
        all(feature = "router", feature = "cti"),
        all(feature = "policy", feature = "redirect"),
        all(feature = "policy", feature = "cti"),
        all(feature = "redirect", feature = "cti"),
    )
))]
compile_error!("a component has one world: switch on one of the features ivr, router, policy, redirect, cti");

#[cfg(all(
    target_arch = "wasm32",
    not(any(
        feature = "ivr",
        feature = "router",
        feature = "policy",
        feature = "redirect",
        feature = "cti"
    ))
))]
compile_error!("switch on the feature of your world: ivr, router, policy, redirect or cti");

/// Writes a line for somebody who looks for a fault.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Debug, &::std::format!($($text)*)) };
}

/// Writes a line about what happened.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Info, &::std::format!($($text)*)) };
}

/// Writes a line about what is wrong and was got over.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Warn, &::std::format!($($text)*)) };
}

/// Writes a line about what somebody must mend.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Error, &::std::format!($($text)*)) };
}

/// The README's examples, compiled and run with the others.
#[cfg(all(
    doctest,
    feature = "ivr",
    feature = "router",
    feature = "policy",
    feature = "redirect",
    feature = "cti"
))]
#[doc = include_str!("../README.md")]
struct Readme;

//! World `cti-adapter`: between the centre's events and another system.
//!
//! An adapter is a type with [`Adapter::handle`]. Events come at least once, in order for each
//! interaction, in batches; each gets a verdict. A slow adapter delays no call. [`http`] reaches
//! the hosts that the operator granted, and [`Event::to_json`] and [`batch_json`] write events as
//! CloudEvents.
//!
//! ```
//! use cordboard_sdk::cti::*;
//!
//! struct Hook;
//!
//! impl Adapter for Hook {
//!     fn handle(events: &[Event]) -> Vec<Verdict> {
//!         let sent = setting_required("url").map(|url| {
//!             http::post(url).json_batch(events).send()
//!         });
//!         let verdict = match sent {
//!             Ok(Ok(response)) if response.is_success() => Verdict::Done,
//!             Ok(_) => retry_in_s(5),
//!             Err(missing) => dead(missing.to_string()),
//!         };
//!         same(verdict, events)
//!     }
//! }
//!
//! cordboard_sdk::cti_adapter!(Hook);
//! ```

#[doc(hidden)]
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    unsafe_op_in_unsafe_fn
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/cti/0.1.0",
        world: "cti-adapter",
        pub_export_macro: true,
        default_bindings_module: "cordboard_sdk::cti::bindings",
        additional_derives: [PartialEq, Eq],
    });
}

mod cloudevents;
pub mod http;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use bindings::cordboard::cti::types::{Event, Verdict};
pub use cloudevents::{BATCH_TYPE, SINGLE_TYPE, batch_json};

pub use crate::{log, setting, setting_or, setting_required};

/// The handling of events.
pub trait Adapter {
    /// Handles a batch: one verdict an event, in order.
    fn handle(events: &[Event]) -> Vec<Verdict>;

    /// What the plugin says about itself beside name, version and about, as name and value.
    fn attributes() -> Vec<(String, String)> {
        Vec::new()
    }
}

/// The event comes again after so many seconds; later ones of its subject wait behind it.
pub fn retry_in_s(seconds: u32) -> Verdict {
    Verdict::Retry(seconds.saturating_mul(1_000))
}

/// The event is given up and goes to the dead letters with this reason.
pub fn dead(reason: impl Into<String>) -> Verdict {
    Verdict::Dead(reason.into())
}

/// The same verdict for each of these events.
pub fn same(verdict: Verdict, events: &[Event]) -> Vec<Verdict> {
    vec![verdict; events.len()]
}

#[doc(hidden)]
pub fn __handle<A: Adapter>(events: &[Event]) -> Vec<Verdict> {
    crate::__enter();
    A::handle(events)
}

#[doc(hidden)]
pub fn __describe<A: Adapter>(name: &str, version: &str, about: &str) -> bindings::Description {
    crate::__enter();
    bindings::Description {
        name: name.to_owned(),
        version: version.to_owned(),
        about: about.to_owned(),
        attributes: A::attributes(),
    }
}

/// Makes a type with [`Adapter`](crate::cti::Adapter) the component's adapter. Name, version and
/// about come from the plugin's `Cargo.toml`.
#[macro_export]
macro_rules! cti_adapter {
    ($adapter:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;
            impl $crate::cti::bindings::Guest for Component {
                fn describe() -> $crate::cti::bindings::Description {
                    $crate::cti::__describe::<$adapter>(
                        env!("CARGO_PKG_NAME"),
                        env!("CARGO_PKG_VERSION"),
                        env!("CARGO_PKG_DESCRIPTION"),
                    )
                }
                fn handle(events: Vec<$crate::cti::Event>) -> Vec<$crate::cti::Verdict> {
                    $crate::cti::__handle::<$adapter>(&events)
                }
            }
    $crate::cti::bindings::export!(Component with_types_in $crate::cti::bindings);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&[$crate::cti::Event]) -> Vec<$crate::cti::Verdict> = $crate::cti::__handle::<$adapter>;
    };
}

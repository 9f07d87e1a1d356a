//! World `redirect-policy`: how calls are spread over the call-centre nodes.
//!
//! A policy is a type with [`Spread`]. It is asked when nodes change or its plan grows old, never
//! on the path of a call.
//!
//! ```
//! use cordboard_sdk::redirect::*;
//!
//! struct Spare;
//!
//! impl Spread for Spare {
//!     fn plan(nodes: &[Node], _classes: &[String]) -> Plan {
//!         lasting_s(5).class("default", nodes.iter().map(|node| node.capacity - node.calls))
//!     }
//! }
//!
//! cordboard_sdk::redirect_policy!(Spare);
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
        path: "../../wit/redirect/0.1.0",
        world: "redirect-policy",
        pub_export_macro: true,
        default_bindings_module: "cordboard_sdk::redirect::bindings",
        additional_derives: [PartialEq, Eq],
    });
}

pub use bindings::cordboard::redirect::types::{ClassWeights, Node, Plan};

pub use crate::{log, setting, setting_or, setting_required};

/// The greatest weight of a node.
pub const MAX_WEIGHT: u32 = 1_000;

/// The spreading of calls over nodes.
pub trait Spread {
    /// Weights by class of calls (a trunk's name, or `default`), and how long they hold.
    fn plan(nodes: &[Node], classes: &[String]) -> Plan;

    /// What the plugin says about itself beside name, version and about, as name and value.
    fn attributes() -> Vec<(String, String)> {
        Vec::new()
    }
}

/// A plan without weights (which means spare capacity) that holds for so many seconds.
pub fn lasting_s(seconds: u32) -> Plan {
    Plan { classes: Vec::new(), ttl_ms: seconds.saturating_mul(1_000).clamp(100, 3_600_000) }
}

impl Plan {
    /// The weights of a class, one a node in the order of the question; beyond [`MAX_WEIGHT`]
    /// they are cut.
    #[must_use]
    pub fn class(mut self, class: impl Into<String>, weights: impl IntoIterator<Item = u32>) -> Self {
        let weights = weights.into_iter().map(|weight| weight.min(MAX_WEIGHT)).collect();
        self.classes.push(ClassWeights { class: class.into(), weights });
        self
    }
}

impl Node {
    /// An attribute of the node's configuration.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Calls that it can still take.
    pub fn spare(&self) -> u32 {
        self.capacity.saturating_sub(self.calls)
    }
}

#[doc(hidden)]
pub fn __plan<S: Spread>(nodes: &[Node], classes: &[String]) -> Plan {
    crate::__enter();
    S::plan(nodes, classes)
}

#[doc(hidden)]
pub fn __describe<S: Spread>(name: &str, version: &str, about: &str) -> bindings::Description {
    crate::__enter();
    bindings::Description {
        name: name.to_owned(),
        version: version.to_owned(),
        about: about.to_owned(),
        attributes: S::attributes(),
    }
}

/// Makes a type with [`Spread`](crate::redirect::Spread) the component's redirect policy. Name,
/// version and about come from the plugin's `Cargo.toml`.
#[macro_export]
macro_rules! redirect_policy {
    ($policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;
            impl $crate::redirect::bindings::Guest for Component {
                fn describe() -> $crate::redirect::bindings::Description {
                    $crate::redirect::__describe::<$policy>(
                        env!("CARGO_PKG_NAME"),
                        env!("CARGO_PKG_VERSION"),
                        env!("CARGO_PKG_DESCRIPTION"),
                    )
                }
                fn plan(nodes: Vec<$crate::redirect::Node>, classes: Vec<String>) -> $crate::redirect::Plan {
                    $crate::redirect::__plan::<$policy>(&nodes, &classes)
                }
            }
    $crate::redirect::bindings::export!(Component with_types_in $crate::redirect::bindings);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&[$crate::redirect::Node], &[String]) -> $crate::redirect::Plan =
            $crate::redirect::__plan::<$policy>;
    };
}

#[cfg(not(target_arch = "wasm32"))]
pub mod testing {
    //! Questions for native tests of redirect policies.

    use super::Node;

    /// A node with room for `capacity` calls that carries `calls`.
    pub fn node(id: &str, capacity: u32, calls: u32, calls_per_s: u32) -> Node {
        Node { id: id.to_owned(), capacity, calls, calls_per_s, attributes: Vec::new() }
    }
}

//! World `call-router`: where a new call goes.
//!
//! A router is a type with [`Router::route`]. A fresh instance answers one question, within
//! 50 ms; nothing is kept between calls. The answers are built by [`script`], [`workgroup`],
//! [`bridge`], [`redirect`] and [`refuse`].
//!
//! ```
//! use cordboard_sdk::router::*;
//!
//! struct Numbers;
//!
//! impl Router for Numbers {
//!     fn route(call: &Incoming) -> Result<Route, NoRoute> {
//!         match call.called.as_str() {
//!             "+4930100" => Ok(script("support").into()),
//!             "+4930200" => Ok(workgroup("sales").skill("fr").priority(5).into()),
//!             other => Err(NoRoute::because(format!("{other} is nobody's number"))),
//!         }
//!     }
//! }
//!
//! cordboard_sdk::call_router!(Numbers);
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
        path: "../../wit/router/0.1.0",
        world: "call-router",
        pub_export_macro: true,
        default_bindings_module: "cordboard_sdk::router::bindings",
        additional_derives: [PartialEq, Eq],
    });
}

pub use bindings::cordboard::router::types::{
    Attribute, Incoming, LocalTime, Redirection, Refusal, Route, ToAddress, ToScript, ToWorkgroup,
};

pub use crate::{log, setting, setting_or, setting_required};

/// Answers where new calls go.
pub trait Router {
    /// The route of one call.
    ///
    /// # Errors
    /// [`NoRoute`], a text for the operator: the tenant's default script runs.
    fn route(call: &Incoming) -> Result<Route, NoRoute>;

    /// What the plugin says about itself beside name, version and about, as name and value.
    fn attributes() -> Vec<(String, String)> {
        Vec::new()
    }
}

/// Why a router knows no route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoute(String);

impl NoRoute {
    /// The text is for the operator.
    pub fn because(text: impl Into<String>) -> Self {
        NoRoute(text.into())
    }

    /// The text for the operator.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for NoRoute {
    fn from(text: T) -> Self {
        NoRoute(text.into())
    }
}

/// Run the IVR script of this name in the configuration.
pub fn script(name: impl Into<String>) -> ToScript {
    ToScript { script: name.into(), attributes: Vec::new() }
}

/// Straight into a workgroup's queue.
pub fn workgroup(name: impl Into<String>) -> ToWorkgroup {
    ToWorkgroup { workgroup: name.into(), skills: Vec::new(), priority: 0, attributes: Vec::new() }
}

/// Straight to a SIP address, or out by trunks (`trunk:NAME,NAME/NUMBER`), ringing at most a minute.
pub fn bridge(address: impl Into<String>) -> ToAddress {
    ToAddress { address: address.into(), ring_timeout_s: 60, attributes: Vec::new() }
}

/// Tell the caller's side to try elsewhere (302): SIP URIs, best first.
pub fn redirect<S: Into<String>>(contacts: impl IntoIterator<Item = S>) -> Redirection {
    Redirection { contacts: contacts.into_iter().map(Into::into).collect() }
}

/// Refuse with a SIP status (400 to 699), a Q.850 cause (1 to 127) and a text.
pub fn refuse(status: u16, cause: u8, text: impl Into<String>) -> Refusal {
    Refusal { status, cause, text: text.into() }
}

fn attribute(name: impl Into<String>, value: impl Into<String>) -> Attribute {
    Attribute { name: name.into(), value: value.into() }
}

impl ToScript {
    /// What the script can read as an attribute of the call.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push(attribute(name, value));
        self
    }
}

impl ToWorkgroup {
    /// A skill that the agent must have.
    #[must_use]
    pub fn skill(mut self, skill: impl Into<String>) -> Self {
        self.skills.push(skill.into());
        self
    }

    /// 0 to 100.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority.min(100);
        self
    }

    /// Something that the agent's desktop and the adapters see.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push(attribute(name, value));
        self
    }
}

impl ToAddress {
    /// How long it may ring, in seconds, 1 to 180.
    #[must_use]
    pub fn ring_s(mut self, seconds: u16) -> Self {
        self.ring_timeout_s = seconds.clamp(1, 180);
        self
    }

    /// An attribute of the call.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push(attribute(name, value));
        self
    }
}

impl Incoming {
    /// The first SIP header of this name that the trunk passes on, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value.as_str())
    }

    /// An attribute of the call.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|attribute| attribute.name == name).map(|found| found.value.as_str())
    }
}

macro_rules! into_route {
    ($($from:ident => $variant:ident),*) => {
        $(impl From<$from> for Route {
            fn from(answer: $from) -> Self {
                Route::$variant(answer)
            }
        })*
    };
}

into_route!(ToScript => Script, ToWorkgroup => Workgroup, ToAddress => Bridge, Redirection => Redirect, Refusal => Refuse);

/// Answers the host's question: what [`call_router!`](crate::call_router) exports.
#[doc(hidden)]
pub fn __route<R: Router>(call: &Incoming) -> Result<Route, String> {
    crate::__enter();
    R::route(call).map_err(|none| none.0)
}

#[doc(hidden)]
pub fn __describe<R: Router>(name: &str, version: &str, about: &str) -> bindings::Description {
    crate::__enter();
    bindings::Description {
        name: name.to_owned(),
        version: version.to_owned(),
        about: about.to_owned(),
        attributes: R::attributes().into_iter().map(|(name, value)| Attribute { name, value }).collect(),
    }
}

/// Makes a type with [`Router`](crate::router::Router) the component's router. Name, version and
/// about come from the plugin's `Cargo.toml`.
#[macro_export]
macro_rules! call_router {
    ($router:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;
            impl $crate::router::bindings::Guest for Component {
                fn describe() -> $crate::router::bindings::Description {
                    $crate::router::__describe::<$router>(
                        env!("CARGO_PKG_NAME"),
                        env!("CARGO_PKG_VERSION"),
                        env!("CARGO_PKG_DESCRIPTION"),
                    )
                }
                fn route(call: $crate::router::Incoming) -> Result<$crate::router::Route, String> {
                    $crate::router::__route::<$router>(&call)
                }
            }
    $crate::router::bindings::export!(Component with_types_in $crate::router::bindings);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::router::Incoming) -> Result<$crate::router::Route, String> =
            $crate::router::__route::<$router>;
    };
}

#[cfg(not(target_arch = "wasm32"))]
pub mod testing {
    //! Questions for native tests of routers.

    use super::{Incoming, LocalTime};

    /// A call from `caller` to `called`, on a weekday (1 is Monday) at this local time.
    pub fn incoming(caller: &str, called: &str, weekday: u8, hour: u8, minute: u8) -> Incoming {
        Incoming {
            tenant: "test".to_owned(),
            trunk: "test".to_owned(),
            caller: caller.to_owned(),
            caller_name: String::new(),
            called: called.to_owned(),
            headers: Vec::new(),
            local: LocalTime {
                year: 2026,
                month: 3,
                day: 1 + weekday,
                hour,
                minute,
                weekday,
                utc_offset_minutes: 60,
            },
            attributes: Vec::new(),
        }
    }
}

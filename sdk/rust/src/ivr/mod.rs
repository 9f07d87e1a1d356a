//! World `ivr-script`: the treatment of one call, from its arrival to its end.
//!
//! A script is a type with [`Script::run`]. Each call has an instance of its own, and each verb
//! of [`Call`] blocks until it is done, so a script is straight-line code; the script goes on
//! running while its caller waits in a queue. A verb that cannot do its work says why
//! ([`Failure`]), and `?` does what is natural: a caller who hung up ends the script quietly.
//!
//! ```
//! use cordboard_sdk::ivr::*;
//!
//! struct Hello;
//!
//! impl Script for Hello {
//!     fn run(call: &Call) -> Result<(), End> {
//!         call.answer()?;
//!         let typed = call.gather([say("Press one.").or_audio("menu")], Digits::exactly(1))?;
//!         log::info!("{} was pressed", typed.digits);
//!         call.play([audio("goodbye")])?;
//!         Ok(())
//!     }
//! }
//!
//! cordboard_sdk::ivr_script!(Hello);
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
        path: "../../wit/ivr/0.1.0",
        world: "ivr-script",
        pub_export_macro: true,
        default_bindings_module: "cordboard_sdk::ivr::bindings",
    });
}

mod call;
mod options;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use bindings::cordboard::ivr::calls::{
    Attribute, CallInfo, Failure, GatherEnd, GatherOptions, Gathered, Left, Outcome, PlayEnd, PlayOptions,
    Prompt, QueueRequest, RecordOptions, Recording, Refusal, Speech, TicketState,
};
pub use bindings::cordboard::ivr::host::LocalTime;
pub use call::{Call, Enqueued, Ticket};
pub use options::{Digits, Record, Request, audio, say, silence};

pub use crate::{log, setting, setting_or, setting_required};

/// The treatment of a call.
pub trait Script {
    /// Runs one call. When it returns, the call is hung up, unless it waits in a queue (then the
    /// workgroup's own treatment goes on, the place kept) or an agent has it.
    ///
    /// # Errors
    /// [`End`]: by `?` on a verb, or a text for the operator made with [`End::because`]; then
    /// the caller gets the tenant's fallback. An `End` that says that the caller is gone or that
    /// an agent has the call is no error to the host.
    fn run(call: &Call) -> Result<(), End>;

    /// What the plugin says about itself beside name, version and about, as name and value.
    fn attributes() -> Vec<(String, String)> {
        Vec::new()
    }
}

/// Why a script ended early.
#[derive(Clone, Debug)]
pub enum End {
    /// A verb failed and nobody dealt with it.
    Verb(Failure),
    /// The script gave up, with a text for the operator.
    Because(String),
}

impl End {
    /// The script cannot go on; the text says why, and the caller gets the tenant's fallback.
    pub fn because(text: impl Into<String>) -> Self {
        End::Because(text.into())
    }

    /// What the host is told: nothing wrong when the caller is gone or an agent has the call.
    fn verdict(self) -> Result<(), String> {
        match self {
            End::Verb(Failure::HungUp | Failure::Taken) => Ok(()),
            End::Verb(failure) => Err(failure.reason()),
            End::Because(text) => Err(text),
        }
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        End::Verb(failure)
    }
}

impl From<crate::SettingError> for End {
    fn from(error: crate::SettingError) -> Self {
        End::Because(error.to_string())
    }
}

impl From<String> for End {
    fn from(text: String) -> Self {
        End::Because(text)
    }
}

impl From<&str> for End {
    fn from(text: &str) -> Self {
        End::Because(text.to_owned())
    }
}

impl Failure {
    /// The failure as a sentence for the operator.
    pub fn reason(&self) -> String {
        match self {
            Failure::HungUp => "the caller hung up".to_owned(),
            Failure::Taken => "an agent has the call".to_owned(),
            Failure::Timeout => "a verb ran out of time".to_owned(),
            Failure::Denied(grant) => format!("not granted: {grant}"),
            Failure::Media(text) => format!("media: {text}"),
            Failure::Other(text) => text.clone(),
        }
    }
}

/// The tenant's local time.
pub fn now() -> LocalTime {
    #[cfg(target_arch = "wasm32")]
    return bindings::cordboard::ivr::host::now();
    #[cfg(not(target_arch = "wasm32"))]
    return testing::now();
}

/// Whether the tenant's business-hours calendar of this name is open now; `None` when the tenant
/// has no such calendar.
pub fn open(hours: &str) -> Option<bool> {
    #[cfg(target_arch = "wasm32")]
    return bindings::cordboard::ivr::host::open(hours);
    #[cfg(not(target_arch = "wasm32"))]
    return testing::open(hours);
}

/// Runs a script on the host's call: what [`ivr_script!`](crate::ivr_script) exports.
#[doc(hidden)]
pub fn __run<S: Script>(call: Call) -> Result<(), String> {
    crate::__enter();
    match S::run(&call) {
        Ok(()) => Ok(()),
        Err(end) => end.verdict(),
    }
}

#[doc(hidden)]
pub fn __describe<S: Script>(name: &str, version: &str, about: &str) -> bindings::Description {
    crate::__enter();
    bindings::Description {
        name: name.to_owned(),
        version: version.to_owned(),
        about: about.to_owned(),
        attributes: S::attributes().into_iter().map(|(name, value)| Attribute { name, value }).collect(),
    }
}

/// Makes a type with [`Script`](crate::ivr::Script) the component's script. Name, version and
/// about come from the plugin's `Cargo.toml`.
#[macro_export]
macro_rules! ivr_script {
    ($script:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;
            impl $crate::ivr::bindings::Guest for Component {
                fn describe() -> $crate::ivr::bindings::Description {
                    $crate::ivr::__describe::<$script>(
                        env!("CARGO_PKG_NAME"),
                        env!("CARGO_PKG_VERSION"),
                        env!("CARGO_PKG_DESCRIPTION"),
                    )
                }
                fn run(call: $crate::ivr::bindings::cordboard::ivr::calls::Call) -> Result<(), String> {
                    $crate::ivr::__run::<$script>(call.into())
                }
            }
    $crate::ivr::bindings::export!(Component with_types_in $crate::ivr::bindings);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn($crate::ivr::Call) -> Result<(), String> = $crate::ivr::__run::<$script>;
    };
}

//! What every world's `host` interface offers: log lines and settings.
//!
//! The five packages each have an interface of that name; this module is the one place that
//! knows which of them is linked. The worlds' modules and the log macros call it.

use std::fmt;
use std::str::FromStr;

/// How much a line in the trace matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For somebody who looks for a fault.
    Debug,
    /// What happened.
    Info,
    /// Wrong, and got over.
    Warn,
    /// Somebody must mend it.
    Error,
}

/// Writes one line into the trace; [`crate::log`]'s macros are the comfortable way.
pub fn line(level: Level, text: &str) {
    linked::line(level, text);
}

/// The setting that the operator gave this plugin under `key`, exactly as it was written.
pub fn setting(key: &str) -> Option<String> {
    linked::setting(key)
}

/// The setting under `key` as a `T`, or `default` when there is none. A setting that does not
/// parse is reported in the trace, and the default holds: a typing error must not cost a call.
pub fn setting_or<T: FromStr>(key: &str, default: T) -> T {
    let Some(text) = setting(key) else { return default };
    match text.trim().parse() {
        Ok(value) => value,
        Err(_) => {
            line(Level::Warn, &format!("setting {key}: {text:?} cannot be read, the default holds"));
            default
        }
    }
}

/// The setting under `key`, which the plugin cannot do without.
///
/// # Errors
/// [`SettingError`] when it is absent or empty; the `?` of every world takes it.
pub fn setting_required(key: &str) -> Result<String, SettingError> {
    setting(key).filter(|text| !text.trim().is_empty()).ok_or_else(|| SettingError { key: key.to_owned() })
}

/// A setting that the operator must give and has not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// Its key in the plugin's `settings`.
    pub key: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting {} is missing: give it in the plugin's settings", self.key)
    }
}

impl std::error::Error for SettingError {}

impl From<SettingError> for String {
    fn from(error: SettingError) -> Self {
        error.to_string()
    }
}

/// Called by the worlds' macros before a plugin's code runs: from here on the text of a panic
/// reaches the trace. Without it a trap would say only `unreachable`.
#[doc(hidden)]
pub fn enter() {
    #[cfg(target_arch = "wasm32")]
    {
        use std::sync::Once;
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            std::panic::set_hook(Box::new(|panic| {
                line(Level::Error, &panic.to_string().replace('\n', " "));
            }));
        });
    }
}

#[cfg(target_arch = "wasm32")]
mod linked {
    #[cfg(feature = "cti")]
    use crate::cti::bindings::cordboard::cti::host;
    #[cfg(feature = "ivr")]
    use crate::ivr::bindings::cordboard::ivr::host;
    #[cfg(feature = "policy")]
    use crate::policy::bindings::cordboard::policy::host;
    #[cfg(feature = "redirect")]
    use crate::redirect::bindings::cordboard::redirect::host;
    #[cfg(feature = "router")]
    use crate::router::bindings::cordboard::router::host;

    use super::Level;

    pub(super) fn line(level: Level, text: &str) {
        let level = match level {
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        host::log(level, text);
    }

    pub(super) fn setting(key: &str) -> Option<String> {
        host::setting(key)
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod linked {
    use super::Level;

    pub(super) fn line(level: Level, text: &str) {
        crate::testing::push_line(level, text);
    }

    pub(super) fn setting(key: &str) -> Option<String> {
        crate::testing::get_setting(key)
    }
}

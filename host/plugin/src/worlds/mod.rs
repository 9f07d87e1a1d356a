//! The bindings of the five worlds, one file a world and version.
//!
//! Used by the runner of each world ([`crate::routers`], [`crate::scripts`], …), which turns the
//! bindings' types into the core's. A second version of a world stands beside the first here, as a
//! file that adapts the older types to the newer.

pub(crate) mod cti;
pub(crate) mod ivr;
pub(crate) mod policy;
pub(crate) mod redirect;
pub(crate) mod router;

/// Implements the interface `host` of a world that has only `log` and `setting`.
macro_rules! plain_host {
    ($host:path, $level:path, $state:ty) => {
        impl $host for crate::guest::Guest<$state> {
            fn log(&mut self, level: $level, text: String) -> wasmtime::Result<()> {
                use $level as L;
                self.host_call()?;
                let level = match level {
                    L::Debug => crate::guest::Level::Debug,
                    L::Info => crate::guest::Level::Info,
                    L::Warn => crate::guest::Level::Warn,
                    L::Error => crate::guest::Level::Error,
                };
                self.log.line(level, &text);
                Ok(())
            }

            fn setting(&mut self, key: String) -> wasmtime::Result<Option<String>> {
                self.host_call()?;
                Ok(Self::setting(self, &key))
            }
        }
    };
}
pub(crate) use plain_host;

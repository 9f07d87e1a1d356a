//! The interface `host` of a script: its log, its settings, the tenant's time.

use super::State;
use crate::guest::{Guest, Level};
use crate::worlds::ivr::cordboard::ivr::host as wit;

impl wit::Host for Guest<State> {
    fn log(&mut self, level: wit::Level, text: String) -> wasmtime::Result<()> {
        self.host_call()?;
        let level = match level {
            wit::Level::Debug => Level::Debug,
            wit::Level::Info => Level::Info,
            wit::Level::Warn => Level::Warn,
            wit::Level::Error => Level::Error,
        };
        self.log.line(level, &text);
        Ok(())
    }

    fn setting(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        self.host_call()?;
        Ok(Self::setting(self, &key))
    }

    fn now(&mut self) -> wasmtime::Result<wit::LocalTime> {
        self.host_call()?;
        let now = self.world.around.hours.now(&self.world.info.tenant);
        Ok(wit::LocalTime {
            year: now.year,
            month: now.month,
            day: now.day,
            hour: now.hour,
            minute: now.minute,
            second: now.second,
            weekday: now.weekday,
            utc_offset_minutes: now.utc_offset_minutes,
        })
    }

    fn open(&mut self, hours: String) -> wasmtime::Result<Option<bool>> {
        self.host_call()?;
        Ok(self.world.around.hours.open(&self.world.info.tenant, &hours))
    }
}

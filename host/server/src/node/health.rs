//! Whether calls can be served: what `/v1/healthz` and `cordboard_up` say.

use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::Shared;

/// `GET /v1/healthz`
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// Whether calls can be served.
    pub ok: bool,
    /// `serving`, `draining`, `journal-failing`.
    pub state: &'static str,
}

impl Shared {
    /// Whether calls can be served.
    #[must_use]
    pub fn health(&self) -> Health {
        if self.journal.stats().failing.load(Relaxed) {
            Health { ok: false, state: "journal-failing" }
        } else if self.draining.load(Relaxed) {
            Health { ok: false, state: "draining" }
        } else {
            Health { ok: true, state: "serving" }
        }
    }
}

//! `queue-policy@0.1.0`.

use crate::guest::Guest;
use crate::worlds::plain_host;

wasmtime::component::bindgen!({
    path: "../../wit/policy/0.1.0",
    world: "queue-policy",
    imports: { default: trappable },
});

/// The state of an instance: none besides what every guest has.
pub(crate) struct State;

pub(crate) type Data = Guest<State>;

plain_host!(cordboard::policy::host::Host, cordboard::policy::host::Level, State);

impl cordboard::policy::types::Host for Data {}

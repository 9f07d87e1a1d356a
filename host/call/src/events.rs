//! What desktops and adapters are told. The `cti` station numbers events; an adapter gets them
//! in order for each interaction, at least once, from a cursor.

use cordboard_base::Id;
use serde::{Deserialize, Serialize};

use crate::Name;

/// One event, ready to become a CloudEvent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one for each event of the tenant.
    pub sequence: u64,
    /// Whose.
    pub tenant: Name,
    /// `call.new`, `interaction.created`, `queue.entered`, `agent.offered`, `call.bridged`, `agent.state`…
    pub kind: String,
    /// The interaction, if it is about one.
    pub interaction: Option<Id>,
    /// The interaction's identifier, or `agent/NAME`.
    pub subject: String,
    /// Unix milliseconds.
    pub wall_ms: i64,
    /// A JSON object, as text.
    pub data: String,
}

//! Step 5, second half: where a new call goes. The question for the router plugin, its answer,
//! and the check of the answer against what the tenant has.
//!
//! Called by the shard when a call was admitted. Never runs the plugin.

use serde::{Deserialize, Serialize};

use crate::{Attributes, Name};

/// What the plugin is told. The shell adds the tenant's local time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    /// Whose call.
    pub tenant: Name,
    /// Where from.
    pub trunk: Name,
    /// Calling number, empty when withheld.
    pub caller: String,
    /// Calling name.
    pub caller_name: String,
    /// Dialled number.
    pub called: String,
    /// Those SIP headers that the trunk passes on.
    pub headers: Attributes,
    /// From the trunk.
    pub attributes: Attributes,
}

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Route {
    /// Run a script.
    Script {
        /// The plugin's name.
        script: String,
        /// For the script.
        attributes: Attributes,
    },
    /// Into a queue, with the native treatment.
    Workgroup {
        /// Which.
        workgroup: String,
        /// Required.
        skills: Vec<String>,
        /// 0 to 100.
        priority: u8,
        /// Added.
        attributes: Attributes,
    },
    /// A back-to-back bridge.
    Bridge {
        /// A SIP URI.
        address: String,
        /// How long it may ring.
        ring_timeout_ms: u64,
        /// Added.
        attributes: Attributes,
    },
    /// A 302.
    Redirect {
        /// Best first.
        contacts: Vec<String>,
    },
    /// A refusal.
    Refuse {
        /// 400 to 699.
        status: u16,
        /// Q.850.
        cause: u8,
        /// Why.
        text: String,
    },
}

//! Step 5, second half: where a new call goes. The question for the router plugin, its answer,
//! and the check of the answer against what the tenant has.
//!
//! Called by the shard when a call was admitted. Never runs the plugin.

use serde::{Deserialize, Serialize};

use cordboard_sip::wire::Uri;

use crate::messages::QueueRequest;
use crate::model::{Model, Tenant};
use crate::policy::Fault;
use crate::trunk::hunt::Target;
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
        /// A SIP URI, or `trunk:NAME[,NAME…][/NUMBER]`.
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

impl Route {
    /// What it does, in a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Script { .. } => "script",
            Self::Workgroup { .. } => "workgroup",
            Self::Bridge { .. } => "bridge",
            Self::Redirect { .. } => "redirect",
            Self::Refuse { .. } => "refuse",
        }
    }
}

/// What the shard does with a checked answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Run this script.
    Script(Name, Attributes),
    /// Queue natively.
    Workgroup(String, QueueRequest),
    /// Dial this address.
    Address {
        /// A SIP URI, or `trunk:NAME[,NAME…][/NUMBER]`.
        address: String,
        /// How long it may ring.
        ring_timeout_ms: u64,
        /// For the record.
        attributes: Attributes,
    },
    /// Answer 302.
    Redirect(Vec<String>),
    /// Answer with this status and cause.
    Refuse {
        /// 400 to 699.
        status: u16,
        /// 1 to 127.
        cause: u8,
        /// Why.
        text: String,
    },
    /// The tenant's fallback.
    Fallback,
}

/// The default: the tenant's script, else its fallback.
#[must_use]
pub fn default_plan(tenant: &Tenant) -> Plan {
    tenant.script.clone().map_or(Plan::Fallback, |script| Plan::Script(script, Attributes::new()))
}

/// Checks the plugin's answer against what can be. What the shell alone knows (whether a script
/// of that name is in service) shows when it is started.
///
/// # Errors
/// What is wrong with the answer; the default holds then.
pub fn check(model: &Model, tenant: &Tenant, route: Route) -> Result<Plan, Fault> {
    let sip = |uri: &str| Uri::parse(uri).is_ok_and(|u| u.is_sip());
    let nonsense = |text: String| Err(Fault::Nonsense(text));
    match route {
        Route::Script { script, attributes } => {
            if script.is_empty() {
                return nonsense("a script without a name".to_owned());
            }
            Ok(Plan::Script(script.into(), attributes))
        }
        Route::Workgroup { workgroup, skills, priority, attributes } => {
            if tenant.workgroup(&workgroup).is_none() && !workgroup.starts_with("agent:") {
                return nonsense(format!("tenant {} has no workgroup `{workgroup}`", tenant.name));
            }
            let request =
                QueueRequest { skills, priority: priority.min(100), preferred_agent: None, attributes };
            Ok(Plan::Workgroup(workgroup, request))
        }
        Route::Bridge { address, ring_timeout_ms, attributes } => {
            match Target::parse(&address) {
                Ok(Target::Uri(_)) => {}
                Ok(Target::Trunks { trunks, .. }) => {
                    let leaves = |name: &str| {
                        let out = model.trunk(name).and_then(|t| t.out.as_ref());
                        out.is_some_and(|out| out.serves(&tenant.name))
                    };
                    if let Some(name) = trunks.iter().find(|name| !leaves(name)) {
                        return nonsense(format!("no call of this tenant leaves by a trunk `{name}`"));
                    }
                }
                Err(why) => return nonsense(why),
            }
            let ring_timeout_ms = ring_timeout_ms.clamp(1_000, MAX_RING_MS);
            Ok(Plan::Address { address, ring_timeout_ms, attributes })
        }
        Route::Redirect { mut contacts } => {
            contacts.truncate(MAX_CONTACTS);
            match contacts.iter().find(|c| !sip(c)) {
                Some(bad) => nonsense(format!("`{bad}` is no SIP URI")),
                None if contacts.is_empty() => nonsense("a redirection to nowhere".to_owned()),
                None => Ok(Plan::Redirect(contacts)),
            }
        }
        Route::Refuse { status, cause, text } => {
            if !(400..700).contains(&status) {
                return nonsense(format!("{status} is no SIP status to refuse with"));
            }
            Ok(Plan::Refuse { status, cause: cause.clamp(1, 127), text })
        }
    }
}

/// The longest that an address may ring.
pub const MAX_RING_MS: u64 = 180_000;
/// The most contacts of a 302.
pub const MAX_CONTACTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fallback, Limits, Trunk};
    use crate::trunk::terms::Outbound;

    fn model() -> Model {
        let out = Outbound { tenants: vec!["other".into()], ..Outbound::default() };
        let trunk = |name: &str, out| Trunk { name: name.into(), out, ..Trunk::default() };
        Model {
            node: "n".into(),
            trunks: vec![
                trunk("in", None),
                trunk("out", Some(Outbound::default())),
                trunk("theirs", Some(out)),
            ],
            tenants: Vec::new(),
            limits: Limits::default(),
        }
    }

    fn tenant() -> Tenant {
        Tenant {
            name: "demo".into(),
            numbers: Vec::new(),
            router: None,
            script: Some("ivr".into()),
            fallback: Fallback::Announce { prompt: None, cause: 31 },
            adapters: Vec::new(),
            skills: Vec::new(),
            workgroups: Vec::new(),
            agents: Vec::new(),
            qualify: Vec::new(),
            realm: String::new(),
            call_back_grace_ms: 0,
        }
    }

    #[test]
    fn nonsense_is_named() {
        let say = |route| match check(&model(), &tenant(), route) {
            Err(Fault::Nonsense(text)) => text,
            other => panic!("{other:?}"),
        };
        let bridge =
            |address: &str| Route::Bridge { address: address.into(), ring_timeout_ms: 1, attributes: vec![] };
        assert!(say(bridge("not a uri")).contains("not a uri"));
        assert!(say(bridge("mailto:a@b")).contains("mailto"));
        for name in ["in", "theirs", "absent"] {
            assert!(say(bridge(&format!("trunk:out,{name}/1"))).contains(name));
        }
        assert!(check(&model(), &tenant(), bridge("trunk:out/+4930")).is_ok());
        assert!(say(Route::Redirect { contacts: vec![] }).contains("nowhere"));
        assert!(say(Route::Refuse { status: 200, cause: 16, text: String::new() }).contains("200"));
        assert!(say(Route::Script { script: String::new(), attributes: vec![] }).contains("name"));
        let group =
            Route::Workgroup { workgroup: "x".into(), skills: vec![], priority: 0, attributes: vec![] };
        assert!(say(group).contains("no workgroup `x`"));
    }

    #[test]
    fn values_are_brought_into_their_ranges() {
        let route = Route::Bridge { address: "sip:1@x".into(), ring_timeout_ms: 0, attributes: vec![] };
        assert!(matches!(
            check(&model(), &tenant(), route),
            Ok(Plan::Address { ring_timeout_ms: 1_000, .. })
        ));
        let route = Route::Refuse { status: 486, cause: 0, text: String::new() };
        assert!(matches!(check(&model(), &tenant(), route), Ok(Plan::Refuse { cause: 1, .. })));
        assert_eq!(default_plan(&tenant()), Plan::Script("ivr".into(), vec![]));
        assert_eq!(default_plan(&Tenant { script: None, ..tenant() }), Plan::Fallback);
    }
}

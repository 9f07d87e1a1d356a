//! What a watcher's phone is told of an agent's state: presence (RFC 3856, RFC 3863, RFC 4480) and dialog events
//! (RFC 4235).
//!
//! Called by the shard for each NOTIFY. Never says more than the state: no caller, no reason.

use crate::commands::AgentStateName as State;

/// An event package that we serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Package {
    /// `presence`, RFC 3856.
    Presence,
    /// `dialog`, RFC 4235: what lights a busy lamp.
    Dialog,
}

/// For Allow-Events (RFC 6665 8.2.2).
pub(crate) const ALLOW_EVENTS: &str = "presence, dialog";

impl Package {
    /// The package of an Event header's value (RFC 6665 8.2.1).
    pub(crate) fn parse(event: &str) -> Option<Self> {
        match event.split(';').next()?.trim() {
            "presence" => Some(Self::Presence),
            "dialog" => Some(Self::Dialog),
            _ => None,
        }
    }

    /// The content type of its bodies.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Presence => "application/pidf+xml",
            Self::Dialog => "application/dialog-info+xml",
        }
    }

    /// A whole state; `version` counts the bodies of a subscription from 0.
    pub(crate) fn body(self, entity: &str, state: State, version: u32) -> String {
        match self {
            Self::Presence => presence(entity, state),
            Self::Dialog => dialog(entity, state, version),
        }
    }
}

const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// RFC 3863 4, with the activities of RFC 4480 3.2.
fn presence(entity: &str, state: State) -> String {
    let (basic, activity, note) = match state {
        State::LoggedOut => ("closed", "", "logged out"),
        State::NotReady => ("open", "<rpid:away/>", "not ready"),
        State::Ready => ("open", "", "ready"),
        State::Reserved => ("open", "<rpid:busy/>", "rings"),
        State::Busy => ("open", "<rpid:on-the-phone/>", "on the phone"),
        State::WorkingAfterCall => ("open", "<rpid:busy/>", "working after a call"),
    };
    let activities = match activity {
        "" => String::new(),
        activity => format!("<rpid:activities>{activity}</rpid:activities>"),
    };
    let entity = escaped(entity);
    format!(
        "{XML}<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
         xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
         xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\" entity=\"{entity}\">\n\
         <tuple id=\"agent\"><status><basic>{basic}</basic></status></tuple>\n\
         <dm:person id=\"agent-person\">{activities}<dm:note>{note}</dm:note></dm:person>\n\
         </presence>\n"
    )
}

/// RFC 4235 4.1. An agent has one call at most.
fn dialog(entity: &str, state: State, version: u32) -> String {
    let call = match state {
        State::Reserved => "<dialog id=\"call\" direction=\"recipient\"><state>early</state></dialog>\n",
        State::Busy => "<dialog id=\"call\" direction=\"recipient\"><state>confirmed</state></dialog>\n",
        State::LoggedOut | State::NotReady | State::Ready | State::WorkingAfterCall => "",
    };
    let entity = escaped(entity);
    format!(
        "{XML}<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"{version}\" state=\"full\" \
         entity=\"{entity}\">\n{call}</dialog-info>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_without_their_parameters() {
        assert_eq!(Package::parse("presence"), Some(Package::Presence));
        assert_eq!(Package::parse("dialog ; id=7"), Some(Package::Dialog));
        // RFC 6665 8.2.1: event types are compared with case.
        assert_eq!(["Presence", "presence.winfo", "", "refer"].map(Package::parse), [None; 4]);
    }

    #[test]
    fn each_state_has_its_words() {
        let said = |state| {
            let body = Package::Presence.body("sip:a@x?b&c", state, 0);
            assert!(body.contains("entity=\"sip:a@x?b&amp;c\""), "{body}");
            let basic = body.contains("<basic>open</basic>");
            let busy = body.contains("rpid:on-the-phone");
            let info = Package::Dialog.body("sip:a@x", state, 3);
            assert!(info.contains("version=\"3\" state=\"full\" entity=\"sip:a@x\""), "{info}");
            (basic, busy, info.contains("<state>early<"), info.contains("<state>confirmed<"))
        };
        assert_eq!(said(State::LoggedOut), (false, false, false, false));
        assert_eq!(said(State::NotReady), (true, false, false, false));
        assert_eq!(said(State::Ready), (true, false, false, false));
        assert_eq!(said(State::Reserved), (true, false, true, false));
        assert_eq!(said(State::Busy), (true, true, false, true));
        assert_eq!(said(State::WorkingAfterCall), (true, false, false, false));
    }
}

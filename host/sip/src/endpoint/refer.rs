//! Transfers that the other side asks for: REFER with its implicit subscription (RFC 3515, RFC 6665,
//! RFC 4488), and the INVITE that takes a dialog's place (Replaces, RFC 3891).
//!
//! ```text
//!   REFER --> Event::Refer --> accept_refer: 202, NOTIFY "100 Trying"
//!                                 refer_news: NOTIFY "180 Ringing" ... NOTIFY "200 OK", terminated
//!                          \-> respond: refused
//! ```
//!
//! The subscription outlives the call in whose dialog it was made: whoever transfers may hang up first.

use cordboard_base::{Now, TimerId, secs};

use super::Endpoint;
use super::core::{Wake, minted_slot};
use super::leg::{Leg, Phase};
use super::txns::Owner;
use super::types::{Event, Flow, LegId, ReferId, TxnId};
use crate::dialog::Dialog;
use crate::wire::{Message, Method, Name, NameAddr, Params, Uri, reason_phrase};

/// A transfer whose user never says how it went is forgotten after this.
const GUARD_S: u64 = 300;
/// What a subscription is said to last, renewed by nobody: it ends with the transfer.
const EXPIRES_S: u64 = 180;
/// Transfers at once that are reported on.
const MAX_REFERS: usize = 10_000;

/// A transfer that we report on.
#[derive(Debug)]
pub(super) struct Refer {
    leg: u64,
    /// The leg's, once that is gone.
    dialog: Option<Dialog>,
    peer: Flow,
    /// The REFER's CSeq number, unless it was the first of its dialog.
    id: Option<u32>,
    /// `Refer-Sub: false`: nothing is reported.
    quiet: bool,
    guard: Option<TimerId>,
}

/// The value of a Replaces header (RFC 3891 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Replaces<'a> {
    call_id: &'a str,
    to_tag: &'a str,
    from_tag: &'a str,
    early_only: bool,
}

impl<'a> Replaces<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let (call_id, params) = value.split_once(';')?;
        let params = Params::new(params);
        Some(Self {
            call_id: call_id.trim(),
            to_tag: params.get("to-tag")?,
            from_tag: params.get("from-tag")?,
            early_only: params.has("early-only"),
        })
    }
}

impl Endpoint {
    /// A REFER inside a dialog that is up.
    pub(super) fn on_refer(&mut self, now: Now, txn_id: u64, leg_id: u64, request: &Message) {
        let mut targets = request.headers(Name::ReferTo);
        // RFC 3515 2.4.2: "A REFER request ... containing zero or more than one Refer-To header field values
        // MUST [be answered] with a 400".
        let (Some(refer_to), None) = (targets.next(), targets.next()) else {
            return self.respond_with(now, txn_id, 400, |b| b);
        };
        let Some(address) = NameAddr::parse(refer_to) else {
            return self.respond_with(now, txn_id, 400, |b| b);
        };
        let Some(uri) = Uri::parse(address.uri).ok().filter(Uri::is_sip) else {
            return self.respond_with(now, txn_id, 416, |b| b);
        };
        let header = |wanted: &str| {
            uri.header_pairs().find(|(n, _)| n.eq_ignore_ascii_case(wanted)).map(|(_, v)| v.into_owned())
        };
        // A method other than INVITE is no transfer of a call.
        if uri.param("method").is_some_and(|m| !m.eq_ignore_ascii_case("INVITE")) {
            return self.respond_with(now, txn_id, 501, |b| b);
        }
        let target = address.uri.split('?').next().unwrap_or("").to_owned();
        let quiet =
            request.header(Name::ReferSub).is_some_and(|v| v.to_ascii_lowercase().starts_with("false"));
        if let Some(txn) = self.txns.get_mut(txn_id) {
            txn.owner = Owner::Respond;
        }
        self.core.tell(Event::Refer {
            leg: LegId(leg_id),
            txn: TxnId(txn_id),
            target,
            replaces: header("Replaces"),
            referred_by: request.header(Name::ReferredBy).map(str::to_owned),
            quiet,
        });
    }

    /// Accepts a REFER: 202, and the first NOTIFY.
    pub(super) fn start_refer(&mut self, now: Now, txn_id: u64, leg_id: u64) -> Option<ReferId> {
        let request = self.txns.get(txn_id).filter(|t| t.owner == Owner::Respond)?.request.clone()?;
        if request.method() != Method::Refer || self.refers.len() >= MAX_REFERS {
            self.respond_with(now, txn_id, 503, |b| b);
            return None;
        }
        let leg = self.legs.get_mut(leg_id)?;
        let cseq = request.cseq().map(|(n, _)| n);
        let id = cseq.filter(|_| leg.referred);
        leg.referred = true;
        let peer = leg.peer;
        let quiet =
            request.header(Name::ReferSub).is_some_and(|v| v.to_ascii_lowercase().starts_with("false"));
        self.respond_in_dialog(now, txn_id, 202, None, |b| {
            if quiet { b.header(Name::ReferSub, "false") } else { b }
        });
        self.next_request += 1;
        let number = self.next_request;
        let guard = Some(self.core.wake(now, secs(GUARD_S), Wake::Refer(number)));
        self.refers.insert(number, Refer { leg: leg_id, dialog: None, peer, id, quiet, guard });
        self.notify(now, number, 100);
        Some(ReferId(number))
    }

    /// Reports how a transfer goes; with a final status it is over.
    pub(super) fn notify(&mut self, now: Now, number: u64, status: u16) {
        let Some(refer) = self.refers.get_mut(&number) else { return };
        let over = status >= 200;
        let leg = self.legs.get_mut(refer.leg);
        let (dialog, peer) = match leg.map(|leg| (leg.dialog.as_mut(), leg.peer)) {
            Some((Some(dialog), peer)) => (Some(dialog), peer),
            _ => (refer.dialog.as_mut(), refer.peer),
        };
        if let Some(dialog) = dialog.filter(|_| !refer.quiet) {
            let flow = self.core.flow_in_dialog(peer, &dialog.path());
            let cseq = dialog.next_cseq();
            let event = refer.id.map_or_else(|| "refer".to_owned(), |id| format!("refer;id={id}"));
            let state = if over {
                "terminated;reason=noresource".to_owned()
            } else {
                format!("active;expires={EXPIRES_S}")
            };
            let body = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
            let method = Method::Notify;
            self.txns.start_client(
                &mut self.core,
                now,
                Owner::Nobody,
                flow,
                method,
                |core, listener, branch| {
                    let w = core.in_dialog(dialog, flow.listener, "NOTIFY", cseq, branch, |w| {
                        w.contact(listener);
                        w.header("Event", &event);
                        w.header("Subscription-State", &state);
                    });
                    w.finish(Some(("message/sipfrag;version=2.0", body.as_bytes())))
                },
            );
        }
        if over && let Some(mut refer) = self.refers.remove(&number) {
            self.core.stop(&mut refer.guard);
        }
    }

    pub(super) fn on_refer_guard(&mut self, number: u64) {
        self.refers.remove(&number);
    }

    /// A leg is gone: its transfers keep what they report in.
    pub(super) fn keep_for_refers(&mut self, leg_id: u64, leg: &mut Leg) {
        for refer in self.refers.values_mut().filter(|r| r.leg == leg_id) {
            refer.peer = leg.peer;
            refer.dialog = leg.dialog.take();
        }
    }

    fn named_leg(&self, named: &Replaces<'_>) -> Option<(u64, &Leg)> {
        minted_slot(named.to_tag).and_then(|slot| self.legs.in_slot(slot)).filter(|(_, leg)| {
            *leg.tag == *named.to_tag
                && *leg.call_id == *named.call_id
                && leg.dialog.as_ref().is_some_and(|d| *d.remote_tag == *named.from_tag)
        })
    }

    /// Whether the dialog that a Replaces names is one of ours (RFC 3891 6.1).
    #[must_use]
    pub fn holds(&self, replaces: &str) -> bool {
        Replaces::parse(replaces).is_some_and(|named| self.named_leg(&named).is_some())
    }

    /// The leg that an INVITE is to take the place of (RFC 3891 3). `Err` has been answered.
    pub(super) fn replaced(&mut self, now: Now, txn_id: u64, request: &Message) -> Result<Option<LegId>, ()> {
        let mut values = request.lines(Name::Replaces);
        let Some(value) = values.next() else { return Ok(None) };
        let named = Replaces::parse(value);
        let refuse = |this: &mut Self, status| {
            this.respond_with(now, txn_id, status, |b| b);
            Err(())
        };
        // "If more than one Replaces header field is present in an INVITE ... the UAS MUST reject the request
        // with a 400".
        let (Some(named), None) = (named, values.next()) else { return refuse(self, 400) };
        let found = self.named_leg(&named);
        match found.map(|(id, leg)| (id, &leg.phase)) {
            Some((_, Phase::Talking(session))) if session.bye.is_some() => refuse(self, 603),
            // "If ... the "early-only" flag is present and the dialog is confirmed": 486.
            Some((_, Phase::Talking(_))) if named.early_only => refuse(self, 486),
            Some((id, Phase::Talking(_))) => Ok(Some(LegId(id))),
            // "If the Replaces header field matches a dialog that was already terminated": 603.
            Some((_, Phase::Ending { .. })) => refuse(self, 603),
            // An early dialog that we did not initiate cannot be replaced; an early one of ours has no
            // dialog that its user could be moved from.
            _ => refuse(self, 481),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Replaces;

    #[test]
    fn a_replaces_names_a_dialog_by_three_parts() {
        let full = Replaces::parse("98732@sip.example.com;from-tag=r33th4x0r ;to-tag=ff87ff;early-only");
        let expected = Replaces {
            call_id: "98732@sip.example.com",
            to_tag: "ff87ff",
            from_tag: "r33th4x0r",
            early_only: true,
        };
        assert_eq!(full, Some(expected));
        assert_eq!(Replaces::parse("1;to-tag=a;from-tag=b").map(|r| r.early_only), Some(false));
        for bad in ["", "1", "1;to-tag=a", "1;from-tag=b"] {
            assert_eq!(Replaces::parse(bad), None, "{bad}");
        }
    }
}

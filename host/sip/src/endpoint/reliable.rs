//! Provisional responses that arrive (RFC 3262), as the callee and as the caller.
//!
//! ```text
//!   callee:  progress --> sent, T1, 2 T1, 4 T1 ... --PRACK--> the next one, or the 2xx that waited
//!                              \--- 64 T1 without PRACK: 504, the call is over
//!   caller:  1xx with RSeq --> the next in order? PRACK in its early dialog, and the user hears it
//! ```
//!
//! A 2xx waits for the PRACK of what was sent before it: the RFC asks that of one with a session
//! description, and one rule for all leaves no PRACK without its INVITE.

use std::collections::VecDeque;

use cordboard_base::{Now, TimerId};

use super::Endpoint;
use super::core::{Core, LegTimer, Wake};
use super::leg::Phase;
use super::txns::Owner;
use super::types::{End, Event, LegId};
use crate::dialog::Dialog;
use crate::wire::{Message, Method, Name, text};

/// Provisional responses that may wait for the PRACK of an earlier one; a further one replaces the last.
const MAX_QUEUED: usize = 8;
/// Early dialogs of one INVITE whose reliable responses are acknowledged.
const MAX_EARLY: usize = 16;

/// Whether the caller takes reliable provisional responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    No,
    /// Those with a session description are sent reliably.
    Supports,
    /// All are.
    Requires,
}

impl Wants {
    pub(super) fn of(invite: &Message) -> Self {
        let has = |name| invite.headers(name).any(|o| o.eq_ignore_ascii_case("100rel"));
        if has(Name::Require) {
            Self::Requires
        } else if has(Name::Supported) {
            Self::Supports
        } else {
            Self::No
        }
    }
}

/// The callee's side.
#[derive(Debug, Default)]
pub(super) struct Reliable {
    rseq: u32,
    waiting: Option<Waiting>,
    queued: VecDeque<(u16, Option<String>)>,
    /// The 2xx that waits for the last PRACK.
    answer: Option<Option<String>>,
    /// A description of ours was acknowledged: the exchange of the INVITE is over (RFC 3311 5.1).
    pub(super) answered: bool,
}

#[derive(Debug)]
struct Waiting {
    bytes: bytes::Bytes,
    described: bool,
    repeat: Option<TimerId>,
    limit: Option<TimerId>,
    interval_ns: u64,
}

impl Reliable {
    pub(super) fn stop_timers(&mut self, core: &mut Core) {
        if let Some(waiting) = &mut self.waiting {
            core.stop(&mut waiting.repeat);
            core.stop(&mut waiting.limit);
        }
    }
}

/// One early dialog of an INVITE of ours.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) dialog: Dialog,
    rseq: u32,
    /// It has answered our offer.
    pub(super) answered: bool,
}

impl Endpoint {
    /// Sends a provisional response reliably, if the caller takes it so. False when it is to go as usual.
    pub(super) fn send_reliably(&mut self, now: Now, leg_id: u64, status: u16, sdp: Option<&str>) -> bool {
        let Some(leg) = self.legs.get_mut(leg_id) else { return false };
        let Phase::Ringing(ringing) = &mut leg.phase else { return false };
        let wanted = match ringing.wants {
            Wants::No => false,
            Wants::Supports => sdp.is_some(),
            Wants::Requires => true,
        };
        if !wanted {
            return false;
        }
        let txn = ringing.txn;
        if ringing.reliable.is_none() {
            // 3: "the initial value of the header field ... MUST be between 1 and 2**31 - 1".
            let rseq = self.core.random.below(1 << 30) as u32;
            ringing.reliable = Some(Box::new(Reliable { rseq, ..Reliable::default() }));
        }
        let Some(reliable) = &mut ringing.reliable else { return false };
        // 3: "The UAS MUST NOT send a second reliable provisional response until the first is acknowledged."
        if reliable.waiting.is_some() {
            if reliable.queued.len() >= MAX_QUEUED {
                reliable.queued.pop_back();
            }
            reliable.queued.push_back((status, sdp.map(str::to_owned)));
            return true;
        }
        reliable.rseq += 1;
        let rseq = reliable.rseq;
        self.respond_in_dialog(now, txn, status, sdp, |b| {
            b.header(Name::Require, "100rel").format(Name::RSeq, rseq)
        });
        let bytes = self.txns.get(txn).map(|t| t.last.clone()).unwrap_or_default();
        let times = self.core.times;
        let repeat = Some(self.core.wake(now, times.t1_ns, Wake::Leg(leg_id, LegTimer::RepeatReliable)));
        let limit = Some(self.core.wake(now, times.give_up_ns(), Wake::Leg(leg_id, LegTimer::NoPrack)));
        if let Some(reliable) = self.reliable(leg_id) {
            let described = sdp.is_some();
            reliable.waiting = Some(Waiting { bytes, described, repeat, limit, interval_ns: times.t1_ns });
        }
        true
    }

    fn reliable(&mut self, leg_id: u64) -> Option<&mut Reliable> {
        match &mut self.legs.get_mut(leg_id)?.phase {
            Phase::Ringing(ringing) => ringing.reliable.as_deref_mut(),
            _ => None,
        }
    }

    /// Keeps a 2xx until the PRACK of what was sent before it. False when nothing is waited for.
    pub(super) fn hold_answer(&mut self, leg_id: u64, sdp: Option<&str>) -> bool {
        let Some(reliable) = self.reliable(leg_id).filter(|r| r.waiting.is_some()) else { return false };
        reliable.queued.clear();
        reliable.answer = Some(sdp.map(str::to_owned));
        true
    }

    /// 3: sent again at "T1 seconds, and doubles for each subsequent retransmission", without a limit of T2.
    pub(super) fn on_repeat_reliable(&mut self, now: Now, leg_id: u64) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let Phase::Ringing(ringing) = &mut leg.phase else { return };
        let Some(flow) = self.txns.get(ringing.txn).map(|t| t.flow) else { return };
        let Some(waiting) = ringing.reliable.as_mut().and_then(|r| r.waiting.as_mut()) else { return };
        waiting.interval_ns = waiting.interval_ns.saturating_mul(2);
        let wake = Wake::Leg(leg_id, LegTimer::RepeatReliable);
        waiting.repeat = Some(self.core.wake(now, waiting.interval_ns, wake));
        let bytes = waiting.bytes.clone();
        self.core.resend(flow, &bytes);
    }

    /// 3: "If a reliable provisional response is retransmitted for 64*T1 seconds without reception of a
    /// corresponding PRACK, the UAS SHOULD reject the original request with a 5xx response."
    pub(super) fn on_no_prack(&mut self, now: Now, leg_id: u64) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let Phase::Ringing(ringing) = &leg.phase else { return };
        let txn = ringing.txn;
        self.respond_with(now, txn, 504, |b| b);
        self.drop_leg(now, leg_id);
        self.core.tell(Event::Ended { leg: LegId(leg_id), cause: End::NoPrack });
    }

    /// Their PRACK (RFC 3262 3).
    pub(super) fn on_prack(&mut self, now: Now, txn_id: u64, leg_id: u64, prack: &Message) {
        let named = prack.header(Name::RAck).and_then(rack);
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let invite = leg.invite_cseq;
        let taken = match &mut leg.phase {
            Phase::Ringing(ringing) => {
                let offered = ringing.offered;
                ringing
                    .reliable
                    .as_mut()
                    .filter(|r| named == Some((r.rseq, invite)))
                    .and_then(|r| Some((offered, r.waiting.take()?)))
            }
            _ => None,
        };
        // 3: "If a PRACK request is received by the UA core that does not match any unacknowledged reliable
        // provisional response, the UAS MUST respond to the PRACK with a 481 response."
        let Some((offered, mut waiting)) = taken else {
            return self.respond_with(now, txn_id, 481, |b| b);
        };
        self.core.stop(&mut waiting.repeat);
        self.core.stop(&mut waiting.limit);
        let (has_body, answers) = (prack.has_sdp(), waiting.described && !offered);
        if let Some(reliable) = self.reliable(leg_id) {
            reliable.answered |= waiting.described && (offered || has_body);
        }
        if has_body && !answers {
            // 5: "If the PRACK contained an offer, the answer is in its 2xx".
            self.hand_offer_over(txn_id, leg_id, prack);
        } else {
            self.respond_with(now, txn_id, 200, |b| b);
            if has_body {
                self.core.tell(Event::Confirmed { leg: LegId(leg_id), ack: prack.clone() });
            }
        }
        let Some(reliable) = self.reliable(leg_id) else { return };
        if let Some((status, sdp)) = reliable.queued.pop_front() {
            self.send_progress(now, leg_id, status, sdp.as_deref());
        } else if let Some(sdp) = reliable.answer.take() {
            self.send_answer(now, leg_id, sdp.as_deref());
        }
    }

    /// A provisional response to our INVITE: acknowledged if it is reliable. False when it was heard before,
    /// or comes out of order and will come again (RFC 3262 4).
    pub(super) fn is_news(&mut self, now: Now, txn_id: u64, leg_id: u64, response: &Message) -> bool {
        let needs = response.headers(Name::Require).any(|o| o.eq_ignore_ascii_case("100rel"));
        let Some(rseq) = response.header(Name::RSeq).and_then(text::number).filter(|_| needs) else {
            return true;
        };
        let Some(txn) = self.txns.get(txn_id) else { return false };
        let (uri, local) = super::uac::dialog_parts(txn);
        let Some(leg) = self.legs.get_mut(leg_id) else { return false };
        let (peer, cseq) = (leg.peer, leg.invite_cseq);
        let Phase::Calling(calling) = &mut leg.phase else { return false };
        let tag = response.to().and_then(|t| t.tag()).unwrap_or("").to_owned();
        let at = match calling.early.iter().position(|e| *e.dialog.remote_tag == *tag) {
            Some(at) => {
                let early = &mut calling.early[at];
                if rseq != early.rseq.wrapping_add(1) {
                    self.core.totals.absorbed += 1;
                    return false;
                }
                early.rseq = rseq;
                early.dialog.refresh_target(response);
                at
            }
            None if calling.early.len() >= MAX_EARLY => return true,
            None => {
                let dialog = Dialog::caller(&leg.call_id, &local, cseq, response, &uri);
                calling.early.push(Early { dialog, rseq, answered: false });
                calling.early.len() - 1
            }
        };
        let early = &mut calling.early[at];
        early.answered |= response.has_sdp() && calling.offered;
        let number = early.dialog.next_cseq();
        let flow = self.core.flow_in_dialog(peer, &early.dialog.path());
        let dialog = &early.dialog;
        self.txns.start_client(&mut self.core, now, Owner::Nobody, flow, Method::Prack, |core, _, branch| {
            core.in_dialog(dialog, flow.listener, "PRACK", number, branch, |w| {
                w.header("RAck", &format!("{rseq} {cseq} INVITE"));
            })
            .finish(None)
        });
        true
    }
}

/// RSeq and CSeq number of a RAck that names an INVITE (7.2).
fn rack(value: &str) -> Option<(u32, u32)> {
    let mut words = value.split_ascii_whitespace();
    let (rseq, cseq) = (text::number(words.next()?)?, text::number(words.next()?)?);
    (words.next() == Some("INVITE") && words.next().is_none()).then_some((rseq, cseq))
}

#[cfg(test)]
mod tests {
    use super::rack;

    #[test]
    fn a_rack_names_a_response_and_its_invite() {
        assert_eq!(rack("776656 1 INVITE"), Some((776_656, 1)));
        for bad in ["", "1", "1 2", "1 2 BYE", "x 2 INVITE", "1 2 INVITE 3"] {
            assert_eq!(rack(bad), None, "{bad}");
        }
    }
}

//! The end of a call: everything it held is let go, in one step, once.
//!
//! ```text
//!   finish: rings CallerGone, talk over, legs ended, media closed, script told
//!      |
//!      +-- no script, or a place in a queue --> CallEnded, Gone
//!      +-- a script has its grace ------------> (it ends, or the time is up) --> CallEnded, Gone
//! ```
//! The grace is there so that what a script sets after a hang-up still reaches the record. A caller
//! who waited in a queue frees the place at once.

use super::call::{Call, Wake};
use super::core::Core;
use super::{Output, ended};
use crate::bridge::elapsed_ms;
use crate::center::cause;
use crate::handoff::Station;
use crate::ivr::Doing;
use crate::messages::{OfferResult, TalkEnd, ToDomain};
use crate::script::{Failure, ToScript};
use crate::timeline::Step;

/// Beyond the script's own grace, for the way there and back.
const GRACE_MARGIN_MS: u64 = 500;

impl Core {
    /// Ends the call with a Q.850 cause; a caller who was not answered gets the status that goes with it.
    pub(super) fn finish(&mut self, call: &mut Call, cause: u8, by: &str, text: &str) {
        let status = if call.answered { 200 } else { cause::status_of(cause) };
        self.finish_with(call, cause, by, text, status);
    }

    /// Ends the call. The second time it does nothing.
    pub(super) fn finish_with(&mut self, call: &mut Call, cause: u8, by: &str, text: &str, status: u16) {
        if call.ended.is_some() {
            return;
        }
        let status = if call.answered { 200 } else { status };
        let mut end = ended(cause, by, text, status);
        end.answered = call.answered;
        end.duration_ms = elapsed_ms(call.began, self.now);
        call.ended = Some(Box::new(end));
        // Why one side has hung up is said to the other; what a script or an operator does is their own.
        let said = call.said.take().filter(|_| !matches!(by, "script" | "operator")).unwrap_or_default();
        let reason = said.in_request(cause, text);
        let waited = call.place.is_some() && call.talk.is_none();

        // Nobody can accept any more.
        if let Some(ask) = call.ask.take() {
            self.asks.remove(&ask);
        }
        self.let_rings_go(call, &reason);
        self.transfer_failed_over(call, 487);
        if let Some(talk) = call.talk.take() {
            self.tokens.remove(&talk.token);
            let talked_ms = elapsed_ms(talk.since, self.now);
            self.drop_party(call, talk.party, &reason);
            let (token, ticket) = (talk.token, talk.ticket);
            self.tell(call, ToDomain::TalkEnded { token, ticket, talked_ms, how: TalkEnd::CallerGone });
        }
        if let Some(mut dial) = call.dial.take() {
            self.leave_trunk(&mut dial);
            self.drop_party(call, dial.party, &reason);
        }

        // The caller's own leg.
        if let Some(leg) = call.caller.leg.take() {
            if call.answered {
                self.hang_up(leg, &reason);
            } else {
                let reason = said.in_response(cause, text);
                let retry_after = self.model.limits.retry_after_s.to_string();
                let headers = [("Reason", reason.as_str()), ("Retry-After", retry_after.as_str())];
                self.reject(leg, status, &headers[..if status == 503 { 2 } else { 1 }]);
            }
        }
        if let Some(media) = call.caller.media.take() {
            self.close_media(media);
        }
        for wake in [Wake::Route, Wake::Renew, Wake::Verb, Wake::Probe] {
            self.disarm(call, wake);
        }
        #[cfg(feature = "seeded-bugs")]
        if !self.bugs.ring_timer_leaked {
            self.disarm(call, Wake::Ring);
        }
        #[cfg(not(feature = "seeded-bugs"))]
        self.disarm(call, Wake::Ring);
        call.native = super::call::Native::No;

        // The script hears it last, when nothing of the call can reach it any more.
        if let Some(script) = &mut call.script {
            let id = script.id;
            let pending = script.pending.take();
            if let Some(pending) = pending {
                if let Doing::Record { name, .. } = &pending.doing {
                    let text = format!("recorded {name}, ended by the hang-up");
                    self.line(call, Step::After, text);
                }
                self.done(call, pending.verb, Err(Failure::HungUp));
            }
            self.out.push(Output::Script(id, ToScript::HungUp));
            if !waited {
                let grace_ms = call.model.limits.script_grace_ms + GRACE_MARGIN_MS;
                return self.arm(call, Wake::Grace, grace_ms);
            }
        }
        self.close_up(call);
    }

    fn let_rings_go(&mut self, call: &mut Call, reason: &str) {
        let Some(last) = call.round.as_ref().and_then(|r| r.rings.last()).map(|r| r.token) else { return };
        self.line(call, Step::RingTimer, "cancelled: the caller is gone").token = Some(last);
        let Some(mut round) = call.round.take() else { return };
        for ring in std::mem::take(&mut round.rings) {
            let settled = round.settle(self.now, &ring, OfferResult::CallerGone);
            self.tokens.remove(&ring.token);
            self.totals.offers_other += 1;
            if let Some(leg) = ring.party.leg {
                self.hang_up(leg, reason);
            }
            if let Some(media) = ring.party.media {
                self.close_media(media);
            }
            #[cfg(feature = "seeded-bugs")]
            if self.bugs.settled_never_on_caller_hang_up {
                continue;
            }
            self.tell(call, ToDomain::Settled(settled));
        }
    }

    /// The last word about a call: told once, and the call leaves the shard.
    pub(super) fn close_up(&mut self, call: &mut Call) {
        let Some(mut end) = call.ended.clone().filter(|_| !call.gone) else { return };
        call.gone = true;
        self.disarm(call, Wake::Grace);
        self.hand_off(call, Station::Gone);
        end.recordings = std::mem::take(&mut call.recordings);
        let detail = if end.text.is_empty() {
            format!("ended by {}, cause {}", end.by, end.cause)
        } else {
            format!("ended by {}, cause {}: {}", end.by, end.cause, end.text)
        };
        self.line(call, Step::After, detail);
        #[cfg(feature = "seeded-bugs")]
        if self.bugs.call_ended_twice {
            self.tell(call, ToDomain::CallEnded((*end).clone()));
        }
        self.tell(call, ToDomain::CallEnded(*end));
        let trunk = call.trunk().name.clone();
        self.admission.release(&trunk);
        self.interactions.remove(&call.interaction);
        self.forget_call_id(call);
        // A script that is late has nobody to speak to; its end is waited for without the call.
        self.out.push(Output::Gone { interaction: call.interaction });
    }
}

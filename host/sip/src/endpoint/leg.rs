//! The INVITE usage of one side of a call, and its phases.
//!
//! ```text
//!     invite()                                    INVITE received
//!        |                                              |
//!        v                                              v
//!   +---------+ hang_up +------------+             +---------+ reject, hang_up, CANCEL, BYE
//!   | Calling |-------->| Cancelling |             | Ringing |------------------------> gone
//!   +---------+         +------------+             +---------+
//!     |  |   failure: gone   |    | failure, B:         | answer
//!     |  +-----------------> |    | gone                |
//!     | 2xx              2xx |    v                     v
//!     |                      |            +---------+ <-+
//!     +-------------------------------->  | Talking |  BYE, NoAck, NoAnswer: gone
//!                            |            +---------+
//!                 ACK + BYE  |                 | hang_up (after the ACK to our 2xx)
//!                            v                 v
//!                         +----------------------+
//!                         | Ending: BYE is out   |  its final response or Timer F: gone
//!                         +----------------------+
//! ```
//!
//! Gone means that the slot is free. What transactions of a leg that is gone still have to do, they
//! do alone (`Owner::Nobody`).

use std::collections::VecDeque;
use std::sync::Arc;

use cordboard_base::TimerId;
use smallvec::SmallVec;

use super::core::Core;
use super::refresh::SessionTimer;
use super::reliable::{Early, Reliable, Wants};
use super::types::{Credentials, Flow};
use crate::dialog::Dialog;
use crate::digest::Client;
use crate::wire::Message;

/// One side of a call.
#[derive(Debug)]
pub(super) struct Leg {
    /// Our tag.
    pub(super) tag: Box<str>,
    pub(super) call_id: Arc<str>,
    /// The CSeq number of the INVITE that made it.
    pub(super) invite_cseq: u32,
    /// We placed the call: our tag is in From, and the Call-ID is ours for 14.1.
    pub(super) caller: bool,
    /// Where it was last heard: the connection that the dialog lives on, and the way when the remote target
    /// is a name.
    pub(super) peer: Flow,
    pub(super) auth: Option<Box<Auth>>,
    /// From the INVITE on for a callee, from the 2xx on for a caller.
    pub(super) dialog: Option<Dialog>,
    pub(super) ours: Option<OurOffer>,
    /// The server transaction of their offer, unanswered.
    pub(super) theirs: Option<u64>,
    pub(super) timer: Option<Box<SessionTimer>>,
    /// The smallest session interval that somebody on the way has asked for.
    pub(super) min_se_s: u32,
    pub(super) allows_update: bool,
    /// A transfer was accepted in its dialog: further ones are told apart by number (RFC 3515 2.4.6).
    pub(super) referred: bool,
    /// Our last session description, for a refresh by re-INVITE.
    pub(super) said: Option<Box<str>>,
    pub(super) phase: Phase,
}

/// Credentials, and how their use has gone.
#[derive(Debug)]
pub(super) struct Auth {
    pub(super) credentials: Credentials,
    /// Counts the uses of a nonce.
    pub(super) client: Client,
    /// How often in a row the nonce was called stale.
    pub(super) stale: u8,
}

impl From<Credentials> for Auth {
    fn from(credentials: Credentials) -> Self {
        Self { credentials, client: Client::default(), stale: 0 }
    }
}

#[derive(Debug)]
pub(super) enum Phase {
    Calling(Calling),
    Cancelling(Cancelling),
    Ringing(Ringing),
    Talking(Session),
    /// Our BYE is out; `crossed` when a 2xx met our CANCEL, `again` when its connection broke once.
    Ending {
        crossed: bool,
        again: bool,
    },
}

/// Our INVITE has no final response.
#[derive(Debug)]
pub(super) struct Calling {
    pub(super) txn: u64,
    /// The INVITE had the offer.
    pub(super) offered: bool,
    /// Something came back, so that it can be cancelled.
    pub(super) provisional: bool,
    pub(super) redirects: u8,
    pub(super) silent_target_ns: u64,
    pub(super) silent: Option<TimerId>,
    /// Contacts not tried yet, best first.
    pub(super) targets: VecDeque<String>,
    /// Contacts that were taken from a redirect; not empty once one is followed.
    pub(super) seen: Vec<String>,
    /// Dialogs of reliable provisional responses.
    pub(super) early: Vec<Early>,
}

/// We gave our INVITE up; before a provisional response the CANCEL waits for one (9.1).
#[derive(Debug)]
pub(super) struct Cancelling {
    pub(super) txn: u64,
    pub(super) sent: bool,
    pub(super) offered: bool,
    pub(super) reason: Option<String>,
}

/// Their INVITE has no final response.
#[derive(Debug)]
pub(super) struct Ringing {
    pub(super) txn: u64,
    pub(super) remind: Option<TimerId>,
    /// The INVITE had an offer.
    pub(super) offered: bool,
    pub(super) wants: Wants,
    pub(super) reliable: Option<Box<Reliable>>,
}

/// A confirmed dialog (or one whose 2xx is on its way).
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Our 2xx waits for its ACK.
    pub(super) unacked: Option<Unacked>,
    /// A BYE with this reason waits for that ACK (15: never before it).
    pub(super) bye: Option<Option<String>>,
    /// Their 2xx had the offer and waits for our ACK.
    pub(super) owed_ack: Option<(u64, Message)>,
    /// Requests inside the dialog: number and transaction.
    pub(super) requests: SmallVec<[(u64, u64); 2]>,
}

#[derive(Debug)]
pub(super) struct Unacked {
    pub(super) txn: u64,
    pub(super) cseq: u32,
    /// Of the INVITE that made the dialog, not of a re-INVITE.
    pub(super) initial: bool,
    pub(super) repeat: Option<TimerId>,
    pub(super) limit: Option<TimerId>,
    pub(super) interval_ns: u64,
}

/// Our re-INVITE or UPDATE, under way or waiting after a 491.
#[derive(Debug)]
pub(super) struct OurOffer {
    /// None in a refresh by UPDATE, or when we have said nothing yet.
    pub(super) sdp: Option<String>,
    pub(super) update: bool,
    /// The user asked for it and hears the outcome; else it is a refresh.
    pub(super) asked: bool,
    pub(super) txn: Option<u64>,
    pub(super) retry: Option<TimerId>,
    pub(super) glares: u8,
}

impl OurOffer {
    /// Whether it is an offer in the sense of glare; an UPDATE without a body is none.
    pub(super) fn offers(&self) -> bool {
        !self.update || self.sdp.is_some()
    }
}

impl Leg {
    /// The dialog with that remote tag, early ones too.
    pub(super) fn dialog_with(&mut self, tag: &str) -> Option<&mut Dialog> {
        match (&mut self.dialog, &mut self.phase) {
            (Some(dialog), _) => Some(dialog),
            (None, Phase::Calling(calling)) => {
                calling.early.iter_mut().map(|e| &mut e.dialog).find(|d| *d.remote_tag == *tag)
            }
            _ => None,
        }
    }

    /// Our offer and the dialog that it is made in: before the answer, one whose offer is answered.
    pub(super) fn dialog_and_offer(&mut self) -> Option<(&mut Dialog, &mut OurOffer)> {
        let dialog = match (&mut self.dialog, &mut self.phase) {
            (Some(dialog), _) => dialog,
            (None, Phase::Calling(calling)) => &mut calling.early.iter_mut().find(|e| e.answered)?.dialog,
            _ => return None,
        };
        Some((dialog, self.ours.as_mut()?))
    }

    /// Where requests of its dialog go.
    pub(super) fn flow(&self, core: &Core) -> Flow {
        match &self.dialog {
            Some(dialog) => core.flow_in_dialog(self.peer, &dialog.path()),
            None => self.peer,
        }
    }

    /// The callee's 2xx exists, or the caller has it.
    pub(super) fn session(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Talking(session) => Some(session),
            _ => None,
        }
    }

    /// Stops every timer of the leg's own.
    pub(super) fn stop_timers(&mut self, core: &mut Core) {
        match &mut self.phase {
            Phase::Calling(calling) => core.stop(&mut calling.silent),
            Phase::Ringing(ringing) => {
                core.stop(&mut ringing.remind);
                if let Some(reliable) = &mut ringing.reliable {
                    reliable.stop_timers(core);
                }
            }
            Phase::Talking(session) => session.stop_timers(core),
            Phase::Cancelling(_) | Phase::Ending { .. } => {}
        }
    }
}

impl Session {
    pub(super) fn stop_timers(&mut self, core: &mut Core) {
        if let Some(unacked) = &mut self.unacked {
            core.stop(&mut unacked.repeat);
            core.stop(&mut unacked.limit);
        }
    }
}

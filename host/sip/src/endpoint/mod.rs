//! One shard's SIP stack, without input or output: datagrams and the time go in, datagrams and
//! events come out of [`Endpoint::poll`].
//!
//! It holds the transactions (RFC 3261 17, RFC 6026), the dialogs (12) and the INVITE usages
//! ("legs", 13 to 15), and settles inside itself all that a call has no opinion on:
//! retransmissions, ACK, CANCEL and its crossings, digest challenges and redirects as a client.
//! The signalling shard calls it; it never touches a socket, a clock or a call's media.

mod types;

use std::net::SocketAddr;

use bytes::Bytes;
use cordboard_base::{Now, Random};

pub use types::*;

/// The SIP stack of one shard. See the module.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
    random: Random,
}

#[expect(unused_variables, reason = "the interface is published first, so that its users can build on it")]
impl Endpoint {
    /// An endpoint without calls.
    #[must_use]
    pub fn new(config: Config, random: Random) -> Self {
        Self { config, random }
    }

    /// Takes one datagram. Bad input is answered or dropped and counted.
    pub fn receive(&mut self, now: Now, listener: u16, from: SocketAddr, bytes: Bytes) {}

    /// Runs the timers that are due.
    pub fn tick(&mut self, now: Now) {}

    /// When the next timer is due, on the monotonic clock.
    pub fn next_deadline_ns(&mut self) -> Option<u64> {
        None
    }

    /// The next thing to send or to hear, until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        None
    }

    /// Places a call.
    ///
    /// # Errors
    /// When a limit is reached, or nothing says where to send.
    pub fn invite(&mut self, now: Now, invite: Invite) -> Result<LegId, Full> {
        Err(Full::Legs)
    }

    /// Sends a provisional response, 101 to 199, to an incoming leg.
    pub fn progress(&mut self, now: Now, leg: LegId, status: u16, sdp: Option<&str>) {}

    /// Answers an incoming leg with 200, retransmitted until the ACK (RFC 3261 13.3.1.4).
    pub fn answer(&mut self, now: Now, leg: LegId, sdp: Option<&str>) {}

    /// Refuses an unanswered incoming leg with a 3xx to 6xx. The leg is gone; no event follows.
    pub fn reject(&mut self, now: Now, leg: LegId, status: u16, headers: &[(&str, &str)]) {}

    /// Ends a leg by CANCEL, BYE or a final response, as its state asks. `Released` follows, and nothing else.
    /// `reason` is the value of a Reason header (RFC 3326).
    pub fn hang_up(&mut self, now: Now, leg: LegId, reason: Option<&str>) {}

    /// Sends the ACK with the answer, when the 2xx to our INVITE had the offer.
    pub fn ack(&mut self, now: Now, leg: LegId, sdp: &str) {}

    /// Offers again by re-INVITE; after a 491 once more (RFC 3261 14.1). False when it cannot be done now.
    pub fn reoffer(&mut self, now: Now, leg: LegId, sdp: &str) -> bool {
        false
    }

    /// Accepts the offer of a re-INVITE or UPDATE; `None` when there is nothing to answer with.
    pub fn accept_offer(&mut self, now: Now, leg: LegId, sdp: Option<&str>) {}

    /// Refuses the offer of a re-INVITE or UPDATE with a status from 400; the session goes on as before.
    pub fn refuse_offer(&mut self, now: Now, leg: LegId, status: u16) {}

    /// Sends a request outside any dialog. A `Response` event with this number follows.
    pub fn request(&mut self, now: Now, request: OutRequest) -> u64 {
        0
    }

    /// Sends a request inside a confirmed dialog: INFO, REFER, MESSAGE. `None` when the leg cannot.
    pub fn leg_request(
        &mut self,
        now: Now,
        leg: LegId,
        method: &str,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Option<u64> {
        None
    }

    /// Answers an [`Event::Request`].
    pub fn respond(
        &mut self,
        now: Now,
        txn: TxnId,
        status: u16,
        headers: &[(&str, &str)],
        body: Option<(&str, &[u8])>,
    ) {
    }

    /// The dialog of a confirmed leg as plain data.
    #[must_use]
    pub fn dialog(&self, leg: LegId) -> Option<DialogRecord> {
        None
    }

    /// The Call-ID of a leg, incoming or outgoing, from its first message on.
    #[must_use]
    pub fn call_id(&self, leg: LegId) -> Option<&str> {
        None
    }

    /// The CSeq of the leg's INVITE, incoming or outgoing.
    #[must_use]
    pub fn cseq(&self, leg: LegId) -> Option<u32> {
        None
    }

    /// Sends a BYE for a dialog of a former life of the process, with a CSeq well above the recorded one.
    /// No event follows.
    pub fn end_orphan(&mut self, now: Now, record: &DialogRecord, reason: &str) {}

    /// What lives now, and totals.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::default()
    }
}

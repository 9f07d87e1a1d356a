//! Callers and agents' phones: the real SIP endpoint, with people on top who do what a seed says.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cordboard_base::{Now, Random, ms};
use cordboard_sip::endpoint::{Endpoint, Event, Invite, LegId};
use cordboard_sip::sdp;

/// What a person does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Send 180.
    Ring(LegId),
    /// Send 200.
    Answer(LegId),
    /// Send this status.
    Refuse(LegId, u16),
    /// BYE, CANCEL.
    HangUp(LegId),
    /// re-INVITE with `sendonly` or `sendrecv`.
    Hold(LegId, bool),
    /// The phone goes dark: it neither sends nor hears any more on this leg.
    Vanish(LegId),
}

/// A leg as its person sees it.
#[derive(Debug)]
pub struct Line {
    /// Its RTP address.
    pub rtp: SocketAddr,
    /// The other side's RTP port, as its SDP said.
    pub far_port: Option<u16>,
    /// Answered.
    pub up: bool,
    /// The caller's number, or the agent's name.
    pub who: String,
}

/// A set of phones behind one address.
#[derive(Debug)]
pub struct Phones {
    /// Their SIP stack.
    pub endpoint: Endpoint,
    /// Live legs.
    pub lines: BTreeMap<LegId, Line>,
    /// Legs whose phones went dark.
    pub dark: BTreeMap<LegId, String>,
    address: SocketAddr,
    next_port: u16,
    agents: bool,
    /// Legs that ended before they were answered, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Legs that were answered and ended.
    pub talked: u64,
    /// Legs that this side ended before they were answered.
    pub given_up: u64,
}

/// Acts that follow an event, each after so many nanoseconds.
pub type Later = Vec<(u64, Act)>;

impl Phones {
    /// Phones behind `address`; agents answer, callers call.
    #[must_use]
    pub fn new(endpoint: Endpoint, address: SocketAddr, agents: bool) -> Self {
        Self {
            endpoint,
            lines: BTreeMap::new(),
            dark: BTreeMap::new(),
            address,
            next_port: 20_000,
            agents,
            refused: BTreeMap::new(),
            talked: 0,
            given_up: 0,
        }
    }

    fn rtp(&mut self) -> SocketAddr {
        self.next_port = if self.next_port >= 64_000 { 20_000 } else { self.next_port + 2 };
        SocketAddr::new(self.address.ip(), self.next_port)
    }

    fn offer(rtp: SocketAddr, direction: sdp::Direction, version: u64) -> String {
        let local = sdp::Local { address: rtp.ip(), port: rtp.port(), session_id: 1, version };
        sdp::offer(&local, &[sdp::Codec::Pcmu, sdp::Codec::Pcma], direction)
    }

    /// Places a call. Some callers send no offer.
    pub fn call(
        &mut self,
        now: Now,
        number: &str,
        target: &str,
        random: &mut Random,
    ) -> Option<(LegId, Later)> {
        let rtp = self.rtp();
        let offer = (random.below(10) > 0).then(|| Self::offer(rtp, sdp::Direction::SendRecv, 1));
        let leg = self
            .endpoint
            .invite(
                now,
                Invite {
                    target: target.to_owned(),
                    from: format!("<sip:{number}@{}>", self.address),
                    to: format!("<{target}>"),
                    sdp: offer,
                    ..Invite::default()
                },
            )
            .ok()?;
        self.lines.insert(leg, Line { rtp, far_port: None, up: false, who: number.to_owned() });
        // Patience: some give up at every stage, from before the first response on.
        let patience = match random.below(10) {
            0 => random.below(ms(300)),
            1 => random.below(ms(5_000)),
            2..=4 => random.below(ms(40_000)),
            _ => ms(20_000) + random.below(ms(120_000)),
        };
        let mut acts = vec![(patience, Act::HangUp(leg))];
        if random.below(12) == 0 {
            let at = random.below(ms(20_000));
            acts.extend([(at, Act::Hold(leg, true)), (at + ms(3_000), Act::Hold(leg, false))]);
        }
        Some((leg, acts))
    }

    /// Does what was planned, if the leg still lives.
    pub fn act(&mut self, now: Now, act: Act) -> bool {
        let (Act::Ring(leg)
        | Act::Answer(leg)
        | Act::Refuse(leg, _)
        | Act::HangUp(leg)
        | Act::Hold(leg, _)
        | Act::Vanish(leg)) = act;
        let Some(line) = self.lines.get_mut(&leg) else { return false };
        let rtp = line.rtp;
        match act {
            Act::Ring(_) => self.endpoint.progress(now, leg, 180, None),
            Act::Answer(_) if !line.up => {
                line.up = true;
                let local = sdp::Local { address: rtp.ip(), port: rtp.port(), session_id: 1, version: 1 };
                let answer = sdp::offer(&local, &[sdp::Codec::Pcma], sdp::Direction::SendRecv);
                self.endpoint.answer(now, leg, Some(&answer));
            }
            Act::Answer(_) => {}
            Act::Refuse(_, status) if !line.up => {
                self.endpoint.reject(now, leg, status, &[]);
                self.lines.remove(&leg);
            }
            Act::Refuse(..) => {}
            Act::HangUp(_) => {
                if line.up {
                    self.talked += 1
                } else {
                    self.given_up += 1
                }
                self.endpoint.hang_up(now, leg, None);
                self.lines.remove(&leg);
            }
            Act::Hold(_, on) if line.up => {
                let direction = if on { sdp::Direction::SendOnly } else { sdp::Direction::SendRecv };
                self.endpoint.reoffer(now, leg, &Self::offer(rtp, direction, 2 + u64::from(!on)));
            }
            Act::Hold(..) => {}
            Act::Vanish(_) => {
                if let Some(call_id) = self.endpoint.call_id(leg).map(ToString::to_string) {
                    self.dark.insert(leg, call_id);
                    return true;
                }
            }
        }
        false
    }

    /// What the endpoint tells, and what the people then do.
    pub fn hear(&mut self, now: Now, event: Event, ring_timeout_ms: u64, random: &mut Random) -> Later {
        let mut acts = Vec::new();
        match event {
            Event::Incoming { leg, request, .. } if self.agents => {
                let rtp = self.rtp();
                let who = request.request_uri().to_owned();
                let far_port = sdp::Session::parse(request.body())
                    .ok()
                    .and_then(|s| sdp::agreed(&s).ok())
                    .map(|a| a.remote.port());
                self.lines.insert(leg, Line { rtp, far_port, up: false, who });
                let rings = random.below(ms(200));
                acts.push((rings, Act::Ring(leg)));
                match random.below(20) {
                    0 => acts.push((rings, Act::Refuse(leg, 486))),
                    1 => acts.push((random.below(ms(3_000)), Act::Refuse(leg, 603))),
                    2 => acts.push((rings, Act::Refuse(leg, 404))),
                    3 => {} // nobody there: the ring timer fires
                    4 | 5 => {
                        // At the very moment of the ring timeout, on either side of it.
                        let moment = ms(ring_timeout_ms) + random.below(ms(60));
                        acts.push((moment.saturating_sub(ms(40)), Act::Answer(leg)));
                    }
                    _ => acts.push((ms(300) + random.below(ms(4_000)), Act::Answer(leg))),
                }
            }
            Event::Incoming { leg, .. } => self.endpoint.reject(now, leg, 486, &[]),
            Event::Answered { leg, response } => {
                let Some(line) = self.lines.get_mut(&leg) else { return acts };
                line.up = true;
                let session = sdp::Session::parse(response.body()).ok();
                line.far_port = session.as_ref().and_then(|s| sdp::agreed(s).ok()).map(|a| a.remote.port());
                let rtp = line.rtp;
                let local = sdp::Local { address: rtp.ip(), port: rtp.port(), session_id: 1, version: 1 };
                // An INVITE without an offer: the 200 has it and the ACK answers. After one with an
                // offer the endpoint has sent the ACK and this does nothing.
                if let Some(session) = session
                    && let Ok((answer, _)) =
                        sdp::answer(&session, &local, &[sdp::Codec::Pcmu], sdp::Direction::SendRecv)
                {
                    self.endpoint.ack(now, leg, &answer);
                }
            }
            Event::Confirmed { leg, .. } if self.agents => {
                let talk = ms(500) + random.below(ms(15_000));
                acts.push(match random.below(20) {
                    0 => (talk, Act::Vanish(leg)),
                    _ => (talk, Act::HangUp(leg)),
                });
            }
            Event::Offer { leg, request } => {
                let answer = self.lines.get(&leg).and_then(|line| {
                    let session = sdp::Session::parse(request.body()).ok()?;
                    let rtp = line.rtp;
                    let local = sdp::Local { address: rtp.ip(), port: rtp.port(), session_id: 1, version: 9 };
                    let codecs = [sdp::Codec::Pcmu, sdp::Codec::Pcma];
                    sdp::answer(&session, &local, &codecs, sdp::Direction::SendRecv).ok()
                });
                match answer {
                    Some((answer, _)) => self.endpoint.accept_offer(now, leg, Some(&answer)),
                    None => self.endpoint.refuse_offer(now, leg, 488),
                }
            }
            Event::Request { txn, .. } => self.endpoint.respond(now, txn, 200, &[], None),
            Event::Refer { txn, .. } => self.endpoint.respond(now, txn, 603, &[], None),
            Event::Rejected { leg, status, .. } => {
                if self.lines.remove(&leg).is_some() {
                    *self.refused.entry(status).or_default() += 1;
                }
            }
            Event::Ended { leg, .. } => {
                if let Some(line) = self.lines.remove(&leg) {
                    if line.up { self.talked += 1 } else { self.given_up += 1 }
                }
            }
            Event::Released { leg, .. } => {
                self.lines.remove(&leg);
            }
            Event::Progress { .. }
            | Event::Redirected { .. }
            | Event::Confirmed { .. }
            | Event::OfferResult { .. }
            | Event::Resubscribe { .. }
            | Event::SubscriptionEnded { .. }
            | Event::Response { .. } => {}
        }
        acts
    }
}

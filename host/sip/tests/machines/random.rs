//! Thousands of calls from seeds over a network that loses, repeats and reorders, with both sides
//! doing anything at any time. Whatever happens: every leg ends, both sides know it, nothing stays.

use std::collections::BTreeMap;

use cordboard_base::{Random, ms};
use cordboard_sip::endpoint::{Event, Invite, LegId, Listener, Transport, TxnId};

use crate::harness::{Net, SDP_A, SDP_B};

/// What the model knows of one leg.
#[derive(Debug, Default, Clone)]
struct Life {
    call_id: String,
    incoming: bool,
    answered: bool,
    hung_up: bool,
    offer: bool,
    owes_ack: bool,
    end: Option<&'static str>,
}

struct Model {
    net: Net,
    legs: [BTreeMap<LegId, Life>; 2],
    requests: Vec<(usize, TxnId)>,
    /// Requests inside dialogs that wait for their answer.
    waiting: [Vec<u64>; 2],
    kinds: BTreeMap<&'static str, u32>,
}

impl Model {
    fn hear(&mut self) {
        for end in 0..2 {
            for event in self.net.drained(end) {
                self.heard(end, event);
            }
        }
    }

    fn life(&mut self, end: usize, leg: LegId) -> &mut Life {
        let life = self.legs[end].get_mut(&leg).expect("events are of legs that exist");
        assert!(life.end.is_none(), "{leg} is heard of after its end: {life:?}");
        life
    }

    fn heard(&mut self, end: usize, event: Event) {
        let kind = match event {
            Event::Incoming { leg, request, .. } => {
                // Its leg may be gone by the time that it is heard of.
                let call_id = request.call_id().to_owned();
                let before = self.legs[end].insert(leg, Life { call_id, incoming: true, ..Life::default() });
                assert!(before.is_none(), "{leg} comes in twice");
                "incoming"
            }
            Event::Answered { leg, .. } => {
                let life = self.life(end, leg);
                assert!(!life.answered && !life.hung_up, "{life:?}");
                life.answered = true;
                "answered"
            }
            Event::Progress { leg, .. } => {
                assert!(!self.life(end, leg).answered);
                "progress"
            }
            Event::Confirmed { leg, .. } => {
                assert!(self.life(end, leg).answered);
                "confirmed"
            }
            Event::Offer { leg, .. } => {
                let life = self.life(end, leg);
                assert!(!life.hung_up, "nothing but Released after hang_up");
                life.offer = true;
                "offer"
            }
            Event::OfferResult { leg, result } => {
                assert!(!self.life(end, leg).hung_up);
                if result.is_ok() { "offer-ok" } else { "offer-failed" }
            }
            Event::Resubscribe { .. } | Event::SubscriptionEnded { .. } => unreachable!("nobody subscribes"),
            Event::Request { txn, leg, .. } => {
                assert!(!self.life(end, leg.expect("inside a dialog")).hung_up);
                self.requests.push((end, txn));
                "request"
            }
            Event::Response { request, .. } => {
                let at = self.waiting[end].iter().position(|n| *n == request).expect("answered once");
                self.waiting[end].swap_remove(at);
                "response"
            }
            Event::Rejected { leg, .. } => self.end(end, leg, "rejected", false),
            Event::Ended { leg, cause } => {
                let how = match cause {
                    cordboard_sip::endpoint::End::Bye(_) => "bye",
                    cordboard_sip::endpoint::End::Cancelled(_) => "cancelled",
                    cordboard_sip::endpoint::End::NoAck => "no-ack",
                    cordboard_sip::endpoint::End::NoPrack => "no-prack",
                    cordboard_sip::endpoint::End::NoAnswer => "no-answer",
                };
                self.end(end, leg, how, false)
            }
            Event::Released { leg, crossed } => {
                self.end(end, leg, if crossed { "crossed" } else { "released" }, true)
            }
            Event::Redirected { .. } => "redirected",
            Event::Refer { leg, txn, .. } => {
                assert!(!self.life(end, leg).hung_up);
                let now = self.net.now;
                if let Some(refer) = self.net.ends[end].accept_refer(now, txn, leg) {
                    self.net.ends[end].refer_news(now, refer, 180);
                    self.net.ends[end].refer_news(now, refer, 200);
                }
                "refer"
            }
        };
        *self.kinds.entry(kind).or_default() += 1;
    }

    fn end(&mut self, end: usize, leg: LegId, how: &'static str, released: bool) -> &'static str {
        let life = self.life(end, leg);
        assert_eq!(life.hung_up, released, "{leg} {how}: {life:?}");
        life.end = Some(how);
        how
    }

    /// Some leg that is alive.
    fn any(&self, end: usize, random: &mut Random) -> Option<(LegId, Life)> {
        let live: Vec<_> = self.legs[end]
            .iter()
            .filter(|(_, l)| l.end.is_none() && !l.hung_up)
            .map(|(id, l)| (*id, l.clone()))
            .collect();
        (!live.is_empty()).then(|| live[random.below(live.len() as u64) as usize].clone())
    }

    fn act(&mut self, random: &mut Random) {
        let end = random.below(2) as usize;
        let now = self.net.now;
        let Some((leg, life)) = self.any(end, random) else { return };
        let early = life.incoming && !life.answered;
        match random.below(13) {
            0 if early => self.net.ends[end].progress(now, leg, 180, None),
            1 if early => self.net.ends[end].progress(now, leg, 183, Some(SDP_B)),
            2..=6 if early => {
                self.net.ends[end].answer(now, leg, Some(SDP_B));
                self.life(end, leg).answered = true;
            }
            7 if early => {
                self.net.ends[end].reject(now, leg, 486, &[]);
                self.life(end, leg).end = Some("refused");
            }
            0..=1 if life.answered => {
                self.net.ends[end].reoffer(now, leg, SDP_A);
            }
            2 if life.answered => {
                if let Some(n) = self.net.ends[end].leg_request(now, leg, "INFO", None, b"") {
                    self.waiting[end].push(n);
                }
            }
            11 if life.answered => {
                if let Some(n) = self.net.ends[end].refer(now, leg, "<sip:carol@10.0.0.9>", None) {
                    self.waiting[end].push(n);
                }
            }
            // Before the answer too, if it may be.
            10 if random.below(3) > 0 => {
                self.net.ends[end].update(now, leg, SDP_A);
            }
            3..=6 if life.offer => {
                self.net.ends[end].accept_offer(now, leg, Some(SDP_B));
                self.life(end, leg).offer = false;
            }
            7 if life.offer => {
                self.net.ends[end].refuse_offer(now, leg, 488);
                self.life(end, leg).offer = false;
            }
            3..=6 if life.owes_ack && life.answered => {
                self.net.ends[end].ack(now, leg, SDP_A);
                self.life(end, leg).owes_ack = false;
            }
            8 | 9 => {
                self.life(end, leg).hung_up = true;
                self.net.ends[end].hang_up(now, leg, None);
            }
            12 => {
                if let Some((end, txn)) = self.requests.pop() {
                    self.net.ends[end].respond(now, txn, 200, &[], None);
                }
            }
            _ => {}
        }
    }
}

/// One run of many calls; returns what was heard.
///
/// Over a stream nothing is lost or repeated, and connections break at any time, `loss` times in a thousand.
fn run(seed: u64, calls: u32, loss: u64, transport: Transport) -> BTreeMap<&'static str, u32> {
    let mut random = Random::seeded(seed ^ 0xabcd);
    let stream = transport.is_reliable();
    let mut net = Net::with(2, seed, |config| {
        let local = config.listeners[0].local;
        config.listeners.extend(stream.then_some(Listener { id: 1, transport, local }));
    });
    (net.loss_per_mille, net.twice_per_mille, net.delay_ms) = (loss, 50, (1, 400));
    let mut model = Model {
        net,
        legs: Default::default(),
        requests: Vec::new(),
        waiting: Default::default(),
        kinds: BTreeMap::new(),
    };
    let mut placed = 0;
    while placed < calls {
        if random.below(4) == 0 {
            let from = random.below(2) as usize;
            let delayed = random.below(5) == 0;
            let mut invite: Invite = model.net.invite(1 - from);
            if delayed {
                invite.sdp = None;
            }
            invite.listener = u16::from(stream);
            let leg = model.net.place(from, invite);
            let call_id = model.net.ends[from].call_id(leg).expect("just placed").to_string();
            model.legs[from].insert(leg, Life { call_id, owes_ack: delayed, ..Life::default() });
            placed += 1;
        }
        for _ in 0..3 {
            model.act(&mut random);
        }
        if stream && random.below(1_000) < loss {
            let open: Vec<u64> = model.net.streams.keys().copied().collect();
            if !open.is_empty() {
                model.net.cut(open[random.below(open.len() as u64) as usize]);
            }
        }
        let pause = random.below(500);
        model.net.run_ms(pause);
        model.hear();
        // Now and then all calls are let go, so that no side piles up legs that nobody ends.
        if random.below(40) == 0 {
            let slept = model.net.now.after_ns(ms(40_000));
            while model.net.step(slept) {}
            model.hear();
        }
    }
    // Silence: what one side has ended the other learns of by itself. (A caller that gave up without
    // having heard anything may not cancel, so a call that still rings is left out.)
    model.net.run_ms(100_000);
    model.hear();
    for end in 0..2 {
        let over: BTreeMap<_, _> =
            model.legs[1 - end].values().filter(|l| l.end.is_some()).map(|l| (&l.call_id, l.end)).collect();
        for (leg, life) in &model.legs[end] {
            let ringing = life.incoming && !life.answered;
            if let Some(how) = over.get(&life.call_id).filter(|_| !ringing) {
                assert!(life.end.is_some(), "seed {seed}: {leg} at {end} lives, its peer {how:?}: {life:?}");
            }
        }
    }
    // Both sides hang up all they have; then silence again.
    for end in 0..2 {
        while let Some((leg, _)) = model.any(end, &mut random) {
            model.life(end, leg).hung_up = true;
            let now = model.net.now;
            model.net.ends[end].hang_up(now, leg, None);
        }
    }
    model.net.run_ms(100_000);
    model.hear();
    model.net.assert_nothing_left();
    for end in 0..2 {
        for (leg, life) in &model.legs[end] {
            assert!(life.end.is_some(), "seed {seed}: end {end} {leg} never ended: {life:?}");
        }
        assert!(model.waiting[end].is_empty(), "seed {seed}: requests without an outcome");
    }
    model.kinds
}

#[test]
fn every_leg_ends_on_both_sides_and_nothing_is_left_whatever_the_network_does() {
    let mut kinds = BTreeMap::new();
    for (seed, loss) in [(1, 0), (2, 20), (3, 100), (4, 300), (5, 50), (6, 0), (7, 150), (8, 20)] {
        for (kind, n) in run(seed, 400, loss, Transport::Udp) {
            *kinds.entry(kind).or_insert(0) += n;
        }
    }
    for (seed, cuts) in [(11, 0), (12, 50), (13, 200), (14, 400)] {
        for (kind, n) in run(seed, 300, cuts, Transport::Tcp) {
            *kinds.entry(kind).or_insert(0) += n;
        }
    }
    // The run is worth something only if everything happened.
    for kind in [
        "incoming",
        "answered",
        "confirmed",
        "progress",
        "offer",
        "offer-ok",
        "offer-failed",
        "request",
        "response",
        "rejected",
        "bye",
        "cancelled",
        "released",
        "crossed",
        "no-ack",
        "no-answer",
        "refer",
    ] {
        assert!(kinds.get(kind).is_some_and(|n| *n > 0), "never heard: {kind}; heard {kinds:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for transport in [Transport::Udp, Transport::Tcp] {
        assert_eq!(run(42, 60, 100, transport), run(42, 60, 100, transport));
    }
}

//! What a message costs before anybody acts on it: a 1 KB INVITE indexed far enough to be routed, the
//! verdict on its sender, its way out of a stream; rsip, the vocabulary of the field, beside it.
//!
//! Times are the best of many rounds, since other programs share the machine; allocations are exact.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use cordboard_base::Now;
use cordboard_sip::defence::{Defence, Settings, What};
use cordboard_sip::stream::{Framer, Piece};
use cordboard_sip::wire::{MAX_MESSAGE, Message, Uri};

use self::cost::{allocations, invite};
use crate::Figure;

#[path = "../../../host/sip/tests/cost/mod.rs"]
mod cost;

const ROUNDS: u32 = 60;
const REPEATS: u32 = 5_000;

pub(crate) fn run() -> Vec<Figure> {
    let bytes = invite();
    let ours = || route(&index(black_box(bytes.clone())));
    let theirs =
        || drop(black_box(rsip::SipMessage::try_from(black_box(&bytes[..])).expect("a plain INVITE")));
    let (ns, allocs) = (best_ns(ours), allocations(ours).0 as f64);
    let (rsip_ns, rsip_allocs) = (best_ns(theirs), allocations(theirs).0 as f64);
    let index_ns = best_ns(|| drop(black_box(index(black_box(bytes.clone())))));
    let message = index(bytes.clone());
    let check_ns = best_ns(|| black_box(&message).check().expect("a good INVITE"));
    let what = "rsip 0.4, parsed only";
    let figure =
        |name, value, unit, baseline, of| Figure { name, value, unit, baseline, baseline_value: Some(of) };
    vec![
        figure("invite_index_ns", index_ns, "ns", what, rsip_ns),
        figure("invite_index_allocs", allocs, "", what, rsip_allocs),
        figure(
            "invite_route_ns",
            ns,
            "ns",
            "and its URI, Via, From, To, Call-ID, CSeq and Max-Forwards; asked",
            500.0,
        ),
        figure("invite_check_ns", check_ns, "ns", "whether it can be served, on top; what routing costs", ns),
        figure("invite_framed_ns", framed_ns(&bytes), "ns", "the same out of a TCP stream; datagram", ns),
        figure("admit_ns", admit_ns(), "ns", "the verdict on a sender, 50,000 known; asked", 100.0),
    ]
}

fn index(bytes: Bytes) -> Message {
    Message::parse(bytes).expect("a plain INVITE")
}

/// What has to be known to send a request on its way: whom it is for, and whose transaction, dialog and hop
/// it is.
fn route(message: &Message) {
    let via = message.top_via().expect("a Via");
    let uri = Uri::parse(message.request_uri()).expect("a Request-URI");
    black_box((
        (message.method(), uri.user, uri.host, uri.port),
        (via.branch, via.host, via.port, via.rport),
        (message.call_id(), message.cseq(), message.max_forwards()),
        message.from().and_then(|from| from.tag()),
        message.to().and_then(|to| to.tag()),
    ));
}

fn framed_ns(bytes: &Bytes) -> f64 {
    let mut framer = Framer::accepted(MAX_MESSAGE);
    best_ns(|| {
        framer.push(Now::default(), black_box(bytes));
        match framer.next_piece() {
            Ok(Some(Piece::Message(message))) => route(&index(message)),
            other => unreachable!("an INVITE goes in whole: {other:?}"),
        }
    })
}

/// Senders in an order that no cache foresees, as in a flood.
fn admit_ns() -> f64 {
    let mut defence = Defence::new(Settings::default());
    let (mut at, mut mono_ns) = (0_u32, 0);
    best_ns(|| {
        mono_ns += 1_000;
        at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let source = IpAddr::from([10, 0, ((at >> 24) % 196) as u8, (at >> 16) as u8]);
        let now = Now { mono_ns, wall_ms: 0 };
        black_box(defence.admit(now, black_box(source), What::Packet));
    })
}

fn best_ns(mut work: impl FnMut()) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let begin = Instant::now();
        for _ in 0..REPEATS {
            work();
        }
        begin.elapsed().as_nanos() as f64 / f64::from(REPEATS)
    });
    rounds.fold(f64::INFINITY, f64::min)
}

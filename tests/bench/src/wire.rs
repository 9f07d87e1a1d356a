//! What a message costs before anybody acts on it: a 1 KB INVITE indexed far enough to be routed, the
//! verdict on its sender, its way out of a stream; rsip, the vocabulary of the field, beside it.
//!
//! Times are the best of many rounds, since other programs share the machine; allocations are exact.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use cordboard_base::Now;
use cordboard_sip::defence::{Defence, Settings, What};
use cordboard_sip::stream::{Framer, Piece};
use cordboard_sip::wire::{Builder, MAX_MESSAGE, Message, Name};

use crate::Figure;

const ROUNDS: u32 = 60;
const REPEATS: u32 = 5_000;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

pub(crate) fn run() -> Vec<Figure> {
    let bytes = invite();
    let ours = || index(black_box(bytes.clone()));
    let theirs =
        || drop(black_box(rsip::SipMessage::try_from(black_box(&bytes[..])).expect("a plain INVITE")));
    let (ns, allocs) = (best_ns(ours), allocations(ours));
    let (rsip_ns, rsip_allocs) = (best_ns(theirs), allocations(theirs));
    let what = "rsip 0.4, parsed only";
    let figure =
        |name, value, unit, baseline, of| Figure { name, value, unit, baseline, baseline_value: Some(of) };
    vec![
        figure("invite_index_ns", ns, "ns", what, rsip_ns),
        figure("invite_index_allocs", allocs, "", what, rsip_allocs),
        figure(
            "invite_framed_ns",
            framed_ns(&bytes),
            "ns",
            "the same INVITE out of a TCP stream; datagram",
            ns,
        ),
        figure("admit_ns", admit_ns(), "ns", "the verdict on a sender, 50,000 known; asked", 100.0),
    ]
}

/// Parsing, the checks that every message has to pass, and what routing reads.
fn index(bytes: Bytes) {
    let message = Message::parse(bytes).expect("a plain INVITE");
    message.check().expect("a good INVITE");
    let via = message.top_via().expect("a Via");
    black_box((
        message.method(),
        message.request_uri(),
        via.branch,
        via.response_addr(),
        message.call_id(),
        message.cseq(),
        message.from().and_then(|from| from.tag()),
        message.to().and_then(|to| to.tag()),
    ));
}

fn framed_ns(bytes: &Bytes) -> f64 {
    let mut framer = Framer::accepted(MAX_MESSAGE);
    best_ns(|| {
        framer.push(Now::default(), black_box(bytes));
        match framer.next_piece() {
            Ok(Some(Piece::Message(message))) => index(message),
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

fn allocations(work: impl FnOnce()) -> f64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    (ALLOCATIONS.with(Cell::get) - before) as f64
}

/// 1 KB with 16 header lines and SDP, as a phone sends it.
fn invite() -> Bytes {
    let sdp = "v=0\r\no=- 20518 0 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n\
        m=audio 54400 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n";
    let bytes = Builder::request("INVITE", "sip:+4930123456@192.0.2.10:5060;user=phone")
        .header(Name::Via, "SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bK-524287-1---7dd3c1ff0a4b5c6d;rport")
        .header(Name::MaxForwards, "70")
        .header(Name::RecordRoute, "<sip:edge1.example.com;lr;ftag=8f4b2d>")
        .header(Name::Contact, "<sip:alice@203.0.113.1:5060;transport=udp>")
        .header(Name::To, "<sip:+4930123456@192.0.2.10;user=phone>")
        .header(Name::From, "\"Alice Example\" <sip:alice@example.com>;tag=8f4b2d1e")
        .header(Name::CallId, "83104ZjY2M2I0OTQ5ZGU4NTdkYmI1NGY0YjFkMzQ3ZDU@203.0.113.1")
        .header(Name::CSeq, "1 INVITE")
        .header(Name::Allow, "INVITE, ACK, CANCEL, BYE, NOTIFY, REFER, MESSAGE, OPTIONS, INFO, SUBSCRIBE")
        .header(Name::Supported, "replaces, norefersub, extended-refer, timer, outbound, path")
        .header(Name::UserAgent, "ExamplePhone 5.6.1 rv2.10.17.8")
        .header("Allow-Events", "presence, kpml, talk")
        .header("X-Trunk", "berlin-2")
        .header(Name::Date, "Sun, 22 Nov 2026 20:34:00 GMT")
        .body("application/sdp", sdp.as_bytes())
        .finish();
    assert!((950..1_200).contains(&bytes.len()), "{}", bytes.len());
    Bytes::from(bytes)
}

//! What indexing a message costs: allocations as a test, time as a figure to read.
//!
//! `cargo test --release -p cordboard-sip --test wire_cost -- --ignored --nocapture` prints the times.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a stopwatch for people, never a verdict"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use cordboard_sip::redirect::{Key, answer_302};
use cordboard_sip::wire::{Builder, Message, Name};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
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

fn allocations<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = COUNT.with(Cell::get);
    let result = work();
    (COUNT.with(Cell::get) - before, result)
}

/// 1 KB with 16 header lines and SDP, as a phone sends it.
fn invite() -> Bytes {
    let sdp = "v=0\r\no=- 20518 0 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\nm=audio 54400 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n";
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
    assert!((950..1200).contains(&bytes.len()), "{}", bytes.len());
    Bytes::from(bytes)
}

#[test]
fn indexing_an_invite_allocates_at_most_twice_and_reading_it_never() {
    let bytes = invite();
    let (parsing, message) = allocations(|| Message::parse(bytes).unwrap());
    assert!(parsing <= 2, "{parsing}");
    let (reading, _) = allocations(|| {
        message.check().unwrap();
        let via = message.top_via().unwrap();
        let contact = message.contact().unwrap().parsed_uri().unwrap().socket_addr();
        let copy = message.clone();
        black_box((
            via.branch,
            contact,
            message.to().unwrap().tag(),
            message.cseq(),
            message.headers(Name::Allow).count(),
            copy,
        ));
    });
    assert_eq!(reading, 0);
    let (answering, _) = allocations(|| {
        black_box(
            Builder::response_to(&message, Some("198.51.100.1:5060".parse().unwrap()), 180, "")
                .to_tag("x")
                .finish(),
        )
    });
    assert!(answering <= 4, "{answering}");
}

fn time(what: &str, mut work: impl FnMut()) {
    // The best of several rounds: other processes share the machine.
    let best = (0..40)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..2_000 {
                work();
            }
            start.elapsed().as_nanos() / 2_000
        })
        .min();
    println!("{what}: {} ns", best.unwrap());
}

#[test]
#[ignore = "prints times, judges nothing"]
fn times() {
    let bytes = invite();
    let message = Message::parse(bytes.clone()).unwrap();
    println!("INVITE of {} bytes, {} header lines", bytes.len(), message.all().count());
    let (source, key) = ("198.51.100.1:5060".parse().unwrap(), Key::new([1; 16]));
    time("index", || drop(black_box(Message::parse(black_box(bytes.clone())).unwrap())));
    time("check", || message.check().unwrap());
    time("top Via", || {
        black_box(message.top_via());
    });
    time("response 180", || {
        drop(black_box(Builder::response_to(&message, Some(source), 180, "").to_tag("x").finish()))
    });
    time("stateless 302 with two contacts", || {
        drop(black_box(answer_302(
            &message,
            source,
            &key,
            &[("sip:cc1@10.0.0.1:5070", 1000), ("sip:cc2@10.0.0.2:5070", 500)],
        )));
    });
    time("rsip 0.4, the same INVITE", || {
        drop(black_box(rsip::SipMessage::try_from(black_box(&bytes[..])).unwrap()))
    });
}

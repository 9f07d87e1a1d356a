//! What the measurements of the wire share: an INVITE as a phone sends it, and an allocator that counts.
//! For `wire_cost.rs`, and for the benchmark of the same things.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use cordboard_sip::wire::{Builder, Name};

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

/// How often `work` allocates on this thread, and what it returns.
pub(crate) fn allocations<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = COUNT.with(Cell::get);
    let result = work();
    (COUNT.with(Cell::get) - before, result)
}

/// 1 KB with 16 header lines and SDP, as a phone sends it.
pub(crate) fn invite() -> Bytes {
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

//! A load for a redirect server: INVITE, wait for the 302, ACK, and the next, with a fixed number of
//! them under way over a few sockets, so that the server is never idle and never flooded. It is a
//! load and no proof: it looks at the status, the branch and To. Run as a process of its own by
//! [`super`]: `redirect-load PORT SOCKETS WINDOW SECONDS [alone]`; prints one line of JSON.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use super::batch::{self, Received, Sending};

/// Octets of a usual answer to this load's INVITE (two contacts).
pub(super) const ANSWER_OCTETS: usize = 420;
/// RFC 3261 T1: what has had no answer for so long is sent again.
const T1: Duration = Duration::from_millis(500);
const BRANCH: &[u8] = b"branch=z9hG4bK";
/// Socket, slot and round as hexadecimal digits.
const DIGITS: usize = 16;

/// The branch's value of the top Via.
pub(super) fn branch_of(message: &[u8]) -> Option<&[u8]> {
    let at = memchr::memmem::find(&message[..message.len().min(300)], BRANCH)? + BRANCH.len();
    message.get(at - 7..at + DIGITS)
}

struct Slot {
    round: u32,
    sent_at: Instant,
}

struct Side {
    socket: UdpSocket,
    number: usize,
    port: u16,
    slots: Vec<Slot>,
    // Apart, since what goes in one call has one length.
    acks: Sending,
    invites: Sending,
}

#[derive(Default)]
struct Totals {
    answered: u64,
    other: u64,
    again: u64,
}

pub(crate) fn run(arguments: &[String]) {
    let number = |i: usize| arguments.get(i).and_then(|a| a.parse::<u64>().ok()).expect("a number");
    let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, number(0) as u16);
    let (sockets, window, seconds) = (number(1) as usize, number(2) as usize, number(3));
    let began = Instant::now();
    let mut sides: Vec<Side> = (0..sockets)
        .map(|number| {
            let socket = batch::socket(0);
            let port = socket.local_addr().expect("its address").port();
            let slots = (0..window).map(|_| Slot { round: 0, sent_at: began }).collect();
            Side { socket, number, port, slots, acks: Sending::default(), invites: Sending::default() }
        })
        .collect();
    for side in &mut sides {
        for slot in 0..window {
            side.invite(slot, to, began);
        }
        side.invites.flush(&side.socket, to);
    }
    let end = began + Duration::from_secs(seconds);
    let alone = arguments.get(4).is_some_and(|a| a == "alone");
    let (mut received, mut totals) = (Received::new(), Totals::default());
    let (mut looked, mut now) = (began, began);
    while now < end {
        let mut idle = true;
        for side in &mut sides {
            let count = received.receive(&side.socket, false);
            idle &= count == 0;
            for i in 0..count {
                side.answer(received.bytes(i), to, now, &mut totals);
            }
            side.acks.flush(&side.socket, to);
            side.invites.flush(&side.socket, to);
        }
        now = Instant::now();
        if now - looked > Duration::from_millis(50) {
            looked = now;
            for side in &mut sides {
                totals.again += side.repeat(to, now);
            }
        }
        if idle && alone {
            // The server has the turn, and it has no other processor.
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let Totals { answered, other, again } = totals;
    let line = serde_json::json!({"answered": answered, "other": other, "again": again, "seconds": seconds});
    writeln!(std::io::stdout(), "{line}").expect("the figures can be written");
}

impl Side {
    fn invite(&mut self, slot: usize, to: SocketAddrV4, now: Instant) {
        self.slots[slot].sent_at = now;
        let (side, round, port) = (self.number, self.slots[slot].round, self.port);
        self.invites.push(|out| {
            let sdp = "v=0\r\no=- 3747 3747 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";
            write!(
                out,
                "INVITE sip:100@127.0.0.1:{0:05} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port:05};rport;branch=z9hG4bK{side:04x}{slot:04x}{round:08x}\r\n\
                 Max-Forwards: 70\r\nFrom: \"Load\" <sip:+493012345678@127.0.0.1:{port:05}>;tag={side:04x}{slot:04x}{round:08x}\r\n\
                 To: <sip:100@127.0.0.1:{0:05}>\r\nCall-ID: {side:04x}{slot:04x}{round:08x}@load.example\r\nCSeq: 1 INVITE\r\n\
                 Contact: <sip:load@127.0.0.1:{port:05}>\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nUser-Agent: cordboard-bench\r\n\
                 Content-Type: application/sdp\r\nContent-Length: {1}\r\n\r\n{sdp}",
                to.port(),
                sdp.len(),
            )
            .expect("a vector takes everything");
        });
    }

    fn answer(&mut self, bytes: &[u8], to: SocketAddrV4, now: Instant, totals: &mut Totals) {
        let hex = |digits: &[u8]| usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let found = branch_of(bytes).map(|b| &b[7..]).and_then(|b| Some((hex(&b[4..8])?, hex(&b[8..16])?)));
        let Some((slot, round)) = found else {
            totals.other += 1;
            return;
        };
        // To what was sent again although its answer was only late.
        if self.slots.get(slot).is_none_or(|s| s.round as usize != round) {
            return;
        }
        if bytes.starts_with(b"SIP/2.0 1") {
            return;
        }
        if !bytes.starts_with(b"SIP/2.0 302") {
            totals.other += 1;
        } else {
            totals.answered += 1;
        }
        let line = memchr::memmem::find(bytes, b"\r\nTo: ").map_or(&b""[..], |at| {
            let rest = &bytes[at + 2..];
            &rest[..memchr::memchr(b'\r', rest).unwrap_or(0)]
        });
        let (side, port) = (self.number, self.port);
        self.acks.push(|out| {
            write!(
                out,
                "ACK sip:100@127.0.0.1:{0:05} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port:05};rport;branch=z9hG4bK{side:04x}{slot:04x}{round:08x}\r\n\
                 Max-Forwards: 70\r\nFrom: \"Load\" <sip:+493012345678@127.0.0.1:{port:05}>;tag={side:04x}{slot:04x}{round:08x}\r\n",
                to.port(),
            )
            .expect("a vector takes everything");
            out.extend_from_slice(line);
            write!(
                out,
                "\r\nCall-ID: {side:04x}{slot:04x}{round:08x}@load.example\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"
            )
            .expect("a vector takes everything");
        });
        self.slots[slot].round = round as u32 + 1;
        self.invite(slot, to, now);
    }

    fn repeat(&mut self, to: SocketAddrV4, now: Instant) -> u64 {
        let late: Vec<usize> =
            (0..self.slots.len()).filter(|slot| now - self.slots[*slot].sent_at > T1).collect();
        for slot in &late {
            self.invite(*slot, to, now);
        }
        self.invites.flush(&self.socket, to);
        late.len() as u64
    }
}

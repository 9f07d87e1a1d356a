//! The RTCP side of a leg: when to report, what to say, what the other side said.
//!
//! Owned by a leg. Never needs a socket before there is something to send.

use std::net::SocketAddr;

use cordboard_base::{Now, ms};

use crate::rtcp::{self, Block, Packet, Sender};
use crate::rtp::Source;

use super::transmit::Transmit;

/// The mean time between reports (RFC 3550 section 6.2); each is half to one and a half of it.
pub const INTERVAL_NS: u64 = ms(5000);

/// RTCP state of a leg.
#[derive(Debug, Clone)]
pub struct Reports {
    /// What the clock's nanoseconds lack to the Unix epoch: NTP times stay as fine as the clock.
    unix_offset_ns: i64,
    cname: u64,
    /// When the next report is due, once anything flows.
    pub due_ns: Option<u64>,
    /// Where the other side's RTCP comes from.
    pub from: Option<SocketAddr>,
    /// The last SR heard: middle of its NTP time, and when it came.
    last_sr: Option<(u32, u64)>,
    round_trip_ns: Option<u64>,
    remote_loss: Option<u8>,
    packets_before: u64,
    sent_any: bool,
}

impl Reports {
    /// Nothing said, nothing heard.
    #[must_use]
    pub fn new(now: Now, cname: u64) -> Self {
        Self {
            unix_offset_ns: now.wall_ms.saturating_mul(1_000_000).saturating_sub(now.mono_ns as i64),
            cname,
            due_ns: None,
            from: None,
            last_sr: None,
            round_trip_ns: None,
            remote_loss: None,
            packets_before: 0,
            sent_any: false,
        }
    }

    /// Whether the other side knows us by RTCP, so that it should hear a BYE.
    #[must_use]
    pub fn sent_any(&self) -> bool {
        self.sent_any
    }

    /// The last round trip in milliseconds.
    #[must_use]
    pub fn round_trip_ms(&self) -> Option<f32> {
        self.round_trip_ns.map(|ns| ns as f32 / 1e6)
    }

    /// The share of our packets that the other side lost, 0 to 1.
    #[must_use]
    pub fn remote_loss(&self) -> Option<f32> {
        self.remote_loss.map(|part| f32::from(part) / 256.0)
    }

    /// Sets the time of the next report; `random` is any 64 random bits.
    pub fn schedule(&mut self, now_ns: u64, random: u64) {
        let spread = (u128::from(random) * u128::from(INTERVAL_NS)) >> 64;
        self.due_ns = Some(now_ns + INTERVAL_NS / 2 + spread as u64);
    }

    /// Takes a compound packet. `known` says whether the address is one that we would believe.
    ///
    /// False if it was none, or came from a stranger.
    pub fn heard(
        &mut self,
        now: Now,
        bytes: &[u8],
        from: SocketAddr,
        known: bool,
        theirs: Option<u32>,
        ours: u32,
    ) -> bool {
        let Some(packets) = rtcp::parse(bytes) else { return false };
        let mut believed = false;
        for packet in packets {
            let Packet::Report { ssrc, sender, blocks } = packet else { continue };
            if !known && theirs != Some(ssrc) {
                continue;
            }
            believed = true;
            if let Some(sender) = sender {
                self.last_sr = Some((rtcp::ntp_middle(sender.ntp), now.mono_ns));
            }
            for block in blocks.iter().filter(|block| block.ssrc == ours) {
                self.remote_loss = Some(block.fraction_lost);
                if block.last_sr != 0 {
                    let here = rtcp::ntp_middle(self.ntp(now.mono_ns));
                    let trip = here.wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_sr);
                    // More than a minute is a clock that went backwards, or a lie.
                    if trip < 60 << 16 {
                        self.round_trip_ns = Some((u64::from(trip) * 1_000_000_000) >> 16);
                    }
                }
            }
        }
        if believed {
            self.from = Some(from);
        }
        believed
    }

    /// Writes the report that is due.
    pub fn write(&mut self, now: Now, tx: &Transmit, rx: Option<&mut Source>, bye: bool, out: &mut Vec<u8>) {
        let sender = (tx.packets > self.packets_before).then(|| Sender {
            ntp: self.ntp(now.mono_ns),
            timestamp: tx.timestamp_at(now.mono_ns),
            packets: tx.packets as u32,
            octets: tx.octets as u32,
        });
        self.packets_before = tx.packets;
        self.sent_any = true;
        let (last_sr, delay_since_sr) = match self.last_sr {
            Some((middle, at_ns)) => {
                (middle, ((u128::from(now.mono_ns.saturating_sub(at_ns)) << 16) / 1_000_000_000) as u32)
            }
            None => (0, 0),
        };
        let block = rx.map(|source| Block {
            ssrc: source.ssrc,
            fraction_lost: source.fraction_lost(),
            lost: source.lost() as i32,
            highest: source.highest(),
            jitter: source.jitter(),
            last_sr,
            delay_since_sr,
        });
        // A random name that lives as long as the leg (RFC 7022 section 4.2).
        rtcp::write(tx.ssrc(), sender, block, &format!("{:016x}", self.cname), bye, out);
    }

    fn ntp(&self, mono_ns: u64) -> u64 {
        rtcp::ntp((self.unix_offset_ns.saturating_add(mono_ns as i64)).max(0) as u64)
    }
}

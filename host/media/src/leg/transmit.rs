//! What a leg sends: one SSRC, one sequence and one timeline, whoever the audio comes from.
//!
//! Owned by a leg. The timestamp is a function of time, so a play, a digit and a relayed stream
//! follow each other without a step backwards; each change of origin sets the marker bit (RFC 3551
//! section 4.1). Knows nothing of sockets and of what may be sent where.

use crate::rtp::{Header, ticks};

/// Samples of one packet.
const PACKET: u32 = 160;
/// A source whose timestamps leave its arrivals by more than this has a new timeline (5 s).
const MAX_DRIFT: u32 = 5 * 8000;

/// Who filled the last packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Idle,
    Frames,
    Relay,
}

/// How a relayed source's numbers become ours.
#[derive(Debug, Clone, Copy)]
struct Map {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// The oldest sequence number (of the source) that this map is right for.
    since: u16,
    /// The newest packet of the source: sequence, timestamp, and arrival in ticks.
    newest: (u16, u32, u32),
}

/// The sending side of a leg.
#[derive(Debug, Clone)]
pub struct Transmit {
    ssrc: u32,
    sequence: u16,
    /// Added to the clock's ticks it gives the timestamp of that moment.
    offset: u32,
    /// The newest timestamp sent.
    newest: Option<u32>,
    flow: Flow,
    map: Option<Map>,
    /// The timestamp of the telephone event that is being sent, once a packet of it went out.
    event: Option<u32>,
    /// Packets sent.
    pub packets: u64,
    /// Payload octets sent.
    pub octets: u64,
}

impl Transmit {
    /// A timeline with random beginnings (RFC 3550 section 5.1).
    #[must_use]
    pub fn new(ssrc: u32, sequence: u16, offset: u32) -> Self {
        let flow = Flow::Idle;
        Self { ssrc, sequence, offset, newest: None, flow, map: None, event: None, packets: 0, octets: 0 }
    }

    /// Our source identifier.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The RTP timestamp of a moment, for sender reports.
    #[must_use]
    pub fn timestamp_at(&self, now_ns: u64) -> u32 {
        self.offset.wrapping_add(ticks(now_ns))
    }

    /// Nothing is sent for a while: what comes next begins anew, with a marker.
    pub fn pause(&mut self) {
        self.flow = Flow::Idle;
    }

    /// The header of the next 20 ms of our own audio.
    pub fn frame(&mut self, now_ns: u64, payload_type: u8, len: usize) -> Header {
        let marker = self.flow != Flow::Frames;
        self.flow = Flow::Frames;
        let timestamp = self.moment(now_ns);
        self.next(marker, payload_type, timestamp, len)
    }

    /// The next telephone event's packet is the first of a new one.
    pub fn begin_event(&mut self) {
        self.event = None;
    }

    /// The header of a telephone event's packet (RFC 4733 section 2.5.1): all of them name the time of
    /// the first that went out, which bears the marker.
    pub fn event(&mut self, now_ns: u64, payload_type: u8, len: usize) -> Header {
        let marker = self.event.is_none();
        let timestamp = self.event.unwrap_or_else(|| self.moment(now_ns));
        self.event = Some(timestamp);
        self.flow = Flow::Idle;
        self.next(marker, payload_type, timestamp, len)
    }

    /// Our header for a relayed packet; `None` if it lies before the point where the relay began.
    ///
    /// Gaps and disorder of the source stay as they are: the receiver is to see what was lost.
    pub fn relay(
        &mut self,
        now_ns: u64,
        from: &Header,
        restarted: bool,
        payload_type: u8,
        len: usize,
    ) -> Option<Header> {
        let mut marker = from.marker;
        let arrival = ticks(now_ns);
        let map = match self.map {
            Some(map)
                if self.flow == Flow::Relay
                    && map.ssrc == from.ssrc
                    && !restarted
                    && !map.left_by(from, arrival) =>
            {
                map
            }
            _ => {
                marker = true;
                self.flow = Flow::Relay;
                Map {
                    ssrc: from.ssrc,
                    sequence: self.sequence.wrapping_sub(from.sequence),
                    timestamp: self.moment(now_ns).wrapping_sub(from.timestamp),
                    since: from.sequence,
                    newest: (from.sequence, from.timestamp, arrival),
                }
            }
        };
        let map = self.map.insert(map);
        if before(from.sequence, map.since) {
            return None;
        }
        if !before(from.sequence, map.newest.0) {
            map.newest = (from.sequence, from.timestamp, arrival);
            // Keeps the mark within half of the numbers' circle.
            if from.sequence.wrapping_sub(map.since) > 0x1000 {
                map.since = from.sequence.wrapping_sub(0x800);
            }
        }
        let header = Header {
            marker,
            payload_type,
            sequence: from.sequence.wrapping_add(map.sequence),
            timestamp: from.timestamp.wrapping_add(map.timestamp),
            ssrc: self.ssrc,
        };
        if !before(header.sequence, self.sequence) {
            self.sequence = header.sequence.wrapping_add(1);
        }
        self.sent(header.timestamp, len);
        Some(header)
    }

    /// A packet of the source is left out on purpose: its number must not look like a loss.
    pub fn skip(&mut self, from: &Header) {
        let Some(map) = self.map.as_mut().filter(|map| map.ssrc == from.ssrc) else { return };
        let ahead = from.sequence.wrapping_sub(map.newest.0);
        if self.flow == Flow::Relay && ahead < 0x8000 && ahead > 0 {
            map.newest.0 = from.sequence;
            map.sequence = map.sequence.wrapping_sub(1);
            map.since = from.sequence;
        }
    }

    /// The timestamp for this moment, pushed forward if a relayed source ran ahead of our clock.
    fn moment(&mut self, now_ns: u64) -> u32 {
        let timestamp = self.timestamp_at(now_ns);
        let Some(newest) = self.newest else { return timestamp };
        let earliest = newest.wrapping_add(PACKET);
        let short = earliest.wrapping_sub(timestamp) as i32;
        if short > 0 {
            self.offset = self.offset.wrapping_add(short as u32);
            return earliest;
        }
        timestamp
    }

    fn next(&mut self, marker: bool, payload_type: u8, timestamp: u32, len: usize) -> Header {
        let header = Header { marker, payload_type, sequence: self.sequence, timestamp, ssrc: self.ssrc };
        self.sequence = self.sequence.wrapping_add(1);
        self.sent(timestamp, len);
        header
    }

    fn sent(&mut self, timestamp: u32, len: usize) {
        if self.newest.is_none_or(|newest| timestamp.wrapping_sub(newest) as i32 > 0) {
            self.newest = Some(timestamp);
        }
        self.packets += 1;
        self.octets += len as u64;
    }
}

impl Map {
    /// Whether the source's timestamps have left the time at which its packets arrive.
    fn left_by(&self, from: &Header, arrival: u32) -> bool {
        let by_source = from.timestamp.wrapping_sub(self.newest.1);
        let by_clock = arrival.wrapping_sub(self.newest.2);
        (by_source.wrapping_sub(by_clock) as i32).unsigned_abs() > MAX_DRIFT
    }
}

/// Whether one sequence number comes before another (RFC 1982).
fn before(a: u16, b: u16) -> bool {
    (a.wrapping_sub(b) as i16) < 0
}

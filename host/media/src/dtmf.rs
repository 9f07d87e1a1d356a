//! Telephone events, RFC 4733: DTMF digits as packets of their own.
//!
//! Called by [`crate::leg`], which puts the payloads into RTP. The receiver reports each key once,
//! in the order in which keys were pressed, whatever is lost, doubled or late; the sender paces
//! digits by 20 ms frames. Neither knows RTP headers.

use std::collections::VecDeque;

/// The octets of an event payload.
pub const PAYLOAD_LEN: usize = 4;
/// Without a packet for so long, a key whose end was lost is taken for released (RFC 4733 2.5.2.2).
const LOST_END_NS: u64 = 200_000_000;
/// Digits waiting to be sent on one leg.
pub const MAX_QUEUED: usize = 128;

/// The payload of a telephone event (RFC 4733 section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// 0 to 15 are DTMF.
    pub event: u8,
    /// The key is released.
    pub end: bool,
    /// The level below 0 dBm0, 0 to 63.
    pub volume: u8,
    /// How long it has lasted, in timestamp units.
    pub duration: u16,
}

impl Payload {
    /// Reads the first event of a payload.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let b = bytes.first_chunk::<PAYLOAD_LEN>()?;
        Some(Self {
            event: b[0],
            end: b[1] & 0x80 != 0,
            volume: b[1] & 0x3f,
            duration: u16::from_be_bytes([b[2], b[3]]),
        })
    }

    /// The octets.
    #[must_use]
    pub fn to_bytes(self) -> [u8; PAYLOAD_LEN] {
        let d = self.duration.to_be_bytes();
        [self.event, u8::from(self.end) << 7 | self.volume & 0x3f, d[0], d[1]]
    }
}

const KEYS: &[u8; 16] = b"0123456789*#ABCD";

/// The digit of an event code.
#[must_use]
pub fn digit_of(event: u8) -> Option<char> {
    KEYS.get(usize::from(event)).map(|key| char::from(*key))
}

/// The event code of a digit.
#[must_use]
pub fn event_of(digit: char) -> Option<u8> {
    KEYS.iter().position(|key| char::from(*key) == digit.to_ascii_uppercase()).map(|place| place as u8)
}

/// A key pressed or released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A key went down.
    Pressed(char),
    /// A key went up, after so many milliseconds.
    Released(char, u32),
}

/// Hears keys in event packets.
#[derive(Debug, Clone, Default)]
pub struct Receiver {
    held: Option<Held>,
    /// The timestamp of the newest key; nothing at or before it can be a new one.
    newest: Option<u32>,
}

#[derive(Debug, Clone)]
struct Held {
    digit: char,
    timestamp: u32,
    duration: u16,
    heard_ns: u64,
}

impl Receiver {
    /// Takes an event packet; what it means goes to `heard`, at most a release and a press and a release.
    pub fn packet(&mut self, now_ns: u64, timestamp: u32, payload: Payload, mut heard: impl FnMut(Key)) {
        let Some(digit) = digit_of(payload.event) else { return };
        match &mut self.held {
            Some(held) if held.timestamp == timestamp => {
                held.duration = held.duration.max(payload.duration);
                held.heard_ns = now_ns;
            }
            _ => {
                // The timestamp is the key's name: an end sent three times, or late, is no new key.
                let stale = self.newest.is_some_and(|newest| timestamp.wrapping_sub(newest) as i32 <= 0);
                if stale {
                    return;
                }
                self.release(&mut heard);
                self.newest = Some(timestamp);
                self.held = Some(Held { digit, timestamp, duration: payload.duration, heard_ns: now_ns });
                heard(Key::Pressed(digit));
            }
        }
        if payload.end {
            self.release(&mut heard);
        }
    }

    /// Lets go of a key whose end was lost.
    pub fn tick(&mut self, now_ns: u64, mut heard: impl FnMut(Key)) {
        if self.held.as_ref().is_some_and(|held| now_ns.saturating_sub(held.heard_ns) > LOST_END_NS) {
            self.release(&mut heard);
        }
    }

    /// Whether a key is down, so that [`Self::tick`] is needed.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Forgets the timeline: the source has changed, and its timestamps mean something else.
    pub fn restart(&mut self, mut heard: impl FnMut(Key)) {
        self.release(&mut heard);
        self.newest = None;
    }

    fn release(&mut self, heard: &mut impl FnMut(Key)) {
        if let Some(held) = self.held.take() {
            heard(Key::Released(held.digit, u32::from(held.duration) / 8));
        }
    }
}

/// Paces digits as event packets, one step each 20 ms frame.
#[derive(Debug, Clone, Default)]
pub struct Sender {
    queue: VecDeque<Queued>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
struct Queued {
    event: Option<u8>,
    duration_ms: u32,
    gap_ms: u32,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Idle,
    Down {
        event: u8,
        sent_ms: u32,
        duration_ms: u32,
        gap_ms: u32,
    },
    /// The last packet goes three times in all (RFC 4733 section 2.5.1.4).
    Up {
        event: u8,
        duration_ms: u32,
        gap_ms: u32,
        repeats: u8,
    },
    Gap {
        left_ms: u32,
    },
}

/// What a frame of the sender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The first packet of a digit: a new timestamp, and the marker bit.
    First(Payload),
    /// A further packet of the same digit, with the same timestamp.
    More(Payload),
    /// Between two digits: the frame is free for audio.
    Free,
}

const FRAME_MS: u32 = 20;

impl Sender {
    /// Queues digits; what is no digit is skipped, `,` is a pause of a second. Says if all fitted.
    pub fn push(&mut self, digits: &str, duration_ms: u32, gap_ms: u32) -> bool {
        for digit in digits.chars() {
            let event = event_of(digit);
            if event.is_none() && digit != ',' {
                continue;
            }
            if self.queue.len() == MAX_QUEUED {
                return false;
            }
            let duration_ms = if event.is_some() { duration_ms.clamp(40, 8000) } else { 1000 };
            self.queue.push_back(Queued { event, duration_ms, gap_ms: gap_ms.clamp(20, 8000) });
        }
        true
    }

    /// Whether anything is left to send or to wait for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle) && self.queue.is_empty()
    }

    /// Whether a digit is on the wire, so that no audio may be.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down { .. } | State::Up { .. })
    }

    /// The next 20 ms.
    pub fn frame(&mut self) -> Step {
        if let State::Gap { left_ms } = self.state {
            self.state =
                if left_ms > FRAME_MS { State::Gap { left_ms: left_ms - FRAME_MS } } else { State::Idle };
            return Step::Free;
        }
        match self.state {
            State::Idle => match self.queue.pop_front() {
                None => Step::Free,
                Some(Queued { event: None, duration_ms, .. }) => {
                    self.state = State::Gap { left_ms: duration_ms };
                    Step::Free
                }
                Some(Queued { event: Some(event), duration_ms, gap_ms }) => {
                    self.state = State::Down { event, sent_ms: FRAME_MS, duration_ms, gap_ms };
                    Step::First(payload(event, false, FRAME_MS))
                }
            },
            State::Down { event, sent_ms, duration_ms, gap_ms } => {
                let sent_ms = sent_ms + FRAME_MS;
                if sent_ms < duration_ms {
                    self.state = State::Down { event, sent_ms, duration_ms, gap_ms };
                    return Step::More(payload(event, false, sent_ms));
                }
                self.state = State::Up { event, duration_ms, gap_ms, repeats: 2 };
                Step::More(payload(event, true, duration_ms))
            }
            State::Up { event, duration_ms, gap_ms, repeats } => {
                self.state = if repeats > 1 {
                    State::Up {
                        event,
                        duration_ms,
                        gap_ms: gap_ms.saturating_sub(FRAME_MS),
                        repeats: repeats - 1,
                    }
                } else if gap_ms > FRAME_MS {
                    State::Gap { left_ms: gap_ms - FRAME_MS }
                } else {
                    State::Idle
                };
                Step::More(payload(event, true, duration_ms))
            }
            State::Gap { .. } => Step::Free,
        }
    }
}

fn payload(event: u8, end: bool, ms: u32) -> Payload {
    Payload { event, end, volume: 10, duration: (ms * 8).min(0xffff) as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends digits over a wire that treats each packet as `wire` says; returns the keys heard.
    fn over(digits: &str, mut wire: impl FnMut(usize, (u32, Payload)) -> Vec<(u32, Payload)>) -> Vec<Key> {
        let (mut sender, mut receiver) = (Sender::default(), Receiver::default());
        sender.push(digits, 100, 60);
        let (mut heard, mut started, mut count) = (Vec::new(), 0, 0);
        for frame in 0..400_u32 {
            let now_ns = u64::from(frame) * 20_000_000;
            let payload = match sender.frame() {
                Step::First(payload) => {
                    started = 1000 + frame * 160;
                    Some(payload)
                }
                Step::More(payload) => Some(payload),
                Step::Free => None,
            };
            if let Some(payload) = payload {
                for (timestamp, payload) in wire(count, (started, payload)) {
                    receiver.packet(now_ns, timestamp, payload, |key| heard.push(key));
                }
                count += 1;
            }
            receiver.tick(now_ns, |key| heard.push(key));
        }
        assert!(sender.is_idle() && !receiver.is_held());
        heard
    }

    fn released(heard: &[Key]) -> String {
        heard
            .iter()
            .filter_map(|key| if let Key::Released(digit, _) = key { Some(*digit) } else { None })
            .collect()
    }

    #[test]
    fn digits_come_once_in_order_and_with_their_length() {
        let heard = over("12#,1D", |_, packet| vec![packet]);
        assert_eq!(released(&heard), "12#1D");
        assert_eq!(heard[..2], [Key::Pressed('1'), Key::Released('1', 100)]);
    }

    #[test]
    fn doubled_packets_are_one_digit() {
        assert_eq!(released(&over("1122", |_, packet| vec![packet, packet])), "1122");
    }

    #[test]
    fn all_end_packets_lost_still_gives_the_digit() {
        assert_eq!(released(&over("55", |_, p| if p.1.end { vec![] } else { vec![p] })), "55");
    }

    #[test]
    fn only_one_end_packet_arriving_gives_the_digit() {
        assert_eq!(released(&over("909", |i, p| if i % 7 == 6 { vec![p] } else { vec![] })), "909");
    }

    #[test]
    fn a_late_end_of_an_old_digit_is_not_a_new_one() {
        let mut old = None;
        let heard = over("123", |i, p| {
            if i == 2 {
                old = Some(p);
            }
            if i % 7 == 4 { vec![p, old.unwrap_or(p)] } else { vec![p] }
        });
        assert_eq!(released(&heard), "123");
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut sender = Sender::default();
        assert!(!sender.push(&"1".repeat(MAX_QUEUED + 1), 100, 60));
    }

    #[test]
    fn payload_reads_back() {
        let p = Payload { event: 11, end: true, volume: 10, duration: 800 };
        assert_eq!(Payload::parse(&p.to_bytes()), Some(p));
        assert_eq!(Payload::parse(&[1, 2, 3]), None);
    }
}

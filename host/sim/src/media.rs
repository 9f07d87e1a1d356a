//! A media plane without sockets: it obeys the commands, answers with the events, and knows who
//! hears whom.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use cordboard_base::{Random, ms};
use cordboard_media::control::{Command, Event, Item, LegId, PlayEnd, RecordEnd, Remote, Stats};

#[derive(Debug, Default)]
struct Leg {
    remote: Option<Remote>,
    play: Option<u64>,
    joined: Option<LegId>,
    recording: Option<u64>,
}

/// The media plane of one node.
#[derive(Debug)]
pub struct Media {
    legs: BTreeMap<LegId, Leg>,
    by_port: BTreeMap<u16, LegId>,
    next_port: u16,
    most: usize,
}

/// An event that happens after so many nanoseconds.
pub type Later = (u64, Event);

impl Default for Media {
    fn default() -> Self {
        Self { legs: BTreeMap::new(), by_port: BTreeMap::new(), next_port: 10_000, most: 0 }
    }
}

impl Media {
    /// How many legs are open: none when all calls are over.
    #[must_use]
    pub fn open(&self) -> usize {
        self.legs.len()
    }

    /// The most legs that were ever open.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// The phone that hears what is sent to `port`, and that is heard by whoever sends there.
    ///
    /// None unless both legs are joined to each other, know their remotes, and may send and receive.
    #[must_use]
    pub fn other_end(&self, port: u16) -> Option<SocketAddr> {
        let leg = self.by_port.get(&port)?;
        let peer = self.legs.get(leg)?.joined?;
        let (here, there) = (self.legs.get(leg)?, self.legs.get(&peer)?);
        let both = |leg: &Leg| leg.remote.as_ref().is_some_and(|r| r.send && r.receive);
        (there.joined == Some(*leg) && both(here) && both(there))
            .then(|| there.remote.as_ref().map(|r| r.address))?
    }

    /// Whether the leg behind `port` is silent for the watcher: the phone vanished.
    #[must_use]
    pub fn leg_at(&self, port: u16) -> Option<LegId> {
        self.by_port.get(&port).copied()
    }

    /// Whether an event that was planned still holds: a play may have been replaced since.
    #[must_use]
    pub fn still(&mut self, event: &Event) -> bool {
        match event {
            Event::PlayEnded { leg, play, reason: PlayEnd::Finished } => {
                self.legs.get_mut(leg).is_some_and(|l| {
                    l.play == Some(*play) && {
                        l.play = None;
                        true
                    }
                })
            }
            Event::Recorded { leg, recording, reason: RecordEnd::MaxTime, .. } => {
                self.legs.get_mut(leg).is_some_and(|l| {
                    l.recording == Some(*recording) && {
                        l.recording = None;
                        true
                    }
                })
            }
            Event::Silent { leg } | Event::Digit { leg, .. } => self.legs.contains_key(leg),
            _ => true,
        }
    }

    /// Obeys. What follows at once has a delay of a few microseconds to milliseconds.
    pub fn obey(&mut self, command: Command, random: &mut Random) -> Vec<Later> {
        let mut out = Vec::new();
        let soon = 20_000 + random.below(ms(2));
        match command {
            Command::Open { leg } => {
                if random.below(500) == 0 {
                    out.push((soon, Event::OpenFailed { leg, reason: "the simulation says so".to_owned() }));
                    return out;
                }
                self.next_port = if self.next_port >= 65_000 { 10_000 } else { self.next_port + 2 };
                let address = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), self.next_port);
                self.legs.insert(leg, Leg::default());
                self.by_port.retain(|_, l| *l != leg);
                self.by_port.insert(self.next_port, leg);
                self.most = self.most.max(self.legs.len());
                out.push((soon, Event::Opened { leg, address }));
            }
            Command::Remote { leg, remote } => {
                if let Some(l) = self.legs.get_mut(&leg) {
                    l.remote = Some(remote);
                }
            }
            Command::Play { leg, play, items, repeat, .. } => {
                let Some(l) = self.legs.get_mut(&leg) else { return out };
                if let Some(old) = l.play.replace(play) {
                    out.push((soon, Event::PlayEnded { leg, play: old, reason: PlayEnd::Replaced }));
                }
                if !repeat {
                    let length: u64 = items.iter().map(length_ms).sum();
                    out.push((soon + ms(length), Event::PlayEnded { leg, play, reason: PlayEnd::Finished }));
                }
            }
            Command::Stop { leg, play } => {
                let Some(l) = self.legs.get_mut(&leg) else { return out };
                if play.is_none() || l.play == play {
                    out.extend(
                        l.play
                            .take()
                            .map(|play| (soon, Event::PlayEnded { leg, play, reason: PlayEnd::Stopped })),
                    );
                }
            }
            Command::Join { a, b } => {
                for (leg, peer) in [(a, b), (b, a)] {
                    if let Some(old) = self.legs.get(&leg).and_then(|l| l.joined).filter(|old| *old != peer)
                        && let Some(old) = self.legs.get_mut(&old)
                    {
                        old.joined = None;
                    }
                    let Some(l) = self.legs.get_mut(&leg) else { continue };
                    l.joined = Some(peer);
                    out.extend(
                        l.play
                            .take()
                            .map(|play| (soon, Event::PlayEnded { leg, play, reason: PlayEnd::Joined })),
                    );
                }
            }
            Command::Part { a, b } => {
                for (leg, peer) in [(a, b), (b, a)] {
                    if let Some(l) = self.legs.get_mut(&leg)
                        && l.joined == Some(peer)
                    {
                        l.joined = None;
                    }
                }
            }
            Command::Record { leg, recording, max_ms, .. } => {
                let Some(l) = self.legs.get_mut(&leg) else { return out };
                l.recording = Some(recording);
                let end = Event::Recorded { leg, recording, duration_ms: max_ms, reason: RecordEnd::MaxTime };
                out.push((soon + ms(u64::from(max_ms)), end));
            }
            Command::StopRecord { leg, recording } => {
                if let Some(l) = self.legs.get_mut(&leg)
                    && l.recording == Some(recording)
                {
                    l.recording = None;
                    out.push((
                        soon,
                        Event::Recorded { leg, recording, duration_ms: 1, reason: RecordEnd::Stopped },
                    ));
                }
            }
            Command::Close { leg } => {
                let Some(l) = self.legs.remove(&leg) else { return out };
                self.by_port.retain(|_, l| *l != leg);
                if let Some(peer) = l.joined.and_then(|peer| self.legs.get_mut(&peer)) {
                    peer.joined = None;
                }
                out.extend(
                    l.play.map(|play| (soon, Event::PlayEnded { leg, play, reason: PlayEnd::Stopped })),
                );
                out.extend(l.recording.map(|recording| {
                    (soon, Event::Recorded { leg, recording, duration_ms: 1, reason: RecordEnd::Closed })
                }));
                out.push((soon, Event::Closed { leg, stats: Stats::default() }));
            }
            Command::SendDigits { .. } | Command::Watch { .. } | Command::Detect { .. } => {}
            // The simulation's phones answer their probes or are gone.
            Command::Ask { leg } => out.push((soon, Event::Heard { leg, ago_ms: None })),
        }
        out
    }
}

fn length_ms(item: &Item) -> u64 {
    match item {
        Item::Clip(clip) => u64::from(clip.ms()),
        Item::Silence { ms } | Item::Tone { ms, .. } => u64::from(*ms),
        Item::Digits { digits, tone_ms, gap_ms } => digits.len() as u64 * u64::from(tone_ms + gap_ms),
    }
}

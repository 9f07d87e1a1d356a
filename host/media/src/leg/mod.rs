//! One media leg as a value: what comes in, what goes out, and what runs on it.
//!
//! Owned by the media thread of `cordboard-net`, which hands it datagrams ([`Leg::on_packet`]), the
//! frames of the clock ([`Leg::on_frame`]) and its deadlines, and sends what it gives back. A joined
//! leg's packet is given to the other leg ([`Leg::forward`]). It never opens a socket, never reads a
//! clock and never allocates for a packet.

mod latch;
mod report;
mod transmit;

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use cordboard_base::{Now, Random, ms};

pub use self::latch::{Latch, RELATCH_AFTER_NS, Verdict};
pub use self::report::{INTERVAL_NS, Reports};
pub use self::transmit::Transmit;
use crate::control::{Event, Item, Law, LegId, PlayEnd, RecordEnd, Remote, Stats};
use crate::dtmf::{self, Key, Step};
use crate::player::{FRAME, Player};
use crate::recorder::Recorder;
use crate::rtp::{HEADER_LEN, Header, Order, Source};
use crate::tone::Detector;

/// The size of the packets that [`Leg::on_frame`] writes at most.
pub const PACKET_LEN: usize = HEADER_LEN + FRAME;
/// Payload type of comfort noise (RFC 3389), which some send unasked.
const COMFORT_NOISE: u8 = 13;
/// The beep before a recording.
const BEEP: Item = Item::Tone { hz: 1000, ms: 250, level_dbm0: -12 };
const BEEP_NS: u64 = ms(260);

/// What a leg's work leads to, besides packets: gathered by the caller over a batch.
#[derive(Debug, Default)]
pub struct Output {
    /// For the shard.
    pub events: Vec<Event>,
    /// For whoever writes recordings.
    pub files: Vec<FileJob>,
}

/// A step of writing a recording, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileJob {
    /// A recording begins.
    Begin {
        /// The leg.
        leg: LegId,
        /// Its recording.
        recording: u64,
        /// The file to make.
        path: PathBuf,
    },
    /// More samples at 8 kHz.
    Samples {
        /// The leg.
        leg: LegId,
        /// Its recording.
        recording: u64,
        /// About a second.
        samples: Vec<i16>,
    },
    /// It is whole: close the file, then report [`Event::Recorded`].
    End {
        /// The leg.
        leg: LegId,
        /// Its recording.
        recording: u64,
        /// Its length.
        duration_ms: u32,
        /// Why it ended.
        reason: RecordEnd,
    },
}

/// A packet that a leg has accepted, to be forwarded to the leg it is joined to.
#[derive(Debug, Clone)]
pub struct Inbound {
    header: Header,
    kind: Kind,
    payload: Range<usize>,
    restarted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Audio(Law),
    Event(dtmf::Payload),
    Comfort,
}

#[derive(Debug)]
struct Play {
    play: u64,
    player: Player,
    barge: bool,
}

#[derive(Debug)]
struct Recording {
    recording: u64,
    recorder: Recorder,
    finish_digits: String,
}

/// The media state of one leg.
#[derive(Debug)]
pub struct Leg {
    id: LegId,
    chance: u64,
    remote: Option<Remote>,
    latch: Latch,
    tx: Transmit,
    rx: Option<Source>,
    keys: dtmf::Receiver,
    reports: Reports,
    play: Option<Box<Play>>,
    /// Tones that go before everything else: the beep, and digits as sound.
    overlay: Option<Box<Player>>,
    digits: Option<Box<dtmf::Sender>>,
    recording: Option<Box<Recording>>,
    detector: Option<Box<Detector>>,
    watch: Option<Watch>,
    /// When the last packet or report came; `None` before the first packet.
    heard_ns: Option<u64>,
    /// The last event turned into sound for this leg, by its timestamp.
    sounded: Option<u32>,
    received_packets: u64,
    received_octets: u64,
    dropped_packets: u64,
    lost_before: i64,
}

#[derive(Debug, Clone, Copy)]
struct Watch {
    after_ns: u64,
    since_ns: u64,
}

impl Leg {
    /// A leg that knows nothing of its other side yet.
    #[must_use]
    pub fn new(id: LegId, now: Now, random: &mut Random) -> Self {
        let tx = Transmit::new(random.next_u32(), random.next_u32() as u16 >> 1, random.next_u32());
        Self {
            id,
            chance: random.next_u64() | 1,
            remote: None,
            latch: Latch::default(),
            tx,
            rx: None,
            keys: dtmf::Receiver::default(),
            reports: Reports::new(now, random.next_u64()),
            play: None,
            overlay: None,
            digits: None,
            recording: None,
            detector: None,
            watch: None,
            heard_ns: None,
            sounded: None,
            received_packets: 0,
            received_octets: 0,
            dropped_packets: 0,
            lost_before: 0,
        }
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> LegId {
        self.id
    }

    /// Where its packets go.
    #[must_use]
    pub fn target(&self) -> Option<SocketAddr> {
        self.latch.target()
    }

    /// Sets what was agreed, first or anew.
    pub fn set_remote(&mut self, now: Now, remote: Remote) {
        if self.remote.as_ref().map(|old| old.address) != Some(remote.address) {
            self.reports.from = None;
        }
        self.latch.signal(now.mono_ns, remote.address);
        self.remote = Some(remote);
        if self.reports.due_ns.is_none() {
            let random = self.chance();
            self.reports.schedule(now.mono_ns, random);
        }
        if !self.may_send() {
            self.tx.pause();
        }
    }

    /// Plays to the leg from the next frame on.
    pub fn play(&mut self, play: u64, items: Vec<Item>, repeat: bool, barge: bool, out: &mut Output) {
        self.end_play(PlayEnd::Replaced, out);
        self.play = Some(Box::new(Play { play, player: Player::new(items, repeat), barge }));
    }

    /// Stops a play: the one named, or any.
    pub fn stop(&mut self, play: Option<u64>, out: &mut Output) {
        if self.play.as_ref().is_some_and(|running| play.is_none_or(|play| play == running.play)) {
            self.end_play(PlayEnd::Stopped, out);
        }
    }

    /// The leg is joined to another: what plays stops.
    pub fn joined(&mut self, out: &mut Output) {
        self.end_play(PlayEnd::Joined, out);
    }

    /// The leg is no longer joined: what it hears next begins anew.
    pub fn parted(&mut self) {
        self.tx.pause();
    }

    /// Begins a recording of what the leg sends.
    #[allow(clippy::too_many_arguments, reason = "they are the fields of one command")]
    pub fn record(
        &mut self,
        now: Now,
        recording: u64,
        path: PathBuf,
        max_ms: u32,
        end_silence_ms: Option<u32>,
        beep: bool,
        finish_digits: String,
        out: &mut Output,
    ) {
        self.end_recording(now, RecordEnd::Closed, out);
        let start_ns = if beep { now.after_ns(BEEP_NS) } else { now.mono_ns };
        if beep {
            self.sound(BEEP);
        }
        let recorder = Recorder::new(start_ns, max_ms, end_silence_ms);
        self.recording = Some(Box::new(Recording { recording, recorder, finish_digits }));
        out.files.push(FileJob::Begin { leg: self.id, recording, path });
    }

    /// Ends a recording and keeps it.
    pub fn stop_record(&mut self, now: Now, recording: u64, out: &mut Output) {
        if self.recording.as_ref().is_some_and(|running| running.recording == recording) {
            self.end_recording(now, RecordEnd::Stopped, out);
        }
    }

    /// A recording cannot be written: forgets it without an event (its writer has said so).
    pub fn abandon_record(&mut self, recording: u64) {
        if self.recording.as_ref().is_some_and(|running| running.recording == recording) {
            self.recording = None;
        }
    }

    /// Sends digits as telephone events, or as sound if none were agreed.
    pub fn send_digits(&mut self, digits: &str, duration_ms: u32, gap_ms: u32) {
        if self.remote.as_ref().is_some_and(|remote| remote.dtmf_payload_type.is_none()) {
            let (tone_ms, gap_ms) = (duration_ms.clamp(40, 8000), gap_ms.clamp(20, 8000));
            for part in digits.split_inclusive(',') {
                let digits: String = part.chars().take(dtmf::MAX_QUEUED).collect();
                self.sound(Item::Digits { digits, tone_ms, gap_ms });
                if part.ends_with(',') {
                    self.sound(Item::Silence { ms: 1000 });
                }
            }
        } else {
            self.digits.get_or_insert_default().push(digits, duration_ms, gap_ms);
        }
    }

    /// Watches for silence on the wire, or stops watching at 0.
    pub fn watch(&mut self, now: Now, silent_after_ms: u32) {
        let after_ns = ms(u64::from(silent_after_ms));
        self.watch = (after_ns > 0).then_some(Watch { after_ns, since_ns: now.mono_ns });
    }

    /// How long ago its last packet came, if one has.
    #[must_use]
    pub fn heard_ago_ms(&self, now: Now) -> Option<u64> {
        self.heard_ns.map(|heard_ns| now.mono_ns.saturating_sub(heard_ns) / 1_000_000)
    }

    /// Listens for a tone, or stops listening at 0.
    pub fn detect(&mut self, hz: u16) {
        self.detector = (1..4000).contains(&hz).then(|| Box::new(Detector::new(hz)));
    }

    /// Ends everything that runs on the leg.
    pub fn close(&mut self, now: Now, out: &mut Output) {
        self.end_play(PlayEnd::Stopped, out);
        self.end_recording(now, RecordEnd::Closed, out);
        let mut keys = Vec::new();
        self.keys.restart(|key| keys.push(key));
        self.keys_heard(now, &keys, out);
        (self.overlay, self.digits, self.detector) = (None, None, None);
    }

    /// What it has carried.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            sent_packets: self.tx.packets,
            sent_octets: self.tx.octets,
            received_packets: self.received_packets,
            received_octets: self.received_octets,
            lost_packets: self.lost_before + self.rx.as_ref().map_or(0, Source::lost),
            dropped_packets: self.dropped_packets,
            jitter_ms: self.rx.as_ref().map_or(0.0, |source| source.jitter() as f32 / 8.0),
            round_trip_ms: self.reports.round_trip_ms(),
            remote_loss: self.reports.remote_loss(),
        }
    }

    /// Takes a datagram from the leg's RTP port. What it gives back belongs to the joined leg.
    pub fn on_packet(
        &mut self,
        now: Now,
        bytes: &[u8],
        from: SocketAddr,
        out: &mut Output,
    ) -> Option<Inbound> {
        let Some(inbound) = self.accept(now, bytes, from, out) else {
            self.dropped_packets += 1;
            return None;
        };
        let receive = self.remote.as_ref().is_some_and(|remote| remote.receive);
        if !receive {
            return None;
        }
        let payload = &bytes[inbound.payload.clone()];
        match inbound.kind {
            Kind::Audio(law) => {
                if let Some(running) = &mut self.recording {
                    running.recorder.audio(
                        now.mono_ns,
                        inbound.header.ssrc,
                        inbound.header.timestamp,
                        law,
                        payload,
                    );
                }
                if let Some(detector) = &mut self.detector
                    && let Some(heard_ms) = detector.feed(payload.iter().map(|octet| law.decode(*octet)))
                {
                    out.events.push(Event::Tone { leg: self.id, hz: detector.hz(), ms: heard_ms });
                }
            }
            Kind::Event(event) => {
                let mut keys = Vec::new();
                self.keys.packet(now.mono_ns, inbound.header.timestamp, event, |key| keys.push(key));
                self.keys_heard(now, &keys, out);
            }
            Kind::Comfort => {}
        }
        Some(inbound)
    }

    /// Is it RTP, of a payload that we know, from where the leg's packets come?
    fn accept(&mut self, now: Now, bytes: &[u8], from: SocketAddr, out: &mut Output) -> Option<Inbound> {
        let remote = self.remote.as_ref()?;
        let (header, payload) = Header::parse(bytes)?;
        let kind = match header.payload_type {
            pt if pt == remote.payload_type => Kind::Audio(remote.law),
            pt if Some(pt) == remote.dtmf_payload_type => {
                Kind::Event(dtmf::Payload::parse(&bytes[payload.clone()])?)
            }
            // Both laws stand in our offers, and some answer with one and send the other.
            0 => Kind::Audio(Law::Pcmu),
            8 => Kind::Audio(Law::Pcma),
            COMFORT_NOISE => Kind::Comfort,
            _ => return None,
        };
        if payload.is_empty() {
            return None;
        }
        if self.latch.judge(now.mono_ns, from, header.ssrc, header.sequence) == Verdict::Refuse {
            return None;
        }
        let mut restarted = false;
        if self.rx.as_ref().is_none_or(|source| source.ssrc != header.ssrc) {
            self.lost_before += self.rx.as_ref().map_or(0, Source::lost);
            self.rx = Some(Source::new(header.ssrc, header.sequence));
            restarted = true;
        }
        let source = self.rx.as_mut()?;
        let lost = source.lost();
        match source.note(header.sequence) {
            Order::Strange => return None,
            Order::Restarted => {
                self.lost_before += lost;
                restarted = true;
            }
            Order::Ahead | Order::Late => {}
        }
        if restarted {
            let mut keys = Vec::new();
            self.keys.restart(|key| keys.push(key));
            self.keys_heard(now, &keys, out);
        }
        if let (Kind::Audio(_), Some(source)) = (kind, &mut self.rx) {
            source.note_arrival(now.mono_ns, header.timestamp);
        }
        self.received_packets += 1;
        self.received_octets += payload.len() as u64;
        if self.heard_ns.replace(now.mono_ns).is_none() {
            out.events.push(Event::FirstPacket { leg: self.id });
        }
        Some(Inbound { header, kind, payload, restarted })
    }

    /// Rewrites a packet of the joined leg, in place, into one of ours: what to send, and where to.
    ///
    /// `None` while the leg may not send, or hears something else. Check [`Self::is_ticking`] after:
    /// a digit may have become sound.
    pub fn forward(
        &mut self,
        now: Now,
        inbound: &Inbound,
        datagram: &mut [u8],
    ) -> Option<(Range<usize>, SocketAddr)> {
        let remote = self.remote.as_ref()?;
        let (law, payload_type, dtmf_payload_type) =
            (remote.law, remote.payload_type, remote.dtmf_payload_type);
        if !self.may_send() || self.is_busy() {
            return None;
        }
        let to = self.latch.target()?;
        let payload_type = match inbound.kind {
            Kind::Audio(theirs) => {
                if theirs != law {
                    theirs.transcode(&mut datagram[inbound.payload.clone()]);
                }
                payload_type
            }
            Kind::Event(event) => match dtmf_payload_type {
                Some(payload_type) => payload_type,
                None => {
                    self.sound_event(inbound.header.timestamp, event);
                    return None;
                }
            },
            Kind::Comfort => {
                self.tx.skip(&inbound.header);
                return None;
            }
        };
        let len = inbound.payload.len();
        let header = self.tx.relay(now.mono_ns, &inbound.header, inbound.restarted, payload_type, len)?;
        // What lay between header and payload (contributing sources, extensions) is not passed on.
        let start = inbound.payload.start - HEADER_LEN;
        datagram[start..inbound.payload.start].copy_from_slice(&header.to_bytes());
        Some((start..inbound.payload.end, to))
    }

    /// Whether the leg needs the 20 ms clock.
    #[must_use]
    pub fn is_ticking(&self) -> bool {
        self.is_playing() || self.digits.is_some() || self.recording.is_some() || self.keys.is_held()
    }

    /// The next 20 ms; `now` is the frame's due time. Writes a packet, and says where to send it.
    pub fn on_frame(
        &mut self,
        now: Now,
        packet: &mut [u8; PACKET_LEN],
        out: &mut Output,
    ) -> Option<(usize, SocketAddr)> {
        if self.keys.is_held() {
            let mut keys = Vec::new();
            self.keys.tick(now.mono_ns, |key| keys.push(key));
            self.keys_heard(now, &keys, out);
        }
        if self.recording.is_some() {
            self.record_frame(now, out);
        }
        self.digit_frame(now, packet).or_else(|| self.audio_frame(now, packet, out))
    }

    /// When [`Self::on_deadline`] wants to be called next.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let silent_ns = self.watch.zip(self.heard_ns).map(|(watch, heard_ns)| watch.deadline_ns(heard_ns));
        match (silent_ns, self.reports.due_ns) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Looks at what is due. True if a report is: [`Self::write_rtcp`].
    pub fn on_deadline(&mut self, now: Now, out: &mut Output) -> bool {
        if let (Some(watch), Some(heard_ns)) = (self.watch, self.heard_ns)
            && now.mono_ns >= watch.deadline_ns(heard_ns)
        {
            self.watch = None;
            out.events.push(Event::Silent { leg: self.id });
        }
        if self.reports.due_ns.is_none_or(|due_ns| due_ns > now.mono_ns) {
            return false;
        }
        let random = self.chance();
        self.reports.schedule(now.mono_ns, random);
        self.tx.packets > 0 || self.rx.is_some()
    }

    /// Writes the compound packet that is due, or the last one; says where to send it.
    pub fn write_rtcp(&mut self, now: Now, bye: bool, packet: &mut Vec<u8>) -> Option<SocketAddr> {
        let to = self.rtcp_target()?;
        self.reports.write(now, &self.tx, self.rx.as_mut(), bye, packet);
        Some(to)
    }

    /// Whether the other side has heard RTCP of us, and so should hear that we leave.
    #[must_use]
    pub fn owes_bye(&self) -> bool {
        self.reports.sent_any()
    }

    /// Whether the other side named an RTCP address, so that it may speak first.
    #[must_use]
    pub fn expects_rtcp(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.rtcp.is_some())
    }

    /// Takes a datagram from the leg's RTCP port.
    pub fn on_rtcp(&mut self, now: Now, bytes: &[u8], from: SocketAddr) {
        let known = self.latch.target().is_some_and(|rtp| rtp.ip() == from.ip())
            || self.remote.as_ref().is_some_and(|remote| remote.rtcp == Some(from));
        let theirs = self.rx.as_ref().map(|source| source.ssrc);
        if !self.reports.heard(now, bytes, from, known, theirs, self.tx.ssrc()) {
            self.dropped_packets += 1;
        } else if let Some(heard_ns) = &mut self.heard_ns {
            // A phone that saves its silence still reports: it is there.
            *heard_ns = now.mono_ns;
        }
    }

    fn rtcp_target(&self) -> Option<SocketAddr> {
        let remote = self.remote.as_ref().filter(|remote| reachable(remote.address))?;
        let mut beside = self.latch.target()?;
        beside.set_port(beside.port().checked_add(1)?);
        Some(self.reports.from.or(remote.rtcp).unwrap_or(beside))
    }

    /// Whether the other side is known, wants to hear us, and can be reached.
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.send && reachable(remote.address))
    }

    fn is_playing(&self) -> bool {
        self.play.is_some() || self.overlay.is_some()
    }

    /// Whether something of our own is on the wire instead of a joined leg.
    fn is_busy(&self) -> bool {
        self.is_playing() || self.digits.as_ref().is_some_and(|digits| digits.is_down())
    }

    fn digit_frame(&mut self, now: Now, packet: &mut [u8; PACKET_LEN]) -> Option<(usize, SocketAddr)> {
        let step = self.digits.as_mut()?.frame();
        if self.digits.as_ref().is_some_and(|digits| digits.is_idle()) {
            self.digits = None;
        }
        let payload = match step {
            Step::First(payload) => {
                // Even if a hold keeps it back: what goes out later must not look like the digit before.
                self.tx.begin_event();
                payload
            }
            Step::More(payload) => payload,
            Step::Free => return None,
        };
        let payload_type = self.remote.as_ref().filter(|_| self.may_send())?.dtmf_payload_type?;
        let to = self.latch.target()?;
        let header = self.tx.event(now.mono_ns, payload_type, dtmf::PAYLOAD_LEN);
        packet[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        packet[HEADER_LEN..HEADER_LEN + dtmf::PAYLOAD_LEN].copy_from_slice(&payload.to_bytes());
        Some((HEADER_LEN + dtmf::PAYLOAD_LEN, to))
    }

    fn audio_frame(
        &mut self,
        now: Now,
        packet: &mut [u8; PACKET_LEN],
        out: &mut Output,
    ) -> Option<(usize, SocketAddr)> {
        if self.digits.as_ref().is_some_and(|digits| digits.is_down()) {
            return None;
        }
        let law = self.remote.as_ref().map_or(Law::Pcmu, |remote| remote.law);
        let frame = packet.last_chunk_mut::<FRAME>()?;
        if let Some(overlay) = &mut self.overlay {
            if !overlay.frame(law, frame) {
                self.overlay = None;
            }
        } else if let Some(play) = &mut self.play {
            if !play.player.frame(law, frame) {
                self.end_play(PlayEnd::Finished, out);
            }
        } else {
            return None;
        }
        if !self.may_send() {
            return None;
        }
        let to = self.latch.target()?;
        let payload_type = self.remote.as_ref()?.payload_type;
        let header = self.tx.frame(now.mono_ns, payload_type, FRAME);
        packet[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        if !self.is_playing() {
            self.tx.pause();
        }
        Some((PACKET_LEN, to))
    }

    fn record_frame(&mut self, now: Now, out: &mut Output) {
        let Some(running) = &mut self.recording else { return };
        let ended = running.recorder.tick(now.mono_ns);
        let recording = running.recording;
        if let Some(samples) = running.recorder.take_piece() {
            out.files.push(FileJob::Samples { leg: self.id, recording, samples });
        }
        if let Some(reason) = ended
            && let Some(running) = self.recording.take()
        {
            let (samples, duration_ms) = running.recorder.finish_ended();
            out.files.push(FileJob::Samples { leg: self.id, recording, samples });
            out.files.push(FileJob::End { leg: self.id, recording, duration_ms, reason });
        }
    }

    fn end_recording(&mut self, now: Now, reason: RecordEnd, out: &mut Output) {
        let Some(running) = self.recording.take() else { return };
        let recording = running.recording;
        let (samples, duration_ms) = running.recorder.finish(now.mono_ns);
        out.files.push(FileJob::Samples { leg: self.id, recording, samples });
        out.files.push(FileJob::End { leg: self.id, recording, duration_ms, reason });
    }

    fn end_play(&mut self, reason: PlayEnd, out: &mut Output) {
        if let Some(play) = self.play.take() {
            out.events.push(Event::PlayEnded { leg: self.id, play: play.play, reason });
        }
    }

    fn keys_heard(&mut self, now: Now, keys: &[Key], out: &mut Output) {
        for key in keys {
            match *key {
                Key::Pressed(digit) => {
                    if self.play.as_ref().is_some_and(|play| play.barge) {
                        self.end_play(PlayEnd::Barged, out);
                    }
                    if self.recording.as_ref().is_some_and(|running| running.finish_digits.contains(digit)) {
                        self.end_recording(now, RecordEnd::Digit(digit), out);
                    }
                }
                Key::Released(digit, duration_ms) => {
                    out.events.push(Event::Digit { leg: self.id, digit, duration_ms });
                }
            }
        }
    }

    /// Puts a tone before everything else that the leg hears.
    fn sound(&mut self, item: Item) {
        match &mut self.overlay {
            Some(overlay) => overlay.push(item),
            None => self.overlay = Some(Box::new(Player::new(vec![item], false))),
        }
    }

    /// A joined leg's key, for a leg without telephone events: once for each key.
    fn sound_event(&mut self, timestamp: u32, event: dtmf::Payload) {
        if self.sounded == Some(timestamp) {
            return;
        }
        self.sounded = Some(timestamp);
        if let Some(digit) = dtmf::digit_of(event.event) {
            self.sound(Item::Digits { digits: digit.into(), tone_ms: 100, gap_ms: 40 });
        }
    }

    /// Random bits for spreading reports; not for secrets (xorshift64).
    fn chance(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

impl Watch {
    fn deadline_ns(self, heard_ns: u64) -> u64 {
        self.since_ns.max(heard_ns).saturating_add(self.after_ns)
    }
}

/// An address of 0.0.0.0 is a hold of the old kind (RFC 3264 section 8.4); port 0 is no stream.
fn reachable(address: SocketAddr) -> bool {
    !address.ip().is_unspecified() && address.port() != 0
}

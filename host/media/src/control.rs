//! What a shard says to a media thread, and what it hears back.
//!
//! Called by the call's shard (which mints the leg ids and owns the calls) and obeyed by the media
//! thread in `cordboard-net`. Plain values: nothing here knows sockets, threads or SIP, and nothing
//! here waits. Every command names its leg; a command for a leg that does not exist (any more) is
//! ignored, because a close and a late command may always cross.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clip::Clip;

/// One media leg, minted by the shard; unique over the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LegId(pub u64);

/// A G.711 law.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Law {
    /// G.711 mu-law, static payload type 0.
    Pcmu,
    /// G.711 A-law, static payload type 8.
    Pcma,
}

impl Law {
    /// The static payload type of RFC 3551 section 6.
    #[must_use]
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }
}

/// What was agreed with the other side of a leg (from offer and answer).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Where its RTP is signalled to be; the leg latches on to where packets really come from.
    pub address: SocketAddr,
    /// Its RTCP address if it was signalled; otherwise the RTP port plus one (RFC 3550 section 11).
    pub rtcp: Option<SocketAddr>,
    /// The agreed codec.
    pub law: Law,
    /// The codec's payload type in both directions.
    pub payload_type: u8,
    /// The payload type of telephone events (RFC 4733), if they were agreed.
    pub dtmf_payload_type: Option<u8>,
    /// Whether we may send.
    pub send: bool,
    /// Whether we accept what comes.
    pub receive: bool,
}

/// One piece of what a leg is to hear.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A recording, from its beginning.
    Clip(Arc<Clip>),
    /// Silence.
    Silence {
        /// Its length in milliseconds.
        ms: u32,
    },
    /// A sine tone.
    Tone {
        /// The frequency, 1 to 3,999.
        hz: u16,
        /// Its length in milliseconds.
        ms: u32,
        /// The level, usually -40 to 0; 0 dBm0 is 3.17 dB below the full scale of the codec.
        level_dbm0: i8,
    },
    /// DTMF as audible tones in the audio, for peers without telephone events.
    Digits {
        /// `0` to `9`, `*`, `#`, `A` to `D`; others are skipped.
        digits: String,
        /// The length of each tone in milliseconds.
        tone_ms: u32,
        /// The silence after each tone in milliseconds.
        gap_ms: u32,
    },
}

/// What a shard asks of a media thread.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Binds an RTP port of the configured range: [`Event::Opened`] or [`Event::OpenFailed`].
    Open {
        /// The new leg.
        leg: LegId,
    },
    /// Says what was agreed with the other side; given again after a re-INVITE or an UPDATE.
    Remote {
        /// The leg.
        leg: LegId,
        /// What was agreed.
        remote: Remote,
    },
    /// Plays to a leg, instead of what it hears now: [`Event::PlayEnded`].
    ///
    /// Before the first `Remote`, and while the leg may not send, the play runs on unheard. While
    /// the leg is joined it is heard instead of the other leg.
    Play {
        /// The leg.
        leg: LegId,
        /// The shard's name for this play, unique to the leg.
        play: u64,
        /// What to play, one after the other.
        items: Vec<Item>,
        /// Whether to start again at the end, for ever.
        repeat: bool,
        /// Whether the first DTMF digit ends it.
        barge: bool,
    },
    /// Stops the named play, or whichever is running.
    Stop {
        /// The leg.
        leg: LegId,
        /// Only this play, if it is still the one that runs.
        play: Option<u64>,
    },
    /// Relays two legs to each other; stops what plays on both at once and parts them from others.
    Join {
        /// One leg.
        a: LegId,
        /// The other leg.
        b: LegId,
    },
    /// Ends the relay between two legs.
    Part {
        /// One leg.
        a: LegId,
        /// The other leg.
        b: LegId,
    },
    /// Records what the leg sends us to a WAV file: [`Event::Recorded`] or [`Event::RecordFailed`].
    Record {
        /// The leg.
        leg: LegId,
        /// The shard's name for this recording, unique to the leg.
        recording: u64,
        /// The file to write: made anew, and there only when the recording is whole.
        path: PathBuf,
        /// The longest recording in milliseconds.
        max_ms: u32,
        /// Ends it after so many milliseconds of silence; `None` never.
        end_silence_ms: Option<u32>,
        /// Whether to play a beep first; the recording begins after it.
        beep: bool,
        /// The digits that end it, such as `#`; empty for none.
        finish_digits: String,
    },
    /// Ends a recording and keeps it.
    StopRecord {
        /// The leg.
        leg: LegId,
        /// The recording.
        recording: u64,
    },
    /// Sends digits as telephone events (RFC 4733), or as tones where none were agreed.
    SendDigits {
        /// The leg.
        leg: LegId,
        /// `0` to `9`, `*`, `#`, `A` to `D`; `,` is a pause of one second; others are skipped.
        digits: String,
        /// The length of each in milliseconds (40 to 8,000).
        duration_ms: u32,
        /// The pause after each in milliseconds (20 to 8,000).
        gap_ms: u32,
    },
    /// Reports [`Event::Silent`] once when a leg that has sent RTP stops to.
    Watch {
        /// The leg.
        leg: LegId,
        /// After how many milliseconds without a packet; 0 switches the watch off.
        silent_after_ms: u32,
    },
    /// Asks when the leg was heard last: [`Event::Heard`].
    Ask {
        /// The leg.
        leg: LegId,
    },
    /// Listens for a tone in what the leg sends: [`Event::Tone`].
    Detect {
        /// The leg.
        leg: LegId,
        /// The frequency; 0 switches the detector off.
        hz: u16,
    },
    /// Ends the leg and everything on it: the events of what ran on it, then [`Event::Closed`].
    Close {
        /// The leg.
        leg: LegId,
    },
}

impl Command {
    /// The leg that the command is for (the first one of a pair).
    #[must_use]
    pub const fn leg(&self) -> LegId {
        match self {
            Self::Open { leg }
            | Self::Remote { leg, .. }
            | Self::Play { leg, .. }
            | Self::Stop { leg, .. }
            | Self::Record { leg, .. }
            | Self::StopRecord { leg, .. }
            | Self::SendDigits { leg, .. }
            | Self::Watch { leg, .. }
            | Self::Ask { leg }
            | Self::Detect { leg, .. }
            | Self::Close { leg } => *leg,
            Self::Join { a, .. } | Self::Part { a, .. } => *a,
        }
    }
}

/// What a media thread tells the shard.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The leg has its port.
    Opened {
        /// The leg.
        leg: LegId,
        /// The address to put into SDP.
        address: SocketAddr,
    },
    /// The leg could not be opened and does not exist.
    OpenFailed {
        /// The leg.
        leg: LegId,
        /// Why, for people.
        reason: String,
    },
    /// A play is over. Exactly one for every `Play`.
    PlayEnded {
        /// The leg.
        leg: LegId,
        /// The play.
        play: u64,
        /// Why it ended.
        reason: PlayEnd,
    },
    /// The leg's other side pressed a key and released it (or pressed the next).
    Digit {
        /// The leg.
        leg: LegId,
        /// `0` to `9`, `*`, `#`, `A` to `D`.
        digit: char,
        /// How long it was held, as far as we heard.
        duration_ms: u32,
    },
    /// A recording is whole and on disk.
    Recorded {
        /// The leg.
        leg: LegId,
        /// The recording.
        recording: u64,
        /// Its length in milliseconds.
        duration_ms: u32,
        /// Why it ended.
        reason: RecordEnd,
    },
    /// A recording could not be made; its file is gone.
    RecordFailed {
        /// The leg.
        leg: LegId,
        /// The recording.
        recording: u64,
        /// Why, for people.
        reason: String,
    },
    /// A watched leg has sent nothing for the time asked.
    Silent {
        /// The leg.
        leg: LegId,
    },
    /// The answer to [`Command::Ask`].
    Heard {
        /// The leg.
        leg: LegId,
        /// Milliseconds since its last RTP packet; none when it never sent one.
        ago_ms: Option<u64>,
    },
    /// The first valid RTP packet of the leg has come.
    FirstPacket {
        /// The leg.
        leg: LegId,
    },
    /// The detector heard its tone.
    Tone {
        /// The leg.
        leg: LegId,
        /// The frequency that was asked for.
        hz: u16,
        /// How long it has lasted so far; at least 60. Reported once each time it begins.
        ms: u32,
    },
    /// The leg is gone.
    Closed {
        /// The leg.
        leg: LegId,
        /// What it carried.
        stats: Stats,
    },
}

impl Event {
    /// The leg that the event is about.
    #[must_use]
    pub const fn leg(&self) -> LegId {
        match self {
            Self::Opened { leg, .. }
            | Self::OpenFailed { leg, .. }
            | Self::PlayEnded { leg, .. }
            | Self::Digit { leg, .. }
            | Self::Recorded { leg, .. }
            | Self::RecordFailed { leg, .. }
            | Self::Silent { leg }
            | Self::Heard { leg, .. }
            | Self::FirstPacket { leg }
            | Self::Tone { leg, .. }
            | Self::Closed { leg, .. } => *leg,
        }
    }
}

/// Why a play ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlayEnd {
    /// It was played to its end.
    Finished,
    /// A digit came.
    Barged,
    /// It was stopped, or its leg closed.
    Stopped,
    /// Another play took its place.
    Replaced,
    /// The leg was joined to another.
    Joined,
}

/// Why a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordEnd {
    /// It reached its longest time.
    MaxTime,
    /// Nobody spoke for the time given.
    Silence,
    /// A finishing digit came.
    Digit(char),
    /// It was stopped.
    Stopped,
    /// The leg was closed, or another recording began.
    Closed,
}

/// What a leg carried over its life.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// RTP packets sent.
    pub sent_packets: u64,
    /// RTP payload octets sent.
    pub sent_octets: u64,
    /// Valid RTP packets received.
    pub received_packets: u64,
    /// RTP payload octets received.
    pub received_octets: u64,
    /// Packets that were expected and never came (RFC 3550 A.3); duplicates may make it negative.
    pub lost_packets: i64,
    /// Datagrams that were not RTP, of another source, or of a payload type that was not agreed.
    pub dropped_packets: u64,
    /// Interarrival jitter in milliseconds (RFC 3550 A.8).
    pub jitter_ms: f32,
    /// The last round trip by RTCP in milliseconds, if there was one.
    pub round_trip_ms: Option<f32>,
    /// The share of our packets that the other side says it lost, 0 to 1, if it reported.
    pub remote_loss: Option<f32>,
}

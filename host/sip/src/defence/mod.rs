//! Who may speak to us, how often, and who may not for a while.
//!
//! Called by the thread that reads a socket: once for each datagram or message before anything is
//! parsed ([`What::Packet`]), and again when a source is caught at something. Pure and bounded: one
//! table of fixed size, no allocation after [`Defence::new`]. It sends nothing; what is refused is
//! dropped by the caller, or answered with 503 where the verdict says so. A UDP source can be forged, so
//! those who must never be locked out (trunks) have to be exempt.

mod scanner;
mod table;

pub use scanner::Scanners;
pub use table::Network;

use std::net::IpAddr;

use cordboard_base::{Now, ms, secs};

use crate::wire::Fault;
use table::{Entry, Table};

/// What a source does. All but [`What::Packet`] are offences, with points from the [`Settings`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// A datagram or message came in: takes a token.
    Packet,
    /// It is not SIP at all.
    NotSip,
    /// It is SIP, and unusable.
    Malformed,
    /// It comes from a program that looks for victims, see [`Scanners`].
    Scanner,
    /// Wrong credentials: not the request without any, which every phone sends first.
    DigestFailed,
    /// It asks for a number or a user that does not exist.
    UnknownTarget,
}

impl What {
    /// The offence that a message is which could not be read; `None` for keep-alives.
    #[must_use]
    pub const fn of_fault(fault: Fault) -> Option<Self> {
        match fault {
            Fault::KeepAlive => None,
            Fault::NotSip => Some(Self::NotSip),
            _ => Some(Self::Malformed),
        }
    }
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Serve it.
    Admit,
    /// The source is above its rate: answer a new request with 503 and Retry-After, or drop it.
    Shed,
    /// The source is banned, or was this moment: drop it without a word.
    Banned,
}

/// The limits. A rate or a ban of 0 is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What a source may send in the long run, packets a second.
    pub rate_per_s: u32,
    /// What it may send at once.
    pub burst: u32,
    /// How many sources are remembered; rounded up to a power of two, 64 at least. 64 bytes each.
    pub max_sources: usize,
    /// So many points bring a ban.
    pub ban_points: u32,
    /// One point is forgotten in this many seconds.
    pub forget_point_s: u32,
    /// How long the first ban lasts; each further one twice as long.
    pub ban_s: u32,
    /// The longest ban. Who has behaved for so long after a ban begins anew.
    pub max_ban_s: u32,
    /// Points for [`What::NotSip`].
    pub not_sip_points: u32,
    /// Points for [`What::Malformed`].
    pub malformed_points: u32,
    /// Points for [`What::Scanner`].
    pub scanner_points: u32,
    /// Points for [`What::DigestFailed`].
    pub digest_failed_points: u32,
    /// Points for [`What::UnknownTarget`].
    pub unknown_target_points: u32,
}

impl Default for Settings {
    /// A phone with a wrong password, registering each minute, is never banned; a program that guesses is
    /// after ten guesses.
    fn default() -> Self {
        Self {
            rate_per_s: 200,
            burst: 400,
            max_sources: 65_536,
            ban_points: 100,
            forget_point_s: 6,
            ban_s: 300,
            max_ban_s: 86_400,
            not_sip_points: 5,
            malformed_points: 5,
            scanner_points: 100,
            digest_failed_points: 10,
            unknown_target_points: 10,
        }
    }
}

impl Settings {
    const fn points(&self, what: What) -> u32 {
        match what {
            What::Packet => 0,
            What::NotSip => self.not_sip_points,
            What::Malformed => self.malformed_points,
            What::Scanner => self.scanner_points,
            What::DigestFailed => self.digest_failed_points,
            What::UnknownTarget => self.unknown_target_points,
        }
    }
}

/// One source that is banned now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    /// Who: an IPv4 address, or 64 bits of IPv6.
    pub source: Network,
    /// Until when, milliseconds since the Unix epoch.
    pub until_wall_ms: i64,
    /// How many bans it has had, this one included.
    pub times: u32,
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that were served.
    pub admitted: u64,
    /// Packets above their source's rate.
    pub shed: u64,
    /// Packets of banned sources.
    pub banned: u64,
    /// Bans that were begun.
    pub bans: u64,
    /// Sources that were forgotten since the table was full.
    pub forgotten: u64,
}

/// The table of sources and the verdicts on them. Each thread that reads has one of its own.
#[derive(Debug)]
pub struct Defence {
    settings: Settings,
    exempt: Vec<Network>,
    table: Table,
    counts: Counts,
}

impl Defence {
    /// An empty table.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let table = Table::new(settings.max_sources);
        Self { settings, exempt: Vec::new(), table, counts: Counts::default() }
    }

    /// New limits; bans and points that are there stay. `max_sources` keeps its first value.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Networks that are never shed and never banned, in place of those before. A ban of theirs does not
    /// count for as long as they are exempt.
    pub fn set_exempt(&mut self, exempt: Vec<Network>) {
        self.exempt = exempt;
        for entry in self.table.entries_mut() {
            let source = entry.source();
            entry.exempt = self.exempt.iter().any(|network| network.holds(source));
        }
    }

    /// Counts what `source` does and says what to do with it.
    #[inline]
    pub fn admit(&mut self, now: Now, source: IpAddr, what: What) -> Verdict {
        let (settings, exempt) = (&self.settings, &self.exempt);
        let (entry, forgotten) = self.table.entry(now.mono_ns, source, |network| {
            (settings.burst, exempt.iter().any(|known| known.holds(network)))
        });
        self.counts.forgotten += u64::from(forgotten);
        if entry.exempt {
            self.counts.admitted += u64::from(what == What::Packet);
            return Verdict::Admit;
        }
        if entry.banned_until_ns > now.mono_ns {
            self.counts.banned += u64::from(what == What::Packet);
            return Verdict::Banned;
        }
        let elapsed_ms = now.mono_ns.saturating_sub(entry.seen_ns) / ms(1);
        if elapsed_ms > 0 {
            // Whole milliseconds only; the rest of the time is kept for the next packet.
            entry.seen_ns += ms(elapsed_ms);
            let settings = &self.settings;
            let refill = elapsed_ms.saturating_mul(u64::from(settings.rate_per_s));
            let full = u64::from(settings.burst) * 1_000;
            entry.tokens_milli = u64::from(entry.tokens_milli).saturating_add(refill).min(full) as u32;
            entry.debt_ms = entry.debt_ms.saturating_sub(elapsed_ms);
        }
        if what == What::Packet {
            if self.settings.rate_per_s == 0 {
                self.counts.admitted += 1;
                return Verdict::Admit;
            }
            let Some(left) = entry.tokens_milli.checked_sub(1_000) else {
                self.counts.shed += 1;
                return Verdict::Shed;
            };
            entry.tokens_milli = left;
            self.counts.admitted += 1;
            return Verdict::Admit;
        }
        // A point is worth the time in which it is forgotten, so that forgetting is exact.
        let point_ms = u64::from(self.settings.forget_point_s.max(1)) * 1_000;
        entry.debt_ms = entry.debt_ms.saturating_add(u64::from(self.settings.points(what)) * point_ms);
        let limit_ms = u64::from(self.settings.ban_points.max(1)) * point_ms;
        if self.settings.ban_s == 0 || entry.debt_ms < limit_ms {
            return Verdict::Admit;
        }
        let behaved_ns = now.mono_ns.saturating_sub(entry.banned_until_ns);
        if behaved_ns > secs(u64::from(self.settings.max_ban_s)) {
            entry.bans = 0;
        }
        let longest = secs(u64::from(self.settings.max_ban_s.max(self.settings.ban_s)));
        let length = secs(u64::from(self.settings.ban_s)) << entry.bans.min(16);
        Self::begin(entry, now, length.min(longest));
        self.counts.bans += 1;
        Verdict::Banned
    }

    /// Bans a source for `for_s` seconds, whatever it did; an exempt one not. Says whether it did.
    pub fn ban(&mut self, now: Now, source: IpAddr, for_s: u32) -> bool {
        let (settings, exempt) = (&self.settings, &self.exempt);
        let (entry, _) = self.table.entry(now.mono_ns, source, |network| {
            (settings.burst, exempt.iter().any(|known| known.holds(network)))
        });
        if entry.exempt {
            return false;
        }
        Self::begin(entry, now, secs(u64::from(for_s)));
        self.counts.bans += 1;
        true
    }

    /// Ends the ban of a source and forgets its offences; says whether it was banned.
    pub fn unban(&mut self, now: Now, source: IpAddr) -> bool {
        let Some(entry) = self.table.find_mut(source) else { return false };
        let was = entry.banned_until_ns > now.mono_ns;
        (entry.banned_until_ns, entry.debt_ms, entry.bans) = (0, 0, 0);
        was
    }

    /// Whether a source is banned now. Counts nothing.
    #[must_use]
    pub fn is_banned(&self, now: Now, source: IpAddr) -> bool {
        self.table.find(source).is_some_and(|e| e.banned_until_ns > now.mono_ns && !e.exempt)
    }

    /// Everyone who is banned now. Looks at the whole table: for people, not for the path of a packet.
    #[must_use]
    pub fn bans(&self, now: Now) -> Vec<Ban> {
        let banned = self.table.entries().filter(|e| e.banned_until_ns > now.mono_ns && !e.exempt);
        let mut bans: Vec<Ban> = banned
            .map(|entry| Ban {
                source: entry.source(),
                until_wall_ms: now.wall_ms + ((entry.banned_until_ns - now.mono_ns) / ms(1)) as i64,
                times: entry.bans,
            })
            .collect();
        bans.sort_by_key(|ban| ban.source);
        bans
    }

    /// Totals since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many sources are remembered. Looks at the whole table.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.table.entries().count()
    }

    fn begin(entry: &mut Entry, now: Now, length_ns: u64) {
        entry.banned_until_ns = now.after_ns(length_ns);
        entry.debt_ms = 0;
        entry.bans = entry.bans.saturating_add(1);
    }
}

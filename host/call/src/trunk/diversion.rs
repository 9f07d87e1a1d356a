//! The numbers that a call was dialled to before it came here, and why it left them: Diversion (RFC 5806) and
//! History-Info (RFC 7044), which say the same in two ways (RFC 7544).
//!
//! Read once by the shard when a call arrives, and written for each attempt to send it on. Never decides whether a
//! call is diverted.

use cordboard_sip::wire::{Message, Name as Header, NameAddr, Uri};

use super::identity::{Privacy, user_of};
use super::terms::{Diversion, Identity, Outbound};
use crate::Attributes;
use crate::center::cause;

/// Entries that are kept; of a longer list the newest, and the oldest, which has the number that the caller dialled.
const MAX_ENTRIES: usize = 20;
/// The most that one counter is believed to count.
const MAX_COUNTER: u32 = 100;
/// The most entries of a History-Info of ours.
const MAX_STEPS: usize = 2 * MAX_ENTRIES;
/// Who may not be named (RFC 3323 4.1.1.3).
const ANONYMOUS: &str = "sip:anonymous@anonymous.invalid";
/// Stands for a diversion of which nothing but the number is known (RFC 7544 6.3).
const UNKNOWN: &str = "sip:unknown@unknown.invalid";

/// Why a call left a number (RFC 5806 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody says.
    Unknown,
    /// It was busy.
    UserBusy,
    /// Nobody answered.
    NoAnswer,
    /// It could not be reached.
    Unavailable,
    /// All its calls go elsewhere.
    Unconditional,
    /// So it is at this hour.
    TimeOfDay,
    /// Whoever is there wants quiet.
    DoNotDisturb,
    /// Whoever, or whatever, had the call has sent it on.
    Deflection,
    /// Its user is elsewhere.
    FollowMe,
    /// It is out of order.
    OutOfService,
    /// Its user is away.
    Away,
}

impl Why {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Unknown, "unknown"),
        (Self::UserBusy, "user-busy"),
        (Self::NoAnswer, "no-answer"),
        (Self::Unavailable, "unavailable"),
        (Self::Unconditional, "unconditional"),
        (Self::TimeOfDay, "time-of-day"),
        (Self::DoNotDisturb, "do-not-disturb"),
        (Self::Deflection, "deflection"),
        (Self::FollowMe, "follow-me"),
        (Self::OutOfService, "out-of-service"),
        (Self::Away, "away"),
    ];

    /// As Diversion has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(why, _)| *why == self).map_or("unknown", |(_, text)| text)
    }

    fn parse(text: &str) -> Self {
        let text = text.trim_matches('"');
        Self::ALL.iter().find(|(_, t)| t.eq_ignore_ascii_case(text)).map_or(Self::Unknown, |(why, _)| *why)
    }

    /// As the `cause` of a URI has it (RFC 4458 2, RFC 7544 5).
    const fn cause(self) -> u16 {
        match self {
            Self::Unknown => 404,
            Self::UserBusy => 486,
            Self::NoAnswer => 408,
            Self::Unavailable | Self::OutOfService => 503,
            Self::Deflection => 480,
            Self::Unconditional | Self::TimeOfDay | Self::DoNotDisturb | Self::FollowMe | Self::Away => 302,
        }
    }

    const fn of_cause(cause: u16) -> Self {
        match cause {
            486 | 600 => Self::UserBusy,
            408 => Self::NoAnswer,
            503 => Self::Unavailable,
            480 | 487 => Self::Deflection,
            300..=399 => Self::Unconditional,
            _ => Self::Unknown,
        }
    }
}

/// A number that a call has left.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Left {
    uri: String,
    why: Why,
    /// How many diversions it stands for.
    counter: u32,
    /// Not to be shown to users, nor told to strangers.
    private: bool,
}

/// The diversions of a call, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diversions {
    list: Vec<Left>,
    /// The most that somebody before us allows.
    limit: Option<u32>,
}

impl Diversions {
    /// What an INVITE says. Where it has both headers the one that knows of more goes first.
    #[must_use]
    pub fn of(request: &Message, privacy: Privacy) -> Self {
        let (diversion, history) = (of_diversion(request), of_history(request));
        let mut known = if diversion.count() > history.count() { diversion } else { history };
        if privacy.history {
            known.list.iter_mut().for_each(|left| left.private = true);
        }
        known
    }

    /// How often it was diverted.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.list.iter().map(|left| left.counter).fold(0, u32::saturating_add)
    }

    /// Whether it may not be diverted once more.
    #[must_use]
    pub fn is_at_its_limit(&self, max: u32) -> bool {
        self.count() >= self.limit.map_or(max, |limit| limit.min(max))
    }

    /// What routers and scripts read of it: the number that was dialled first, the one that it comes from, why,
    /// and how often. A number that is not to be shown is left out.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        let (Some(newest), Some(oldest)) = (self.list.first(), self.list.last()) else {
            return Attributes::new();
        };
        let number = |left: &Left| (!left.private).then(|| user_of(&left.uri)).filter(|n| !n.is_empty());
        [
            ("diversion.original", number(oldest)),
            ("diversion.from", number(newest)),
            ("diversion.reason", Some(newest.why.as_str().to_owned())),
            ("diversion.count", Some(self.count().to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }

    /// It leaves `uri`.
    pub fn push(&mut self, uri: String, why: Why, private: bool) {
        self.list.insert(0, Left { uri, why, counter: 1, private });
        self.bound();
    }

    /// The oldest but the first dialled goes into the counter of its neighbour, so that the sum stays.
    fn bound(&mut self) {
        while self.list.len() > MAX_ENTRIES {
            let gone = self.list.remove(MAX_ENTRIES - 1);
            if let Some(last) = self.list.last_mut() {
                last.counter = last.counter.saturating_add(gone.counter);
            }
        }
    }

    /// The headers that say it to a trunk; `target` is where the call goes now.
    #[must_use]
    pub fn headers(&self, out: &Outbound, target: &str) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        if self.list.is_empty() {
            return headers;
        }
        if matches!(out.diversion, Diversion::Diversion | Diversion::Both) {
            headers.extend(self.list.iter().map(|left| ("Diversion".to_owned(), diversion(left, out))));
        }
        if matches!(out.diversion, Diversion::HistoryInfo | Diversion::Both) {
            headers.push(("History-Info".to_owned(), self.history(out, target)));
        }
        headers
    }

    /// RFC 7044 9 and RFC 7544 6: the oldest first, each one level below the other, and the current target last.
    fn history(&self, out: &Outbound, target: &str) -> String {
        let mut steps: Vec<(String, Option<Why>)> = Vec::new();
        let mut why = None;
        for left in self.list.iter().rev() {
            let unknown = left.counter.saturating_sub(1) as usize;
            for _ in 0..unknown.min(MAX_STEPS.saturating_sub(steps.len() + self.list.len())) {
                steps.push((UNKNOWN.to_owned(), why.replace(Why::Unknown)));
            }
            let (uri, _) = named(left, out);
            let uri = if left.private && uri != ANONYMOUS {
                format!("{uri}?Privacy=history")
            } else {
                uri.to_owned()
            };
            steps.push((uri, why.replace(left.why)));
        }
        steps.push((target.to_owned(), why));
        let mut index = String::new();
        let mut values = Vec::with_capacity(steps.len());
        for (uri, why) in steps {
            let before = index.clone();
            index = if before.is_empty() { "1".to_owned() } else { format!("{before}.1") };
            values.push(match why {
                // "mp": somebody has put another user in the place of the one before (RFC 7044 5.2).
                Some(why) => format!("<{}>;index={index};mp={before}", with_cause(&uri, why)),
                None => format!("<{uri}>;index={index}"),
            });
        }
        values.join(", ")
    }
}

/// A URI with its `cause`, which stands before its headers.
fn with_cause(uri: &str, why: Why) -> String {
    let (uri, headers) = uri.split_once('?').map_or((uri, ""), |(uri, headers)| (uri, headers));
    let question = if headers.is_empty() { "" } else { "?" };
    format!("{uri};cause={}{question}{headers}", why.cause())
}

/// The URI as a trunk may see it, and whether it is asked to keep it.
fn named<'a>(left: &'a Left, out: &Outbound) -> (&'a str, bool) {
    match left.private {
        true if out.identity != Identity::Asserted => (ANONYMOUS, true),
        private => (left.uri.as_str(), private),
    }
}

fn diversion(left: &Left, out: &Outbound) -> String {
    let (uri, private) = named(left, out);
    let privacy = if private { ";privacy=full" } else { "" };
    format!("<{uri}>;reason={};counter={}{privacy}", left.why.as_str(), left.counter)
}

/// RFC 5806: the newest stands first; one without a counter counts once.
fn of_diversion(request: &Message) -> Diversions {
    let mut known = Diversions::default();
    for value in request.headers(Header::Diversion).filter_map(NameAddr::parse) {
        let Some(uri) = of_a_user(value.uri) else { continue };
        let number = |name| value.param(name).and_then(|n| n.parse::<u32>().ok());
        let private =
            value.param("privacy").is_some_and(|p| !p.trim_matches('"').eq_ignore_ascii_case("off"));
        known.list.push(Left {
            uri,
            why: Why::parse(value.param("reason").unwrap_or("")),
            counter: number("counter").unwrap_or(1).clamp(1, MAX_COUNTER),
            private,
        });
        known.limit = number("limit").into_iter().chain(known.limit).min();
    }
    known.bound();
    known
}

/// RFC 7044: the oldest stands first. An entry was left when the next one says by `mp` or by its cause (RFC 4458)
/// that it stands for another user, or when its own Reason is a failure.
fn of_history(request: &Message) -> Diversions {
    let entries: Vec<NameAddr<'_>> =
        request.headers(Header::HistoryInfo).filter_map(NameAddr::parse).collect();
    let hides = |value: &str| value.split(';').any(|v| v.trim().eq_ignore_ascii_case("history"));
    let mut known = Diversions::default();
    for pair in entries.windows(2) {
        let (Ok(left), Ok(next)) = (Uri::parse(pair[0].uri), Uri::parse(pair[1].uri)) else { continue };
        let of_left =
            |name: &str| left.header_pairs().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v);
        let cause = next
            .param("cause")
            .and_then(|c| c.parse().ok())
            .or_else(|| of_left("Reason").and_then(|r| cause::of_protocol(&r, "SIP")));
        let Some(uri) = of_a_user(pair[0].uri) else { continue };
        if cause.is_some() || pair[1].param("mp").is_some() {
            known.list.push(Left {
                uri,
                why: cause.map_or(Why::Unknown, Why::of_cause),
                counter: 1,
                private: of_left("Privacy").is_some_and(|p| hides(&p)),
            });
        }
    }
    // The newest first, as in a Diversion.
    known.list.reverse();
    known.bound();
    known
}

/// A URI that can stand for a number that was left: without headers and without the cause of its own coming about.
fn of_a_user(uri: &str) -> Option<String> {
    let parsed = Uri::parse(uri).ok().filter(|uri| uri.user.is_some())?;
    let uri = uri.split('?').next().unwrap_or(uri);
    if parsed.param("cause").is_none() {
        return Some(uri.to_owned());
    }
    let kept = uri.split(';').filter(|p| !p.to_ascii_lowercase().starts_with("cause="));
    Some(kept.collect::<Vec<_>>().join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn of(head: &str) -> Diversions {
        let text = format!(
            "INVITE sip:1@10.0.0.9 SIP/2.0\r\nFrom: <sip:7@x>;tag=1\r\n{head}Call-ID: a\r\nCSeq: 1 INVITE\r\n\r\n"
        );
        let request = Message::parse(Bytes::from(text)).unwrap();
        Diversions::of(&request, Privacy::of(&request))
    }

    fn read(diversions: &Diversions) -> Vec<(String, String)> {
        diversions.attributes().into_iter().map(|(n, v)| (n.replace("diversion.", ""), v)).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn by(diversion: Diversion, identity: Identity) -> Outbound {
        Outbound { diversion, identity, ..Outbound::default() }
    }

    fn said(diversions: &Diversions, out: &Outbound) -> Vec<String> {
        diversions.headers(out, "sip:9@peer").into_iter().map(|(n, v)| format!("{n}: {v}")).collect()
    }

    #[test]
    fn diversions_are_read_newest_first() {
        let d = of("Diversion: <sip:+492@a>;reason=no-answer;counter=1, \
                    <tel:+49-1>;reason=unconditional;counter=3;limit=7\r\n");
        let expected = [("original", "+491"), ("from", "+492"), ("reason", "no-answer"), ("count", "4")];
        assert_eq!(read(&d), pairs(&expected));
        assert!(!d.is_at_its_limit(5) && d.is_at_its_limit(4));
        assert!(of("Diversion: <sip:1@a>;counter=7;limit=7\r\n").is_at_its_limit(100));
        let odd = of("Diversion: <sip:1@a>;reason=\"User-Busy\", <sip:nobody>, garbage\r\n");
        assert_eq!(read(&odd)[2..], pairs(&[("reason", "user-busy"), ("count", "1")]));
        assert_eq!(read(&of("")), []);
    }

    #[test]
    fn history_is_read_oldest_first() {
        let d = of("History-Info: <sip:+491@a?Reason=SIP%3Bcause%3D486>;index=1, \
                    <sip:+492@a;cause=486>;index=1.1;mp=1\r\n\
                    History-Info: <sip:+493@b;cause=302>;index=1.1.1;mp=1.1, <sip:+493@c>;index=1.1.1.1;rc=1.1.1\r\n");
        let expected = [("original", "+491"), ("from", "+492"), ("reason", "unconditional"), ("count", "2")];
        assert_eq!(read(&d), pairs(&expected));
        assert_eq!(d.list[1].why, Why::UserBusy);
        let routed = of("History-Info: <sip:1@a>;index=1, <sip:1@b>;index=1.1;rc=1\r\n");
        assert_eq!(routed, Diversions::default(), "the same user at another place is no diversion");
    }

    #[test]
    fn what_we_divert_is_said_in_the_trunk_s_way() {
        let mut d = of("Diversion: <sip:+491@a>;reason=user-busy\r\n");
        d.push("sip:+492@us".to_owned(), Why::Deflection, false);
        assert_eq!(said(&d, &by(Diversion::None, Identity::None)), [""; 0]);
        let diversion = [
            "Diversion: <sip:+492@us>;reason=deflection;counter=1",
            "Diversion: <sip:+491@a>;reason=user-busy;counter=1",
        ];
        assert_eq!(said(&d, &by(Diversion::Diversion, Identity::None)), diversion);
        let history = "History-Info: <sip:+491@a>;index=1, <sip:+492@us;cause=486>;index=1.1;mp=1, \
                       <sip:9@peer;cause=480>;index=1.1.1;mp=1.1";
        assert_eq!(said(&d, &by(Diversion::HistoryInfo, Identity::None)), [history]);
        assert_eq!(said(&d, &by(Diversion::Both, Identity::None)).len(), 3);
        // What one says is read again by the next, and means the same.
        for way in [diversion.join("\r\n"), history.to_owned()] {
            let again = of(&format!("{way}\r\n"));
            let expected = [("original", "+491"), ("from", "+492"), ("reason", "deflection"), ("count", "2")];
            assert_eq!(read(&again), pairs(&expected), "{way}");
        }
        assert_eq!(said(&Diversions::default(), &by(Diversion::Both, Identity::None)), [""; 0]);
    }

    #[test]
    fn a_counter_becomes_unknown_steps_of_a_history() {
        let d = of("Diversion: <sip:1@a>;reason=no-answer;counter=3\r\n");
        let said = said(&d, &by(Diversion::HistoryInfo, Identity::None));
        assert_eq!(
            said,
            ["History-Info: <sip:unknown@unknown.invalid>;index=1, \
              <sip:unknown@unknown.invalid;cause=404>;index=1.1;mp=1, <sip:1@a;cause=404>;index=1.1.1;mp=1.1, \
              <sip:9@peer;cause=408>;index=1.1.1.1;mp=1.1.1"]
        );
        assert_eq!(of(&format!("{}\r\n", said[0])).count(), 3);
    }

    #[test]
    fn a_private_number_is_kept_from_users_and_from_strangers() {
        let all = "Diversion: <sip:+491@a>;reason=away;privacy=full;counter=1\r\n";
        let history =
            "History-Info: <sip:+491@a?Privacy=history>;index=1, <sip:2@b;cause=302>;index=1.1;mp=1\r\n";
        let asked = "Diversion: <sip:+491@a>;reason=away\r\nPrivacy: history\r\n";
        for head in [all, history, asked] {
            let d = of(head);
            assert_eq!(read(&d).iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["reason", "count"]);
            let strange = said(&d, &by(Diversion::Both, Identity::None)).concat();
            assert!(!strange.contains("+491") && strange.contains("anonymous.invalid"), "{strange}");
            let friend = said(&d, &by(Diversion::Both, Identity::Asserted)).concat();
            assert!(friend.contains("<sip:+491@a>;reason="), "{friend}");
            assert!(friend.contains(";privacy=full") && friend.contains("<sip:+491@a?Privacy=history>"));
        }
    }

    #[test]
    fn a_long_list_is_cut_and_still_counts() {
        let many: Vec<String> = (0..60).map(|n| format!("<sip:{n}@a>;counter=2")).collect();
        let d = of(&format!("Diversion: {}\r\n", many.join(",")));
        assert_eq!((d.list.len(), d.count()), (MAX_ENTRIES, 120));
        assert_eq!((d.list[0].uri.as_str(), d.list[MAX_ENTRIES - 1].uri.as_str()), ("sip:0@a", "sip:59@a"));
    }
}

//! Who calls, as an INVITE says it and as far as its trunk is believed: P-Asserted-Identity (RFC 3325, RFC 5876),
//! From, and what the caller asks to be kept back (Privacy, RFC 3323).
//!
//! Read once by the shard when a call arrives; [`outgoing`](super::outgoing) says it anew to whom the call is sent.
//! Never trusts what a trunk outside our trust domain asserts, and never sends anything.

use cordboard_sip::wire::{Message, Name as Header, NameAddr, Uri};

/// What a caller asks to be kept back (RFC 3323 4.2; `id` of RFC 3325 9.3, `history` of RFC 7044 10.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Privacy {
    /// What the network asserts of the caller stays within the trust domain (RFC 3325 9.3).
    pub id: bool,
    /// What the caller's own headers say of the caller is taken out (RFC 3323 5.3).
    pub user: bool,
    /// The way back to the caller is hidden (RFC 3323 5.1): a back-to-back user agent does that always.
    pub header: bool,
    /// The media is hidden (RFC 3323 5.2): ours passes through us always.
    pub session: bool,
    /// Earlier targets stay with us (RFC 7044 10.1.2).
    pub history: bool,
    /// Nothing may be hidden on the caller's behalf.
    pub none: bool,
    /// What cannot be hidden must not be sent (RFC 3323 5).
    pub critical: bool,
    /// Something that we do not know how to hide.
    pub unknown: bool,
}

impl Privacy {
    /// What a request asks for. `none` beside anything else is a contradiction, and loses (RFC 3323 4.2).
    #[must_use]
    pub fn of(request: &Message) -> Self {
        let mut asked = Self::default();
        // The separator is a semicolon; commas are met, too.
        let values = request.lines(Header::Privacy).flat_map(|line| line.split([';', ',']));
        for value in values.map(str::trim).filter(|v| !v.is_empty()) {
            let is = |name: &str| value.eq_ignore_ascii_case(name);
            match () {
                () if is("id") => asked.id = true,
                () if is("user") => asked.user = true,
                () if is("header") => asked.header = true,
                () if is("session") => asked.session = true,
                () if is("history") => asked.history = true,
                () if is("none") => asked.none = true,
                () if is("critical") => asked.critical = true,
                () => asked.unknown = true,
            }
        }
        asked.none &= !(asked.id || asked.user || asked.header || asked.session || asked.history);
        asked
    }

    /// Whether the other party may not see who calls.
    #[must_use]
    pub const fn hides_the_caller(self) -> bool {
        self.id || self.user
    }

    /// Whether the call must fail rather than go on (RFC 3323 5): it is critical and asks for what we cannot do.
    #[must_use]
    pub const fn cannot_be_kept(self) -> bool {
        self.critical && self.unknown
    }

    /// The value of the header that passes this on, if anything is asked for.
    #[must_use]
    pub fn value(self) -> Option<String> {
        let names = [
            (self.header, "header"),
            (self.session, "session"),
            (self.user, "user"),
            (self.id, "id"),
            (self.history, "history"),
            (self.none, "none"),
            (self.critical, "critical"),
        ];
        let asked: Vec<&str> = names.iter().filter(|(asked, _)| *asked).map(|(_, name)| *name).collect();
        (!asked.is_empty()).then(|| asked.join(";"))
    }
}

/// Who calls, all that is known of it. What may be shown is [`Caller::shown`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The number, empty when it is not known.
    pub number: String,
    /// The name, empty when there is none.
    pub name: String,
    /// The identity that a trusted trunk has asserted as a SIP URI, when that is no number: it is passed on as it is.
    pub uri: Option<String>,
    /// The trunk is trusted and has asserted this.
    pub asserted: bool,
    /// What the caller asks to be kept back.
    pub privacy: Privacy,
}

impl Caller {
    /// Whether the other party may not see the number.
    #[must_use]
    pub fn withheld(&self) -> bool {
        self.number.is_empty() || self.privacy.hides_the_caller()
    }

    /// Number and name for agents, scripts and routers: both empty when they are withheld (RFC 3325 5: outside of
    /// the trust domain, where every user is).
    #[must_use]
    pub fn shown(&self) -> (&str, &str) {
        if self.withheld() { ("", "") } else { (&self.number, &self.name) }
    }
}

/// The caller of an INVITE: who is asserted when the trunk is `trusted`, else whom the From names. A
/// P-Preferred-Identity is a user's wish to its own proxy (RFC 3325 9.2) and says nothing here.
#[must_use]
pub fn caller(request: &Message, trusted: bool) -> Caller {
    let privacy = Privacy::of(request);
    let asserted = if trusted { asserted(request) } else { None };
    if let Some(asserted) = asserted {
        return Caller { privacy, ..asserted };
    }
    let Some(from) = request.from() else { return Caller { privacy, ..Caller::default() } };
    let number = user_of(from.uri);
    if number.eq_ignore_ascii_case("anonymous") || from.uri.contains("anonymous.invalid") {
        return Caller { privacy, ..Caller::default() };
    }
    Caller { number, name: from.display_text().into_owned(), privacy, ..Caller::default() }
}

/// What is asserted. RFC 5876 4.5: of several values the first SIP or SIPS URI and the first tel URI count.
fn asserted(request: &Message) -> Option<Caller> {
    let (mut sip, mut tel): (Option<NameAddr<'_>>, Option<NameAddr<'_>>) = (None, None);
    for value in request.headers(Header::PAssertedIdentity).filter_map(NameAddr::parse) {
        match Uri::parse(value.uri) {
            Ok(uri) if uri.is_sip() && uri.user.is_some() => sip = sip.or(Some(value)),
            Ok(uri) if uri.scheme.eq_ignore_ascii_case("tel") => tel = tel.or(Some(value)),
            _ => {}
        }
    }
    let first = tel.or(sip)?;
    let name = [sip, tel].into_iter().flatten().map(|v| v.display_text()).find(|name| !name.is_empty());
    Some(Caller {
        number: user_of(first.uri),
        name: name.unwrap_or_default().into_owned(),
        uri: sip.filter(|sip| !is_number(&user_of(sip.uri))).map(|sip| sip.uri.to_owned()),
        asserted: true,
        privacy: Privacy::default(),
    })
}

/// The user of a SIP URI without its own parameters, or the number of a tel URI without visual separators
/// (RFC 3966 5.1.1).
pub(super) fn user_of(uri: &str) -> String {
    let Ok(uri) = Uri::parse(uri) else { return String::new() };
    let user = uri.user_text();
    let user = user.split(';').next().unwrap_or("");
    if uri.is_sip() {
        user.to_owned()
    } else {
        user.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect()
    }
}

/// Whether a user part is a telephone number (RFC 3966 3: digits, and what phones have besides).
#[must_use]
pub fn is_number(user: &str) -> bool {
    let digits = user.strip_prefix('+').unwrap_or(user);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b"-.()*#".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn invite(head: &str) -> Message {
        let text = format!("INVITE sip:1@10.0.0.9 SIP/2.0\r\n{head}Call-ID: a\r\nCSeq: 1 INVITE\r\n\r\n");
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn named(number: &str, name: &str) -> Caller {
        Caller { number: number.into(), name: name.into(), ..Caller::default() }
    }

    #[test]
    fn an_asserted_identity_is_believed_of_a_trusted_trunk_alone() {
        let both = invite("From: \"F\" <sip:1@x>;tag=1\r\nP-Asserted-Identity: \"P\" <sip:+2@x>\r\n");
        assert_eq!(caller(&both, false), named("1", "F"));
        assert_eq!(caller(&both, true), Caller { asserted: true, ..named("+2", "P") });
        let wish = invite("From: \"F\" <sip:1@x>;tag=1\r\nP-Preferred-Identity: <sip:+2@x>\r\n");
        assert_eq!(caller(&wish, true), named("1", "F"), "a wish is no assertion");
    }

    #[test]
    fn of_several_values_the_first_sip_and_the_first_tel_uri_count() {
        let from = "From: <sip:anonymous@anonymous.invalid>;tag=1\r\n";
        let two = invite(&format!(
            "{from}P-Asserted-Identity: \"Ann\" <sip:ann@home.test>, <tel:+1-408-555.4000>\r\n"
        ));
        let expected =
            Caller { uri: Some("sip:ann@home.test".into()), asserted: true, ..named("+14085554000", "Ann") };
        assert_eq!(caller(&two, true), expected);
        // On two lines, in the other order, with others around them.
        let many = invite(&format!(
            "{from}P-Asserted-Identity: <mailto:a@b>, tel:+14085554000\r\n\
             P-Asserted-Identity: \"Ann\" <sip:ann@home.test>, <sip:bob@home.test>, <tel:+1>\r\n"
        ));
        assert_eq!(caller(&many, true), expected);
        let number = invite(&format!("{from}P-Asserted-Identity: <sip:+1408@x;user=phone>\r\n"));
        assert_eq!(caller(&number, true), Caller { asserted: true, ..named("+1408", "") });
        for nothing in ["P-Asserted-Identity: <mailto:a@b>\r\n", "P-Asserted-Identity: <sip:x\r\n", ""] {
            assert_eq!(caller(&invite(&format!("{from}{nothing}")), true), Caller::default(), "{nothing}");
        }
    }

    #[test]
    fn privacy_is_read_as_it_is_written() {
        let of =
            |value: &str| Privacy::of(&invite(&format!("From: <sip:1@x>;tag=1\r\nPrivacy: {value}\r\n")));
        assert_eq!(of("id").value().as_deref(), Some("id"));
        assert_eq!(of("Critical ; ID;user").value().as_deref(), Some("user;id;critical"));
        assert_eq!(of("header, session").value().as_deref(), Some("header;session"));
        assert_eq!(of("none").value().as_deref(), Some("none"));
        assert_eq!(of("none;id").value().as_deref(), Some("id"), "a contradiction keeps the secret");
        assert_eq!(Privacy::of(&invite("From: <sip:1@x>;tag=1\r\n")).value(), None);
        assert!(of("id;critical").hides_the_caller() && !of("id;critical").cannot_be_kept());
        assert!(of("x-new;critical").cannot_be_kept() && !of("x-new").cannot_be_kept());
        assert!(!of("header;session;history").hides_the_caller());
    }

    #[test]
    fn what_is_withheld_is_known_and_not_shown() {
        for head in ["Privacy: id\r\n", "Privacy: user\r\n", "Privacy: id;user;critical\r\n"] {
            let from = "From: \"F\" <sip:1@x>;tag=1\r\nP-Asserted-Identity: <sip:+2@x>\r\n";
            let who = caller(&invite(&format!("{from}{head}")), true);
            assert_eq!((who.number.as_str(), who.withheld(), who.shown()), ("+2", true, ("", "")), "{head}");
        }
        for head in [
            "From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1\r\n",
            "From: <sip:Anonymous@carrier.test>;tag=1\r\n",
        ] {
            assert!(caller(&invite(head), false).withheld(), "{head}");
        }
        // RFC 3323 4.2: "none" is the caller's wish to be seen.
        let seen = "From: <sip:anonymous@anonymous.invalid>;tag=1\r\nP-Asserted-Identity: <sip:+2@x>\r\n";
        let who = caller(&invite(&format!("{seen}Privacy: none\r\n")), true);
        assert_eq!(who.shown(), ("+2", ""));
    }
}

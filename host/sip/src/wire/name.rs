//! Header names that this stack knows, their compact forms, and how a name is recognised.
//!
//! Called by the scanner for each line of a message: a byte of length, first and last letter picks
//! a slot of a table made at compile time, one comparison confirms it. Never allocates.

macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident $text:literal $compact:literal $list:literal;)*) => {
        /// A header's name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Name {
            /// A name that this stack does not know: see `Message::other`.
            Other,
            $(
                #[doc = concat!("`", $text, "`")]
                $variant,
            )*
        }

        impl Name {
            /// The name as it is written, long form; empty for [`Name::Other`].
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    Self::Other => "",
                    $(Self::$variant => $text,)*
                }
            }

            /// Whether one line may hold several values, separated by commas (RFC 3261 7.3.1).
            #[must_use]
            pub const fn is_list(self) -> bool {
                match self {
                    Self::Other => false,
                    $(Self::$variant => $list,)*
                }
            }

            /// The name of a compact form (RFC 3261 7.3.3 and the IANA table).
            pub(super) const fn of_letter(letter: u8) -> Self {
                match letter.to_ascii_lowercase() {
                    $($compact => if $compact == 0 { Self::Other } else { Self::$variant },)*
                    _ => Self::Other,
                }
            }

            /// Every known name.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }
    };
}

// Variant, long form, compact letter (0: none), whether it is a comma list.
// `unreachable_patterns`: all names without a letter share the pattern 0.
#[allow(unreachable_patterns, reason = "names without a compact letter share the pattern 0")]
mod table {
    names! {
        Accept "Accept" 0 true;
        AcceptContact "Accept-Contact" b'a' true;
        AcceptEncoding "Accept-Encoding" 0 true;
        AcceptLanguage "Accept-Language" 0 true;
        AlertInfo "Alert-Info" 0 true;
        Allow "Allow" 0 true;
        AllowEvents "Allow-Events" b'u' true;
        AuthenticationInfo "Authentication-Info" 0 false;
        Authorization "Authorization" 0 false;
        CallId "Call-ID" b'i' false;
        CallInfo "Call-Info" 0 true;
        Contact "Contact" b'm' true;
        ContentDisposition "Content-Disposition" 0 false;
        ContentEncoding "Content-Encoding" b'e' true;
        ContentLanguage "Content-Language" 0 true;
        ContentLength "Content-Length" b'l' false;
        ContentType "Content-Type" b'c' false;
        CSeq "CSeq" 0 false;
        Date "Date" 0 false;
        Diversion "Diversion" 0 true;
        ErrorInfo "Error-Info" 0 true;
        Event "Event" b'o' false;
        Expires "Expires" 0 false;
        From "From" b'f' false;
        HistoryInfo "History-Info" 0 true;
        Identity "Identity" b'y' false;
        IdentityInfo "Identity-Info" b'n' false;
        InReplyTo "In-Reply-To" 0 true;
        Join "Join" 0 false;
        MaxForwards "Max-Forwards" 0 false;
        MimeVersion "MIME-Version" 0 false;
        MinExpires "Min-Expires" 0 false;
        MinSe "Min-SE" 0 false;
        Organization "Organization" 0 false;
        PAssertedIdentity "P-Asserted-Identity" 0 true;
        PPreferredIdentity "P-Preferred-Identity" 0 true;
        Path "Path" 0 true;
        Priority "Priority" 0 false;
        Privacy "Privacy" 0 false;
        ProxyAuthenticate "Proxy-Authenticate" 0 false;
        ProxyAuthorization "Proxy-Authorization" 0 false;
        ProxyRequire "Proxy-Require" 0 true;
        RAck "RAck" 0 false;
        RSeq "RSeq" 0 false;
        Reason "Reason" 0 true;
        RecordRoute "Record-Route" 0 true;
        ReferSub "Refer-Sub" 0 false;
        ReferTo "Refer-To" b'r' false;
        ReferredBy "Referred-By" b'b' false;
        RejectContact "Reject-Contact" b'j' true;
        RemotePartyId "Remote-Party-ID" 0 true;
        Replaces "Replaces" 0 false;
        ReplyTo "Reply-To" 0 false;
        RequestDisposition "Request-Disposition" b'd' true;
        Require "Require" 0 true;
        RetryAfter "Retry-After" 0 false;
        Route "Route" 0 true;
        Server "Server" 0 false;
        ServiceRoute "Service-Route" 0 true;
        SessionExpires "Session-Expires" b'x' false;
        SipEtag "SIP-ETag" 0 false;
        SipIfMatch "SIP-If-Match" 0 false;
        Subject "Subject" b's' false;
        SubscriptionState "Subscription-State" 0 false;
        Supported "Supported" b'k' true;
        Timestamp "Timestamp" 0 false;
        To "To" b't' false;
        Unsupported "Unsupported" 0 true;
        UserAgent "User-Agent" 0 false;
        Via "Via" b'v' true;
        Warning "Warning" 0 true;
        WwwAuthenticate "WWW-Authenticate" 0 false;
    }
}

pub use table::Name;

const SLOTS: usize = 256;

const fn slot(len: usize, first: u8, last: u8) -> usize {
    let (first, last) = ((first | 0x20) as usize, (last | 0x20) as usize);
    (len * 7 + first * 29 + last * 3) % SLOTS
}

/// Open addressing: an empty text ends a chain.
static TABLE: [(&[u8], Name); SLOTS] = {
    let mut table: [(&[u8], Name); SLOTS] = [(&[], Name::Other); SLOTS];
    let mut i = 0;
    while i < Name::ALL.len() {
        let text = Name::ALL[i].as_str().as_bytes();
        let mut at = slot(text.len(), text[0], text[text.len() - 1]);
        while !table[at].0.is_empty() {
            at = (at + 1) % SLOTS;
        }
        table[at] = (text, Name::ALL[i]);
        i += 1;
    }
    table
};

impl Name {
    /// Recognises a name in any case, long or compact; what is unknown is [`Name::Other`].
    #[must_use]
    pub fn recognise(name: &[u8]) -> Self {
        let (first, last) = match name {
            [] => return Self::Other,
            [letter] => return Self::of_compact(*letter),
            [first, .., last] => (*first, *last),
        };
        let mut at = slot(name.len(), first, last);
        loop {
            let (text, candidate) = TABLE[at];
            // Nearly everybody writes names as the RFC does.
            if text.is_empty() || text == name || text.eq_ignore_ascii_case(name) {
                return candidate;
            }
            at = (at + 1) % SLOTS;
        }
    }

    fn of_compact(letter: u8) -> Self {
        if letter.is_ascii_alphabetic() { Self::of_letter(letter) } else { Self::Other }
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_recognised_in_any_case() {
        for name in Name::ALL {
            let text = name.as_str();
            assert_eq!(Name::recognise(text.as_bytes()), *name);
            assert_eq!(Name::recognise(text.to_uppercase().as_bytes()), *name);
            assert_eq!(Name::recognise(text.to_lowercase().as_bytes()), *name);
        }
        assert_eq!(Name::recognise(b"X-Custom"), Name::Other);
        assert_eq!(Name::recognise(b"Fron"), Name::Other);
        assert_eq!(Name::recognise(b""), Name::Other);
    }

    #[test]
    fn compact_forms_are_the_ones_registered() {
        let pairs = "ab c,de fijk lmn,orstuvxy";
        let known: String =
            (b'a'..=b'z').filter(|l| Name::recognise(&[*l]) != Name::Other).map(char::from).collect();
        assert_eq!(known, pairs.replace([' ', ','], ""));
        assert_eq!(Name::recognise(b"V"), Name::Via);
        assert_eq!(Name::recognise(b"i"), Name::CallId);
        assert_eq!(Name::recognise(b"m"), Name::Contact);
        assert_eq!(Name::recognise(b"\0"), Name::Other);
    }
}

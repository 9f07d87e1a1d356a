//! Header names that this stack knows, their compact forms, and how a name is recognised.
//!
//! Called by the scanner for each line of a message: a name is three machine words in lower case, whose hash
//! picks a slot of a table made at compile time; comparing the words confirms it. Never allocates.

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

            /// The compact form's letter; 0 if there is none.
            pub(super) const fn letter(self) -> u8 {
                match self {
                    Self::Other => 0,
                    $(Self::$variant => $compact,)*
                }
            }

            /// Every known name.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }
    };
}

// Variant, long form, compact letter (0: none), whether it is a comma list.
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

/// The longest name that is looked up; all known ones are shorter.
pub(super) const LONGEST: usize = 24;

/// A name in lower case, zeros behind it. Of the bytes that `| 0x20` would make equal to one of a known name
/// and that are no letters there is only the carriage return: see [`Name::recognise`].
pub(super) type Key = [u64; LONGEST / 8];

/// Makes a byte of a name lower case, eight at a time.
pub(super) const LOWER: u64 = 0x2020_2020_2020_2020;

const fn key(text: &[u8]) -> Key {
    let mut key = [0; LONGEST / 8];
    let mut i = 0;
    while i < text.len() {
        key[i / 8] |= ((text[i] | 0x20) as u64) << (8 * (i % 8));
        i += 1;
    }
    key
}

/// Chosen by trial: nearly every name is in the slot of its hash.
const MULTIPLIER: u64 = 0x9b25_2840_863c_ff9b;

const fn slot(key: &Key) -> usize {
    let mixed = key[0] ^ key[1].rotate_left(23) ^ key[2].rotate_left(41);
    (mixed.wrapping_mul(MULTIPLIER) >> 56) as usize
}

/// Open addressing over long and compact forms; a key of zeros ends a chain.
static TABLE: [(Key, Name); 256] = {
    let mut table = [([0; LONGEST / 8], Name::Other); 256];
    let mut i = 0;
    while i < 2 * Name::ALL.len() {
        let name = Name::ALL[i / 2];
        let letter = [name.letter()];
        let key = key(if i % 2 == 0 { name.as_str().as_bytes() } else { &letter });
        i += 1;
        if i % 2 == 0 && name.letter() == 0 {
            continue;
        }
        let mut at = slot(&key);
        while table[at].0[0] != 0 {
            at = (at + 1) % 256;
        }
        table[at] = (key, name);
    }
    table
};

impl Name {
    /// How many there are, [`Name::Other`] among them.
    pub(super) const COUNT: usize = Self::ALL.len() + 1;

    /// Recognises a name in any case, long or compact; what is unknown is [`Name::Other`].
    #[must_use]
    pub fn recognise(name: &[u8]) -> Self {
        if name.len() > LONGEST || name.contains(&b'\r') {
            return Self::Other;
        }
        Self::of_key(key(name))
    }

    /// The name of a key whose text has no carriage return.
    #[inline]
    pub(super) fn of_key(key: Key) -> Self {
        let mut at = slot(&key);
        loop {
            let (known, name) = &TABLE[at];
            if (known[0] ^ key[0]) | (known[1] ^ key[1]) | (known[2] ^ key[2]) == 0 || known[0] == 0 {
                return *name;
            }
            at = (at + 1) % 256;
        }
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
        assert_eq!(Name::recognise(b"Call\rID"), Name::Other);
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

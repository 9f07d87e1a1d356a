//! The small grammar that every header shares: tokens, quoted strings, comma lists, parameters.
//!
//! Called by the other modules of [`crate::wire`] and by whoever takes a header's value apart.
//! Never allocates, never fails: what does not fit the grammar is an empty value or no value.

/// Whether `byte` may stand in a token (RFC 3261 25.1).
#[must_use]
pub const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// Whether `text` is a token (RFC 3261 25.1): a method, a header's name, a parameter's name.
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = b.is_ascii_alphanumeric()
            || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        i += 1;
    }
    table
};

/// Without the blanks at both ends (SP, HTAB; LF and CR too, which only a body may still hold).
#[inline]
#[must_use]
pub fn trim(text: &str) -> &str {
    let blank = |b: u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let bytes = text.as_bytes();
    if let [first, .., last] = bytes
        && *first > b' '
        && *last > b' '
    {
        return text;
    }
    let mut end = bytes.len();
    while end > 0 && blank(bytes[end - 1]) {
        end -= 1;
    }
    let mut start = 0;
    while start < end && blank(bytes[start]) {
        start += 1;
    }
    &text[start..end]
}

/// Cuts `text` at the first `separator` that stands outside of quotes and of angle brackets.
///
/// An opening quote that never closes swallows the rest, so it can hide nothing from a reader who
/// stops at the same place.
#[must_use]
pub fn split_outside(text: &str, separator: u8) -> (&str, Option<&str>) {
    match find_outside(text.as_bytes(), separator) {
        Some(i) => (&text[..i], Some(&text[i + 1..])),
        None => (text, None),
    }
}

/// Where [`split_outside`] cuts, for text that may be broken UTF-8.
#[inline]
pub(super) fn find_outside(bytes: &[u8], separator: u8) -> Option<usize> {
    // Nearly every value has neither quotes nor brackets before its separator.
    let mut i = memchr::memchr3(separator, b'"', b'<', bytes)?;
    let (mut quoted, mut bracket) = (false, false);
    while i < bytes.len() {
        match bytes[i] {
            b'\\' if quoted => i += 1,
            b'"' => quoted = !quoted,
            b'<' if !quoted => bracket = true,
            b'>' if !quoted => bracket = false,
            b if b == separator && !quoted && !bracket => return Some(i),
            _ => {}
        }
        i += 1;
    }
    None
}

/// The values of a comma-separated header (RFC 3261 7.3.1), blanks trimmed, empty ones left out.
#[derive(Debug, Clone)]
pub struct List<'a>(Option<&'a str>);

impl<'a> List<'a> {
    /// The values in `text`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self(Some(text))
    }
}

impl<'a> Iterator for List<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        while let Some(text) = self.0 {
            let (head, rest) = split_outside(text, b',');
            self.0 = rest;
            let head = trim(head);
            if !head.is_empty() {
                return Some(head);
            }
        }
        None
    }
}

/// Parameters as they follow a URI, an address or a Via: `;name=value;flag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a>(pub(crate) &'a str);

impl<'a> Params<'a> {
    /// The parameters in `text`, with or without the first semicolon.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The value of the first parameter called `name` (any case): empty for a flag, without the
    /// quotes for a quoted string (escapes inside stay as they are).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let mut at = 0;
        while at < self.0.len() {
            let Some((key, value, end)) =
                plain_param(self.0, at).filter(|(.., end)| !self.0[*end..].starts_with(','))
            else {
                return self.get_any(name);
            };
            if key.eq_ignore_ascii_case(name) {
                return Some(value);
            }
            at = end + 1;
        }
        None
    }

    #[cold]
    fn get_any(&self, name: &str) -> Option<&'a str> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.unwrap_or(""))
    }

    /// Whether a parameter called `name` is there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Name and value of each parameter.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        let mut rest = Some(self.0);
        std::iter::from_fn(move || {
            while let Some(text) = rest {
                let (head, tail) = split_outside(text, b';');
                rest = tail;
                let head = trim(head);
                if head.is_empty() {
                    continue;
                }
                return Some(match cut_at(head, b'=') {
                    Some((name, value)) => (trim(name), Some(unquoted(trim(value)))),
                    None => (head, None),
                });
            }
            None
        })
    }

    /// The text as it stood, beginning with a semicolon, or empty.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

/// The parameter at `at` where nothing is quoted, blank or empty in a way that needs [`Params::iter`]: name,
/// value (empty for a flag), and where it ends: at a semicolon, a comma or the end of the text.
#[inline]
pub(super) fn plain_param(text: &str, at: usize) -> Option<(&str, &str, usize)> {
    let bytes = text.as_bytes();
    let run = |from: usize, table: &[bool; 256]| {
        bytes[from..].iter().position(|b| !table[usize::from(*b)]).map_or(bytes.len(), |n| from + n)
    };
    let name_end = run(at, &TOKEN);
    let (value, end) = match bytes.get(name_end) {
        Some(b'=') => {
            let end = run(name_end + 1, &VALUE);
            (&text[name_end + 1..end], end)
        }
        _ => ("", name_end),
    };
    matches!(bytes.get(end), None | Some(b';' | b',')).then(|| (&text[at..name_end], value, end))
}

/// Bytes of a value that is neither quoted nor has blanks around it: those of tokens, hosts and URIs.
static VALUE: [bool; 256] = {
    let mut table = TOKEN;
    let mut more = b"[]:/?&=+$@|^#(){}".as_slice();
    while let [byte, rest @ ..] = more {
        table[*byte as usize] = true;
        more = rest;
    }
    table
};

/// The text before and behind the first `separator`. For a few bytes, where a search by vectors does not pay.
#[inline]
pub(crate) fn cut_at(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|b| b == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Without the quotes around it, if there are any; escapes inside stay.
#[must_use]
pub fn unquoted(text: &str) -> &str {
    match text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        Some(inner) => inner,
        None => text,
    }
}

/// The text of a quoted string's inside, backslashes taken away (RFC 3261 25.1 quoted-pair).
#[must_use]
pub fn unescaped(inner: &str) -> std::borrow::Cow<'_, str> {
    if !inner.contains('\\') {
        return inner.into();
    }
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out.into()
}

/// A whole number of decimal digits; more than 32 bits is the largest (a longer time than the
/// largest is as good as the largest), anything else is nothing.
#[inline]
#[must_use]
pub fn number(text: &str) -> Option<u32> {
    let text = trim(text);
    let mut value = 0_u32;
    for digit in text.bytes() {
        if !digit.is_ascii_digit() {
            return None;
        }
        value =
            value.checked_mul(10).and_then(|v| v.checked_add(u32::from(digit - b'0'))).unwrap_or(u32::MAX);
    }
    (!text.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_split_outside_quotes_and_brackets_only() {
        let text = r#""A, \", B" <sip:a,b@x>;q=1 , , <sip:c@y>"#;
        let all: Vec<_> = List::new(text).collect();
        assert_eq!(all, [r#""A, \", B" <sip:a,b@x>;q=1"#, "<sip:c@y>"]);
    }

    #[test]
    fn parameters_keep_quotes_together() {
        let p = Params::new(r#";a="x;y" ; lr;; B = 2"#);
        assert_eq!(p.get("A"), Some("x;y"));
        assert_eq!(p.get("lr"), Some(""));
        assert_eq!(p.get("b"), Some("2"));
        assert_eq!(p.get("c"), None);
    }

    #[test]
    fn numbers_clamp_and_refuse_signs() {
        assert_eq!(number(" 70 "), Some(70));
        assert_eq!(number("99999999999999"), Some(u32::MAX));
        assert_eq!(number("-1"), None);
        assert_eq!(number("+1"), None);
        assert_eq!(number(""), None);
    }

    proptest::proptest! {
        #[test]
        fn the_short_way_to_a_parameter_finds_what_the_long_one_does(
            text in r#"(;|=|,| |"|<|>|\\|tag|TAG|[a-z0-9:@?&\[\]é]{1,3}){0,12}"#,
        ) {
            let params = Params::new(&text);
            for name in ["tag", "a"] {
                proptest::prop_assert_eq!(params.get(name), params.get_any(name), "{} in {}", name, text);
            }
        }
    }
}

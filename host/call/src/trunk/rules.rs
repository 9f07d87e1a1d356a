//! What a trunk changes in numbers and headers on their way in or out.
//!
//! Read by the configuration and applied by the shard. Never looks at a call.

use serde::{Deserialize, Serialize};

/// One rule for numbers, written `00* -> +*`: the beginning that matches, and what replaces it.
/// Without the `*` on the left it matches the whole number; without one on the right what the `*`
/// stood for is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    from: String,
    from_open: bool,
    to: String,
    to_open: bool,
}

impl Rewrite {
    /// Reads a rule.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("expected a rule such as `00* -> +*`, found {text:?}");
        let (from, to) = text.split_once("->").ok_or_else(expected)?;
        let side = |side: &str| {
            let side = side.trim();
            let (text, open) = side.strip_suffix('*').map_or((side, false), |head| (head, true));
            // A star that is a key of the phone stands anywhere but at the end.
            text.bytes()
                .all(|b| b.is_ascii_graphic() && !b"<>@\";,".contains(&b))
                .then(|| (text.to_owned(), open))
        };
        let ((from, from_open), (to, to_open)) =
            (side(from).ok_or_else(expected)?, side(to).ok_or_else(expected)?);
        if (from.is_empty() && !from_open) || (to.is_empty() && !to_open) || (to_open && !from_open) {
            return Err(expected());
        }
        Ok(Self { from, from_open, to, to_open })
    }

    fn apply(&self, number: &str) -> Option<String> {
        let rest =
            number.strip_prefix(self.from.as_str()).filter(|rest| self.from_open || rest.is_empty())?;
        Some(format!("{}{}", self.to, if self.to_open { rest } else { "" }))
    }
}

/// A number by the first rule that matches, or as it is. Visual separators (RFC 3966 5.1.1) go first
/// when there are rules; a withheld number stays withheld.
#[must_use]
pub fn normalised(rules: &[Rewrite], number: String) -> String {
    if rules.is_empty() || number.is_empty() {
        return number;
    }
    let is_number = number.bytes().all(|b| b.is_ascii_digit() || b"+-.()*# ".contains(&b));
    let bare = if is_number {
        number.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')' | ' ')).collect()
    } else {
        number
    };
    rules.iter().find_map(|rule| rule.apply(&bare)).unwrap_or(bare)
}

/// Headers of an INVITE that leaves by a trunk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderRules {
    /// Always written.
    pub add: Vec<(String, String)>,
    /// Never written, wherever they come from.
    pub remove: Vec<String>,
    /// Taken over from the caller's INVITE when it has them.
    pub copy: Vec<String>,
}

impl HeaderRules {
    /// Applies the rules to the headers that the call brings with it (`own`) and those that its
    /// INVITE had (`theirs`).
    pub fn apply(&self, own: &mut Vec<(String, String)>, theirs: &[(String, String)]) {
        let is = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        own.extend(theirs.iter().filter(|(n, _)| self.copy.iter().any(|c| is(c, n))).cloned());
        // What the operator writes goes before what came by itself.
        own.retain(|(n, _)| !self.add.iter().any(|(a, _)| is(a, n)));
        own.extend(self.add.iter().cloned());
        own.retain(|(n, _)| !self.remove.iter().any(|r| is(r, n)));
    }
}

/// Headers that carry the transaction, the dialog or the body, with their compact forms: no rule may touch them.
const KEPT: [&str; 34] = [
    "Via",
    "v",
    "From",
    "f",
    "To",
    "t",
    "Call-ID",
    "i",
    "CSeq",
    "Contact",
    "m",
    "Max-Forwards",
    "Route",
    "Record-Route",
    "Content-Type",
    "c",
    "Content-Length",
    "l",
    "Content-Encoding",
    "e",
    "Authorization",
    "Proxy-Authorization",
    "Require",
    "Proxy-Require",
    "Supported",
    "k",
    "Session-Expires",
    "x",
    "Min-SE",
    "RSeq",
    "RAck",
    "Replaces",
    "Allow",
    "User-Agent",
];

/// Whether a rule may add, copy or remove a header of this name.
#[must_use]
pub fn may_touch(name: &str) -> bool {
    let is_token =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b));
    is_token && name.len() <= 64 && !KEPT.iter().any(|kept| kept.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(list: &[&str]) -> Vec<Rewrite> {
        list.iter().map(|r| Rewrite::parse(r).unwrap()).collect()
    }

    #[test]
    fn numbers_become_e164_and_back() {
        let e164 = rules(&["00* -> +*", "0* -> +49*", "110 -> 110", "+* -> +*"]);
        for (number, becomes) in [
            ("0033 1-23", "+33123"),
            ("(030) 12.34", "+49301234"),
            ("110", "110"),
            ("+49301", "+49301"),
            ("4930", "4930"),
            ("alice-b", "alice-b"),
            ("", ""),
        ] {
            assert_eq!(normalised(&e164, number.to_owned()), becomes, "{number}");
        }
        let national = rules(&["+49* -> 0*", "+* -> 00*"]);
        assert_eq!(normalised(&national, "+4930".into()), "030");
        assert_eq!(normalised(&national, "+331".into()), "00331");
        assert_eq!(normalised(&rules(&["* -> 100"]), "+331".into()), "100");
        assert_eq!(normalised(&[], "0 30".into()), "0 30", "without rules nothing changes");
    }

    #[test]
    fn rules_that_say_nothing_are_mistakes() {
        for wrong in ["", "->", "0*", "-> 1", "1 ->", "1 -> +*", "<* -> *", "a b -> c"] {
            assert!(Rewrite::parse(wrong).unwrap_err().contains("00* -> +*"), "{wrong}");
        }
    }

    #[test]
    fn header_rules_add_copy_and_remove() {
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        let rules = HeaderRules {
            add: vec![pair("X-Account", "7")],
            remove: vec!["x-secret".into()],
            copy: vec!["X-Ref".into(), "X-Secret".into()],
        };
        let mut own = vec![pair("Max-Forwards", "69"), pair("x-account", "0")];
        rules.apply(&mut own, &[pair("x-ref", "a"), pair("X-Secret", "b"), pair("X-Other", "c")]);
        assert_eq!(own, [pair("Max-Forwards", "69"), pair("x-ref", "a"), pair("X-Account", "7")]);
        assert!(may_touch("X-Ref") && may_touch("P-Asserted-Identity") && may_touch("Diversion"));
        assert!(
            !["via", "V", "Contact", "Require", "X Y", "", "Content-Length"].iter().any(|n| may_touch(n))
        );
    }
}

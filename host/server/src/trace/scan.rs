//! What the trace must know of a message, found without parsing it: whose it is, and whether it begins or
//! ends a dialog. Tolerant: a message that the stack will refuse is worth seeing most of all.

/// Where a byte is first.
fn find(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == byte)
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) call_id: &'a str,
    /// A 2xx to an INVITE.
    pub(super) answers: bool,
    /// A BYE.
    pub(super) ends: bool,
}

fn value<'a>(line: &'a [u8], long: &[u8], short: Option<u8>) -> Option<&'a [u8]> {
    let colon = find(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    let is =
        name.eq_ignore_ascii_case(long) || short.is_some_and(|short| name.eq_ignore_ascii_case(&[short]));
    is.then(|| line[colon + 1..].trim_ascii())
}

/// The head of a message; none for what is no SIP message, or has no Call-ID.
pub(super) fn head(bytes: &[u8]) -> Option<Head<'_>> {
    let mut rest = bytes;
    let mut next = || {
        let end = find(b'\n', rest)?;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    };
    let first = next()?;
    let success = first.starts_with(b"SIP/2.0 2");
    if !first.starts_with(b"SIP/2.0 ") && !first.ends_with(b"SIP/2.0") {
        return None;
    }
    let (mut call_id, mut cseq) = (None, None);
    while let Some(line) = next() {
        match line.first()? {
            b'C' | b'c' | b'I' | b'i' => {
                call_id = call_id.or_else(|| value(line, b"call-id", Some(b'i')));
                cseq = cseq.or_else(|| value(line, b"cseq", None));
                if call_id.is_some() && cseq.is_some() {
                    break;
                }
            }
            _ => {}
        }
    }
    let call_id = str::from_utf8(call_id?).ok().filter(|id| !id.is_empty())?;
    Some(Head {
        call_id,
        answers: success && cseq.is_some_and(|cseq| cseq.ends_with(b"INVITE")),
        ends: first.starts_with(b"BYE "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_id_is_found_in_either_form_and_dialogs_begin_and_end() {
        let h = |text: &'static str| head(text.as_bytes());
        assert_eq!(
            h("SIP/2.0 200 OK\r\nVia: x\r\ncSeQ: 1 INVITE\r\nI : a@b \r\n\r\n"),
            Some(Head { call_id: "a@b", answers: true, ends: false })
        );
        assert_eq!(
            h("BYE sip:x SIP/2.0\r\nContact: <sip:y>\r\nCall-ID:c\r\nCSeq: 2 BYE\r\n\r\n"),
            Some(Head { call_id: "c", answers: false, ends: true })
        );
        assert!(!h("SIP/2.0 180 Ringing\r\nCall-ID:c\r\nCSeq: 2 INVITE\r\n\r\n").unwrap().answers);
        // Cut off, without an end: still whose it is.
        assert_eq!(h("INVITE sip:x SIP/2.0\r\nCall-ID: cut\r\nFro").unwrap().call_id, "cut");
    }

    #[test]
    fn what_is_no_sip_and_what_stands_in_a_body_is_nobodys() {
        assert_eq!(head(b"GET / HTTP/1.1\r\nCall-ID: a\r\n\r\n"), None);
        assert_eq!(head(b"\r\n\r\n"), None);
        assert_eq!(head(b""), None);
        assert_eq!(head(b"INVITE sip:x SIP/2.0\r\nVia: y\r\n\r\nCall-ID: body\r\n"), None);
        assert_eq!(head(b"INVITE sip:x SIP/2.0\r\nCall-ID: \xff\xfe\r\n\r\n"), None);
    }
}

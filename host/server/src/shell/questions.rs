//! What waits while datagrams come faster than they can be served: OPTIONS and other requests that are neither
//! calls nor REGISTERs, before any call does.
//!
//! Asked by the shard's loop for each request while it is pressed. The first of each sender in a turn goes on, so
//! that whoever asks now and then whether we are there is still answered; a flood's others are passed over in
//! silence, which costs nothing and which a client repeats (RFC 3261 17.1.2.2).

use std::net::SocketAddr;

use bytes::Bytes;
use cordboard_sip::wire::Message;

/// Senders that are answered in one turn; those of a flood with many faces count together.
const MAX_SENDERS: usize = 32;
/// Requests that mean something for a call or a phone, and responses.
const KEPT: [&[u8]; 8] =
    [b"INVITE ", b"ACK ", b"BYE ", b"CANCEL ", b"PRACK ", b"UPDATE ", b"REGISTER ", b"SIP/2.0 "];

/// Who has asked in this turn.
#[derive(Debug, Default)]
pub struct Questions {
    asked: Vec<SocketAddr>,
}

impl Questions {
    /// A new turn.
    pub fn turn(&mut self) {
        self.asked.clear();
    }

    /// Whether a message is to be passed over.
    pub fn waits(&mut self, from: SocketAddr, bytes: &Bytes) -> bool {
        if KEPT.iter().any(|kept| bytes.starts_with(kept)) || !is_outside(bytes) {
            return false;
        }
        let again = self.asked.contains(&from) || self.asked.len() >= MAX_SENDERS;
        if !again {
            self.asked.push(from);
        }
        again
    }
}

/// Whether it is a request outside of any dialog (RFC 3261 12.2: its To has no tag). What is no SIP is the shard's
/// to count.
fn is_outside(bytes: &Bytes) -> bool {
    Message::parse(bytes.clone()).is_ok_and(|m| m.is_request() && m.to().is_some_and(|to| to.tag().is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, to: &str) -> Bytes {
        let text = format!(
            "{method} sip:1@x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: {to}\r\nCall-ID: a\r\nCSeq: 1 {method}\r\n\r\n"
        );
        text.into_bytes().into()
    }

    fn from(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn the_first_question_of_each_sender_in_a_turn_is_answered() {
        let mut questions = Questions::default();
        let options = request("OPTIONS", "<sip:1@x>");
        let waits: Vec<bool> = [1, 1, 2, 1, 2].iter().map(|p| questions.waits(from(*p), &options)).collect();
        assert_eq!(waits, [false, true, false, true, true]);
        assert!(questions.waits(from(1), &request("MESSAGE", "<sip:1@x>")));
        questions.turn();
        assert!(!questions.waits(from(1), &options));
        let passed = (0..1_000).filter(|p| !questions.waits(from(5_000 + p), &options)).count();
        assert_eq!(passed, MAX_SENDERS - 1, "a flood from many ports is a flood");
    }

    #[test]
    fn calls_phones_dialogs_and_responses_never_wait() {
        let mut questions = Questions::default();
        for _ in 0..3 {
            for method in ["INVITE", "ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "REGISTER"] {
                assert!(!questions.waits(from(1), &request(method, "<sip:1@x>")), "{method}");
            }
            for method in ["OPTIONS", "INFO", "REFER", "NOTIFY"] {
                assert!(!questions.waits(from(1), &request(method, "<sip:1@x>;tag=7")), "{method}");
            }
            assert!(!questions.waits(from(1), &Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n")));
            assert!(!questions.waits(from(1), &Bytes::from_static(b"rubbish")));
        }
    }
}

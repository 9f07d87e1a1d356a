//! What an endpoint answers to each message of RFC 4475 and RFC 5118, and what it hands on: the column
//! that the table of `rfc4475.rs` leaves to the layers above the wire.

use std::net::SocketAddr;

use bytes::Bytes;
use cordboard_base::{Now, Random};
use cordboard_sip::endpoint::{Config, Endpoint, Event, Flow, Listener, Output};
use cordboard_sip::wire::{Message, Method, Name};
use sipx_testkit::{rfc4475, rfc5118};

/// Everything that an endpoint does with one datagram: its answers, and what the layer above hears.
fn served(bytes: Bytes) -> String {
    let local: SocketAddr = "192.0.2.1:5060".parse().unwrap();
    let config = Config { listeners: vec![Listener::udp(0, local)], ..Config::default() };
    let mut endpoint = Endpoint::new(config, Random::seeded(1));
    let now = Now { mono_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
    endpoint.receive(now, Flow::udp(0, "192.0.2.99:5060".parse().unwrap()), bytes);
    let mut all = Vec::new();
    while let Some(output) = endpoint.poll() {
        all.push(match output {
            Output::Send(datagram) => {
                let answer = Message::parse(datagram.bytes.into()).expect("what is sent can be read");
                let more = [Name::Unsupported, Name::Accept, Name::Allow, Name::Warning]
                    .map(|name| answer.header(name).map(|_| name.as_str()));
                let more: Vec<&str> = more.into_iter().flatten().collect();
                let status = answer.status();
                if more.is_empty() {
                    status.to_string()
                } else {
                    format!("{status} with {}", more.join(", "))
                }
            }
            Output::Event(Event::Incoming { request, .. }) if request.has_sdp() => "a call".to_owned(),
            Output::Event(Event::Incoming { .. }) => "a call without an offer".to_owned(),
            Output::Event(Event::Request { request, .. }) if request.method() == Method::Register => {
                let contacts: Vec<&str> = request.contacts().map(|c| c.uri).collect();
                format!("REGISTER of {}", contacts.join(" and "))
            }
            Output::Event(Event::Request { request, .. }) => format!("{} handed on", request.method()),
            Output::Event(other) => format!("{other:?}"),
        });
    }
    let counts = endpoint.counts();
    match (all.is_empty(), counts.malformed, counts.unmatched) {
        (false, ..) => all.join(", then "),
        (true, 1, 0) => "silence: not usable".to_owned(),
        (true, 0, 1) => "silence: a response to nothing of ours".to_owned(),
        _ => format!("silence: {counts:?}"),
    }
}

/// Name, what is seen, and what the section that has it asks of an endpoint, in our words.
type Row = (&'static str, &'static str, &'static str);

const RFC4475: &[Row] = &[
    // 3.1.1, valid messages
    ("wsinv", "481", "well-formed; its To tag names a dialog that nobody here has (RFC 3261 12.2.2)"),
    ("intmeth", "501 with Allow", "well-formed; nobody knows the method (RFC 3261 8.2.1)"),
    ("esc01", "100, then a call", "well-formed; %-escapes count only where the grammar has them"),
    (
        "escnull",
        "REGISTER of sip:%00@host5.example.com and sip:%00%00@host5.example.com",
        "well-formed; two contacts that differ, no name cut short at its NUL",
    ),
    ("esc02", "501 with Allow", "well-formed; the method is not REGISTER, an endpoint answers 501"),
    ("lwsdisp", "OPTIONS handed on", "taken as well-formed: the blank before < is a slip of the grammar"),
    ("longreq", "100, then a call", "well-formed, however long its values are"),
    (
        "dblreq",
        "REGISTER of sip:j.user@host.example.com",
        "the REGISTER is served, what follows its body is noise",
    ),
    ("semiuri", "OPTIONS handed on", "well-formed; the semicolon is part of the user"),
    ("transports", "OPTIONS handed on", "well-formed; the lower Vias may name any transport"),
    ("mpart01", "MESSAGE handed on", "well-formed and framed with its NULs, whoever understands the parts"),
    ("unreason", "silence: a response to nothing of ours", "well-formed; the reason is any UTF-8"),
    ("noreason", "silence: a response to nothing of ours", "well-formed; the reason may be empty"),
    // 3.1.2, invalid messages
    ("badinv01", "400", "400"),
    ("clerr", "400", "400: by UDP the body cannot be waited for"),
    ("ncl", "400", "an error; the rest of the datagram is dropped"),
    ("scalar02", "400", "400 for the CSeq; the other fields alone could be forgiven"),
    ("scalarlg", "silence: not usable", "discarded: a response is never answered"),
    ("quotbal", "400", "400"),
    ("ltgtruri", "400", "400 always, or the brackets are ignored"),
    ("lwsruri", "400", "400"),
    ("lwsstart", "400", "rejected as malformed, or the blanks are ignored"),
    ("trws", "400", "rejected as malformed, or the blanks are ignored"),
    ("escruri", "400", "400, or the headers are ignored; never are they taken over"),
    ("baddate", "100, then a call", "not rejected by who does not need the Date"),
    ("regbadct", "400 with Warning", "400, or the brackets are guessed"),
    ("badaspec", "OPTIONS handed on", "400, or the blanks are ignored"),
    ("baddn", "400", "400 (the archive's file ends before its empty line; whole it stands below)"),
    ("badvers", "505", "505"),
    ("mismatch01", "400", "400"),
    ("mismatch02", "501", "501, which suits the future better than 400"),
    ("bigcode", "silence: not usable", "dropped"),
    // 3.2, transactions
    ("badbranch", "OPTIONS handed on", "400, or matched as RFC 2543 did (see below)"),
    // 3.3, what the application sees
    ("insuf", "400", "nothing breaks; ideally 400"),
    ("unkscm", "416", "416, and To says nothing of the way"),
    ("novelsc", "416", "416 where the scheme will never mean anything"),
    ("unksm2", "400 with Warning", "a registrar answers 400: To has to be a SIP URI"),
    ("bext01", "420 with Unsupported", "420 with Unsupported: of Require, for a user agent"),
    ("invut", "415 with Accept", "415"),
    (
        "regaut01",
        "REGISTER of ",
        "the credentials of a strange scheme count as none: served, or 401 with a challenge",
    ),
    ("multi01", "400", "400"),
    ("mcl01", "400", "400, the rest of the datagram is dropped"),
    ("bcast", "silence: a response to nothing of ours", "discarded; never sent on to the broadcast address"),
    ("zeromf", "OPTIONS handed on", "served as if hops were left: only a proxy answers 483"),
    (
        "cparam01",
        "REGISTER of sip:+19725552222@gw1.example.net",
        "the parameter is the Contact's, not the URI's",
    ),
    (
        "cparam02",
        "REGISTER of sip:+19725552222@gw1.example.net;unknownparam",
        "the parameter is the URI's and stays in it",
    ),
    (
        "regescrt",
        "REGISTER of sip:user@example.com?Route=%3Csip:sip.example.com%3E",
        "the escaped header stays in the contact",
    ),
    ("sdp01", "406 with Warning", "406 with a Warning 399, since Accept leaves SDP out; 400 does too"),
    // 3.4, RFC 2543
    ("inv2543", "100, then a call", "accepted by who keeps up with RFC 2543: no Contact, tag or branch"),
    // in no section
    ("test", "silence: not usable", "nothing; its first line has no version, so it is not SIP"),
];

const RFC5118: &[Row] = &[
    ("ipv6-good", "REGISTER of sip:caller@[2001:db8::1]", "4.1: well-formed"),
    ("ipv6-bad", "400", "4.2: 400, the address has no brackets"),
    ("port-ambiguous", "REGISTER of sip:caller@[2001:db8::1]", "4.3: well-formed; 5070 is in the address"),
    ("port-unambiguous", "REGISTER of sip:caller@[2001:db8::1]", "4.4: well-formed"),
    ("via-received-param-with-delim", "481", "4.5: read, brackets or not; the BYE is for no dialog of ours"),
    ("via-received-param-no-delim", "OPTIONS handed on", "4.5: read, brackets or not"),
    ("ipv6-in-sdp", "100, then a call", "4.6: well-formed; SDP has its addresses without brackets"),
    ("mult-ip-in-header", "481", "4.7: Vias of both families are read; the BYE is for no dialog of ours"),
    ("mult-ip-in-sdp", "100, then a call", "4.8: each media has its own address, of either family"),
    ("ipv4-mapped-ipv6", "100, then a call", "4.9: mapped addresses are read wherever they stand"),
    ("ipv6-bug-abnf-3-colons", "OPTIONS handed on", "4.10: the third colon is tolerated"),
    ("ipv6-correct-abnf-2-colons", "OPTIONS handed on", "4.10: well-formed"),
];

/// Fails with the rows as they would have to be, and with those of messages that do not exist.
fn compare(table: &[Row], messages: impl Iterator<Item = (&'static str, Bytes)>) {
    let mut wrong = Vec::new();
    let mut rows: Vec<&str> = table.iter().map(|(name, ..)| *name).collect();
    for (name, bytes) in messages {
        rows.retain(|row| *row != name);
        let seen = served(bytes);
        match table.iter().find(|(n, ..)| *n == name) {
            Some((_, expected, asks)) if *expected == seen => assert!(!asks.is_empty(), "{name}"),
            row => wrong.push(format!("{name}: {seen:?} where {row:?}")),
        }
    }
    assert!(wrong.is_empty() && rows.is_empty(), "{}\nof no message: {rows:?}", wrong.join("\n"));
}

#[test]
fn every_message_of_rfc_4475_is_served_as_it_asks() {
    compare(RFC4475, rfc4475::CASES.iter().map(|c| (c.name, Bytes::from_static(c.bytes))));
}

#[test]
fn every_message_of_rfc_5118_is_served_as_it_asks() {
    compare(RFC5118, rfc5118::CASES.iter().map(|c| (c.name, c.wire())));
}

fn text(name: &str) -> String {
    let bytes = rfc4475::case(name).expect(name).bytes;
    String::from_utf8(bytes.to_vec()).expect("a message of ASCII")
}

/// 3.1.2.15 as the section prints it: "reasonable always to reject", and allowed to infer the quotes.
#[test]
fn a_display_name_without_its_quotes_is_forgiven() {
    assert_eq!(served(format!("{}\r\n", text("baddn")).into()), "OPTIONS handed on");
}

/// 3.2.1: what has only the cookie for a branch is told apart by what RFC 2543 looks at.
#[test]
fn requests_without_a_branch_of_their_own_are_matched_as_rfc_2543_did() {
    let config =
        Config { listeners: vec![Listener::udp(0, "192.0.2.1:5060".parse().unwrap())], ..Config::default() };
    let mut endpoint = Endpoint::new(config, Random::seeded(1));
    let (now, flow) = (Now::default(), Flow::udp(0, "192.0.2.99:5060".parse().unwrap()));
    let first = text("badbranch");
    let other = first.replace("Call-ID: badbranch", "Call-ID: another");
    for bytes in [&first, &first, &other] {
        endpoint.receive(now, flow, Bytes::from(bytes.clone()));
    }
    let mut calls = Vec::new();
    while let Some(output) = endpoint.poll() {
        if let Output::Event(Event::Request { request, .. }) = output {
            calls.push(request.call_id().to_owned());
        }
    }
    assert_eq!(calls.len(), 2, "the second is the first again, the third is not: {calls:?}");
    assert_ne!(calls[0], calls[1]);
    assert_eq!(endpoint.counts().absorbed, 1);
}

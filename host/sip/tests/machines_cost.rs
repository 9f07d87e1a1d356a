//! What a message costs the endpoint, printed and never judged:
//! `cargo test --release -p cordboard-sip --test machines_cost -- --ignored --nocapture`.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a measurement reads the real clock")]

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use cordboard_base::{Now, Random, ms};
use cordboard_sip::endpoint::{Config, Endpoint, Event, Flow, Invite, Listener, Output};

const SDP: &str = "v=0\r\no=a 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 101\r\n\
a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n";

fn endpoint(address: SocketAddr) -> Endpoint {
    let listeners = vec![Listener::udp(0, address)];
    Endpoint::new(Config { listeners, user_agent: "cost".to_owned(), ..Config::default() }, Random::seeded(1))
}

/// Calls from one endpoint to another, each answered at once and hung up a second later; messages
/// are handed over in memory, so what is measured is the two endpoints alone.
#[test]
#[ignore = "a measurement"]
fn a_call_costs() {
    let addresses: [SocketAddr; 2] = ["10.0.0.1:5060".parse().unwrap(), "10.0.0.2:5060".parse().unwrap()];
    let mut ends = addresses.map(endpoint);
    let mut now = Now { mono_ns: 0, wall_ms: 0 };
    let (calls, mut messages, mut up) = (100_000_u64, 0_u64, std::collections::VecDeque::new());
    let start = Instant::now();
    for _ in 0..calls {
        // A thousand calls a second, so 32,000 of each kind of spent transaction are in the tables.
        now = now.plus_ns(ms(1));
        let invite = Invite {
            target: "sip:bob@10.0.0.2:5060".to_owned(),
            from: "<sip:alice@10.0.0.1>".to_owned(),
            to: "<sip:bob@10.0.0.2>".to_owned(),
            sdp: Some(SDP.to_owned()),
            ..Invite::default()
        };
        up.push_back(ends[0].invite(now, invite).expect("room"));
        if up.len() > 1_000 {
            let leg = up.pop_front().expect("there is one");
            ends[0].hang_up(now, leg, None);
        }
        let mut busy = true;
        while busy {
            busy = false;
            for i in 0..2 {
                while let Some(output) = ends[i].poll() {
                    busy = true;
                    match output {
                        Output::Send(d) => {
                            messages += 1;
                            ends[1 - i].receive(now, Flow::udp(0, addresses[i]), Bytes::from(d.bytes));
                        }
                        Output::Event(Event::Incoming { leg, .. }) => ends[i].answer(now, leg, Some(SDP)),
                        Output::Event(_) => {}
                    }
                }
                ends[i].tick(now);
            }
        }
    }
    let ns = start.elapsed().as_nanos() as u64;
    println!(
        "{calls} calls, {messages} messages: {} ns a call on both sides, {} ns a message on one side (parse, decide, write)",
        ns / calls,
        ns / messages / 2
    );
    println!("at the end: {:?}", ends[1].counts());
}

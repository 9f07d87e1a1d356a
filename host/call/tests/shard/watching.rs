//! Phones that watch agents: SUBSCRIBE and NOTIFY (RFC 6665), octet by octet, since our own phones watch nobody.

use std::cell::RefCell;
use std::rc::Rc;

use cordboard_base::Random;
use cordboard_call::commands::AgentStateName as State;
use cordboard_call::messages::{Envelope, ToDomain, ToShard};
use cordboard_call::shard::Input;
use cordboard_sip::digest::Client;
use cordboard_sip::endpoint::Flow;
use cordboard_sip::wire::{Message, Name};

use crate::world::{SHARD, World, at, model};

const PHONE: &str = "10.0.3.1:5060";

/// Carol's phone, and what it has received.
struct Watcher {
    w: World,
    got: Rc<RefCell<Vec<Message>>>,
    client: Client,
    random: Random,
    cseq: u32,
    bus_seq: u64,
}

impl Watcher {
    fn new() -> Self {
        let mut w = World::with(model());
        let got: Rc<RefCell<Vec<Message>>> = Rc::default();
        let seen = got.clone();
        w.lose = Some(Box::new(move |_, to, bytes| {
            let ours = to == at(PHONE);
            if ours {
                seen.borrow_mut().push(Message::parse(bytes.to_vec().into()).unwrap());
            }
            ours
        }));
        Self { w, got, client: Client::default(), random: Random::seeded(5), cseq: 0, bus_seq: 1_000 }
    }

    fn send(&mut self, text: String) {
        self.w.input(Input::Datagram { flow: Flow::udp(1, at(PHONE)), bytes: text.into_bytes().into() });
        self.w.run();
    }

    /// One SUBSCRIBE; its final response.
    fn once(&mut self, agent: &str, to_tag: &str, headers: &str) -> Message {
        self.cseq += 1;
        let (cseq, tag) =
            (self.cseq, if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") });
        self.send(format!(
            "SUBSCRIBE sip:{agent}@{SHARD} SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bKs{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:carol@demo.test>;tag=w\r\nTo: <sip:{agent}@{SHARD}>{tag}\r\n\
             Call-ID: watch\r\nCSeq: {cseq} SUBSCRIBE\r\nContact: <sip:carol@{PHONE}>\r\n{headers}\
             Content-Length: 0\r\n\r\n"
        ));
        let is = |m: &&Message| !m.is_request() && m.cseq().is_some_and(|(n, _)| n == cseq);
        self.got.borrow().iter().rev().find(is).cloned().expect("a response")
    }

    /// A SUBSCRIBE with carol's password; its final response.
    fn subscribe(&mut self, agent: &str, to_tag: &str, headers: &str) -> Message {
        let challenged = self.once(agent, to_tag, headers);
        assert_eq!(challenged.status(), 401, "{headers}");
        let challenges: Vec<&str> = challenged.lines(Name::WwwAuthenticate).collect();
        let uri = format!("sip:{agent}@{SHARD}");
        let random = &mut self.random;
        let answer = self.client.answer(&challenges, "SUBSCRIBE", &uri, "carol", "secret", b"", random);
        self.once(agent, to_tag, &format!("{headers}Authorization: {}\r\n", answer.unwrap()))
    }

    /// The domain says how alice is.
    fn alice_is(&mut self, state: Option<State>) {
        self.bus_seq += 1;
        let (tenant, agent) = ("demo".into(), "alice".into());
        let envelope = Envelope {
            from: 0,
            epoch: 1,
            seq: self.bus_seq,
            interaction: None,
            lines: vec![],
            body: ToShard::AgentState { tenant, agent, state },
        };
        self.w.input(Input::Bus(envelope));
        self.w.run();
    }

    /// The NOTIFYs, retransmissions left out.
    fn notified(&self) -> Vec<Message> {
        let mut all: Vec<Message> = self.got.borrow().iter().filter(|m| m.is_request()).cloned().collect();
        all.dedup_by_key(|m| m.cseq().map(|(n, _)| n));
        all
    }

    /// Answers the last NOTIFY.
    fn take(&mut self, status: u16) -> Message {
        let last = self.notified().pop().expect("a NOTIFY");
        let via = last.header(Name::Via).unwrap();
        let header = |name| last.header(name).unwrap();
        self.send(format!(
            "SIP/2.0 {status} x\r\nVia: {via}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: watch\r\nCSeq: {}\r\n\
             Content-Length: 0\r\n\r\n",
            header(Name::From),
            header(Name::To),
            header(Name::CSeq)
        ));
        last
    }

    fn watched(&self) -> Vec<(String, bool)> {
        let of = |m: &ToDomain| match m {
            ToDomain::Watch { agent, on, .. } => Some((agent.to_string(), *on)),
            _ => None,
        };
        self.w.told.iter().filter_map(|(_, m)| of(m)).collect()
    }

    /// Nothing of it is left.
    fn over(&mut self) {
        self.w.pass(70_000);
        let counts = self.w.shard.counts();
        assert!(counts.idle() && counts.endpoint.subscriptions == 0, "{counts:#?}");
        assert_eq!(self.watched().last(), Some(&("alice".to_owned(), false)));
    }
}

fn body(notify: &Message) -> String {
    String::from_utf8_lossy(notify.body()).into_owned()
}

const PRESENCE: &str = "Event: presence;id=9\r\nExpires: 600\r\n";

#[test]
fn a_watcher_is_told_at_once_and_at_each_change() {
    let mut p = Watcher::new();
    let ok = p.subscribe("alice", "", PRESENCE);
    assert_eq!((ok.status(), ok.header(Name::Expires)), (200, Some("600")));
    assert_eq!(p.watched(), [("alice".to_owned(), true)]);
    p.alice_is(Some(State::Ready));
    let first = p.take(200);
    assert_eq!(first.request_uri(), format!("sip:carol@{PHONE}"));
    assert_eq!(first.from().unwrap().tag(), ok.to().unwrap().tag(), "in the dialog of the 200");
    assert_eq!(first.header(Name::Event), Some("presence;id=9"));
    assert_eq!(first.header(Name::SubscriptionState), Some("active;expires=600"));
    assert_eq!(first.content_type(), Some("application/pidf+xml"));
    assert!(body(&first).contains("<basic>open</basic>") && !body(&first).contains("on-the-phone"));
    p.w.pass(100_000);
    p.alice_is(Some(State::Busy));
    let second = p.take(200);
    assert_eq!(second.header(Name::SubscriptionState), Some("active;expires=500"));
    assert!(body(&second).contains("on-the-phone"));
    assert_eq!(p.notified().len(), 2);
    // A refresh is answered, and told the state once more.
    let tag = ok.to().unwrap().tag().unwrap().to_owned();
    assert_eq!(p.subscribe("alice", &tag, PRESENCE).status(), 200);
    assert_eq!(p.take(200).header(Name::SubscriptionState), Some("active;expires=600"));
    // The end.
    assert_eq!(p.subscribe("alice", &tag, "Event: presence;id=9\r\nExpires: 0\r\n").status(), 200);
    assert_eq!(p.take(200).header(Name::SubscriptionState), Some("terminated;reason=timeout"));
    assert_eq!(p.once("alice", &tag, PRESENCE).status(), 481);
    p.over();
}

#[test]
fn a_busy_lamp_is_lit_by_dialog_events() {
    let mut p = Watcher::new();
    p.subscribe("alice", "", "Event: dialog\r\nAccept: application/dialog-info+xml\r\n");
    for (state, said) in [(State::Ready, ""), (State::Reserved, "early"), (State::Busy, "confirmed")] {
        p.alice_is(Some(state));
        let news = p.take(200);
        assert_eq!(news.content_type(), Some("application/dialog-info+xml"));
        assert_eq!(body(&news).contains("<state>"), !said.is_empty());
        assert!(body(&news).contains(&format!("version=\"{}\"", p.notified().len() - 1)));
        assert!(body(&news).contains(said));
    }
    p.alice_is(None);
    assert_eq!(p.take(200).header(Name::SubscriptionState), Some("terminated;reason=noresource"));
    p.over();
}

#[test]
fn a_refresh_for_an_agent_whom_a_reload_has_removed_ends_the_subscription() {
    let mut p = Watcher::new();
    let ok = p.subscribe("alice", "", PRESENCE);
    p.alice_is(Some(State::Ready));
    p.take(200);
    let mut without = model();
    without.tenants.iter_mut().for_each(|t| t.agents.retain(|agent| &*agent.name != "alice"));
    p.w.shard.configure(without.into(), std::sync::Arc::new(cordboard_call::shard::NoPrompts));
    let tag = ok.to().unwrap().tag().unwrap().to_owned();
    assert_eq!(p.subscribe("alice", &tag, PRESENCE).status(), 200);
    assert_eq!(p.take(200).header(Name::SubscriptionState), Some("terminated;reason=noresource"));
    p.over();
}

#[test]
fn of_changes_that_wait_for_an_answer_the_newest_is_told() {
    let mut p = Watcher::new();
    p.subscribe("alice", "", PRESENCE);
    for state in [State::Ready, State::Reserved, State::Busy] {
        p.alice_is(Some(state));
    }
    assert_eq!(p.notified().len(), 1, "one at a time");
    assert!(!body(&p.take(200)).contains("on-the-phone"));
    assert!(body(&p.take(200)).contains("on-the-phone"));
    assert_eq!(p.notified().len(), 2);
    // Who does not take it is not told any more.
    p.alice_is(Some(State::Ready));
    p.take(481);
    p.alice_is(Some(State::Busy));
    assert_eq!(p.notified().len(), 3);
    p.over();
}

#[test]
fn a_subscription_ends_with_its_time_or_in_silence() {
    let mut p = Watcher::new();
    p.subscribe("alice", "", "Event: presence\r\nExpires: 60\r\n");
    p.alice_is(Some(State::Ready));
    p.take(200);
    p.w.pass(60_000);
    assert_eq!(p.take(200).header(Name::SubscriptionState), Some("terminated;reason=timeout"));
    p.over();
    let mut p = Watcher::new();
    p.subscribe("alice", "", PRESENCE);
    p.alice_is(Some(State::Ready));
    p.w.pass(33_000);
    p.over();
}

#[test]
fn who_may_not_and_what_cannot_be_watched_is_refused() {
    let mut p = Watcher::new();
    for event in ["Event: message-summary\r\n", ""] {
        let refused = p.once("alice", "", event);
        assert_eq!((refused.status(), refused.header(Name::AllowEvents)), (489, Some("presence, dialog")));
    }
    assert_eq!(p.subscribe("nobody", "", PRESENCE).status(), 404);
    assert_eq!(p.subscribe("alice", "", "Event: presence\r\nAccept: text/plain\r\n").status(), 406);
    let brief = p.subscribe("alice", "", "Event: presence\r\nExpires: 5\r\n");
    assert_eq!((brief.status(), brief.header(Name::MinExpires)), (423, Some("60")));
    let challenged = p.once("alice", "", PRESENCE);
    let challenges: Vec<&str> = challenged.lines(Name::WwwAuthenticate).collect();
    let uri = format!("sip:alice@{SHARD}");
    let wrong = Client::default()
        .answer(&challenges, "SUBSCRIBE", &uri, "carol", "guess", b"", &mut Random::seeded(1))
        .unwrap();
    assert_eq!(p.once("alice", "", &format!("{PRESENCE}Authorization: {wrong}\r\n")).status(), 403);
    assert!(p.watched().is_empty() && p.notified().is_empty());
    assert!(p.w.shard.counts().idle());
}

//! A softphone on real sockets: the SIP endpoint and the media thread of the house, with orders
//! instead of a person. The demo's caller and agents are made of it.
//!
//! One thread a phone. It answers on its own, sends one tone, and says which tone it hears.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use cordboard_base::{Now, Random, Timers, ms};
use cordboard_media::control::{Command, Event as MediaEvent, Item, Law, LegId as MediaLeg, Remote};
use cordboard_net::media::{Config as MediaConfig, MediaThread};
use cordboard_net::{Clock, udp};
use cordboard_sip::endpoint::{
    Config, Credentials, Endpoint, Event, Flow, Invite, LegId, Listener, OutRequest, Output, RequestFailure,
};
use cordboard_sip::sdp;
use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Interest, Poll, Token, Waker};

/// What a phone is told.
#[derive(Debug, Clone)]
pub enum Order {
    /// Register with a user and a password.
    Register {
        /// Where.
        registrar: SocketAddr,
        /// Address-of-record user.
        user: String,
        /// Clear text.
        password: String,
    },
    /// How to treat calls that come in.
    Answering(Answering),
    /// Call.
    Call {
        /// A SIP URI.
        target: String,
        /// The calling number.
        number: String,
        /// The tone to send, in hertz.
        tone_hz: u16,
        /// The tone to listen for.
        listen_hz: u16,
    },
    /// Press keys in the one call that is up.
    Digits(String),
    /// Hang up every call.
    HangUp,
    /// End the phone.
    Stop,
}

/// How to treat calls that come in.
#[derive(Debug, Clone, Copy)]
pub struct Answering {
    /// Answer after so long; none: let it ring.
    pub after_ms: Option<u64>,
    /// The tone to send, in hertz.
    pub tone_hz: u16,
    /// The tone to listen for.
    pub listen_hz: u16,
}

/// What a phone tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The registrar's answer; 408 for none.
    Registered {
        /// A SIP status.
        status: u16,
    },
    /// Our call follows a 302.
    Redirected {
        /// The contact.
        to: String,
    },
    /// A call rings here.
    Incoming {
        /// Who calls, as the From says.
        from: String,
    },
    /// A call is up.
    Answered,
    /// The other side's tone is heard.
    Heard {
        /// The tone.
        hz: u16,
    },
    /// A call is over.
    Ended {
        /// Its final status: 200 for a call that was up.
        status: u16,
    },
}

/// A running phone; ends when it is dropped.
#[derive(Debug)]
pub struct Phone {
    orders: Sender<Order>,
    told: Receiver<Told>,
    waker: Arc<Waker>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Where it listens for SIP.
    pub address: SocketAddr,
}

/// Everything waits in queues of this size; a phone that nobody listens to loses news, not calls.
const QUEUE: usize = 1_024;
const SOCKET: Token = Token(0);
const WAKE: Token = Token(1);

impl Phone {
    /// Starts a phone behind a port of its own.
    ///
    /// # Errors
    /// The socket or the media thread cannot be made.
    pub fn start(address: IpAddr, rtp_ports: RangeInclusive<u16>, seed: u64) -> Result<Self> {
        let port = udp::Port::bind(SocketAddr::new(address, 0), udp::Options::default())
            .with_context(|| format!("the phone cannot bind a port of {address}"))?;
        let local = port.local_addr();
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (orders, order_inbox) = crossbeam_channel::bounded(QUEUE);
        let (tell, told) = crossbeam_channel::bounded(QUEUE);
        let (media_out, media_in) = crossbeam_channel::bounded(QUEUE);
        let clock = Clock::start();
        let mut random = Random::seeded(seed);
        let mut entropy = [0; 32];
        entropy.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next_u64().to_le_bytes()));
        let media_waker = waker.clone();
        let media =
            MediaThread::start(MediaConfig::new(address, address, rtp_ports, entropy), clock, move |batch| {
                for event in batch {
                    // A full queue means a phone that has hung: nothing to save.
                    let _ = media_out.try_send(event);
                }
                let _ = media_waker.wake();
            })
            .context("the phone's media thread cannot be started")?;
        let config = Config {
            listeners: vec![Listener::udp(0, local)],
            user_agent: "Cordboard-phone".to_owned(),
            shard: 200,
            ..Config::default()
        };
        let body = Body {
            endpoint: Endpoint::new(config, random),
            port,
            poll,
            media,
            clock,
            local,
            orders: order_inbox,
            media_in,
            tell,
            calls: BTreeMap::new(),
            by_media: BTreeMap::new(),
            timers: Timers::default(),
            answering: Answering { after_ms: None, tone_hz: 0, listen_hz: 0 },
            next_media: 1,
            registering: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new().name("phone".to_owned()).spawn(move || {
            if let Err(error) = body.run() {
                eprintln!("phone: {error:#}");
            }
        })?;
        Ok(Self { orders, told, waker, thread: Some(thread), address: local })
    }

    /// Gives an order.
    pub fn order(&self, order: Order) {
        if self.orders.try_send(order).is_ok() {
            let _ = self.waker.wake();
        }
    }

    /// The next news, if any comes within `wait`.
    #[must_use]
    pub fn next(&self, wait: Duration) -> Option<Told> {
        self.told.recv_timeout(wait).ok()
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One call of a phone.
#[derive(Debug)]
struct Call {
    media: MediaLeg,
    address: Option<SocketAddr>,
    /// The other side's offer, which waits for our media address or for our answer.
    offer: Option<sdp::Session>,
    waiting: Waiting,
    tone_hz: u16,
    listen_hz: u16,
    up: bool,
}

/// What a call does when its media leg is open.
#[derive(Debug)]
enum Waiting {
    Nothing,
    Invite { target: String, number: String },
    Ring,
}

struct Body {
    endpoint: Endpoint,
    port: udp::Port,
    poll: Poll,
    media: MediaThread,
    clock: Clock,
    local: SocketAddr,
    orders: Receiver<Order>,
    media_in: Receiver<MediaEvent>,
    tell: Sender<Told>,
    calls: BTreeMap<MediaLeg, (Option<LegId>, Call)>,
    by_media: BTreeMap<LegId, MediaLeg>,
    timers: Timers<LegId>,
    answering: Answering,
    next_media: u64,
    registering: BTreeMap<u64, ()>,
}

impl Body {
    fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(16);
        self.poll.registry().register(&mut self.port, SOCKET, Interest::READABLE)?;
        loop {
            let now = self.clock.now();
            let deadline =
                [self.endpoint.next_deadline_ns(), self.timers.next_deadline()].into_iter().flatten().min();
            let wait = deadline
                .map(|at| Duration::from_nanos(at.saturating_sub(now.mono_ns)) + Duration::from_millis(1));
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => other.context("the phone cannot wait for its socket")?,
            }
            let now = self.clock.now();
            let endpoint = &mut self.endpoint;
            while self.port.recv_batch(|from, bytes| {
                endpoint.receive(now, Flow::udp(0, from), Bytes::copy_from_slice(bytes))
            })? > 0
            {}
            self.endpoint.tick(now);
            while let Some(leg) = self.timers.expired(now.mono_ns) {
                self.answer(now, leg);
            }
            while let Ok(event) = self.media_in.try_recv() {
                self.media_event(now, event);
            }
            while let Ok(order) = self.orders.try_recv() {
                if matches!(order, Order::Stop) {
                    self.hang_up_all(now);
                    self.drain(now);
                    return Ok(());
                }
                self.obey(now, order);
            }
            self.drain(now);
        }
    }

    fn tell(&self, told: Told) {
        let _ = self.tell.try_send(told);
    }

    fn obey(&mut self, now: Now, order: Order) {
        match order {
            Order::Register { registrar, user, password } => {
                let request = self.endpoint.request(
                    now,
                    OutRequest {
                        method: "REGISTER".to_owned(),
                        target: format!("sip:{registrar}"),
                        from: format!("<sip:{user}@{registrar}>"),
                        to: format!("<sip:{user}@{registrar}>"),
                        headers: vec![
                            ("Contact".to_owned(), format!("<sip:{user}@{}>", self.local)),
                            ("Expires".to_owned(), "3600".to_owned()),
                        ],
                        credentials: Some(Credentials { user, password }),
                        ..OutRequest::default()
                    },
                );
                self.registering.insert(request, ());
            }
            Order::Answering(answering) => self.answering = answering,
            Order::Call { target, number, tone_hz, listen_hz } => {
                let media = self.open();
                let waiting = Waiting::Invite { target, number };
                let call = Call { media, address: None, offer: None, waiting, tone_hz, listen_hz, up: false };
                self.calls.insert(media, (None, call));
            }
            Order::Digits(digits) => {
                for (_, call) in self.calls.values().filter(|(_, call)| call.up) {
                    let digits = digits.clone();
                    self.send(Command::SendDigits { leg: call.media, digits, duration_ms: 120, gap_ms: 80 });
                }
            }
            Order::HangUp => self.hang_up_all(now),
            Order::Stop => {}
        }
    }

    fn open(&mut self) -> MediaLeg {
        let leg = MediaLeg(self.next_media);
        self.next_media += 1;
        self.send(Command::Open { leg });
        leg
    }

    fn send(&self, command: Command) {
        if let Err(error) = self.media.send(command) {
            eprintln!("phone: {error}");
        }
    }

    fn hang_up_all(&mut self, now: Now) {
        for (media, (leg, _)) in std::mem::take(&mut self.calls) {
            if let Some(leg) = leg {
                self.by_media.remove(&leg);
                self.endpoint.hang_up(now, leg, None);
            }
            self.send(Command::Close { leg: media });
            self.tell(Told::Ended { status: 200 });
        }
    }

    fn media_event(&mut self, now: Now, event: MediaEvent) {
        match event {
            MediaEvent::Opened { leg, address } => {
                let Some((sip, call)) = self.calls.get_mut(&leg) else { return };
                call.address = Some(address);
                match std::mem::replace(&mut call.waiting, Waiting::Nothing) {
                    Waiting::Invite { target, number } => {
                        let local = sdp::Local {
                            address: address.ip(),
                            port: address.port(),
                            session_id: leg.0,
                            version: 1,
                        };
                        let offer = sdp::offer(
                            &local,
                            &[sdp::Codec::Pcmu, sdp::Codec::Pcma],
                            sdp::Direction::SendRecv,
                        );
                        let invite = Invite {
                            from: format!("<sip:{number}@{}>", self.local),
                            to: format!("<{target}>"),
                            target,
                            sdp: Some(offer),
                            redirects: 5,
                            silent_target_ms: 2_000,
                            ..Invite::default()
                        };
                        match self.endpoint.invite(now, invite) {
                            Ok(id) => {
                                *sip = Some(id);
                                self.by_media.insert(id, leg);
                            }
                            Err(error) => {
                                eprintln!("phone: cannot call: {error}");
                                self.end(leg, 503);
                            }
                        }
                    }
                    Waiting::Ring => {
                        if let Some(id) = *sip {
                            self.endpoint.progress(now, id, 180, None);
                            if let Some(after_ms) = self.answering.after_ms {
                                self.timers.set(now.after_ns(ms(after_ms)), id);
                            }
                        }
                    }
                    Waiting::Nothing => {}
                }
            }
            MediaEvent::OpenFailed { leg, reason } => {
                eprintln!("phone: no media: {reason}");
                if let Some((Some(id), _)) = self.calls.get(&leg) {
                    self.endpoint.hang_up(now, *id, None);
                }
                self.end(leg, 503);
            }
            MediaEvent::Tone { hz, .. } => self.tell(Told::Heard { hz }),
            _ => {}
        }
    }

    fn answer(&mut self, now: Now, leg: LegId) {
        let Some((_, call)) = self.by_media.get(&leg).and_then(|media| self.calls.get_mut(media)) else {
            return;
        };
        let (Some(address), Some(offer)) = (call.address, call.offer.take()) else { return };
        let local =
            sdp::Local { address: address.ip(), port: address.port(), session_id: call.media.0, version: 1 };
        match sdp::answer(&offer, &local, &[sdp::Codec::Pcmu, sdp::Codec::Pcma], sdp::Direction::SendRecv) {
            Ok((answer, agreed)) => {
                self.endpoint.answer(now, leg, Some(&answer));
                let media = call.media;
                self.talk(media, &agreed);
            }
            Err(error) => {
                eprintln!("phone: cannot answer: {error}");
                self.endpoint.reject(now, leg, 488, &[]);
            }
        }
    }

    /// Audio may flow: send our tone, listen for theirs.
    fn talk(&mut self, media: MediaLeg, agreed: &sdp::Agreed) {
        let law = if agreed.codec == sdp::Codec::Pcma { Law::Pcma } else { Law::Pcmu };
        let Some((_, call)) = self.calls.get_mut(&media) else { return };
        let first = !std::mem::replace(&mut call.up, true);
        let (tone_hz, listen_hz) = (call.tone_hz, call.listen_hz);
        self.send(Command::Remote {
            leg: media,
            remote: Remote {
                address: agreed.remote,
                rtcp: agreed.remote_rtcp,
                law,
                payload_type: agreed.payload_type,
                dtmf_payload_type: agreed.dtmf_payload_type,
                send: true,
                receive: true,
            },
        });
        if first {
            if tone_hz > 0 {
                let items = vec![Item::Tone { hz: tone_hz, ms: 1_000, level_dbm0: -12 }];
                self.send(Command::Play { leg: media, play: 1, items, repeat: true, barge: false });
            }
            self.send(Command::Detect { leg: media, hz: listen_hz });
            self.tell(Told::Answered);
        }
    }

    fn end(&mut self, media: MediaLeg, status: u16) {
        if let Some((leg, _)) = self.calls.remove(&media) {
            if let Some(leg) = leg {
                self.by_media.remove(&leg);
            }
            self.send(Command::Close { leg: media });
            self.tell(Told::Ended { status });
        }
    }

    fn drain(&mut self, now: Now) {
        while let Some(output) = self.endpoint.poll() {
            match output {
                Output::Send(datagram) => self.port.send_batch(&[(datagram.flow.remote, &datagram.bytes)]),
                Output::Event(event) => self.event(now, event),
            }
        }
        self.port.flush();
    }

    fn event(&mut self, now: Now, event: Event) {
        match event {
            Event::Incoming { leg, request, .. } => {
                let Ok(offer) = sdp::Session::parse(request.body()) else {
                    return self.endpoint.reject(now, leg, 488, &[]);
                };
                let media = self.open();
                let Answering { tone_hz, listen_hz, .. } = self.answering;
                let call = Call {
                    media,
                    address: None,
                    offer: Some(offer),
                    waiting: Waiting::Ring,
                    tone_hz,
                    listen_hz,
                    up: false,
                };
                self.calls.insert(media, (Some(leg), call));
                self.by_media.insert(leg, media);
                let from = request.from().map(|from| from.uri.to_string()).unwrap_or_default();
                self.tell(Told::Incoming { from });
            }
            Event::Answered { leg, response } => {
                let Some(media) = self.by_media.get(&leg).copied() else { return };
                if let Ok(agreed) =
                    sdp::Session::parse(response.body()).and_then(|session| sdp::agreed(&session))
                {
                    self.talk(media, &agreed);
                }
            }
            Event::Offer { leg, request } => {
                let answer = self.by_media.get(&leg).and_then(|media| {
                    let (_, call) = self.calls.get(media)?;
                    let address = call.address?;
                    let local = sdp::Local {
                        address: address.ip(),
                        port: address.port(),
                        session_id: media.0,
                        version: 2,
                    };
                    let session = sdp::Session::parse(request.body()).ok()?;
                    let codecs = [sdp::Codec::Pcmu, sdp::Codec::Pcma];
                    Some((*media, sdp::answer(&session, &local, &codecs, sdp::Direction::SendRecv).ok()?))
                });
                match answer {
                    Some((media, (text, agreed))) => {
                        self.endpoint.accept_offer(now, leg, Some(&text));
                        self.talk(media, &agreed);
                    }
                    None => self.endpoint.refuse_offer(now, leg, 488),
                }
            }
            Event::Redirected { to, .. } => self.tell(Told::Redirected { to }),
            Event::Request { txn, .. } => self.endpoint.respond(now, txn, 200, &[], None),
            Event::Refer { txn, .. } => self.endpoint.respond(now, txn, 603, &[], None),
            Event::Response { request, result } if self.registering.remove(&request).is_some() => {
                let status = match result {
                    Ok(response) => response.status(),
                    Err(RequestFailure::Timeout) => 408,
                    Err(_) => 503,
                };
                self.tell(Told::Registered { status });
            }
            Event::Rejected { leg, status, .. } => self.gone(leg, status),
            Event::Ended { leg, .. } => self.gone(leg, 200),
            Event::Released { leg, .. } => self.gone(leg, 200),
            Event::Progress { .. }
            | Event::Confirmed { .. }
            | Event::OfferResult { .. }
            | Event::Resubscribe { .. }
            | Event::SubscriptionEnded { .. }
            | Event::Response { .. } => {}
        }
    }

    fn gone(&mut self, leg: LegId, status: u16) {
        if let Some(media) = self.by_media.get(&leg).copied() {
            self.end(media, status);
        }
    }
}

//! One [`Connections`] with its poll, turned until something is so; certificates for a test.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cordboard_net::Clock;
use cordboard_net::stream::tls::Identity;
use cordboard_net::stream::{Closed, Connections, Event, Flow, Limits, Listen, Renewal, Transport};
use mio::{Events, Poll};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// A whole SIP request of a Call-ID.
pub(crate) fn options(call_id: &str) -> String {
    format!(
        "OPTIONS sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK{call_id}\r\nMax-Forwards: 70\r\n\
         From: <sip:a@b>;tag=1\r\nTo: <sip:x@127.0.0.1>\r\nCall-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// See the module.
pub(crate) struct Bench {
    pub(crate) connections: Connections,
    poll: Poll,
    clock: Clock,
    /// Who may not connect.
    pub(crate) banned: Option<IpAddr>,
    pub(crate) messages: Vec<(Flow, Bytes)>,
    pub(crate) known: Vec<(Flow, Arc<[String]>)>,
    pub(crate) closed: Vec<(Flow, Closed)>,
    /// Who used what has closed, one list each.
    pub(crate) users: Vec<Vec<Flow>>,
    pub(crate) failed: Vec<(Flow, Closed)>,
}

impl Bench {
    pub(crate) fn new(renewal: Renewal) -> Self {
        let poll = Poll::new().unwrap();
        let clock = Clock::start();
        let registry = poll.registry().try_clone().unwrap();
        Self {
            connections: Connections::new(clock.now(), registry, renewal),
            poll,
            clock,
            banned: None,
            messages: Vec::new(),
            known: Vec::new(),
            closed: Vec::new(),
            users: Vec::new(),
            failed: Vec::new(),
        }
    }

    pub(crate) fn limited(limits: Limits) -> Self {
        Self::new(Renewal { limits, ..Renewal::default() })
    }

    pub(crate) fn listen(&mut self, listener: u16, transport: Transport) -> SocketAddr {
        self.listen_at(listener, transport, "127.0.0.1:0", None, &[])
    }

    pub(crate) fn listen_at(
        &mut self,
        listener: u16,
        transport: Transport,
        address: &str,
        tls: Option<Arc<rustls::ServerConfig>>,
        origins: &[&str],
    ) -> SocketAddr {
        let origins = origins.iter().map(|o| (*o).to_owned()).collect();
        let address = address.parse().unwrap();
        self.connections.listen(Listen { listener, transport, address, tls, origins }).unwrap()
    }

    pub(crate) fn send(&mut self, flow: Flow, bytes: impl Into<Vec<u8>>) {
        self.connections.send(flow, bytes.into());
    }

    /// One turn of a shard's loop, waiting at most 5 ms.
    pub(crate) fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(Duration::from_millis(5))).unwrap();
        for event in &events {
            assert!(self.connections.event(event));
        }
        let now = self.clock.now();
        let banned = self.banned;
        self.connections.turn(now, true, |_, remote| Some(remote.ip()) != banned);
        while let Some(event) = self.connections.poll() {
            match event {
                Event::Message(flow, bytes) => self.messages.push((flow, bytes)),
                Event::Known(flow, names) => self.known.push((flow, names)),
                Event::Closed { flow, users, why } => {
                    self.closed.push((flow, why));
                    self.users.push(users);
                }
                Event::Failed(flow, why) => self.failed.push((flow, why)),
            }
        }
    }

    /// Turns until it is so; at most 10 s.
    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !so(self) {
            assert!(Instant::now() < end, "waited in vain: {what}; {:?}", self.connections.counters());
            self.turn();
        }
    }

    /// Turns for some time.
    pub(crate) fn wait(&mut self, for_ms: u64) {
        let end = Instant::now() + Duration::from_millis(for_ms);
        while Instant::now() < end {
            self.turn();
        }
    }

    pub(crate) fn closed_for(&self, word: &str) -> u64 {
        let index = Closed::WORDS.iter().position(|w| *w == word).unwrap();
        self.connections.counters().closed[index]
    }
}

/// An authority and what it has signed, as files.
pub(crate) struct Authority {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate with these names: `sip:…` as URIs, addresses as addresses, others as DNS names.
    pub(crate) fn sign(&self, file: &str, names: &[&str]) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "common.example");
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) if name.starts_with("sip:") => SanType::URI((*name).try_into().unwrap()),
                Err(_) => SanType::DnsName((*name).try_into().unwrap()),
            })
            .collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let at = |ending: &str| self.dir.path().join(format!("{file}.{ending}"));
        fs::write(at("pem"), certificate.pem()).unwrap();
        fs::write(at("key"), key.serialize_pem()).unwrap();
        Identity { certificate: at("pem"), key: at("key") }
    }
}

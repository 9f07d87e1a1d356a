//! The gate before all listeners: who may send to us, and who may not for a while.
//!
//! Asked by the doors of the redirect role and by the shard for each datagram, and for each new connection, of a
//! sender that is no trunk; trunks pass without a question, so that nobody who forges their addresses can have them
//! shut out. One table for all threads: a lock of some nanoseconds a datagram of a stranger or a phone, and
//! whoever is caught at one listener is shut out of all.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cordboard_base::Now;
use cordboard_call::model::Model;
use cordboard_sip::defence::{Ban, Counts, Defence, Network, Scanners, Settings, Verdict, What};
use cordboard_sip::wire::{Fault, Message};

/// See the module. Copies are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    defence: Mutex<Defence>,
    /// Bans that were begun, to be looked at without the lock.
    begun: AtomicU64,
    scanners: Scanners,
}

/// `[defence]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Rates, points and bans.
    pub settings: Settings,
    /// Networks that are never shed or banned, beside the trunks' sources.
    pub exempt: Vec<Network>,
}

impl Gate {
    /// A gate that has seen nobody.
    #[must_use]
    pub fn new(config: &Config, model: &Model) -> Self {
        let defence = Mutex::new(Defence::new(config.settings.clone()));
        let gate = Self(Arc::new(Inner { defence, begun: AtomicU64::new(0), scanners: Scanners::default() }));
        gate.configure(config, model);
        gate
    }

    /// New limits and exemptions; bans stay.
    pub fn configure(&self, config: &Config, model: &Model) {
        let mut exempt = config.exempt.clone();
        for source in model.trunks.iter().flat_map(|t| &t.sources) {
            exempt.push(Network::new(source.address, source.prefix));
        }
        let mut defence = self.lock();
        defence.configure(config.settings.clone());
        defence.set_exempt(exempt);
    }

    /// Whether a datagram of somebody who is no trunk may come in. What may not gets no answer: who is
    /// banned or above the rate, a scanner by its own name, and what is no SIP. Responses always may:
    /// the stack knows whether it has asked for them.
    #[must_use]
    pub fn lets_in(&self, now: Now, from: SocketAddr, bytes: &[u8]) -> bool {
        if bytes.starts_with(b"SIP/2.0 ") {
            return true;
        }
        if self.admit(now, from.ip(), What::Packet) != Verdict::Admit {
            return false;
        }
        let (offence, may) = match Message::parse(Bytes::copy_from_slice(bytes)) {
            Ok(message) if self.0.scanners.wrote(&message) => (Some(What::Scanner), false),
            Ok(message) => (message.check().err().and_then(|e| What::of_fault(e.fault)), true),
            Err(error) => (What::of_fault(error.fault), error.fault != Fault::NotSip),
        };
        let clean = offence.is_none_or(|what| self.admit(now, from.ip(), what) == Verdict::Admit);
        may && clean
    }

    /// What an answer says of whoever gets it: who guesses passwords or numbers gets one refusal after
    /// another.
    #[must_use]
    pub fn offence(bytes: &[u8]) -> Option<What> {
        let offence = match bytes.get(8..11) {
            Some(b"403") => What::DigestFailed,
            Some(b"404") => What::UnknownTarget,
            _ => return None,
        };
        bytes.starts_with(b"SIP/2.0 ").then_some(offence)
    }

    /// Looks at an answer that goes to somebody who is no trunk.
    pub fn answered(&self, now: Now, to: SocketAddr, bytes: &[u8]) {
        if let Some(offence) = Self::offence(bytes) {
            self.note(now, to, offence);
        }
    }

    /// Remembers what somebody who is no trunk has done.
    pub fn note(&self, now: Now, from: SocketAddr, offence: What) {
        let _ = self.admit(now, from.ip(), offence);
    }

    fn admit(&self, now: Now, source: IpAddr, what: What) -> Verdict {
        let mut defence = self.lock();
        let verdict = defence.admit(now, source, what);
        if verdict == Verdict::Banned && what != What::Packet {
            self.0.begun.store(defence.counts().bans, Relaxed);
        }
        drop(defence);
        if verdict == Verdict::Banned && what != What::Packet {
            tracing::warn!(%source, ?what, "a sender is banned; `cordboard bans` lists who is");
        }
        verdict
    }

    /// Bans that were begun so far: who has connections looks whose they are when it has changed.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.0.begun.load(Relaxed)
    }

    /// Whether a source is banned now.
    #[must_use]
    pub fn is_banned(&self, now: Now, source: IpAddr) -> bool {
        self.lock().is_banned(now, source)
    }

    /// Who is banned now.
    #[must_use]
    pub fn bans(&self, now: Now) -> Vec<Ban> {
        self.lock().bans(now)
    }

    /// Lifts a ban; whether there was one.
    #[must_use]
    pub fn unban(&self, now: Now, source: IpAddr) -> bool {
        self.lock().unban(now, source)
    }

    /// Totals since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    fn lock(&self) -> MutexGuard<'_, Defence> {
        self.0.defence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGER: &str = "192.0.2.9:5060";

    fn gate(settings: Settings) -> Gate {
        let trunk = cordboard_call::model::Trunk {
            sources: vec![cordboard_call::model::Network {
                address: "198.51.100.0".parse().unwrap(),
                prefix: 24,
                port: None,
            }],
            ..Default::default()
        };
        let model =
            Model { node: "n".into(), trunks: vec![trunk], tenants: vec![], limits: Default::default() };
        Gate::new(&Config { settings, exempt: vec!["203.0.113.0/24".parse().unwrap()] }, &model)
    }

    fn request(agent: &str) -> String {
        format!(
            "OPTIONS sip:100@x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKa\r\nFrom: <sip:a@x>;tag=1\r\n\
             To: <sip:100@x>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nUser-Agent: {agent}\r\nContent-Length: 0\r\n\r\n"
        )
    }

    fn enters(gate: &Gate, from: &str, bytes: &str) -> bool {
        gate.lets_in(Now::default(), from.parse().unwrap(), bytes.as_bytes())
    }

    #[test]
    fn a_scanner_gets_nothing_from_its_first_packet_on_and_its_address_neither() {
        let gate = gate(Settings::default());
        assert!(enters(&gate, STRANGER, &request("a phone")));
        assert!(!enters(&gate, STRANGER, &request("friendly-scanner")));
        assert!(!enters(&gate, STRANGER, &request("a phone")));
        assert!(enters(&gate, "192.0.2.10:5060", &request("a phone")));
        assert_eq!((gate.bans(Now::default()).len(), gate.begun()), (1, 1));
        assert!(gate.is_banned(Now::default(), "192.0.2.9".parse().unwrap()));
        assert!(!gate.is_banned(Now::default(), "192.0.2.10".parse().unwrap()));
        assert!(gate.unban(Now::default(), "192.0.2.9".parse().unwrap()));
        assert!(enters(&gate, STRANGER, &request("a phone")));
        assert!(!gate.is_banned(Now::default(), "192.0.2.9".parse().unwrap()));
    }

    #[test]
    fn guessing_ends_in_a_ban_and_trunks_are_never_banned() {
        let gate = gate(Settings::default());
        for (to, stays) in [(STRANGER, false), ("198.51.100.7:5060", true), ("203.0.113.1:9", true)] {
            for status in ["403 Forbidden", "404 Not Found", "200 OK"].iter().cycle().take(30) {
                let answer = format!("SIP/2.0 {status}\r\n");
                gate.answered(Now::default(), to.parse().unwrap(), answer.as_bytes());
            }
            assert_eq!(enters(&gate, to, &request("a phone")), stays, "{to}");
        }
    }

    #[test]
    fn what_is_no_sip_gets_no_answer_and_a_flood_is_cut_to_the_rate() {
        let gate = gate(Settings { rate_per_s: 1, burst: 5, ..Settings::default() });
        assert!(!enters(&gate, STRANGER, "GET / HTTP/1.1\r\n\r\n"));
        let served = (0..100).filter(|_| enters(&gate, STRANGER, &request("a phone"))).count();
        assert_eq!(served, 4, "the one before took a token");
        assert!(enters(&gate, STRANGER, "SIP/2.0 200 OK\r\n\r\n"), "responses are the stack's business");
    }
}

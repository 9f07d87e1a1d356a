//! What is asked, in which order, and what an answer means (RFC 3263 4.1, 4.2 and 5; RFC 2782; RFC 7984).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use cordboard_base::{Map, Random};

use super::{
    Abilities, Answer, Kind, MAX_ADDRESSES, MAX_HOSTS, MAX_SERVICES, MAX_TARGETS, Question, Record, Target,
    Targets, Unresolved, records,
};
use crate::transport::Transport;
use crate::wire::{Uri, Via, host_address};

/// Why a URI or a Via cannot be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsupported {
    /// The scheme is neither sip nor sips.
    Scheme,
    /// The transport does not exist here, or not inside TLS (`sips:` with `transport=udp`).
    Transport,
    /// The host is no name that DNS could know.
    Host,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "only sip: and sips: URIs are resolved",
            Self::Transport => "the transport asked for does not exist here, or not securely",
            Self::Host => "the host is not a name that DNS could know",
        })
    }
}

impl std::error::Error for Unsupported {}

/// What is to be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Request {
    host: String,
    port: Option<u16>,
    transport: Option<Transport>,
    /// Only what is inside TLS will do (`sips:`).
    secure: bool,
}

impl Request {
    /// The way to a URI (RFC 3263 4); `maddr` goes before the host, as section 4 asks.
    ///
    /// # Errors
    /// When the URI is not one of SIP's, or asks for what is not there.
    pub fn of_uri(uri: &Uri<'_>) -> Result<Self, Unsupported> {
        if !uri.is_sip() {
            return Err(Unsupported::Scheme);
        }
        let secure = uri.scheme.eq_ignore_ascii_case("sips");
        let transport = match uri.param("transport").filter(|t| !t.is_empty()) {
            None => None,
            Some(name) => match Transport::named(name).ok_or(Unsupported::Transport)? {
                // 4.1: a secured transport is what sips asks for, and UDP has none (RFC 5630 3.1.3).
                Transport::Udp if secure => return Err(Unsupported::Transport),
                named if secure => Some(named.secured()),
                named => Some(named),
            },
        };
        let host = uri.param("maddr").filter(|m| !m.is_empty()).unwrap_or(uri.host);
        Self::new(host, uri.port, transport, secure)
    }

    /// The way back to a Via's sent-by (RFC 3263 5), where neither `received` nor the connection serves.
    ///
    /// # Errors
    /// When the transport is not known.
    pub fn of_via(via: &Via<'_>) -> Result<Self, Unsupported> {
        let transport = Transport::named(via.transport).ok_or(Unsupported::Transport)?;
        Self::new(via.host, via.port, Some(transport), transport.is_secure())
    }

    /// A host with what is known of the way to it.
    ///
    /// # Errors
    /// When the host can be no name.
    pub fn new(
        host: &str,
        port: Option<u16>,
        transport: Option<Transport>,
        secure: bool,
    ) -> Result<Self, Unsupported> {
        let host = host.strip_suffix('.').unwrap_or(host);
        if host_address(host).is_none() && !is_name(host) {
            return Err(Unsupported::Host);
        }
        Ok(Self { host: host.to_ascii_lowercase(), port, transport, secure })
    }
}

/// Labels of 1 to 63 bytes, 253 in all, and none of a name's top label in digits alone (RFC 1123 2.1).
fn is_name(host: &str) -> bool {
    let mut labels = host.split('.');
    let fits = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let digits = labels.next_back().is_none_or(|top| top.bytes().all(|b| b.is_ascii_digit()));
    host.len() <= 253 && !digits && host.split('.').all(fits)
}

/// A transport's service at a name: what a NAPTR record or our own list names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    transport: Transport,
    name: String,
    /// The name has SRV records; otherwise it is a host itself.
    srv: bool,
}

impl Service {
    pub(super) fn question(&self) -> Option<Question> {
        self.srv.then(|| Question { name: self.name.clone(), kind: Kind::Srv })
    }
}

/// A host, name or literal, with all but its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    transport: Transport,
    name: String,
    port: u16,
}

/// The first step.
pub(super) enum First {
    Targets(Result<Targets, Unresolved>),
    Hosts(Vec<Host>),
    Service(Service),
    Naptr(Question),
}

/// What is asked for, and what we can do.
#[derive(Debug)]
pub(super) struct Plan {
    request: Request,
    abilities: Abilities,
}

impl Plan {
    pub(super) fn new(request: &Request, abilities: &Abilities) -> Self {
        Self { request: request.clone(), abilities: abilities.clone() }
    }

    /// Whether we speak it and the request may go by it.
    fn allows(&self, transport: Transport) -> bool {
        self.abilities.transports.contains(&transport) && (!self.request.secure || transport.is_secure())
    }

    /// The transport when nothing in DNS says anything: UDP, or TLS for sips (4.1); else the first of ours.
    fn default_transport(&self) -> Option<Transport> {
        let usual = if self.request.secure { Transport::Tls } else { Transport::Udp };
        let mut all = std::iter::once(usual).chain(self.abilities.transports.iter().copied());
        match self.request.transport {
            Some(asked) => Some(asked).filter(|t| self.allows(*t)),
            None => all.find(|t| self.allows(*t)),
        }
    }

    pub(super) fn first(&self) -> First {
        let request = &self.request;
        let Some(transport) = self.default_transport() else {
            return First::Targets(Err(Unresolved::Unreachable));
        };
        let port = request.port.unwrap_or(transport.default_port());
        if let Some(ip) = host_address(&request.host) {
            return First::Targets(match self.speaks(ip) {
                true => Ok(Targets::new(vec![self.target(transport, SocketAddr::new(ip, port))])),
                false => Err(Unresolved::Unreachable),
            });
        }
        // RFC 6761 6.4, RFC 7118 5: browsers have such names; no server shall hear of them.
        if request.host.ends_with(".invalid") {
            return First::Targets(Err(Unresolved::NoSuchHost));
        }
        // 4.2: with a port the name is a host. WebSockets have no SRV records of their own (RFC 7118 10.1).
        if request.port.is_some() || matches!(transport, Transport::Ws | Transport::Wss) {
            return First::Hosts(vec![Host { transport, name: request.host.clone(), port }]);
        }
        match request.transport {
            Some(_) => First::Service(self.service(transport)),
            None => First::Naptr(Question { name: request.host.clone(), kind: Kind::Naptr }),
        }
    }

    /// `_sip._udp.NAME` and the like (4.1, 4.2).
    fn service(&self, transport: Transport) -> Service {
        let prefix = match transport {
            Transport::Udp => "_sip._udp",
            Transport::Tcp => "_sip._tcp",
            Transport::Tls => "_sips._tcp",
            Transport::Ws => "_sip._ws",
            Transport::Wss => "_sips._ws",
        };
        Service { transport, name: format!("{prefix}.{}", self.request.host), srv: true }
    }

    /// The services that NAPTR records name, in their order; without any that serves, all of ours (4.1).
    pub(super) fn chosen(&self, answer: Vec<Record>) -> Vec<Service> {
        let mut found: Vec<((u16, u16, usize), Service)> = Vec::new();
        for record in answer {
            let Record::Naptr { order, preference, flags, service, regexp, replacement } = record else {
                continue;
            };
            let Some(transport) = naptr_transport(&service).filter(|t| self.allows(*t)) else { continue };
            let name = trim_dot(&replacement);
            let srv = flags.eq_ignore_ascii_case("s");
            // RFC 3263 4.1: the replacement names the SRV records; a pattern to apply is not SIP's.
            if !(srv || flags.eq_ignore_ascii_case("a")) || !regexp.is_empty() || !is_name(&name) {
                continue;
            }
            // Among equals our own preference decides.
            let ours = self.abilities.transports.iter().position(|t| *t == transport).unwrap_or(usize::MAX);
            found.push(((order, preference, ours), Service { transport, name, srv }));
        }
        found.sort_by_key(|(key, _)| *key);
        found.truncate(MAX_SERVICES);
        if !found.is_empty() {
            return found.into_iter().map(|(_, service)| service).collect();
        }
        let ours = self
            .abilities
            .transports
            .iter()
            .copied()
            .filter(|t| self.allows(*t) && matches!(t, Transport::Udp | Transport::Tcp | Transport::Tls));
        // For a plain sip: URI "_sips" is not asked for: that is for sips URIs, and for NAPTR to name.
        ours.filter(|t| self.request.secure || !t.is_secure()).map(|t| self.service(t)).collect()
    }

    /// The hosts of all services, best first (RFC 2782). Without any SRV record the name itself is the host
    /// (4.2), unless a service said `.`: not there.
    pub(super) fn hosts(
        &self,
        services: Vec<Service>,
        answers: &mut Map<Question, Answer>,
        random: &mut Random,
    ) -> Vec<Host> {
        let mut hosts: Vec<Host> = Vec::new();
        let mut refused = false;
        for service in services {
            let Some(question) = service.question() else {
                let port = service.transport.default_port();
                hosts.push(Host { transport: service.transport, name: service.name, port });
                continue;
            };
            let found = answers.get(&question).cloned().map_or(Vec::new(), records);
            for (name, port) in in_order(found, random) {
                if name.is_empty() {
                    refused = true;
                } else {
                    hosts.push(Host { transport: service.transport, name, port });
                }
            }
        }
        answers.clear();
        if hosts.is_empty() && !refused {
            hosts.extend(self.default_transport().map(|transport| Host {
                transport,
                name: self.request.host.clone(),
                port: transport.default_port(),
            }));
        }
        hosts.truncate(MAX_HOSTS);
        hosts
    }

    /// The questions for a host's addresses: one for each family that we have; none for a literal.
    pub(super) fn questions(&self, host: &Host) -> Vec<Question> {
        if host_address(&host.name).is_some() {
            return Vec::new();
        }
        let ask = |kind| Question { name: host.name.clone(), kind };
        let wanted = [(self.abilities.v6, Kind::Aaaa), (self.abilities.v4, Kind::A)];
        wanted.into_iter().filter(|(have, _)| *have).map(|(_, kind)| ask(kind)).collect()
    }

    /// Every address of every host, each once. The families of one host take turns, so that a family that
    /// is broken costs one attempt and not all of them (RFC 7984 4.2, after RFC 8305 4).
    pub(super) fn targets(&self, hosts: &[Host], answers: &Map<Question, Answer>) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        for host in hosts {
            let literal = host_address(&host.name).filter(|ip| self.speaks(*ip));
            let of = |kind| {
                let question = Question { name: host.name.clone(), kind };
                addresses(answers.get(&question), kind)
            };
            let (mut first, mut second) = (of(Kind::Aaaa), of(Kind::A));
            if !self.abilities.prefer_v6 {
                std::mem::swap(&mut first, &mut second);
            }
            for ip in literal.into_iter().chain(alternating(first, second)) {
                let target = self.target(host.transport, SocketAddr::new(ip, host.port));
                if targets.len() < MAX_TARGETS && !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        targets
    }

    fn speaks(&self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.abilities.v4 } else { self.abilities.v6 }
    }

    fn target(&self, transport: Transport, address: SocketAddr) -> Target {
        Target { transport, address, server_name: self.request.host.clone() }
    }
}

/// The transport of a NAPTR service (RFC 3263 4.1, RFC 7118 10.3 is for clients that may connect so).
fn naptr_transport(service: &str) -> Option<Transport> {
    let table = [("SIP+D2U", Transport::Udp), ("SIP+D2T", Transport::Tcp), ("SIPS+D2T", Transport::Tls)];
    table.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(service)).map(|(_, transport)| transport)
}

fn trim_dot(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Names and ports by priority, and within one by weighted chance (RFC 2782): a target is drawn by its share
/// of what is left, those of weight 0 last, unless chance has it otherwise. The name is empty for `.`.
fn in_order(found: Vec<Record>, random: &mut Random) -> Vec<(String, u16)> {
    let mut all: Vec<(u16, u16, String, u16)> = found
        .into_iter()
        .filter_map(|record| match record {
            Record::Srv { priority, weight, port, target } => {
                let name = trim_dot(&target);
                let usable =
                    name.is_empty() || (port != 0 && (is_name(&name) || host_address(&name).is_some()));
                usable.then_some((priority, weight, name, port))
            }
            _ => None,
        })
        .collect();
    // Priority, then those of weight 0 first, as the running sum wants it; the rest makes chance alone
    // decide, and not the order in which a server sent the records.
    all.sort();
    let mut order = Vec::new();
    while let Some(priority) = all.first().map(|first| first.0)
        && order.len() < MAX_HOSTS
    {
        let equals = all.iter().take_while(|record| record.0 == priority).count();
        let sum: u64 = all[..equals].iter().map(|record| u64::from(record.1)).sum();
        let mut drawn = random.below(sum + 1);
        // Nobody has a share: nothing is said against any order.
        let at = if sum == 0 { Some(random.below(equals as u64) as usize) } else { None };
        let by_share = || {
            all[..equals].iter().position(|record| {
                let hit = drawn <= u64::from(record.1);
                drawn = drawn.saturating_sub(u64::from(record.1));
                hit
            })
        };
        let at = at.or_else(by_share).unwrap_or(0);
        let (_, _, name, port) = all.remove(at);
        order.push((name, port));
    }
    order
}

fn addresses(answer: Option<&Answer>, kind: Kind) -> Vec<IpAddr> {
    let Some(Answer::Records(records)) = answer else { return Vec::new() };
    let of_kind = records.iter().filter_map(|record| match record {
        Record::Address(ip) if ip.is_ipv4() == (kind == Kind::A) => Some(*ip),
        _ => None,
    });
    of_kind.take(MAX_ADDRESSES).collect()
}

fn alternating(first: Vec<IpAddr>, second: Vec<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let longest = first.len().max(second.len());
    (0..longest).flat_map(move |i| [first.get(i).copied(), second.get(i).copied()]).flatten()
}

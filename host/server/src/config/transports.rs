//! `[[listeners]]`, `[tls]` and `[connections]`: where the centre listens besides `listen.centre`, what it
//! shows and believes under TLS, and how much of it a peer may hold.
//!
//! Certificates are read here too, so that `cordboard check` and a reload say what is wrong with them; what
//! the sockets get is made by [`renewal`], from the same files.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use cordboard_net::stream::tls::{self, Clients, Identity, TlsError};
use cordboard_net::stream::{Limits, Renewal, Shown, Transport};

use super::Config;
use super::read::Section;

/// One more address of the centre.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// What is spoken there.
    pub transport: Transport,
    /// Bound.
    pub address: SocketAddr,
    /// What stands in Via and Contact, when it is not the one that is bound.
    pub advertised: Option<IpAddr>,
    /// What it shows under TLS.
    pub identity: Option<Identity>,
    /// Whose client certificates it asks for.
    pub clients: Option<Clients>,
    /// Values of Origin that a WebSocket may have; empty: all.
    pub origins: Vec<String>,
}

impl Listener {
    /// The address as others reach it, once its port is known.
    #[must_use]
    pub fn reached_at(&self, everywhere: Option<IpAddr>, bound: SocketAddr) -> SocketAddr {
        // The one for all listeners holds where it is of the same family.
        let everywhere = everywhere.filter(|ip| ip.is_ipv4() == bound.is_ipv4());
        let of_itself = Some(bound.ip()).filter(|ip| !ip.is_unspecified());
        SocketAddr::new(self.advertised.or(everywhere).or(of_itself).unwrap_or(bound.ip()), bound.port())
    }
}

/// TLS towards others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// What we show when we are asked, and what listeners without their own show.
    pub identity: Option<Identity>,
    /// The authorities that we believe; none: the public ones.
    pub ca: Option<PathBuf>,
    /// The names that servers must prove, by address.
    pub servers: Vec<(SocketAddr, String)>,
}

/// What the sockets need of a configuration. Reads the certificates.
///
/// # Errors
/// A file that cannot be used.
pub fn renewal(config: &Config, first_listener: u16) -> Result<Renewal, TlsError> {
    let mut listeners = Vec::new();
    for (number, listener) in (first_listener..).zip(&config.listeners) {
        let tls = match &listener.identity {
            Some(own) if listener.transport.is_secure() => Some(tls::server(own, listener.clients.as_ref())?),
            _ => None,
        };
        listeners.push(Shown { listener: number, tls, origins: listener.origins.clone().into() });
    }
    Ok(Renewal {
        limits: config.connections,
        client: Some(tls::client(config.tls.ca.as_deref(), config.tls.identity.as_ref())?),
        listeners,
        server_names: config.tls.servers.clone(),
    })
}

fn identity(s: &Section<'_, '_>) -> Option<Identity> {
    let (certificate, key) = (s.text("certificate"), s.text("key"));
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Identity {
            certificate: s.source().path(&certificate.value),
            key: s.source().path(&key.value),
        }),
        (None, None) => None,
        (Some(_), None) => {
            s.problem("certificate", "needs `key`, the PEM file with its private key");
            None
        }
        (None, Some(_)) => {
            s.problem("key", "needs `certificate`, the PEM file with the certificate and its chain");
            None
        }
    }
}

/// Says what is wrong with files, at the key that names them.
fn report(s: &Section<'_, '_>, error: &TlsError, keys: &[(&'static str, Option<&PathBuf>)]) {
    let key = keys.iter().find(|(_, file)| *file == Some(&error.file)).map_or("", |(key, _)| key);
    s.problem(key, error.to_string());
}

pub(super) fn read_tls(root: &Section<'_, '_>) -> Tls {
    let s = root.section("tls");
    let mut read = Tls {
        identity: identity(&s),
        ca: s.text("ca").map(|file| s.source().path(&file.value)),
        servers: Vec::new(),
    };
    for n in s.sections("servers") {
        let name = n.required("name", "the name in the server's certificate, such as \"sip.example.com\"");
        let address = n.required("address", "the server's address, such as \"192.0.2.1:5061\"");
        match address.value.parse::<SocketAddr>() {
            Ok(at) if read.servers.iter().any(|(other, _)| *other == at) => {
                n.problem("address", format!("{at} is there twice"));
            }
            Ok(at) => read.servers.push((at, name.value)),
            Err(_) if address.value.is_empty() => {}
            Err(_) => n.problem(
                "address",
                format!(
                    "expected an address with a port, such as \"192.0.2.1:5061\", found {:?}",
                    address.value
                ),
            ),
        }
        n.done();
    }
    let own = read.identity.as_ref();
    if let Err(error) = tls::client(read.ca.as_deref(), own) {
        let files = [
            ("certificate", own.map(|o| &o.certificate)),
            ("key", own.map(|o| &o.key)),
            ("ca", read.ca.as_ref()),
        ];
        report(&s, &error, &files);
        // It is told once; what stands on it needs not fail again.
        read.identity = None;
        read.ca = None;
    }
    s.done();
    read
}

pub(super) fn read_listeners(
    root: &Section<'_, '_>,
    tls: &Tls,
    everywhere: Option<IpAddr>,
    taken: &[(&str, SocketAddr)],
) -> Vec<Listener> {
    let mut read: Vec<Listener> = Vec::new();
    let own_given = root.section("tls").has("certificate");
    for s in root.sections("listeners") {
        let words: Vec<(String, Transport)> =
            Transport::ALL.iter().map(|t| (t.via().to_ascii_lowercase(), *t)).collect();
        let words: Vec<(&str, Transport)> = words.iter().map(|(word, t)| (word.as_str(), *t)).collect();
        if !s.has("transport") {
            s.problem("transport", "is missing; expected `udp`, `tcp`, `tls`, `ws` or `wss`");
        }
        let transport = s.word("transport", &words, Transport::Udp);
        let written =
            s.required("address", "where to listen, such as \"192.0.2.1:5061\" or \"[2001:db8::1]:5061\"");
        let address = written.value.parse::<SocketAddr>().ok();
        if address.is_none() && !written.value.is_empty() {
            s.problem(
                "address",
                format!(
                    "expected an address with a port, such as \"192.0.2.1:5061\", found {:?}",
                    written.value
                ),
            );
        }
        let advertised = s
            .parsed("advertised", "an IP address, such as \"192.0.2.1\"", |t| t.parse().ok())
            .map(|a| a.value);
        let given = identity(&s);
        let clients = s.text("client_ca").map(|file| Clients {
            ca: s.source().path(&file.value),
            required: s.word("client_certificate", &[("required", true), ("asked", false)], true),
        });
        if clients.is_none() && s.has("client_certificate") {
            let _ = s.text("client_certificate");
            s.problem("client_certificate", "needs `client_ca`, whose certificates are believed");
        }
        let origins: Vec<String> = s.texts("origins").into_iter().map(|o| o.value).collect();
        if !origins.is_empty() && transport.can_connect() {
            s.problem("origins", "is for `ws` and `wss`: other transports have no Origin");
        }
        let secure = transport.is_secure();
        if !secure && (given.is_some() || clients.is_some()) {
            s.problem("transport", format!("`{}` has no TLS, so no certificates", transport.param()));
        }
        let shown = given.clone().or_else(|| tls.identity.clone());
        match &shown {
            None if secure && !own_given && !s.has("certificate") && !s.has("key") => {
                s.problem("transport", "TLS needs `certificate` and `key`, here or in [tls]")
            }
            Some(own) if secure => {
                if let Err(error) = cordboard_net::stream::tls::server(own, clients.as_ref()) {
                    let files = [
                        ("certificate", Some(&own.certificate)),
                        ("key", Some(&own.key)),
                        ("client_ca", clients.as_ref().map(|c| &c.ca)),
                    ];
                    report(&s, &error, &files);
                }
            }
            _ => {}
        }
        if let Some(address) = address {
            let clash = |other: SocketAddr, udp: bool| {
                other == address && address.port() != 0 && udp == (transport == Transport::Udp)
            };
            if let Some((key, _)) = taken.iter().find(|(_, other)| clash(*other, true)) {
                s.problem("address", format!("is that of `{key}`: give each its own port"));
            }
            if read.iter().any(|l| clash(l.address, l.transport == Transport::Udp)) {
                s.problem("address", "is that of another listener: give each its own port");
            }
            let everywhere = everywhere.filter(|ip| ip.is_ipv4() == address.is_ipv4());
            if address.ip().is_unspecified() && advertised.or(everywhere).is_none() {
                s.problem(
                    "address",
                    "listens on every address, so `advertised` must say which one others are to use",
                );
            }
            read.push(Listener { transport, address, advertised, identity: shown, clients, origins });
        }
        s.done();
    }
    read
}

pub(super) fn read_connections(root: &Section<'_, '_>) -> Limits {
    let s = root.section("connections");
    let d = Limits::default();
    let limits = Limits {
        connections: s.number("max", 1..=1_000_000_i64, d.connections as i64) as usize,
        per_source: s.number("max_per_source", 1..=1_000_000_i64, d.per_source as i64) as usize,
        message_bytes: s.number("max_message_bytes", 1_024..=65_535_i64, d.message_bytes as i64) as usize,
        waiting_bytes: s.number("max_waiting_bytes", 65_536..=1_073_741_824_i64, d.waiting_bytes as i64)
            as usize,
        stall_ms: s.seconds_ms("stall_timeout_s", 1.0..=600.0, d.stall_ms),
        setup_ms: s.seconds_ms("setup_timeout_s", 0.1..=60.0, d.setup_ms),
        message_ms: s.seconds_ms("message_timeout_s", 0.1..=60.0, d.message_ms),
        idle_ms: s.seconds_ms("idle_timeout_s", 1.0..=86_400.0, d.idle_ms),
        ping_ms: s.seconds_ms("ping_s", 1.0..=3_600.0, d.ping_ms),
    };
    s.done();
    limits
}

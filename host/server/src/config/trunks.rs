//! `[[trunks]]`: who may send calls, and by which terms calls leave.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use cordboard_call::model::{Network, Trunk};
use cordboard_call::trunk::rules::{HeaderRules, Rewrite, may_touch};
use cordboard_call::trunk::terms::{
    Credentials, Destination, Diversion, EarlyMedia, Health, Identity, IdentityUris, Outbound, Peer, Register,
};
use cordboard_sip::resolve::Request;
use cordboard_sip::sdp::Codec;
use cordboard_sip::transport::Transport;
use cordboard_sip::wire::Uri;

use super::load::{Places, name};
use super::read::{At, Section};

/// The most destinations of a trunk.
const MAX_DESTINATIONS: usize = 32;

pub(super) fn read(s: Section<'_, '_>, places: &mut Places) -> Trunk {
    let own_name = s.name("name");
    if own_name.value.contains([',', '/']) {
        s.problem("name", "a trunk's name has no `,` and no `/`: routes name it in `trunk:NAME/NUMBER`");
    }
    let out = s.section("out");
    let peer = peer_of(&s, &own_name.value);
    let leaves = out.is_present();
    let sources = s.texts("sources");
    let certificates: Vec<String> =
        s.texts("certificates").into_iter().map(|n| n.value.to_ascii_lowercase()).collect();
    if sources.is_empty() && certificates.is_empty() && !leaves && peer.is_none() {
        s.problem(
            "sources",
            "is missing or empty; expected networks that may send calls, such as [\"192.0.2.0/24\"], or a table [trunks.out] for a trunk that calls only leave by",
        );
    }
    let sources = sources
        .iter()
        .filter_map(|text| {
            let network = network(&text.value);
            if network.is_none() {
                s.source().problem(text.line, &*text.key, format!("expected an address or network such as `192.0.2.0/24` or `192.0.2.1:5060`, found {:?}", text.value));
            }
            network
        })
        .collect();
    let tenant = s.text("tenant");
    places.tenant_names.extend(tenant.clone());
    let mut codecs = Vec::new();
    for codec in s.texts("codecs") {
        match &*codec.value.to_ascii_lowercase() {
            "pcmu" => codecs.push(Codec::Pcmu),
            "pcma" => codecs.push(Codec::Pcma),
            _ => s.source().problem(
                codec.line,
                codec.key,
                format!("expected `pcmu` or `pcma`, found {:?}", codec.value),
            ),
        }
    }
    if codecs.is_empty() {
        codecs = vec![Codec::Pcmu, Codec::Pcma];
    }
    let max_calls = s.number("max_calls", 1..=100_000, 1_000);
    let max_calls_per_s = s.number("max_calls_per_s", 1..=100_000, 200);
    let trunk = Trunk {
        name: name(&own_name.value),
        sources,
        certificates,
        trusted: s.flag("trusted", false),
        tenant: tenant.map(|t| name(&t.value)),
        max_calls,
        max_calls_per_s,
        pass_headers: s.texts("pass_headers").into_iter().map(|h| h.value).collect(),
        codecs,
        caller: rewrites(&s, "caller"),
        called: rewrites(&s, "called"),
        out: leaves.then(|| outbound(&out, places, max_calls, max_calls_per_s, peer.is_some())),
        peer,
    };
    out.done();
    s.done();
    trunk
}

fn rewrites(s: &Section<'_, '_>, key: &'static str) -> Vec<Rewrite> {
    let mut rules = Vec::new();
    for text in s.texts(key) {
        match Rewrite::parse(&text.value) {
            Ok(rule) => rules.push(rule),
            Err(why) => s.source().problem(text.line, text.key, why),
        }
    }
    rules
}

/// A peer that registers here.
fn peer_of(trunk: &Section<'_, '_>, name: &str) -> Option<Peer> {
    let s = trunk.section("registers");
    if !s.is_present() {
        return None;
    }
    let user = s.required("user", "the name that it registers with");
    let password = s.required("password", "its password, or the HA1 as `md5:…` or `sha256:…`");
    let realm = s.text("realm").map_or_else(|| name.to_owned(), |r| r.value);
    s.done();
    Some(Peer { user: user.value, password: password.value, realm })
}

fn outbound(
    s: &Section<'_, '_>,
    places: &mut Places,
    max_calls: u32,
    max_calls_per_s: u32,
    registers: bool,
) -> Outbound {
    let usual = Outbound::default();
    let mut destinations: Vec<Destination> = Vec::new();
    for d in s.sections("destinations") {
        let address = d.required("address", "a SIP URI without a user, such as \"sip:192.0.2.10:5060\"");
        let uri = peer(&d, "address", &address, places);
        if destinations.iter().any(|other| other.uri == uri && !uri.is_empty()) {
            d.problem("address", format!("{uri:?} is there twice"));
        }
        destinations.push(Destination {
            uri,
            priority: d.number("priority", 0..=65_535, 1),
            weight: d.number("weight", 1..=65_535, 1),
        });
        d.done();
    }
    if registers && !destinations.is_empty() {
        s.problem("destinations", "calls of a trunk whose peer registers go to where it has registered from");
    } else if !registers && (destinations.is_empty() || destinations.len() > MAX_DESTINATIONS) {
        s.problem(
            "destinations",
            format!(
                "expected 1 to {MAX_DESTINATIONS} destinations, such as [{{ address = \"sip:192.0.2.10\" }}], found {}",
                destinations.len()
            ),
        );
    }
    let tenants = s.texts("tenants");
    places.tenant_names.extend(tenants.iter().cloned());
    let credentials = credentials(s);
    let register = register(s, credentials.as_ref(), places);
    let from = user(s, "from");
    let domain = s.parsed("domain", "a host name or an address, such as \"carrier.example\"", |text| {
        Uri::parse(&format!("sip:{text}"))
            .is_ok_and(|u| u.user.is_none() && !u.host.is_empty())
            .then(|| text.to_owned())
    });
    let health_ms = s.seconds_ms("health_s", 0.0..=3_600.0, 15_000);
    if health_ms > 0 && health_ms < 500 {
        s.problem("health_s", "expected 0 for never, or at least half a second");
    }
    let (down_after, up_after) = (s.number("down_after", 1..=100, 2), s.number("up_after", 1..=100, 2));
    Outbound {
        destinations,
        tenants: tenants.iter().map(|t| name(&t.value)).collect(),
        max_calls: s.number("max_calls", 1..=100_000, max_calls),
        max_calls_per_s: s.number("max_calls_per_s", 1..=100_000, max_calls_per_s),
        silent_ms: s.seconds_ms("silent_s", 0.1..=32.0, usual.silent_ms),
        credentials,
        register,
        from,
        domain: domain.map(|d| d.value),
        identity: s.word(
            "identity",
            &[("none", Identity::None), ("asserted", Identity::Asserted), ("preferred", Identity::Preferred)],
            usual.identity,
        ),
        identity_uris: s.word(
            "identity_uris",
            &[("sip", IdentityUris::Sip), ("tel", IdentityUris::Tel), ("both", IdentityUris::Both)],
            usual.identity_uris,
        ),
        diversion: s.word(
            "diversion",
            &[
                ("none", Diversion::None),
                ("diversion", Diversion::Diversion),
                ("history-info", Diversion::HistoryInfo),
                ("both", Diversion::Both),
            ],
            usual.diversion,
        ),
        max_diversions: s.number("max_diversions", 0..=100, usual.max_diversions),
        caller: rewrites(s, "caller"),
        called: rewrites(s, "called"),
        headers: headers(s),
        early_media: s.word(
            "early_media",
            &[("pass", EarlyMedia::Pass), ("ring", EarlyMedia::Ring)],
            usual.early_media,
        ),
        health: (health_ms > 0).then_some(Health { every_ms: health_ms, down_after, up_after }),
    }
}

/// A peer's URI: no user, no headers, and a way that this node has.
fn peer(s: &Section<'_, '_>, key: &'static str, text: &At<String>, places: &Places) -> String {
    let uri = Uri::parse(&text.value);
    let fits = uri.is_ok_and(|u| u.is_sip() && u.user.is_none() && u.headers.is_empty());
    if text.value.is_empty() {
        return String::new();
    }
    if !fits {
        s.problem(
            key,
            format!(
                "expected a SIP URI without a user, such as `sip:192.0.2.10:5060`, found {:?}",
                text.value
            ),
        );
    } else if let Ok(uri) = uri {
        let secure = uri.scheme.eq_ignore_ascii_case("sips");
        let named = uri.param("transport").and_then(Transport::named).unwrap_or_default();
        let by = if secure { named.secured() } else { named };
        if let Err(why) = Request::of_uri(&uri) {
            s.problem(key, format!("{:?} cannot be reached: {why}", text.value));
        } else if !places.transports.contains(&by) {
            let lacks = format!(
                "{:?} cannot be reached: it wants {by}, and no [[listeners]] can call by that",
                text.value
            );
            s.problem(key, lacks);
        }
    }
    text.value.clone()
}

/// A user part: what may stand before the `@`.
fn user(s: &Section<'_, '_>, key: &'static str) -> Option<String> {
    s.parsed(key, "a number or a name without blanks", |text| {
        (!text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_graphic()))
            .then(|| text.to_owned())
    })
    .map(|u| u.value)
}

fn credentials(s: &Section<'_, '_>) -> Option<Credentials> {
    let user = user(s, "user");
    let (password, told) = s.secret("the password", ["password", "password_env", "password_file"]);
    match (user, told) {
        (None, 0) => None,
        (Some(user), 1) => Some(Credentials { user, password: password? }),
        _ => {
            s.problem(
                "user",
                format!("expected `user` and one of `password`, `password_env` and `password_file`, or none of them, found {told} passwords"),
            );
            None
        }
    }
}

fn register(out: &Section<'_, '_>, credentials: Option<&Credentials>, places: &Places) -> Option<Register> {
    let s = out.section("register");
    if !s.is_present() {
        return None;
    }
    let text = s.required("registrar", "the registrar's SIP URI without a user, such as \"sip:192.0.2.10\"");
    let proxy = s.text("proxy");
    let proxy = proxy.map(|p| peer(&s, "proxy", &p, places));
    // With a proxy the registrar is a name that only the proxy has to know.
    let registrar = if proxy.is_some() {
        if Uri::parse(&text.value).is_ok_and(|u| !u.is_sip() || u.user.is_some()) {
            s.problem("registrar", format!("expected a SIP URI without a user, found {:?}", text.value));
        }
        text.value.clone()
    } else {
        peer(&s, "registrar", &text, places)
    };
    let user = user(&s, "user").or_else(|| credentials.map(|c| c.user.clone()));
    if user.is_none() {
        s.problem("user", "is missing; expected the user to register, here or as the `user` of [trunks.out]");
    }
    let register = Register {
        registrar,
        user: user.unwrap_or_default(),
        proxy,
        expires_s: s.number("expires_s", 10..=604_800, 3_600),
        bulk: s.flag("bulk", false),
    };
    s.done();
    Some(register)
}

fn headers(s: &Section<'_, '_>) -> HeaderRules {
    let table = s.section("add_headers");
    let mut add = Vec::new();
    for (header, value) in table.entries() {
        let clean = value.value.bytes().all(|b| b >= b' ' && b != 0x7f);
        if !may_touch(&header) {
            s.source().problem(value.line, &*value.key, format!("the header {header:?} is not for rules"));
        } else if !clean || value.value.len() > 1_024 {
            s.source().problem(
                value.line,
                &*value.key,
                "expected a text of at most 1,024 bytes without control characters",
            );
        }
        add.push((header, value.value));
    }
    let names = |key: &'static str| -> Vec<String> {
        let mut seen = BTreeSet::new();
        for text in s.texts(key) {
            if !may_touch(&text.value) {
                s.source().problem(
                    text.line,
                    &*text.key,
                    format!("the header {:?} is not for rules", text.value),
                );
            }
            seen.insert(text.value);
        }
        if seen.len() > 32 {
            s.problem(key, "expected at most 32 headers");
        }
        seen.into_iter().collect()
    };
    HeaderRules { add, remove: names("remove_headers"), copy: names("copy_headers") }
}

fn network(text: &str) -> Option<Network> {
    if let Some((address, prefix)) = text.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        return (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some(Network {
            address,
            prefix,
            port: None,
        });
    }
    let whole =
        |address: IpAddr, port| Network { address, prefix: if address.is_ipv4() { 32 } else { 128 }, port };
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some(whole(socket.ip(), Some(socket.port())));
    }
    text.parse().ok().map(|address| whole(address, None))
}

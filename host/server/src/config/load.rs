//! From the TOML file to a [`Config`]: every key with its meaning, its range and its default.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cordboard_call::Name;
use cordboard_call::model::{
    Agent, Fallback, Limits, Model, Phone, Qualify, Tenant as ModelTenant, Workgroup,
};
use cordboard_call::trunk::passages;
use cordboard_sip::defence::Settings as Defence;
use cordboard_sip::transport::Transport;
use sha2::{Digest, Sha256};
use toml::de::DeTable;

use super::read::{At, Section, Source};
use super::{
    Api, Config, Listen, Log, Media, Node, Overrides, Plugin, PluginLimits, Problems, Redirect, Role, Speech,
    Store, Tenant, Token, check, hours, transports, trunks,
};
use crate::shell::gate;
use crate::trace::Settings;

const ROLES: [(&str, Role); 3] =
    [("redirect", Role::Redirect), ("centre", Role::Centre), ("domain", Role::Domain)];

/// What is only needed while checking: where the names stand.
#[derive(Default)]
pub(super) struct Places {
    /// Names of plugins with what they are used as.
    pub(super) plugins: Vec<(At<String>, &'static str)>,
    /// Of each tenant, in order.
    pub(super) tenants: Vec<TenantPlaces>,
    /// Names of tenants that trunks refer to.
    pub(super) tenant_names: Vec<At<String>>,
    /// What calls can leave by.
    pub(super) transports: Vec<Transport>,
}

/// Names within a tenant that must exist.
#[derive(Default)]
pub(super) struct TenantPlaces {
    pub(super) workgroups: Vec<At<String>>,
    pub(super) agents: Vec<At<String>>,
    pub(super) skills: Vec<At<String>>,
    pub(super) prompts: Vec<At<String>>,
}

pub(super) fn parse(file: &Path, text: &str, overrides: &Overrides) -> Result<Config, Problems> {
    let table = DeTable::parse(text).map_err(|e| {
        let line = e.span().map_or(0, |span| {
            text.as_bytes()[..span.start.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
        });
        Problems::one(file, line, "", format!("is not TOML here: {}", e.message()))
    })?;
    let source = Source::new(file, text);
    let mut places = Places::default();
    let config = read(&source, Section::root(&source, &table), overrides, &mut places);
    check::check(&source, &config, &places);
    source.finish()?;
    Ok(config)
}

pub(super) fn name(text: &str) -> Name {
    text.into()
}

fn read<'s>(
    source: &'s Source<'s>,
    root: Section<'s, '_>,
    overrides: &Overrides,
    places: &mut Places,
) -> Config {
    let listen = read_listen(&root);
    let media = read_media(&root, listen);
    let tls = transports::read_tls(&root);
    let taken = [("listen.centre", listen.centre), ("listen.redirect", listen.redirect)];
    let listeners = transports::read_listeners(&root, &tls, listen.advertised, &taken);
    places.transports = vec![Transport::Udp];
    places.transports.extend(listeners.iter().map(|l| l.transport).filter(|t| t.can_connect()));
    let node = root.text("node").map_or_else(|| name("cordboard"), |n| name(&n.value));
    let mut roles: Vec<Role> = Vec::new();
    for role in root.texts("roles") {
        match ROLES.iter().find(|(word, _)| *word == role.value) {
            Some((_, role)) => roles.push(*role),
            None => source.problem(
                role.line,
                role.key,
                format!("expected `redirect`, `centre` or `domain`, found {:?}", role.value),
            ),
        }
    }
    if !root.has("roles") {
        roles = ROLES.iter().map(|(_, role)| *role).collect();
    }
    roles.sort_unstable();
    roles.dedup();
    let (mut tenants, mut extra) = (Vec::new(), BTreeMap::new());
    for section in root.sections("tenants") {
        let (tenant, more, here) = read_tenant(section, places);
        extra.insert(tenant.name.clone(), more);
        tenants.push(tenant);
        places.tenants.push(here);
    }
    let trunks = root.sections("trunks").into_iter().map(|s| trunks::read(s, places)).collect();
    let (limits, plugin_limits, drain_timeout_ms) = read_limits(&root);
    let plugin_dir = overrides
        .plugin_dir
        .clone()
        .unwrap_or_else(|| source.path(&root.text("plugin_dir").map_or(".".into(), |d| d.value)));
    if overrides.plugin_dir.is_some() {
        let _ = root.text("plugin_dir");
    }
    let plugins = root.sections("plugins").into_iter().map(|s| read_plugin(s, &plugin_dir)).collect();
    let data = root.text("data");
    let data =
        overrides.data.clone().unwrap_or_else(|| source.path(&data.map_or("data".into(), |d| d.value)));
    let redirect = read_redirect(&root, places, &roles);
    let config = Config {
        file: source.file().to_owned(),
        node: node.clone(),
        roles,
        listen,
        listeners,
        tls,
        connections: transports::read_connections(&root),
        media,
        redirect,
        model: Arc::new(Model { node, trunks, tenants, limits }),
        tenants: extra,
        plugins,
        plugin_limits,
        plugin_dir,
        watch_plugins: root.flag("watch_plugins", true),
        store: read_store(&root, &data),
        api: read_api(&root),
        log: read_log(&root),
        otlp: read_telemetry(&root),
        trace: read_trace(&root),
        speech: read_speech(&root, &data),
        defence: read_defence(&root),
        dns: read_dns(&root),
        passages: read_passages(&root),
        serialise_bus: root.flag("serialise_bus", cfg!(debug_assertions)),
        drain_timeout_ms,
    };
    root.done();
    config
}

fn socket(section: &Section<'_, '_>, key: &'static str, default: SocketAddr) -> SocketAddr {
    section
        .parsed(key, "an address with a port, such as \"192.0.2.1:5060\"", |t| t.parse().ok())
        .map_or(default, |a| a.value)
}

fn ip(section: &Section<'_, '_>, key: &'static str) -> Option<IpAddr> {
    section.parsed(key, "an IP address, such as \"192.0.2.1\"", |t| t.parse().ok()).map(|a| a.value)
}

fn read_listen(root: &Section<'_, '_>) -> Listen {
    let s = root.section("listen");
    let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let listen = Listen {
        redirect: socket(&s, "redirect", local(5060)),
        centre: socket(&s, "centre", local(5062)),
        advertised: ip(&s, "advertised"),
    };
    if listen.redirect == listen.centre && listen.centre.port() != 0 {
        s.problem(
            "centre",
            "the redirect role and the centre cannot share one address: give each its own port",
        );
    }
    for (key, at) in [("redirect", listen.redirect), ("centre", listen.centre)] {
        if at.ip().is_unspecified() && listen.advertised.is_none() {
            s.problem(key, "listens on every address, so `advertised` must say which one others are to use");
        }
    }
    s.done();
    listen
}

fn read_media(root: &Section<'_, '_>, listen: Listen) -> Media {
    let s = root.section("media");
    let address = ip(&s, "address").unwrap_or(listen.centre.ip());
    let advertised = ip(&s, "advertised").or(listen.advertised).unwrap_or(address);
    let ports = s
        .parsed(
            "ports",
            "the first and the last port, such as \"20000-29999\", at least 4 of them and from 1024 on",
            |text| {
                let (from, to) = text.split_once('-')?;
                let (from, to): (u16, u16) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
                (from >= 1_024 && to >= from.checked_add(3)?).then_some((from, to))
            },
        )
        .map_or((20_000, 29_999), |p| p.value);
    if advertised.is_unspecified() {
        s.problem("address", "binds every address, so `advertised` must say which one others are to send to");
    }
    let most = u32::from(ports.1 - ports.0).div_ceil(2);
    let max_legs = s.number("max_legs", 2..=100_000, most.min(5_000));
    if s.has("max_legs") && max_legs > most {
        s.problem(
            "max_legs",
            format!("{max_legs} legs need {} ports, and `ports` has {}", max_legs * 2, most * 2),
        );
    }
    s.done();
    Media { address, advertised, ports, max_legs }
}

fn read_redirect(root: &Section<'_, '_>, places: &mut Places, roles: &[Role]) -> Redirect {
    let s = root.section("redirect");
    let policy = s.text("policy");
    places.plugins.extend(policy.clone().map(|p| (p, "redirect-policy")));
    let mut nodes: Vec<Node> = Vec::new();
    for n in s.sections("nodes") {
        let id = n.name("id");
        if nodes.iter().any(|other| *other.id == *id.value) {
            n.problem("id", format!("the node {:?} is there twice", id.value));
        }
        let _ = n.required("address", "where its centre listens, such as \"192.0.2.2:5062\"");
        let address = socket(&n, "address", SocketAddr::from(([127, 0, 0, 1], 9)));
        nodes.push(Node {
            id: name(&id.value),
            address,
            capacity: n.number("capacity", 1..=100_000, 1_000),
            probe: n.flag("probe", true),
        });
        n.done();
    }
    // Beside a centre one is plenty: it answers more calls than a centre can hold.
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get().min(64) as u32);
    let threads = if roles.contains(&Role::Centre) { 1 } else { processors };
    let redirect = Redirect {
        policy: policy.map(|p| name(&p.value)),
        nodes,
        capacity: s.number("capacity", 1..=100_000, 1_000),
        name_self: s.flag("name_self", true),
        threads: s.number("threads", 1..=64, threads),
    };
    s.done();
    redirect
}

fn read_defence(root: &Section<'_, '_>) -> gate::Config {
    let s = root.section("defence");
    // Strangers and phones: an office behind one address is one source.
    let d = Defence { rate_per_s: 500, burst: 1_000, ..Defence::default() };
    let enabled = s.flag("enabled", true);
    let mut exempt = Vec::new();
    for network in s.texts("exempt") {
        match network.value.parse() {
            Ok(network) => exempt.push(network),
            Err(_) => s.problem(
                "exempt",
                format!(
                    "{:?} is no network; expected one such as \"192.0.2.0/24\" or \"192.0.2.1\"",
                    network.value
                ),
            ),
        }
    }
    let settings = Defence {
        rate_per_s: s.number("rate_per_s", 0..=1_000_000, d.rate_per_s),
        burst: s.number("burst", 1..=1_000_000, d.burst),
        ban_points: s.number("ban_points", 1..=100_000, d.ban_points),
        ban_s: s.number("ban_s", 0..=86_400, d.ban_s),
        max_ban_s: s.number("max_ban_s", 1..=31_536_000, d.max_ban_s),
        ..d
    };
    let off = Defence { rate_per_s: 0, ban_s: 0, ..settings.clone() };
    s.done();
    gate::Config { settings: if enabled { settings } else { off }, exempt }
}

fn read_limits(root: &Section<'_, '_>) -> (Limits, PluginLimits, u64) {
    let s = root.section("limits");
    let d = Limits::default();
    let limits = Limits {
        max_calls: s.number("max_calls", 1..=100_000, d.max_calls),
        retry_after_s: s.number("retry_after_s", 1..=3_600, d.retry_after_s),
        rtp_silence_ms: s.seconds_ms("rtp_silence_s", 0.0..=3_600.0, d.rtp_silence_ms.into()) as u32,
        silent_target_ms: s.seconds_ms("silent_target_s", 0.1..=32.0, d.silent_target_ms),
        script_grace_ms: s.seconds_ms("script_grace_s", 0.0..=60.0, d.script_grace_ms),
        max_interactions: s.number("max_interactions", 1..=1_000_000, d.max_interactions),
        dialog_probe_ms: s.seconds_ms("dialog_probe_s", 0.0..=3_600.0, d.dialog_probe_ms),
        session_expires_s: match s.number("session_expires_s", 0..=86_400, d.session_expires_s) {
            // RFC 4028 4: no interval may be smaller.
            seconds if seconds > 0 => seconds.max(90),
            off => off,
        },
    };
    let drain = s.seconds_ms("drain_timeout_s", 0.0..=86_400.0, 300_000);
    let plugins = PluginLimits {
        memory_mib: s.number("plugin_memory_mib", 1..=4_096, 64),
        script_cpu_ms: s.number("script_cpu_ms", 1..=3_600_000, 2_000),
        max_scripts: s.number("max_scripts", 1..=20_000, 8_800),
        quarantine_faults: s.number("quarantine_faults", 1..=100_000, 10),
    };
    s.done();
    (limits, plugins, drain)
}

fn read_store(root: &Section<'_, '_>, data: &Path) -> Store {
    let s = root.section("store");
    let below =
        |key: &'static str, default: &str| data.join(s.text(key).map_or(default.to_owned(), |t| t.value));
    let store = Store {
        path: below("path", "cordboard.db"),
        recordings: below("recordings", "recordings"),
        power: s.word("durability", &[("process", false), ("power", true)], false),
        retention_days: s.number("retention_days", 0..=36_500, 90),
    };
    s.done();
    store
}

fn read_api(root: &Section<'_, '_>) -> Api {
    let s = root.section("api");
    let listen = socket(&s, "listen", SocketAddr::from(([127, 0, 0, 1], 8080)));
    let mut tokens: Vec<Token> = Vec::new();
    for t in s.sections("tokens") {
        let who = t.name("name");
        let write = t.word("may", &[("read", false), ("write", true)], true);
        let mut given = Vec::new();
        if let Some(hex) = t.text("sha256") {
            match parse_hex(&hex.value) {
                Some(hash) => given.push(hash),
                None => t.problem("sha256", "expected 64 hexadecimal digits: `printf %s TOKEN | sha256sum`"),
            }
        }
        if let Some(variable) = t.text("env") {
            match std::env::var(&variable.value) {
                Ok(token) if !token.trim().is_empty() => given.push(Sha256::digest(token.trim()).into()),
                _ => t.problem(
                    "env",
                    format!("the environment has no variable {:?} with the token in it", variable.value),
                ),
            }
        }
        if let Some(file) = t.text("file") {
            let path = s.source().path(&file.value);
            match std::fs::read_to_string(&path) {
                Ok(token) if !token.trim().is_empty() => given.push(Sha256::digest(token.trim()).into()),
                Ok(_) => t.problem("file", format!("{} is empty; expected the token in it", path.display())),
                Err(e) => t.problem("file", format!("{} cannot be read: {e}", path.display())),
            }
        }
        let told = ["sha256", "env", "file"].iter().filter(|k| t.has(k)).count();
        if told != 1 {
            t.problem(
                "",
                format!("expected one of `sha256`, `env` and `file` to say what the token is, found {told}"),
            );
        }
        for sha256 in given {
            tokens.push(Token { name: name(&who.value), sha256, write });
        }
        t.done();
    }
    if !listen.ip().is_loopback() && tokens.is_empty() {
        s.problem("listen", "an API that others can reach needs at least one token: [[api.tokens]]");
    }
    s.done();
    Api { listen, tokens }
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[i * 2..i * 2 + 2], 16).ok()?;
    }
    Some(hash)
}

fn read_log(root: &Section<'_, '_>) -> Log {
    let s = root.section("log");
    let level = s.text("level").map_or("info".to_owned(), |t| t.value);
    if level.parse::<tracing_subscriber::filter::Targets>().is_err() {
        s.problem("level", format!("expected `error`, `warn`, `info`, `debug`, `trace` or directives such as `info,cordboard=debug`, found {level:?}"));
    }
    let log = Log { level, json: s.word("format", &[("text", false), ("json", true)], false) };
    s.done();
    log
}

fn read_telemetry(root: &Section<'_, '_>) -> Option<String> {
    let s = root.section("telemetry");
    let otlp = s.text("otlp").map(|t| t.value.trim_end_matches('/').to_owned());
    if otlp.as_ref().is_some_and(|url| !url.starts_with("http://")) {
        s.problem(
            "otlp",
            "expected the base URL of an OTLP/HTTP collector, such as \"http://127.0.0.1:4318\"",
        );
    }
    s.done();
    otlp
}

fn read_trace(root: &Section<'_, '_>) -> Settings {
    let s = root.section("trace");
    let settings = Settings {
        keep_ms: s.seconds_ms("sip_keep_s", 0.0..=86_400.0, 0),
        max_bytes: s.number("sip_memory_mib", 1..=65_536, 64) << 20,
        hep: s
            .parsed("hep", "the address and port of a Homer, such as \"192.0.2.9:9060\"", |t| t.parse().ok())
            .map(|a| a.value),
        hep_id: s.number("hep_id", 0..=u32::MAX, 2001),
    };
    s.done();
    settings
}

fn read_speech(root: &Section<'_, '_>, data: &Path) -> Speech {
    let s = root.section("speech");
    let speech = Speech {
        command: s.text("command").map_or("espeak-ng".to_owned(), |t| t.value),
        max_processes: s.number("max_processes", 1..=64, 2),
        timeout_ms: s.seconds_ms("timeout_s", 0.1..=60.0, 5_000),
        cache: data.join(s.text("cache").map_or("speech".to_owned(), |t| t.value)),
        cache_bytes: s.number("cache_mib", 0..=1_000_000, 512) << 20,
        max_clips: s.number("max_clips", 1..=100_000, 512),
    };
    s.done();
    speech
}

/// The shortest secret that may be shared, in octets.
const MIN_SECRET: usize = 16;

fn read_passages(root: &Section<'_, '_>) -> Option<passages::Key> {
    let s = root.section("passages");
    let (secret, told) = s.secret("the secret", ["secret", "secret_env", "secret_file"]);
    if told > 1 {
        s.problem(
            "secret",
            format!("expected one of `secret`, `secret_env` and `secret_file`, found {told}"),
        );
    }
    if secret.as_ref().is_some_and(|secret| secret.len() < MIN_SECRET) {
        s.problem("secret", format!("expected {MIN_SECRET} octets or more, found fewer"));
    }
    s.done();
    secret.map(|secret| passages::Key::new(&Sha256::digest(secret).into()))
}

fn read_dns(root: &Section<'_, '_>) -> crate::dns::Config {
    let s = root.section("dns");
    let usual = crate::dns::Config::default();
    let mut servers = Vec::new();
    for text in s.texts("servers") {
        let server = text.value.parse::<SocketAddr>().ok();
        match server.or_else(|| Some(SocketAddr::new(text.value.parse().ok()?, 53))) {
            Some(server) => servers.push(server),
            None => s.source().problem(
                text.line,
                text.key,
                format!("expected the address of a name server, such as `192.0.2.53` or `192.0.2.53:5353`, found {:?}", text.value),
            ),
        }
    }
    let dns =
        crate::dns::Config { servers, timeout_ms: s.seconds_ms("timeout_s", 0.1..=10.0, usual.timeout_ms) };
    s.done();
    dns
}

fn read_tenant(s: Section<'_, '_>, places: &mut Places) -> (ModelTenant, Tenant, TenantPlaces) {
    let mut here = TenantPlaces::default();
    let own_name = s.name("name");
    let router = s.text("router");
    let script = s.text("script");
    let adapters = s.texts("adapters");
    places.plugins.extend(router.clone().map(|p| (p, "call-router")));
    places.plugins.extend(script.clone().map(|p| (p, "ivr-script")));
    places.plugins.extend(adapters.iter().map(|p| (p.clone(), "cti-adapter")));
    let skills = s.texts("skills");
    let numbers = s.texts("numbers");
    for number in &numbers {
        let digits = number.value.strip_suffix('*').unwrap_or(&number.value);
        if digits.contains('*') && digits.len() > 1 || number.value.is_empty() {
            s.source().problem(number.line, &*number.key, "expected a number, or a prefix ending in `*`");
        }
    }
    let zone = s.text("time_zone");
    let zone = match zone {
        None => jiff::tz::TimeZone::UTC,
        Some(zone) => jiff::tz::TimeZone::get(&zone.value).unwrap_or_else(|_| {
            s.problem(
                "time_zone",
                format!(
                    "expected a name of the IANA database, such as `Europe/Paris`, found {:?}",
                    zone.value
                ),
            );
            jiff::tz::TimeZone::UTC
        }),
    };
    let mut calendars = BTreeMap::new();
    for (calendar_name, c) in s.section("hours").named_sections() {
        let mut calendar = hours::Calendar::default();
        for text in c.texts("open") {
            let _ = calendar.add_open(&text.value).map_err(|e| c.source().problem(text.line, text.key, e));
        }
        for text in c.texts("closed") {
            let _ = calendar.add_closed(&text.value).map_err(|e| c.source().problem(text.line, text.key, e));
        }
        calendars.insert(calendar_name, calendar);
        c.done();
    }
    let fallback = read_fallback(s.section("fallback"), &mut here);
    let workgroups: Vec<_> =
        s.sections("workgroups").into_iter().map(|w| read_workgroup(w, places, &mut here)).collect();
    let agents = s.sections("agents").into_iter().map(|a| read_agent(a, &mut here)).collect();
    let qualify = s.sections("qualify").into_iter().map(|q| read_qualify(q, &mut here)).collect();
    let realm = s.text("realm").map_or_else(|| own_name.value.clone(), |r| r.value);
    let prompts: Option<PathBuf> = s.text("prompts").map(|p| s.source().path(&p.value));
    if let Some(folder) = prompts.as_ref().filter(|f| !f.is_dir()) {
        s.problem("prompts", format!("{} is not a folder", folder.display()));
    }
    let tenant = ModelTenant {
        name: name(&own_name.value),
        numbers: numbers.into_iter().map(|n| n.value).collect(),
        router: router.map(|p| name(&p.value)),
        script: script.map(|p| name(&p.value)),
        fallback,
        adapters: adapters.iter().map(|p| name(&p.value)).collect(),
        skills: skills.iter().map(|p| name(&p.value)).collect(),
        workgroups,
        agents,
        qualify,
        realm,
        call_back_grace_ms: s.seconds_ms("call_back_grace_s", 0.0..=86_400.0, 120_000),
    };
    s.done();
    (tenant, Tenant { zone, hours: calendars, prompts }, here)
}

fn read_fallback(s: Section<'_, '_>, here: &mut TenantPlaces) -> Fallback {
    let workgroup = s.text("workgroup");
    let prompt = s.text("prompt");
    let cause = s.number("cause", 1..=127_u8, 41);
    if workgroup.is_some() && (prompt.is_some() || s.has("cause")) {
        s.problem("workgroup", "a fallback is either a workgroup, or a prompt with a cause");
    }
    here.workgroups.extend(workgroup.clone());
    here.prompts.extend(prompt.clone());
    s.done();
    match workgroup {
        Some(workgroup) => Fallback::Workgroup(name(&workgroup.value)),
        None => Fallback::Announce { prompt: prompt.map(|p| name(&p.value)), cause },
    }
}

fn read_workgroup(s: Section<'_, '_>, places: &mut Places, here: &mut TenantPlaces) -> Workgroup {
    let own_name = s.name("name");
    let policy = s.text("policy");
    places.plugins.extend(policy.clone().map(|p| (p, "queue-policy")));
    let music = s.text("music");
    here.prompts.extend(music.clone());
    let ring_timeout_ms = s.seconds_ms("ring_timeout_s", 0.5..=180.0, 20_000);
    let lease_ms = s.seconds_ms("lease_s", 1.0..=3_600.0, (ring_timeout_ms * 2).max(60_000));
    if lease_ms < ring_timeout_ms + 1_000 {
        s.problem("lease_s", "must be at least one second longer than `ring_timeout_s`: a lease runs out only when the shard is dead");
    }
    let workgroup = Workgroup {
        name: name(&own_name.value),
        policy: policy.map(|p| name(&p.value)),
        ring_timeout_ms,
        wrap_up_ms: s.seconds_ms("wrap_up_s", 0.0..=3_600.0, 10_000),
        max_waiting: s.number("max_waiting", 1..=100_000, 1_000),
        round: s.number("round", 1..=64, 1),
        max_misses: s.number("max_misses", 1..=100, 2),
        miss_back_off_ms: s.seconds_ms("miss_back_off_s", 0.0..=3_600.0, 5_000),
        lease_ms,
        music: music.map(|m| name(&m.value)),
        refuse_without_agents: s.flag("refuse_without_agents", false),
        expected_handle_ms: s.seconds_ms("expected_handle_s", 1.0..=86_400.0, 180_000),
    };
    s.done();
    workgroup
}

fn read_agent(s: Section<'_, '_>, here: &mut TenantPlaces) -> Agent {
    let own_name = s.name("name");
    let phone = s.section("phone");
    let address = phone.text("address");
    let user = phone.text("user");
    let password = phone.text("password");
    if !phone.is_present() {
        s.problem("phone", "is missing; expected phone = { address = \"sip:…\" } or phone = { user = \"…\", password = \"…\" }");
    }
    let read = match (address, user, password) {
        (Some(address), None, None) => {
            if cordboard_sip::wire::Uri::parse(&address.value).is_err() {
                phone.problem(
                    "address",
                    format!(
                        "expected a SIP URI such as `sip:alice@192.0.2.7:5060`, found {:?}",
                        address.value
                    ),
                );
            }
            Phone::Address(address.value)
        }
        (None, Some(user), Some(password)) => {
            Phone::Registered { user: user.value, password: password.value }
        }
        (None, None, None) => Phone::Address(String::new()),
        (Some(_), _, _) => {
            phone.problem(
                "address",
                "a phone has either an address, or a user and a password to register with",
            );
            Phone::Address(String::new())
        }
        (None, _, _) => {
            phone.problem("", "a phone that registers needs both `user` and `password`");
            Phone::Address(String::new())
        }
    };
    phone.done();
    let workgroups = s.texts("workgroups");
    here.workgroups.extend(workgroups.iter().cloned());
    let mut skills = Vec::new();
    let table = s.section("skills");
    for (skill, level) in table.entries() {
        match level.value.parse::<u8>() {
            Ok(level @ 1..=10) => skills.push((name(&skill), level)),
            _ => s.source().problem(
                level.line,
                &*level.key,
                format!("expected a level from 1 to 10, found {}", level.value),
            ),
        }
        here.skills.push(At { value: skill, line: level.line, key: level.key });
    }
    let agent = Agent {
        name: name(&own_name.value),
        phone: read,
        workgroups: workgroups.iter().map(|w| name(&w.value)).collect(),
        skills,
        ready_at_start: s.flag("ready_at_start", false),
    };
    s.done();
    agent
}

fn read_qualify(s: Section<'_, '_>, here: &mut TenantPlaces) -> Qualify {
    let optional = |key: &'static str, into: &mut Vec<At<String>>| {
        let text = s.text(key);
        into.extend(text.clone());
        text.map(|t| name(&t.value))
    };
    let workgroup = optional("workgroup", &mut here.workgroups);
    let prefer_agent = optional("prefer_agent", &mut here.agents);
    let direct = optional("direct", &mut here.agents);
    let add_skills = s.texts("add_skills");
    here.skills.extend(add_skills.iter().cloned());
    let attribute = s.text("attribute").and_then(|text| match text.value.split_once('=') {
        Some((key, value)) => Some((key.trim().to_owned(), value.trim().to_owned())),
        None => {
            s.problem("attribute", "expected NAME=VALUE, such as \"tier=gold\"");
            None
        }
    });
    let rule = Qualify {
        caller: s.text("caller").map_or(String::new(), |t| t.value),
        workgroup,
        attribute,
        add_skills: add_skills.iter().map(|t| name(&t.value)).collect(),
        add_priority: s.number("add_priority", -100..=100, 0),
        prefer_agent,
        direct,
        refuse: s.text("refuse").map(|t| t.value),
    };
    s.done();
    rule
}

fn read_plugin(s: Section<'_, '_>, folder: &Path) -> Plugin {
    let own_name = s.name("name");
    let file = folder.join(s.text("file").map_or_else(|| format!("{}.wasm", own_name.value), |f| f.value));
    let manifest = match s.text("manifest") {
        Some(manifest) => Some(folder.join(manifest.value)),
        None => Some(file.with_extension("toml")).filter(|path| path.is_file()),
    };
    let grants = s.section("grants");
    let grant_http = grants.texts("http").into_iter().map(|h| h.value).collect();
    grants.done();
    let settings = s.section("settings");
    let plugin = Plugin {
        name: name(&own_name.value),
        file,
        manifest,
        world: s.text("world").map(|w| w.value),
        grant_http,
        settings: settings.entries().into_iter().map(|(key, value)| (key, value.value)).collect(),
        line: s.line(),
    };
    s.done();
    plugin
}

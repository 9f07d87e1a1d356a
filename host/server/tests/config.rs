//! What a wrong configuration says: file and line, key, what was expected, and a near name.

use std::path::{Path, PathBuf};

use cordboard::config::{self, Config, Overrides, Problems, Role};
use cordboard_call::trunk::terms::{Diversion, Identity, IdentityUris};

const GOOD: &str = r#"
roles = ["redirect", "centre", "domain"]

[listen]
redirect = "127.0.0.1:5060"
centre = "127.0.0.1:5062"

[media]
ports = "20000-20099"

[[trunks]]
name = "carrier"
sources = ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7:5060"]
tenant = "acme"

[[tenants]]
name = "acme"
numbers = ["100", "+49*"]
skills = ["en", "fr"]
time_zone = "Europe/Paris"

[tenants.fallback]
workgroup = "support"

[tenants.hours.office]
open = ["mon-fri 08:00-18:00"]
closed = ["12-25"]

[[tenants.workgroups]]
name = "support"
ring_timeout_s = 2.5

[[tenants.agents]]
name = "alice"
phone = { user = "alice", password = "secret" }
workgroups = ["support"]
skills = { en = 9 }

[[tenants.agents]]
name = "bob"
phone = { address = "sip:bob@192.0.2.9" }
workgroups = ["support"]
"#;

fn parse(text: &str) -> Result<Config, Problems> {
    config::parse(Path::new("centre.toml"), text, &Overrides::default())
}

#[test]
fn a_right_file_gets_every_default() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.roles, [Role::Redirect, Role::Centre, Role::Domain]);
    let tenant = config.model.tenant("acme").unwrap();
    let support = tenant.workgroup("support").unwrap();
    assert_eq!(support.ring_timeout_ms, 2_500);
    assert!(support.lease_ms > support.ring_timeout_ms);
    assert_eq!(tenant.realm, "acme");
    assert_eq!(config.store.path, Path::new("data/cordboard.db"));
    assert_eq!(config.media.max_legs, 50);
    let moved = Overrides { data: Some(PathBuf::from("/var/lib/x")), ..Overrides::default() };
    assert_eq!(
        config::parse(Path::new("centre.toml"), GOOD, &moved).unwrap().store.path,
        Path::new("/var/lib/x/cordboard.db")
    );
}

/// What is replaced, by what, and what the message must hold besides file and line.
const WRONG: &[(&str, &str, &[&str])] = &[
    (
        "name = \"carrier\"",
        "name = \"carrier\"\nsource = [\"::1\"]",
        &["centre.toml:13:", "trunks[0].source", "no such key"],
    ),
    (
        "ring_timeout_s = 2.5",
        "ring_timeout = 2.5",
        &["tenants[0].workgroups[0].ring_timeout", "no such key", "did you mean `ring_timeout_s`?"],
    ),
    (
        "ring_timeout_s = 2.5",
        "ring_timeout_s = \"20\"",
        &["expected seconds from 0.5 to 180", "the text \"20\""],
    ),
    ("ring_timeout_s = 2.5", "ring_timeout_s = 500", &["expected seconds from 0.5 to 180", "500"]),
    ("ring_timeout_s = 2.5", "lease_s = 5", &["lease_s", "longer than `ring_timeout_s`"]),
    ("ring_timeout_s = 2.5", "round = 0", &["expected a whole number from 1 to 64, found the number 0"]),
    ("ring_timeout_s = 2.5", "refuse_without_agents = 1", &["expected true or false"]),
    ("ring_timeout_s = 2.5", "policy = \"longest\"", &["there is no plugin `longest`"]),
    ("ring_timeout_s = 2.5", "music = \"music\"", &["the tenant has no `prompts` folder"]),
    (
        "workgroup = \"support\"",
        "workgroup = \"suport\"",
        &["tenants[0].fallback.workgroup", "there is no workgroup `suport`", "did you mean `support`?"],
    ),
    ("tenant = \"acme\"", "tenant = \"acne\"", &["trunks[0].tenant", "did you mean `acme`?"]),
    ("skills = { en = 9 }", "skills = { de = 9 }", &["there is no skill `de`", "`en`, `fr`"]),
    ("skills = { en = 9 }", "skills = { en = 11 }", &["skills.en", "level from 1 to 10, found 11"]),
    ("name = \"bob\"", "name = \"alice\"", &["`alice` is there twice"]),
    ("phone = { address = \"sip:bob@192.0.2.9\" }", "", &["tenants[0].agents[1].phone", "is missing"]),
    ("password = \"secret\"", "pin = \"1\"", &["no such key", "needs both `user` and `password`"]),
    ("192.0.2.0/24", "192.0.2.0/33", &["trunks[0].sources[0]", "expected an address or network"]),
    (
        "centre = \"127.0.0.1:5062\"",
        "centre = \"127.0.0.1:5060\"",
        &["listen.centre", "cannot share one address"],
    ),
    ("centre = \"127.0.0.1:5062\"", "centre = \"0.0.0.0:5062\"", &["`advertised` must say which one"]),
    ("centre = \"127.0.0.1:5062\"", "centre = \"localhost\"", &["expected an address with a port"]),
    ("ports = \"20000-20099\"", "ports = \"20000\"", &["media.ports", "the first and the last port"]),
    ("ports = \"20000-20099\"", "ports = \"20000-20099\"\nmax_legs = 51", &["51 legs need 102 ports"]),
    ("\"domain\"]", "\"doman\"]", &["roles[2]", "expected `redirect`, `centre` or `domain`"]),
    (", \"domain\"]", "]", &["`centre` and `domain` speak over a bus", "name both or neither"]),
    ("Europe/Paris", "Europe/Pariss", &["time_zone", "IANA"]),
    ("mon-fri 08:00-18:00", "mon-fri 8 to 18", &["hours.office.open[0]", "mon-fri 08:00-18:00"]),
    ("12-25", "25-12", &["hours.office.closed[0]"]),
    ("[media]", "[api]\nlisten = \"0.0.0.0:80\"\n[media]", &["api.listen", "at least one token"]),
    ("[media]", "[[api.tokens]]\nname = \"x\"\n[media]", &["expected one of `sha256`, `env` and `file`"]),
    ("[media]", "[[api.tokens]]\nname = \"x\"\nsha256 = \"12\"\n[media]", &["64 hexadecimal digits"]),
    (
        "[media]",
        "[[api.tokens]]\nname = \"x\"\nenv = \"CORDBOARD_NO_SUCH\"\n[media]",
        &["no variable \"CORDBOARD_NO_SUCH\""],
    ),
    ("[media]", "[[plugins]]\nname = \"x\"\n[media]", &["there is no component", "x.wasm"]),
    ("[media]", "[store]\ndurability = \"disk\"\n[media]", &["store.durability", "`process` or `power`"]),
    ("[media]", "[log]\nlevel = \"lots=of=it\"\n[media]", &["log.level"]),
    ("[media]", "[telemetry]\notlp = \"127.0.0.1:4318\"\n[media]", &["telemetry.otlp", "base URL"]),
    ("[media]", "[media", &["is not TOML here"]),
    (
        "[media]",
        "[[listeners]]\naddress = \"127.0.0.1:5061\"\n[media]",
        &["centre.toml:8:", "listeners[0].transport", "expected `udp`, `tcp`, `tls`, `ws` or `wss`"],
    ),
    (
        "[media]",
        "[[listeners]]\ntransport = \"sctp\"\naddress = \"127.0.0.1:5061\"\n[media]",
        &["centre.toml:9:", "listeners[0].transport", "`wss`", "\"sctp\""],
    ),
    (
        "[media]",
        "[[listeners]]\ntransport = \"tls\"\naddress = \"127.0.0.1:5061\"\n[media]",
        &["listeners[0].transport", "TLS needs `certificate` and `key`"],
    ),
    (
        "[media]",
        "[[listeners]]\ntransport = \"tls\"\naddress = \"127.0.0.1:5061\"\ncertificate = \"c.pem\"\n[media]",
        &["listeners[0].certificate", "needs `key`"],
    ),
    (
        "[media]",
        "[[listeners]]\ntransport = \"tls\"\naddress = \"127.0.0.1:5061\"\ncertificate = \"no-such.pem\"\nkey = \"k.pem\"\n[media]",
        &["centre.toml:11:", "listeners[0].certificate", "no-such.pem", "cannot be read"],
    ),
    (
        "[media]",
        "[[listeners]]\ntransport = \"tcp\"\naddress = \"127.0.0.1:5061\"\nclient_ca = \"c.pem\"\n[media]",
        &["listeners[0].transport", "`tcp` has no TLS"],
    ),
    (
        "[media]",
        "[[listeners]]\ntransport = \"tcp\"\naddress = \"127.0.0.1:5061\"\norigins = [\"x\"]\n[media]",
        &["listeners[0].origins", "have no Origin"],
    ),
    (
        "[media]",
        "[[listeners]]\ntransport = \"udp\"\naddress = \"127.0.0.1:5062\"\n[media]",
        &["listeners[0].address", "is that of `listen.centre`"],
    ),
    (
        "[media]",
        "[[listeners]]\ntransport = \"tcp\"\naddress = \"[::]:5062\"\n[media]",
        &["listeners[0].address", "`advertised` must say which one"],
    ),
    ("[media]", "[tls]\nca = \"no-such-ca.pem\"\n[media]", &["tls.ca", "no-such-ca.pem", "cannot be read"]),
    (
        "[media]",
        "[[tls.servers]]\nname = \"a.example\"\naddress = \"a.example\"\n[media]",
        &["tls.servers[0].address", "expected an address with a port"],
    ),
    ("[media]", "[connections]\nmax = 0\n[media]", &["connections.max", "from 1 to 1000000"]),
    (
        "[media]",
        "[connections]\nidle_timeout = 5\n[media]",
        &["no such key", "did you mean `idle_timeout_s`?"],
    ),
    (
        "sources = [",
        "sources = [1, ",
        &["trunks[0].sources", "expected a text in quotes, found the number 1"],
    ),
];

#[test]
fn listeners_of_one_port_and_two_transports_get_along_and_advertise_their_own_family() {
    let text = GOOD.replace(
        "[media]",
        "[[listeners]]\ntransport = \"tcp\"\naddress = \"127.0.0.1:5062\"\n\
         [[listeners]]\ntransport = \"ws\"\naddress = \"[::1]:5080\"\norigins = [\"https://a.example\"]\n[media]",
    );
    let config = parse(&text.replace("centre =", "advertised = \"192.0.2.9\"\ncentre =")).unwrap();
    let at = |n: usize| {
        let listener = &config.listeners[n];
        listener.reached_at(config.listen.advertised, listener.address).to_string()
    };
    assert_eq!((at(0), at(1)), ("192.0.2.9:5062".into(), "[::1]:5080".into()));
    // New origins need no restart, a new port does.
    let new = parse(&text.replace("https://a.example", "https://b.example")).unwrap();
    let old = parse(&text).unwrap();
    let (merged, restart) = config::reload::merge(&old, new);
    assert!(restart.is_empty() && merged.listeners[1].origins == ["https://b.example"]);
    let (merged, restart) = config::reload::merge(&old, parse(&text.replace("5080", "5081")).unwrap());
    assert_eq!(restart, ["listeners (transport, address, advertised)"]);
    assert_eq!(merged.listeners, old.listeners);
}

#[test]
fn every_mistake_names_its_line_its_key_and_what_was_expected() {
    for (from, to, expected) in WRONG {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replacen(from, to, 1);
        let problems = parse(&text).expect_err(to);
        let message = problems.to_string();
        for part in *expected {
            assert!(message.contains(part), "{from} -> {to}\nshould say {part:?}:\n{message}");
        }
        assert!(message.lines().all(|l| l.starts_with("centre.toml")), "{message}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_order_of_lines() {
    let text = GOOD
        .replace("ring_timeout_s = 2.5", "ring_timeout_s = true")
        .replace("tenant = \"acme\"", "tenant = \"x\"")
        .replace("20000-20099", "x");
    let problems = parse(&text).unwrap_err();
    assert_eq!(problems.list.len(), 3, "{problems}");
    assert!(problems.list.windows(2).all(|w| w[0].line <= w[1].line));
    assert!(problems.list.iter().all(|p| p.line > 0));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error =
        config::load(Path::new("/no/such/centre.toml"), &Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("/no/such/centre.toml") && error.contains("cannot be read"), "{error}");
}

#[test]
fn what_needs_a_restart_keeps_its_old_value_and_is_named() {
    let old = parse(GOOD).unwrap();
    let new = parse(&GOOD.replace("5062", "5064").replace("name = \"bob\"", "name = \"rob\"")).unwrap();
    let (merged, restart) = config::reload::merge(&old, new);
    assert_eq!(restart, ["listen"]);
    assert_eq!(merged.listen, old.listen);
    assert!(merged.model.tenant("acme").unwrap().agent("rob").is_some());
    assert!(config::reload::merge(&old, old.clone()).1.is_empty());
}

#[test]
fn the_demo_s_file_is_right_but_for_components_that_are_not_built() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo.toml");
    let empty = tempfile::tempdir().unwrap();
    let overrides = Overrides { plugin_dir: Some(empty.path().into()), data: None };
    let problems = config::load(&file, &overrides).expect_err("there are no components here");
    assert!(problems.list.iter().all(|p| p.text.contains("there is no component")), "{problems}");
    assert_eq!(problems.list.len(), 6);
}

#[test]
fn a_trunk_that_calls_leave_by_is_read_whole() {
    let out = r#"
[[trunks]]
name = "out"
trusted = true
caller = ["0* -> +49*"]
[trunks.out]
destinations = [{ address = "sip:192.0.2.10", weight = 3 }, { address = "sip:carrier.example;transport=udp", priority = 2 }]
user = "acme"
password = "secret"
identity = "asserted"
identity_uris = "both"
diversion = "history-info"
called = ["+* -> 00*"]
add_headers = { "X-Account" = "7" }
early_media = "ring"
health_s = 0
register = { registrar = "sip:192.0.2.10:5070" }

[[trunks]]
name = "pbx"
registers = { user = "pbx", password = "md5:0123456789abcdef0123456789abcdef" }
[trunks.out]
tenants = ["acme"]

[dns]
servers = ["127.0.0.1:5353", "::1"]
"#;
    let config = parse(&format!("{GOOD}{out}")).unwrap();
    let [_, carrier, pbx] = &config.model.trunks[..] else { panic!("{:?}", config.model.trunks) };
    let terms = carrier.out.as_ref().unwrap();
    assert_eq!((terms.destinations[0].weight, terms.destinations[1].priority), (3, 2));
    assert_eq!((terms.silent_ms, terms.max_calls, terms.health), (1_500, 1_000, None));
    assert_eq!((terms.identity, terms.identity_uris), (Identity::Asserted, IdentityUris::Both));
    assert!(carrier.trusted && !pbx.trusted);
    assert_eq!((terms.diversion, terms.max_diversions), (Diversion::HistoryInfo, 10));
    let register = terms.register.as_ref().unwrap();
    assert_eq!((register.user.as_str(), register.expires_s, register.bulk), ("acme", 3_600, false));
    assert_eq!(pbx.peer.as_ref().map(|p| (p.user.as_str(), p.realm.as_str())), Some(("pbx", "pbx")));
    assert!(pbx.out.as_ref().is_some_and(|out| out.destinations.is_empty() && out.serves("acme")));
    assert_eq!(config.dns.servers[1].to_string(), "[::1]:53");
}

#[test]
fn what_is_wrong_with_a_trunk_is_said() {
    let told = |trunk: &str| {
        let text = format!("{GOOD}\n[[trunks]]\nname = \"t\"\n{trunk}\n");
        parse(&text).map_or_else(|p| p.to_string(), |_| "nothing".to_owned())
    };
    let at = "destinations = [{ address = \"sip:192.0.2.1\" }]";
    for (trunk, part) in [
        ("", "sources"),
        ("[trunks.out]", "1 to 32 destinations"),
        ("[trunks.out]\ndestinations = [{ address = \"sip:u@192.0.2.1\" }]", "without a user"),
        ("[trunks.out]\ndestinations = [{ address = \"sip:a;transport=sctp\" }]", "cannot be reached"),
        (
            "[trunks.out]\ndestinations = [{ address = \"sip:a;transport=tcp\" }]",
            "no [[listeners]] can call by that",
        ),
        (&format!("[trunks.out]\n{at}\nuser = \"u\""), "one of `password`"),
        (
            &format!("[trunks.out]\n{at}\nregister = {{ registrar = \"sip:192.0.2.1\" }}"),
            "the user to register",
        ),
        (&format!("[trunks.out]\n{at}\ncalled = [\"0*\"]"), "00* -> +*"),
        (&format!("[trunks.out]\n{at}\nadd_headers = {{ Via = \"x\" }}"), "is not for rules"),
        (&format!("[trunks.out]\n{at}\nearly_media = \"drop\""), "`pass` or `ring`"),
        (&format!("[trunks.out]\n{at}\ntenants = [\"acne\"]"), "there is no tenant `acne`"),
        ("registers = { user = \"alice\", password = \"x\" }", "the agent `alice`"),
        (
            &format!("registers = {{ user = \"p\", password = \"x\" }}\n[trunks.out]\n{at}"),
            "where it has registered",
        ),
    ] {
        let text = told(trunk);
        assert!(text.contains(part), "{trunk:?}: {text}");
    }
}

#[test]
fn the_secret_of_passages_is_said_once_and_long_enough() {
    let with = |lines: &str| parse(&format!("{GOOD}\n[passages]\n{lines}\n"));
    let key = |secret: &str| with(&format!("secret = \"{secret}\"")).expect("it is well").passages;
    assert!(key("0123456789abcdef").is_some());
    assert_eq!(key("0123456789abcdef"), key("0123456789abcdef"), "two nodes have the same key");
    assert_ne!(key("0123456789abcdef"), key("0123456789abcdeg"));
    assert_eq!(parse(GOOD).expect("it is well").passages, None);
    let config = with("secret = \"0123456789abcdef\"").expect("it is well");
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
    for (lines, part) in [
        ("secret = \"short\"", "16 octets or more"),
        ("secret = \"0123456789abcdef\"\nsecret_file = \"missing\"", "one of `secret`"),
        ("secret_file = \"missing\"", "cannot be read"),
        ("secret_env = \"CORDBOARD_NO_SUCH_SECRET\"", "no variable"),
    ] {
        let said = with(lines).map_or_else(|p| p.to_string(), |_| "nothing".to_owned());
        assert!(said.contains("passages") && said.contains(part), "{lines}: {said}");
    }
}

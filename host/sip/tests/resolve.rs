//! RFC 3263 branch by branch, against a zone written beside each case.

use std::net::{IpAddr, SocketAddr};

use cordboard_base::{Map, Random};
use cordboard_sip::resolve::{
    Abilities, Answer, Kind, Question, Record, Request, Resolution, Step, Target, Unresolved, Unsupported,
};
use cordboard_sip::transport::Transport;
use cordboard_sip::wire::{Uri, Via};
use proptest::prelude::*;

/// Lines such as `_sip._udp.x SRV 0 1 5060 a.x`; `FAIL` for a kind that is not answered.
struct Zone(Vec<(Question, Option<Record>)>);

impl Zone {
    fn new(text: &str) -> Self {
        Self(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(Self::line).collect())
    }

    fn line(line: &str) -> (Question, Option<Record>) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| words[i].parse::<u16>().unwrap();
        let unquoted = |i: usize| words[i].trim_matches('"').to_owned();
        let kind = match words[1] {
            "NAPTR" => Kind::Naptr,
            "SRV" => Kind::Srv,
            "A" => Kind::A,
            "AAAA" => Kind::Aaaa,
            other => panic!("{other}"),
        };
        let record = (words[2] != "FAIL").then(|| match kind {
            Kind::Naptr => Record::Naptr {
                order: number(2),
                preference: number(3),
                flags: unquoted(4),
                service: unquoted(5),
                regexp: unquoted(6),
                replacement: words[7].to_owned(),
            },
            Kind::Srv => Record::Srv {
                priority: number(2),
                weight: number(3),
                port: number(4),
                target: words[5].to_owned(),
            },
            Kind::A | Kind::Aaaa => Record::Address(words[2].parse::<IpAddr>().unwrap()),
        });
        (Question { name: words[0].to_owned(), kind }, record)
    }

    fn answer(&self, question: &Question) -> Answer {
        let found: Vec<_> = self.0.iter().filter(|(q, _)| q == question).collect();
        if found.iter().any(|(_, record)| record.is_none()) {
            return Answer::Failed;
        }
        let records: Vec<Record> = found.into_iter().filter_map(|(_, record)| record.clone()).collect();
        if records.is_empty() { Answer::Absent } else { Answer::Records(records) }
    }
}

fn all() -> Abilities {
    let transports = vec![Transport::Udp, Transport::Tcp, Transport::Tls];
    Abilities { transports, v4: true, v6: false, prefer_v6: true }
}

struct Run {
    result: Result<Vec<Target>, Unresolved>,
    /// Each round's questions as `KIND name`.
    rounds: Vec<Vec<String>>,
}

fn run(request: &Request, abilities: &Abilities, zone: &Zone, seed: u64) -> Run {
    let mut random = Random::seeded(seed);
    let (mut resolution, mut step) = Resolution::start(request, abilities);
    let mut rounds = Vec::new();
    loop {
        let questions = match step {
            Step::Done(result) => return Run { result: result.map(|t| t.all().to_vec()), rounds },
            Step::Ask(questions) => questions,
        };
        assert!(!questions.is_empty() && questions.len() <= 64 && rounds.len() < 3, "{questions:?}");
        rounds.push(questions.iter().map(|q| format!("{:?} {}", q.kind, q.name).to_uppercase()).collect());
        step = Step::Ask(Vec::new());
        for (i, question) in questions.iter().rev().enumerate() {
            assert_eq!(step, Step::Ask(Vec::new()), "not before the last answer");
            step = resolution.answer(question, zone.answer(question), &mut random);
            if i + 1 < questions.len() {
                // A second answer to the same question is nobody's.
                assert_eq!(resolution.answer(question, Answer::Failed, &mut random), Step::Ask(Vec::new()));
            }
        }
    }
}

fn ways(run: &Run) -> String {
    match &run.result {
        Ok(targets) => {
            let each: Vec<String> =
                targets.iter().map(|t| format!("{} {}", t.transport, t.address)).collect();
            each.join(", ")
        }
        Err(error) => format!("{error:?}"),
    }
}

fn of(uri: &str) -> Request {
    Request::of_uri(&Uri::parse(uri).unwrap()).unwrap_or_else(|e| panic!("{uri}: {e}"))
}

/// RFC 3263 4.1's example zone.
const EXAMPLE: &str = "
    example.com NAPTR 50 50 \"s\" \"SIPS+D2T\" \"\" _sips._tcp.example.com.
    example.com NAPTR 90 50 \"s\" \"SIP+D2T\" \"\" _sip._tcp.example.com.
    example.com NAPTR 100 50 \"s\" \"SIP+D2U\" \"\" _sip._udp.example.com.
    _sips._tcp.example.com SRV 0 1 5061 server1.example.com.
    _sip._tcp.example.com SRV 0 1 5060 server1.example.com
    _sip._tcp.example.com SRV 1 2 5060 server2.example.com
    _sip._udp.example.com SRV 0 1 5060 server3.example.com
    server1.example.com A 192.0.2.1
    server2.example.com A 192.0.2.2
    server3.example.com A 192.0.2.3
    example.com A 192.0.2.9
";

/// Each branch: the section, the URI, what we speak, more lines of the zone or a zone of its own, the
/// targets, and the questions of each round.
type Case = (
    &'static str,
    &'static str,
    &'static [Transport],
    &'static str,
    &'static str,
    &'static [&'static [&'static str]],
);

#[test]
fn every_branch_of_the_rfc_leads_where_it_says() {
    use Transport::{Tcp, Tls, Udp};
    let none: &[&[&str]] = &[];
    let cases: &[Case] = &[
        ("4.1 numeric, sip: UDP", "sip:a@192.0.2.7", &[Tcp, Udp], "", "UDP 192.0.2.7:5060", none),
        ("4.1 numeric, sips: TLS", "sips:a@192.0.2.7", &[Udp, Tls], "", "TLS 192.0.2.7:5061", none),
        ("4.2 numeric with port", "sip:a@192.0.2.7:7000", &[Udp], "", "UDP 192.0.2.7:7000", none),
        (
            "4.1 transport is said",
            "sip:a@192.0.2.7;transport=tcp",
            &[Udp, Tcp],
            "",
            "TCP 192.0.2.7:5060",
            none,
        ),
        ("4.1 sips and tcp is TLS", "sips:a@192.0.2.7;transport=tcp", &[Tls], "", "TLS 192.0.2.7:5061", none),
        ("4.1 what is said and not ours", "sip:a@192.0.2.7;transport=tls", &[Udp], "", "Unreachable", none),
        ("sips and nothing secure", "sips:a@192.0.2.7", &[Udp, Tcp], "", "Unreachable", none),
        ("UDP is the default and not ours", "sip:a@192.0.2.7", &[Tcp], "", "TCP 192.0.2.7:5060", none),
        ("the other family", "sip:a@[2001:db8::1]", &[Udp], "", "Unreachable", none),
        (
            "4 maddr before the host",
            "sip:a@example.com;maddr=192.0.2.8",
            &[Udp],
            "",
            "UDP 192.0.2.8:5060",
            none,
        ),
        (
            "4.1, 4.2 a port: no NAPTR, no SRV",
            "sip:a@example.com:5080",
            &[Udp, Tcp],
            EXAMPLE,
            "UDP 192.0.2.9:5080",
            &[&["A EXAMPLE.COM"]],
        ),
        (
            "4.2 a port and a transport",
            "sip:a@example.com:5080;transport=tcp",
            &[Udp, Tcp],
            EXAMPLE,
            "TCP 192.0.2.9:5080",
            &[&["A EXAMPLE.COM"]],
        ),
        (
            "4.1 NAPTR: order decides",
            "sip:a@example.com",
            &[Udp, Tcp, Tls],
            EXAMPLE,
            "TLS 192.0.2.1:5061, TCP 192.0.2.1:5060, TCP 192.0.2.2:5060, UDP 192.0.2.3:5060",
            &[
                &["NAPTR EXAMPLE.COM"],
                &["SRV _SIPS._TCP.EXAMPLE.COM", "SRV _SIP._TCP.EXAMPLE.COM", "SRV _SIP._UDP.EXAMPLE.COM"],
                &["A SERVER1.EXAMPLE.COM", "A SERVER2.EXAMPLE.COM", "A SERVER3.EXAMPLE.COM"],
            ],
        ),
        (
            "4.1 NAPTR: what we do not speak is left out",
            "sip:a@example.com",
            &[Udp],
            EXAMPLE,
            "UDP 192.0.2.3:5060",
            &[&["NAPTR EXAMPLE.COM"], &["SRV _SIP._UDP.EXAMPLE.COM"], &["A SERVER3.EXAMPLE.COM"]],
        ),
        (
            "4.1 NAPTR: sips takes only SIPS",
            "sips:a@example.com",
            &[Udp, Tcp, Tls],
            EXAMPLE,
            "TLS 192.0.2.1:5061",
            &[&["NAPTR EXAMPLE.COM"], &["SRV _SIPS._TCP.EXAMPLE.COM"], &["A SERVER1.EXAMPLE.COM"]],
        ),
        (
            "4.1 NAPTR of another domain, flag a, unusable ones passed over",
            "sip:a@x.org",
            &[Udp, Tcp],
            "x.org NAPTR 1 1 \"u\" \"E2U+sip\" \"!^.*$!sip:b@y!\" .
             x.org NAPTR 1 1 \"s\" \"SIP+D2S\" \"\" _sip._sctp.x.org
             x.org NAPTR 1 1 \"s\" \"SIP+D2U\" \"!a!b!\" _sip._udp.x.org
             x.org NAPTR 9 9 \"a\" \"sip+d2t\" \"\" host.provider.net
             x.org NAPTR 8 9 \"S\" \"SIP+D2U\" \"\" _sip._udp.provider.net
             _sip._udp.provider.net SRV 0 0 5070 h1.provider.net
             h1.provider.net A 192.0.2.1
             host.provider.net A 192.0.2.2",
            "UDP 192.0.2.1:5070, TCP 192.0.2.2:5060",
            &[
                &["NAPTR X.ORG"],
                &["SRV _SIP._UDP.PROVIDER.NET"],
                &["A H1.PROVIDER.NET", "A HOST.PROVIDER.NET"],
            ],
        ),
        (
            "only flag a: no SRV round",
            "sip:a@x.org",
            &[Udp, Tcp],
            "x.org NAPTR 9 9 \"a\" \"SIP+D2T\" \"\" host.x.org
             host.x.org A 192.0.2.2",
            "TCP 192.0.2.2:5060",
            &[&["NAPTR X.ORG"], &["A HOST.X.ORG"]],
        ),
        (
            "4.1 no NAPTR: SRV of each transport, our preference",
            "sip:a@x.org",
            &[Tcp, Udp, Tls],
            "_sip._udp.x.org SRV 0 0 5060 u.x.org
             _sip._tcp.x.org SRV 0 0 5064 t.x.org
             _sips._tcp.x.org SRV 0 0 5061 s.x.org
             u.x.org A 192.0.2.1
             t.x.org A 192.0.2.2
             s.x.org A 192.0.2.3",
            "TCP 192.0.2.2:5064, UDP 192.0.2.1:5060",
            &[&["NAPTR X.ORG"], &["SRV _SIP._TCP.X.ORG", "SRV _SIP._UDP.X.ORG"], &["A T.X.ORG", "A U.X.ORG"]],
        ),
        (
            "4.1 no NAPTR: sips asks for _sips",
            "sips:a@x.org",
            &[Tcp, Udp, Tls],
            "_sips._tcp.x.org SRV 0 0 5071 s.x.org
             s.x.org A 192.0.2.3",
            "TLS 192.0.2.3:5071",
            &[&["NAPTR X.ORG"], &["SRV _SIPS._TCP.X.ORG"], &["A S.X.ORG"]],
        ),
        (
            "4.1 neither: addresses and the default transport",
            "sip:a@x.org",
            &[Tcp, Udp],
            "x.org A 192.0.2.1
             x.org A 192.0.2.2",
            "UDP 192.0.2.1:5060, UDP 192.0.2.2:5060",
            &[&["NAPTR X.ORG"], &["SRV _SIP._TCP.X.ORG", "SRV _SIP._UDP.X.ORG"], &["A X.ORG"]],
        ),
        (
            "4.2 a transport, no port: its SRV alone",
            "sip:a@example.com;transport=tcp",
            &[Udp, Tcp],
            EXAMPLE,
            "TCP 192.0.2.1:5060, TCP 192.0.2.2:5060",
            &[&["SRV _SIP._TCP.EXAMPLE.COM"], &["A SERVER1.EXAMPLE.COM", "A SERVER2.EXAMPLE.COM"]],
        ),
        (
            "4.2 a transport, no SRV: addresses",
            "sip:a@x.org;transport=tls",
            &[Udp, Tls],
            "x.org A 192.0.2.4",
            "TLS 192.0.2.4:5061",
            &[&["SRV _SIPS._TCP.X.ORG"], &["A X.ORG"]],
        ),
        (
            "WebSockets have no SRV",
            "sip:a@x.org;transport=ws",
            &[Udp, Transport::Ws],
            "x.org A 192.0.2.4",
            "WS 192.0.2.4:80",
            &[&["A X.ORG"]],
        ),
        (
            "RFC 2782: a dot is no service, and the address does not stand in for it",
            "sip:a@x.org;transport=udp",
            &[Udp],
            "_sip._udp.x.org SRV 0 0 0 .
             x.org A 192.0.2.4",
            "NoSuchHost",
            &[&["SRV _SIP._UDP.X.ORG"]],
        ),
        (
            "a dot for one transport leaves the other",
            "sip:a@x.org",
            &[Udp, Tcp],
            "_sip._udp.x.org SRV 0 0 0 .
             _sip._tcp.x.org SRV 0 0 5060 t.x.org
             t.x.org A 192.0.2.4",
            "TCP 192.0.2.4:5060",
            &[&["NAPTR X.ORG"], &["SRV _SIP._UDP.X.ORG", "SRV _SIP._TCP.X.ORG"], &["A T.X.ORG"]],
        ),
        (
            "a target that is an address, though 2782 forbids it; a port 0 is passed over",
            "sip:a@x.org;transport=udp",
            &[Udp],
            "_sip._udp.x.org SRV 0 0 5062 192.0.2.5
             _sip._udp.x.org SRV 0 0 0 u.x.org",
            "UDP 192.0.2.5:5062",
            &[&["SRV _SIP._UDP.X.ORG"]],
        ),
        (
            "one host behind two names is tried once",
            "sip:a@x.org;transport=udp",
            &[Udp],
            "_sip._udp.x.org SRV 0 0 5060 a.x.org
             _sip._udp.x.org SRV 1 0 5060 b.x.org
             a.x.org A 192.0.2.5
             b.x.org A 192.0.2.5",
            "UDP 192.0.2.5:5060",
            &[&["SRV _SIP._UDP.X.ORG"], &["A A.X.ORG", "A B.X.ORG"]],
        ),
        ("nothing at all", "sip:a@x.org:5060", &[Udp], "", "NoSuchHost", &[&["A X.ORG"]]),
        ("no answer", "sip:a@x.org:5060", &[Udp], "x.org A FAIL", "Failed", &[&["A X.ORG"]]),
        (
            "no answer about services does not keep us from the address",
            "sip:a@x.org",
            &[Udp],
            "x.org NAPTR FAIL
             _sip._udp.x.org SRV FAIL
             x.org A 192.0.2.1",
            "UDP 192.0.2.1:5060",
            &[&["NAPTR X.ORG"], &["SRV _SIP._UDP.X.ORG"], &["A X.ORG"]],
        ),
        (
            "a lost answer makes a missing address a passing trouble",
            "sip:a@x.org;transport=udp",
            &[Udp],
            "_sip._udp.x.org SRV FAIL",
            "Failed",
            &[&["SRV _SIP._UDP.X.ORG"], &["A X.ORG"]],
        ),
        (
            "RFC 7118: what ends in invalid is never asked for",
            "sip:x@df7jal.invalid;transport=udp",
            &[Udp],
            "",
            "NoSuchHost",
            none,
        ),
        (
            "a dot at the end is the same name",
            "sip:a@X.org.:5060",
            &[Udp],
            "x.org A 192.0.2.1",
            "UDP 192.0.2.1:5060",
            &[&["A X.ORG"]],
        ),
    ];
    for (section, uri, transports, zone, expected, rounds) in cases {
        let abilities = Abilities { transports: transports.to_vec(), ..all() };
        let got = run(&of(uri), &abilities, &Zone::new(zone), 1);
        assert_eq!(ways(&got), *expected, "{section}");
        assert_eq!(got.rounds, *rounds, "{section}");
    }
}

#[test]
fn a_certificate_must_have_the_name_that_was_asked_for() {
    let got = run(&of("sips:a@example.com"), &all(), &Zone::new(EXAMPLE), 1);
    assert_eq!(got.result.unwrap()[0].server_name, "example.com");
}

#[test]
fn what_cannot_be_asked_about_is_refused_at_once() {
    let table = [
        ("tel:+4930", Unsupported::Scheme),
        ("sips:a@b.c;transport=udp", Unsupported::Transport),
        ("sip:a@b.c;transport=sctp", Unsupported::Transport),
        ("sip:a@256.1.1.1", Unsupported::Host),
        ("sip:a@b..c", Unsupported::Host),
        ("sip:a@12345", Unsupported::Host),
    ];
    for (uri, expected) in table {
        assert_eq!(Request::of_uri(&Uri::parse(uri).unwrap()), Err(expected), "{uri}");
    }
    let long = format!("{}.org", "a.".repeat(130));
    assert_eq!(Request::new(&long, None, None, false), Err(Unsupported::Host));
}

#[test]
fn both_families_are_asked_and_take_turns() {
    let zone = Zone::new(
        "x.org A 192.0.2.1
         x.org A 192.0.2.2
         x.org AAAA 2001:db8::1
         only6.org AAAA 2001:db8::6",
    );
    let both = Abilities { v6: true, ..all() };
    let four_first = Abilities { prefer_v6: false, ..both.clone() };
    let only_six = Abilities { v4: false, ..both.clone() };
    let table = [
        ("sip:x.org:5060", &both, "UDP [2001:db8::1]:5060, UDP 192.0.2.1:5060, UDP 192.0.2.2:5060"),
        ("sip:x.org:5060", &four_first, "UDP 192.0.2.1:5060, UDP [2001:db8::1]:5060, UDP 192.0.2.2:5060"),
        ("sip:x.org:5060", &only_six, "UDP [2001:db8::1]:5060"),
        ("sip:only6.org:5060", &both, "UDP [2001:db8::6]:5060"),
        ("sip:only6.org:5060", &all(), "NoSuchHost"),
        ("sip:[2001:db8::9]:5070", &both, "UDP [2001:db8::9]:5070"),
    ];
    for (uri, abilities, expected) in table {
        assert_eq!(ways(&run(&of(uri), abilities, &zone, 1)), expected, "{uri}");
    }
    // Half an answer serves: the family that failed is left out.
    let half = Zone::new("x.org A 192.0.2.1\nx.org AAAA FAIL");
    assert_eq!(ways(&run(&of("sip:x.org:5060"), &both, &half, 1)), "UDP 192.0.2.1:5060");
}

#[test]
fn a_response_finds_the_via_that_names_a_host() {
    let zone = Zone::new(EXAMPLE);
    let table = [
        ("SIP/2.0/UDP example.com;branch=z9hG4bK1", "UDP 192.0.2.3:5060"),
        ("SIP/2.0/TCP example.com:5070", "TCP 192.0.2.9:5070"),
        ("SIP/2.0/TLS example.com", "TLS 192.0.2.1:5061"),
        ("SIP/2.0/UDP 192.0.2.77", "UDP 192.0.2.77:5060"),
    ];
    for (via, expected) in table {
        let request = Request::of_via(&Via::parse(via).unwrap()).unwrap();
        assert_eq!(ways(&run(&request, &all(), &zone, 1)), expected, "{via}");
    }
    let sctp = Via::parse("SIP/2.0/SCTP example.com").unwrap();
    assert_eq!(Request::of_via(&sctp), Err(Unsupported::Transport));
}

#[test]
fn weights_share_and_priorities_come_first() {
    let zone = Zone::new(
        "_sip._udp.x.org SRV 10 30 5060 a.x.org
         _sip._udp.x.org SRV 10 60 5060 b.x.org
         _sip._udp.x.org SRV 10 0 5060 c.x.org
         _sip._udp.x.org SRV 20 65535 5060 d.x.org
         a.x.org A 192.0.2.1
         b.x.org A 192.0.2.2
         c.x.org A 192.0.2.3
         d.x.org A 192.0.2.4",
    );
    let mut first: Map<SocketAddr, u32> = Map::default();
    for seed in 0..3_000 {
        let list = run(&of("sip:x.org;transport=udp"), &all(), &zone, seed).result.unwrap();
        assert_eq!(list.len(), 4);
        assert_eq!(
            list[3].address,
            "192.0.2.4:5060".parse().unwrap(),
            "the lower priority is the last resort"
        );
        *first.entry(list[0].address).or_default() += 1;
    }
    let share = |address: &str| first.get(&address.parse().unwrap()).copied().unwrap_or(0);
    let (a, b, c) = (share("192.0.2.1:5060"), share("192.0.2.2:5060"), share("192.0.2.3:5060"));
    // 30 : 60, and the record of weight 0 has "a very small chance".
    assert!((870..1_130).contains(&a) && (1_800..2_100).contains(&b) && (1..90).contains(&c), "{a} {b} {c}");
    let even = Zone::new(
        "_sip._udp.x.org SRV 0 0 5060 192.0.2.1
         _sip._udp.x.org SRV 0 0 5060 192.0.2.2",
    );
    let ones = (0..1_000)
        .filter(|seed| {
            run(&of("sip:x.org;transport=udp"), &all(), &even, *seed).result.unwrap()[0].address.to_string()
                == "192.0.2.1:5060"
        })
        .count();
    assert!((400..600).contains(&ones), "{ones}");
}

#[test]
fn failing_goes_down_the_list_and_ends() {
    let (_, step) = Resolution::start(&of("sip:192.0.2.1"), &all());
    let Step::Done(Ok(mut targets)) = step else { panic!("{step:?}") };
    assert_eq!(
        (targets.remaining(), targets.current().unwrap().address),
        (1, "192.0.2.1:5060".parse().unwrap())
    );
    assert_eq!(targets.fail(), None);
    assert_eq!((targets.remaining(), targets.current()), (0, None));
    assert_eq!(targets.fail(), None);
    assert_eq!(targets.all().len(), 1);
}

fn record() -> impl Strategy<Value = Record> {
    let name = prop::sample::select(vec![
        "a.org",
        "b.org.",
        ".",
        "",
        "192.0.2.1",
        "x..y",
        "[::1]",
        "_sip._udp.a.org",
    ]);
    prop_oneof![
        (any::<u16>(), any::<u16>(), any::<u16>(), name.clone()).prop_map(
            |(priority, weight, port, target)| {
                Record::Srv { priority, weight, port, target: target.into() }
            }
        ),
        (
            any::<u16>(),
            any::<u16>(),
            "[sSaAuU]?",
            prop::sample::select(vec!["SIP+D2U", "SIPS+D2T", "SIP+D2T", "x"]),
            "[a!]?",
            name
        )
            .prop_map(|(order, preference, flags, service, regexp, replacement)| Record::Naptr {
                order,
                preference,
                flags,
                service: service.into(),
                regexp,
                replacement: replacement.into()
            }),
        any::<[u8; 4]>().prop_map(|ip| Record::Address(ip.into())),
        any::<[u8; 16]>().prop_map(|ip| Record::Address(ip.into())),
    ]
}

proptest! {
    /// Whatever DNS says: three bounded rounds, then an end with few targets that we can all use.
    #[test]
    fn no_answer_keeps_it_from_ending(
        answers in prop::collection::vec(prop_oneof![
            4 => prop::collection::vec(record(), 0..60).prop_map(Answer::Records),
            1 => Just(Answer::Absent),
            1 => Just(Answer::Failed),
        ], 1..8),
        uri in prop::sample::select(vec!["sip:x.org", "sips:x.org", "sip:x.org;transport=tcp", "sip:x.org:99"]),
        transports in prop::sample::subsequence(Transport::ALL.to_vec(), 1..5).prop_shuffle(),
        (v4, v6) in prop::sample::select(vec![(true, true), (true, false), (false, true)]),
        seed in any::<u64>(),
    ) {
        let abilities = Abilities { transports, v4, v6, prefer_v6: seed % 2 == 0 };
        let mut random = Random::seeded(seed);
        let (mut resolution, mut step) = Resolution::start(&of(uri), &abilities);
        let (mut rounds, mut at) = (0, 0);
        let result = loop {
            let questions = match step {
                Step::Done(result) => break result,
                Step::Ask(questions) => questions,
            };
            rounds += 1;
            prop_assert!(!questions.is_empty() && questions.len() <= 48 && rounds <= 3);
            step = Step::Ask(Vec::new());
            for question in &questions {
                step = resolution.answer(question, answers[at % answers.len()].clone(), &mut random);
                at += 1;
            }
        };
        if let Ok(targets) = result {
            prop_assert!((1..=32).contains(&targets.all().len()));
            for target in targets.all() {
                prop_assert!(abilities.transports.contains(&target.transport));
                prop_assert!(!uri.starts_with("sips") || target.transport.is_secure());
                let speaks = if target.address.is_ipv4() { v4 } else { v6 };
                prop_assert!(speaks);
            }
        }
    }
}

//! Who is shed, who is banned, and for how long; against a model without any bound.

use std::net::IpAddr;

use cordboard_base::{Map, Now, Set, ms, secs};
use cordboard_sip::defence::{Defence, Network, Scanners, Settings, Verdict, What};
use cordboard_sip::wire::{Builder, Fault, Message, Name};
use proptest::prelude::*;

fn at(at_ms: u64) -> Now {
    Now { mono_ns: secs(1_000) + ms(at_ms), wall_ms: 1_700_000_000_000 + at_ms as i64 }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn settings() -> Settings {
    Settings {
        rate_per_s: 10,
        burst: 5,
        ban_points: 30,
        forget_point_s: 1,
        ban_s: 60,
        max_ban_s: 200,
        ..Settings::default()
    }
}

#[test]
fn a_source_gets_its_burst_and_then_its_rate() {
    let mut defence = Defence::new(settings());
    let mut packets = |at_ms| defence.admit(at(at_ms), ip("192.0.2.1"), What::Packet);
    assert_eq!([0; 6].map(&mut packets), [[Verdict::Admit; 5].as_slice(), &[Verdict::Shed]].concat()[..]);
    assert_eq!(packets(99), Verdict::Shed);
    assert_eq!([packets(100), packets(100)], [Verdict::Admit, Verdict::Shed]);
    // No more than the burst is saved up, however long the silence.
    assert_eq!([1_000_000; 6].map(&mut packets)[4..], [Verdict::Admit, Verdict::Shed]);
    assert_eq!(
        defence.admit(at(0), ip("192.0.2.2"), What::Packet),
        Verdict::Admit,
        "another one has its own"
    );
    let counts = defence.counts();
    assert_eq!((counts.admitted, counts.shed, counts.banned), (12, 4, 0));
}

#[test]
fn offences_add_up_to_a_ban_that_ends_and_doubles() {
    let mut defence = Defence::new(settings());
    let (source, mut now_ms) = (ip("192.0.2.1"), 0);
    for length_s in [60, 120, 200, 200] {
        assert_eq!(defence.admit(at(now_ms), source, What::DigestFailed), Verdict::Admit);
        assert_eq!(defence.admit(at(now_ms), source, What::DigestFailed), Verdict::Admit);
        assert_eq!(defence.admit(at(now_ms), source, What::DigestFailed), Verdict::Banned);
        let ban = defence.bans(at(now_ms))[0];
        assert_eq!(
            (ban.source.to_string().as_str(), ban.until_wall_ms - at(now_ms).wall_ms),
            ("192.0.2.1", length_s * 1_000)
        );
        now_ms += length_s as u64 * 1_000 - 1;
        assert_eq!(defence.admit(at(now_ms), source, What::Packet), Verdict::Banned);
        now_ms += 1;
        assert_eq!(defence.admit(at(now_ms), source, What::Packet), Verdict::Admit);
        assert_eq!(defence.bans(at(now_ms)), []);
    }
    // Who behaves for the longest ban's time begins anew.
    now_ms += 200_001;
    for _ in 0..3 {
        defence.admit(at(now_ms), source, What::DigestFailed);
    }
    assert_eq!(defence.bans(at(now_ms))[0].until_wall_ms - at(now_ms).wall_ms, 60_000);
    assert!(defence.unban(at(now_ms), source) && !defence.unban(at(now_ms), source));
    assert_eq!(defence.admit(at(now_ms), source, What::Packet), Verdict::Admit);
    assert!(defence.ban(at(now_ms), source, 5));
    assert_eq!(defence.admit(at(now_ms + 4_999), source, What::Packet), Verdict::Banned);
    assert_eq!(defence.admit(at(now_ms + 5_000), source, What::Packet), Verdict::Admit);
}

#[test]
fn points_are_forgotten_so_a_phone_with_an_old_password_stays_welcome() {
    let mut defence = Defence::new(Settings::default());
    let (phone, guesser) = (ip("192.0.2.1"), ip("192.0.2.2"));
    for minute in 0..600 {
        assert_eq!(defence.admit(at(minute * 60_000), phone, What::DigestFailed), Verdict::Admit, "{minute}");
    }
    let guesses =
        (0..100).take_while(|i| defence.admit(at(i * 500), guesser, What::DigestFailed) == Verdict::Admit);
    // A little of each is forgotten meanwhile.
    assert_eq!(guesses.count(), 10);
    assert_eq!(defence.admit(at(0), ip("192.0.2.3"), What::Scanner), Verdict::Banned);
}

#[test]
fn trunks_are_exempt_and_an_ipv6_sender_has_one_name() {
    let mut defence = Defence::new(settings());
    assert_eq!(defence.admit(at(0), ip("198.51.100.9"), What::Scanner), Verdict::Banned);
    defence.set_exempt(["198.51.100.0/24".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()].into());
    for source in ["198.51.100.9", "::ffff:198.51.100.77", "2001:db8:1:2::3"] {
        for _ in 0..50 {
            assert_eq!(defence.admit(at(0), ip(source), What::Scanner), Verdict::Admit, "{source}");
            assert_eq!(defence.admit(at(0), ip(source), What::Packet), Verdict::Admit, "{source}");
        }
        assert!(!defence.ban(at(0), ip(source), 10));
    }
    assert_eq!(defence.bans(at(0)), []);
    defence.set_exempt(Vec::new());
    assert_eq!(
        defence.admit(at(0), ip("198.51.100.9"), What::Packet),
        Verdict::Banned,
        "the old ban was not forgotten"
    );
    // 65,536 addresses of one network are one source; the next network is another.
    for i in 0..20 {
        defence.admit(at(0), ip(&format!("2001:db8:9:9::{i:x}")), What::Malformed);
    }
    assert_eq!(defence.admit(at(0), ip("2001:db8:9:9:ffff::"), What::Packet), Verdict::Banned);
    assert_eq!(defence.admit(at(0), ip("2001:db8:9:a::"), What::Packet), Verdict::Admit);
    let bans: Vec<String> = defence.bans(at(0)).iter().map(|b| b.source.to_string()).collect();
    assert_eq!(bans, ["198.51.100.9", "2001:db8:9:9::/64"]);
}

#[test]
fn networks_are_read_and_hold_what_lies_in_them() {
    for text in ["192.0.2.0/24", "192.0.2.7", "2001:db8::/32", "0.0.0.0/0", "::/0"] {
        assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
    }
    assert_eq!("192.0.2.99/24".parse::<Network>().unwrap().to_string(), "192.0.2.0/24");
    assert_eq!("::ffff:192.0.2.99/120".parse::<Network>().unwrap().to_string(), "192.0.2.0/24");
    for text in ["", "x", "192.0.2.1/33", "192.0.2.1/", "::/129", "192.0.2.1/-1"] {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
    let holds = |a: &str, b: &str| a.parse::<Network>().unwrap().holds(Network::of_source(ip(b)));
    assert!(holds("0.0.0.0/0", "192.0.2.1") && holds("192.0.2.1", "192.0.2.1") && !holds("0.0.0.0/0", "::1"));
    assert!(!holds("192.0.2.0/31", "192.0.2.2"));
    // An exempt host makes its whole /64 exempt: sources are not told apart below that.
    assert!(holds("2001:db8::7", "2001:db8::9") && !holds("2001:db8::7", "2001:db8:0:1::7"));
}

#[test]
fn a_full_table_forgets_the_oldest_and_the_banned_last() {
    let mut defence = Defence::new(Settings { max_sources: 64, ..settings() });
    let culprits: Vec<IpAddr> = (0..8).map(|i| IpAddr::from([203, 0, 113, i])).collect();
    for culprit in &culprits {
        assert_eq!(defence.admit(at(0), *culprit, What::Scanner), Verdict::Banned);
    }
    for i in 0..100_000_u32 {
        defence.admit(at(1 + u64::from(i) / 10), IpAddr::from((0x0a00_0000 + i).to_be_bytes()), What::Packet);
    }
    assert_eq!(defence.sources(), 64);
    assert!(defence.counts().forgotten >= 99_000);
    assert_eq!(defence.bans(at(20_000)).len(), 8);
}

#[test]
fn scanners_are_known_by_their_names() {
    let request = |agent: &str, from: &str| {
        let bytes = Builder::request("OPTIONS", "sip:100@192.0.2.1")
            .header(Name::From, from)
            .header(Name::UserAgent, agent)
            .finish();
        Message::parse(bytes.into()).unwrap()
    };
    let scanners = Scanners::default();
    for (agent, from, expected) in [
        ("friendly-scanner", "<sip:a@b>", true),
        ("Friendly-Scanner 1.0", "<sip:a@b>", true),
        ("Cisco", "\"sipvicious\"<sip:100@1.1.1.1>", true),
        ("sipcli/v1.8", "<sip:a@b>", true),
        ("baresip v3", "\"Sip V.\" <sip:a@b>", false),
        ("", "<sip:sipvicious@b>", false),
        ("Small", "<sip:a@b>", false),
    ] {
        assert_eq!(scanners.wrote(&request(agent, from)), expected, "{agent} {from}");
    }
    assert!(!Scanners::new([""; 0]).wrote(&request("friendly-scanner", "<sip:a@b>")));
    assert_eq!(What::of_fault(Fault::KeepAlive), None);
    assert_eq!(
        [What::of_fault(Fault::NotSip), What::of_fault(Fault::Framing)],
        [Some(What::NotSip), Some(What::Malformed)]
    );
}

/// One source as the words of the settings have it, in exact arithmetic.
#[derive(Default)]
struct Model {
    log_ms: Vec<u64>,
    debt_ms: u64,
    counted_ms: u64,
    banned_until_ms: u64,
    bans: u32,
}

proptest! {
    /// With room for all, every verdict is the model's; and no source ever gets more than its share.
    #[test]
    fn verdicts_are_those_of_a_model_that_remembers_everything(
        steps in prop::collection::vec((0_u64..700, 0_u8..4, 0_u8..10), 1..300),
        rate_per_s in 1_u32..50, burst in 1_u32..20, forget_point_s in 1_u32..8,
    ) {
        let settings = Settings { rate_per_s, burst, forget_point_s, max_sources: 4_096, ..settings() };
        let mut defence = Defence::new(settings.clone());
        let mut models: Map<u8, Model> = Map::default();
        let mut now_ms = 0;
        for (wait_ms, who, what) in steps {
            now_ms += wait_ms;
            let what = match what { 0 => What::DigestFailed, 1 => What::Malformed, 2 => What::UnknownTarget, _ => What::Packet };
            let verdict = defence.admit(at(now_ms), IpAddr::from([10, 0, 0, who]), what);
            let m = models.entry(who).or_insert(Model { counted_ms: now_ms, ..Model::default() });
            if now_ms < m.banned_until_ms {
                prop_assert_eq!(verdict, Verdict::Banned);
                continue;
            }
            m.debt_ms = m.debt_ms.saturating_sub(now_ms - m.counted_ms);
            m.counted_ms = now_ms;
            if what == What::Packet {
                // Over every window that ends now: no more than the burst and what the rate gave.
                let fits = |from: usize| {
                    let sent = (m.log_ms.len() - from + 1) as u64 * 1_000;
                    sent <= u64::from(burst) * 1_000 + (now_ms - m.log_ms[from]) * u64::from(rate_per_s)
                };
                let fair = (0..m.log_ms.len()).all(fits);
                prop_assert_eq!(verdict, if fair { Verdict::Admit } else { Verdict::Shed });
                if fair { m.log_ms.push(now_ms); }
                continue;
            }
            m.debt_ms += u64::from(forget_point_s) * if what == What::Malformed { 5_000 } else { 10_000 };
            if m.debt_ms < u64::from(forget_point_s) * 30_000 {
                prop_assert_eq!(verdict, Verdict::Admit);
                continue;
            }
            if now_ms.saturating_sub(m.banned_until_ms) > 200_000 { m.bans = 0; }
            m.banned_until_ms = now_ms + (60_000_u64 << m.bans.min(16)).min(200_000);
            m.debt_ms = 0;
            m.bans += 1;
            prop_assert_eq!(verdict, Verdict::Banned);
        }
    }

    /// Whatever comes from wherever: the table keeps its size, and nobody is refused without having done more
    /// than is allowed.
    #[test]
    fn no_flood_makes_it_grow_or_harms_a_bystander(
        flood in prop::collection::vec((any::<[u8; 16]>(), any::<bool>(), 0_u8..6), 0..2_000),
    ) {
        let mut defence = Defence::new(Settings { max_sources: 64, ..settings() });
        let mut guilty: Set<Network> = Set::default();
        for (i, (bytes, v4, what)) in flood.into_iter().enumerate() {
            let source = if v4 { IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]) } else { IpAddr::from(bytes) };
            let what = [What::Packet, What::NotSip, What::Malformed, What::Scanner, What::DigestFailed, What::UnknownTarget][usize::from(what)];
            if what == What::Scanner { guilty.insert(Network::of_source(source)); }
            let verdict = defence.admit(at(i as u64), source, what);
            prop_assert!(verdict == Verdict::Admit || guilty.contains(&Network::of_source(source)));
        }
        prop_assert!(defence.sources() <= 64);
    }
}

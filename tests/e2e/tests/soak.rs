//! Many calls over the back-to-back bridge: memory stays where it was, and nothing is left over.
//!
//! `CORDBOARD_SOAK_CALLS` says how many (200,000 to be sure; a few thousand otherwise), `CORDBOARD_SOAK_PER_S`
//! how many a second.

use cordboard_e2e::centre::Centre;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sipp::Sipp;
use cordboard_e2e::{eventually, s};

/// A number from the environment.
fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// Resident memory of the centre in KiB, without what is mapped from files: caches of the kernel's are no leak.
fn resident_kib(centre: &Centre) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", centre.pid())).expect("its status");
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn memory_stays_where_it_was_after_the_first_tenth_of_the_calls() {
    let calls = number("CORDBOARD_SOAK_CALLS", 2_500);
    let per_s = number("CORDBOARD_SOAK_PER_S", 250);
    let scene = Scene::new("soak");
    let far = free_port();
    let rules = format!("* -> bridge sip:far@127.0.0.1:{far} ring=20");
    // Where no other suite on the machine has its ports: one that cannot be bound would be a failed call.
    let rtp_first = Some(36_000);
    let mut setup = Setup { rules, rtp_ports: 4_000, rtp_first, serialise_bus: false, ..Setup::default() };
    setup.limit("max_calls", "5000");
    let centre = Centre::start(&scene, &setup);
    let own = |name: &str, more: &[&str]| -> Vec<String> {
        ["-sn", name, "-l", "4000"].iter().chain(more).map(|a| (*a).to_owned()).collect()
    };
    let uas = Sipp::run(&scene, "uas", far, &own("uas", &["127.0.0.1"]));
    let to = format!("127.0.0.1:{}", centre.ports.centre);
    let run = |name: &str, calls: u32| {
        let (calls_text, rate) = (calls.to_string(), per_s.to_string());
        let args = ["-s", "100", "-m", &calls_text, "-r", &rate, "-d", "200", "-timer_resol", "5", &to];
        let uac = Sipp::run(&scene, name, free_port(), &own("uac", &args));
        uac.all_well(u64::from(calls), s(60) + s(u64::from(calls / per_s.max(1)) * 3));
        centre.at_rest_within(s(40));
    };
    // RFC 3261: timers H, I, J and K are the last that remember anything of a call, 32 s at most.
    let forgotten = || {
        eventually("no transaction and no timer is left", s(45), || {
            let left = centre.metric("cordboard_sip_transactions") + centre.metric("cordboard_shard_timers");
            (left == 0.0).then_some(())
        });
    };
    let tenth = calls / 10;
    run("first", tenth);
    // A long run is compared at rest. A short one has not come to its steady state after a tenth, and is
    // only to find what leaks grossly.
    if calls >= 50_000 {
        forgotten();
    }
    let first = resident_kib(&centre);
    let began = std::time::Instant::now();
    run("rest", calls - tenth);
    forgotten();
    let last = resident_kib(&centre);
    println!(
        "soak: {calls} calls at {per_s}/s, the last nine tenths in {:?} with timers; {first} KiB after the first tenth, {last} KiB at the end",
        began.elapsed()
    );
    assert_eq!(centre.metric("cordboard_calls_total"), f64::from(calls));
    // Growth that goes with the number of calls is a leak: 60 bytes a call are seen in 200,000.
    let allowed = if calls >= 50_000 { first / 20 + 2_048 } else { first / 4 };
    assert!(last <= first + allowed, "from {first} KiB to {last} KiB");
    centre.finish();
    drop(uas);
}

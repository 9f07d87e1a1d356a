//! What a media leg takes by itself: a media thread without any call, so that a call's memory can be told
//! from that of its media.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;

use cordboard_e2e::{eventually, s};
use cordboard_media::control::{self, Law, LegId, Remote};
use cordboard_net::Clock;
use cordboard_net::media::{Config, MediaThread};

use crate::process::resident_kib;

/// The word that makes this program the process that is measured.
pub(crate) const PART: &str = "media-legs";
/// Legs that are opened before it is looked at the first time, as a warm server has.
const WARM: u64 = 200;
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// KiB of memory of each of so many joined legs, measured in a process of their own.
pub(crate) fn leg_kib(legs: u64) -> f64 {
    let own = std::env::current_exe().expect("this program's file");
    let output = Command::new(own).args([PART, &legs.to_string()]).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("no figure: {text:?}"))
}

/// The measured process: opens the legs, joins them in pairs, prints what each takes.
pub(crate) fn run(arguments: &[String]) {
    let legs: u64 = arguments.first().and_then(|n| n.parse().ok()).expect("a number of legs");
    // A socket each, and one for RTCP.
    let files = libc::rlimit { rlim_cur: 20_000, rlim_max: 20_000 };
    // SAFETY: the structure is whole and lives for the call.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files) };
    let mut config = Config::new(LOCAL, LOCAL, 40_000..=59_999, [7; 32]);
    config.max_legs = 10_000;
    let media = MediaThread::start(config, Clock::start(), drop).expect("a media thread");
    let open = |range: std::ops::Range<u64>| {
        for n in range.clone() {
            let leg = LegId(n);
            media.send(control::Command::Open { leg }).expect("taken");
            let remote = Remote {
                // Nobody is there, and nothing is sent: no packet flows in the measured calls either.
                address: SocketAddr::new(LOCAL, 9),
                rtcp: None,
                law: Law::Pcmu,
                payload_type: 0,
                dtmf_payload_type: Some(101),
                send: true,
                receive: true,
            };
            media.send(control::Command::Remote { leg, remote }).expect("taken");
            if n % 2 == 1 {
                media.send(control::Command::Join { a: LegId(n - 1), b: leg }).expect("taken");
            }
        }
        eventually("the legs are open", s(30), || {
            (media.handle().counters().legs.load(Relaxed) >= range.end).then_some(())
        });
    };
    open(0..WARM);
    let own = std::process::id() as i32;
    let before = resident_kib(own);
    open(WARM..WARM + legs);
    println!("{:.3}", (resident_kib(own) - before) / legs as f64);
}

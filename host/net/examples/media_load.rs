//! What a packet costs the media thread: `cargo run --release -p cordboard-net --example media_load`.
//!
//! Starts a media thread with 1,000 legs on the loopback, loads it from another thread, and prints
//! the processor time of the media thread alone, a packet, as the system counts it; beside it the
//! floor: a loop that only receives and sends. Arguments: legs, seconds.

use std::io::Result;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cordboard_media::Clip;
use cordboard_media::control::{Command, Event, Item, Law, LegId, Remote};
use cordboard_media::rtp::Header;
use cordboard_net::Clock;
use cordboard_net::media::{Config, MediaThread};
use cordboard_net::udp::{BATCH, Options, Port};
use mio::{Events, Interest, Poll, Token};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse().ok());
    let (legs, seconds) = (arguments.next().unwrap_or(1000), arguments.next().unwrap_or(5));
    println!("{:<34} {:>12} {:>12} {:>12}", "legs", "packets/s", "us a packet", "of a core");
    floor(legs, seconds)?;
    run("play", legs, seconds, false)?;
    run("relay", legs, seconds, true)?;
    Ok(())
}

fn print(name: &str, legs: u64, packets: u64, cpu_ns: u64, took: Duration) {
    let s = took.as_secs_f64();
    println!(
        "{:<34} {:>12.0} {:>12.2} {:>11.1}%",
        format!("{legs} {name}"),
        packets as f64 / s,
        cpu_ns as f64 / 1000.0 / packets.max(1) as f64,
        cpu_ns as f64 / 1e7 / s
    );
}

/// Processor time of a thread of this process, by its name.
fn cpu_ns(thread: &str) -> u64 {
    let tasks =
        std::fs::read_dir("/proc/self/task").expect("Linux").filter_map(|task| Some(task.ok()?.path()));
    tasks
        .filter(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == thread))
        .filter_map(|task| {
            std::fs::read_to_string(task.join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok()
        })
        .sum()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// All telephones at once: one socket that sends to every leg each 20 ms and counts what comes back.
struct Phones {
    stop: Arc<AtomicBool>,
    heard: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Phones {
    fn start(mut port: Port, legs: Vec<SocketAddr>, speak: bool) -> Self {
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&heard));
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            for slot in 0_u64.. {
                if stopped.load(Relaxed) {
                    return;
                }
                if speak {
                    // A twentieth of the legs each millisecond.
                    let frame = slot / 20;
                    let packets: Vec<(SocketAddr, Vec<u8>)> = legs
                        .iter()
                        .enumerate()
                        .filter(|(i, _)| *i as u64 % 20 == slot % 20)
                        .map(|(i, to)| {
                            let (sequence, timestamp) = (frame as u16, frame as u32 * 160);
                            let header = Header {
                                marker: false,
                                payload_type: 0,
                                sequence,
                                timestamp,
                                ssrc: i as u32,
                            };
                            (*to, [&header.to_bytes()[..], &[0x55; 160]].concat())
                        })
                        .collect();
                    port.send_batch(
                        &packets.iter().map(|(to, bytes)| (*to, bytes.as_slice())).collect::<Vec<_>>(),
                    );
                }
                loop {
                    let got = port.recv_batch(|_, _| {}).expect("receives");
                    count.fetch_add(got as u64, Relaxed);
                    if got < BATCH {
                        break;
                    }
                }
                let next = start + Duration::from_millis(slot + 1);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        Self { stop, heard, thread: Some(thread) }
    }
}

impl Drop for Phones {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn any_port() -> Result<Port> {
    Port::bind((Ipv4Addr::LOCALHOST, 0).into(), Options::default())
}

fn run(name: &str, legs: u64, seconds: u64, joined: bool) -> Result<()> {
    let local = Ipv4Addr::LOCALHOST.into();
    let (to, events) = crossbeam_channel::unbounded();
    let config = Config::new(local, local, 30_000..=39_999, [1; 32]);
    let media = MediaThread::start(config, Clock::start(), move |batch| {
        batch.into_iter().for_each(|e| drop(to.send(e)))
    })?;
    let handle = media.handle();
    let send = |command| handle.send(command).expect("taken");
    let before_kib = resident_kib();
    let mut addresses = Vec::new();
    for leg in 0..legs {
        send(Command::Open { leg: LegId(leg) });
        if let Ok(Event::Opened { address, .. }) = events.recv_timeout(Duration::from_secs(5)) {
            addresses.push(address);
        }
    }
    assert_eq!(addresses.len() as u64, legs, "all open");
    let per_leg = (resident_kib() - before_kib) as f64 / legs as f64;
    let port = any_port()?;
    for leg in (0..legs).map(LegId) {
        let address = port.local_addr();
        let remote = Remote {
            address,
            rtcp: None,
            law: Law::Pcmu,
            payload_type: 0,
            dtmf_payload_type: Some(101),
            send: true,
            receive: true,
        };
        send(Command::Remote { leg, remote });
    }
    let music =
        Arc::new(Clip::from_samples(&(0..80_000).map(|n| (n * 37 % 8001 - 4000) as i16).collect::<Vec<_>>()));
    for leg in 0..legs {
        if joined && leg % 2 == 0 && leg + 1 < legs {
            send(Command::Join { a: LegId(leg), b: LegId(leg + 1) });
        } else if !joined {
            let items = vec![Item::Clip(Arc::clone(&music))];
            send(Command::Play { leg: LegId(leg), play: 1, items, repeat: true, barge: true });
        }
    }
    let phones = Phones::start(port, addresses, joined);
    std::thread::sleep(Duration::from_secs(1));
    let counters = media.handle();
    let counters = counters.counters();
    let count = || counters.played.load(Relaxed) + counters.relayed.load(Relaxed);
    counters.late_us.store(0, Relaxed);
    let (packets, heard, cpu, start) = (count(), phones.heard.load(Relaxed), cpu_ns("media"), Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let (packets, heard, cpu, took) =
        (count() - packets, phones.heard.load(Relaxed) - heard, cpu_ns("media") - cpu, start.elapsed());
    print(name, legs, packets, cpu, took);
    println!(
        "    {:.1} % of them heard, {} unsent, latest slot {} us, {} ms skipped, {per_leg:.1} KiB a leg resident",
        heard as f64 * 100.0 / packets.max(1) as f64,
        counters.unsent.load(Relaxed),
        counters.late_us.load(Relaxed),
        counters.skipped_ms.load(Relaxed),
    );
    Ok(())
}

/// The least that a relay can do: wait, receive one, send one, on as many sockets.
fn floor(legs: u64, seconds: u64) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut sockets = (0..legs)
        .map(|_| mio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into()))
        .collect::<Result<Vec<_>>>()?;
    for (i, socket) in sockets.iter_mut().enumerate() {
        poll.registry().register(socket, Token(i), Interest::READABLE)?;
    }
    let addresses = sockets.iter().map(mio::net::UdpSocket::local_addr).collect::<Result<Vec<_>>>()?;
    let stop = Arc::new(AtomicBool::new(false));
    let packets = Arc::new(AtomicU64::new(0));
    let (stopped, count) = (Arc::clone(&stop), Arc::clone(&packets));
    let thread = std::thread::Builder::new().name("floor".into()).spawn(move || {
        let mut events = Events::with_capacity(1024);
        let mut buffer = [0; 2048];
        while !stopped.load(Relaxed) {
            poll.poll(&mut events, Some(Duration::from_millis(50))).expect("polls");
            for event in &events {
                let Token(i) = event.token();
                while let Ok((len, from)) = sockets[i].recv_from(&mut buffer) {
                    let _ = sockets[i ^ 1].send_to(&buffer[..len], from);
                    count.fetch_add(1, Relaxed);
                }
            }
        }
    })?;
    let phones = Phones::start(any_port()?, addresses, true);
    std::thread::sleep(Duration::from_secs(1));
    let (before, cpu, start) = (packets.load(Relaxed), cpu_ns("floor"), Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    print(
        "floor: epoll, recvfrom, sendto",
        legs,
        packets.load(Relaxed) - before,
        cpu_ns("floor") - cpu,
        start.elapsed(),
    );
    drop(phones);
    stop.store(true, Relaxed);
    let _ = thread.join();
    Ok(())
}

//! Bad weather: a UDP relay between a centre and its peers that loses, doubles and reorders datagrams in both
//! directions, by a seed.
//!
//! Every party at `127.0.0.1:PORT` has an alias at `127.0.0.2:PORT`, which is the relay. A datagram that comes
//! to somebody's alias goes to that party from the alias of its sender, so both ends see the relay alone and
//! the weather strikes each way. A party must name its alias wherever it names itself (`listen.advertised`,
//! `media.advertised`, Via, Contact, SDP). Used by the end-to-end tests; it reads no datagram and never changes one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The address that stands for everybody.
pub const ALIAS: &str = "127.0.0.2";

/// How bad it is, each in thousandths of all datagrams.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Lost.
    pub lost: u64,
    /// Sent twice, the second up to 30 ms later.
    pub doubled: u64,
    /// Kept for 1 to 60 ms, so that later ones overtake.
    pub delayed: u64,
}

/// The weather that the issue asks for.
pub const STORM: Weather = Weather { lost: 50, doubled: 20, delayed: 50 };

/// What the weather has done.
#[derive(Debug, Default)]
struct Counts {
    passed: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    delayed: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub struct Relay {
    aliases: Arc<Mutex<Aliases>>,
    counts: Arc<Counts>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Aliases = BTreeMap<u16, Arc<UdpSocket>>;

impl Relay {
    /// Begins with no aliases; senders get one by themselves.
    #[must_use]
    pub fn start(seed: u64, weather: Weather) -> Self {
        let aliases: Arc<Mutex<Aliases>> = Arc::default();
        let counts: Arc<Counts> = Arc::default();
        let end: Arc<AtomicBool> = Arc::default();
        let mut work = Work {
            aliases: aliases.clone(),
            counts: counts.clone(),
            weather,
            random: seed | 1,
            kept: BTreeSet::new(),
            number: 0,
        };
        let ended = end.clone();
        let thread = std::thread::spawn(move || {
            while !ended.load(Relaxed) {
                work.round();
            }
        });
        Self { aliases, counts, end, thread: Some(thread) }
    }

    /// Gives parties their aliases before they are heard of, so that others can begin.
    ///
    /// # Panics
    /// When a port of the alias's address is taken.
    pub fn alias(&self, ports: impl IntoIterator<Item = u16>) {
        let mut aliases = self.aliases.lock().unwrap_or_else(PoisonError::into_inner);
        for port in ports {
            aliases.entry(port).or_insert_with(|| bind(port).expect("the alias's port is free"));
        }
    }

    /// It was as bad as it was meant to be, else the test has proved nothing.
    ///
    /// # Panics
    /// When hardly anything was lost, doubled or overtaken.
    pub fn was_bad(&self, at_least: u64) {
        let of = |count: &AtomicU64| count.load(Relaxed);
        let counts = &self.counts;
        let (passed, lost, doubled, delayed) =
            (of(&counts.passed), of(&counts.lost), of(&counts.doubled), of(&counts.delayed));
        println!("the relay: {passed} passed, {lost} lost, {doubled} doubled, {delayed} delayed");
        assert!(lost >= at_least && doubled >= at_least / 4 && delayed >= at_least / 2, "fair weather");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bind(port: u16) -> std::io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), port))?;
    socket.set_nonblocking(true)?;
    Ok(Arc::new(socket))
}

/// Kept until its time: when, which, from whose alias, to whose port.
type Kept = (Instant, u64, u16, u16, Vec<u8>);

struct Work {
    aliases: Arc<Mutex<Aliases>>,
    counts: Arc<Counts>,
    weather: Weather,
    random: u64,
    kept: BTreeSet<Kept>,
    number: u64,
}

impl Work {
    fn round(&mut self) {
        let sockets: Vec<(u16, Arc<UdpSocket>)> = {
            let aliases = self.aliases.lock().unwrap_or_else(PoisonError::into_inner);
            aliases.iter().map(|(port, socket)| (*port, socket.clone())).collect()
        };
        let mut polled: Vec<libc::pollfd> = sockets
            .iter()
            .map(|(_, socket)| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        // SAFETY: the array lives over the call and has the length that is given.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, 1) };
        for ((port, socket), polled) in sockets.iter().zip(&polled) {
            if polled.revents != 0 {
                self.read(*port, socket);
            }
        }
        let now = Instant::now();
        while let Some(kept) = self.kept.pop_first() {
            if kept.0 > now {
                self.kept.insert(kept);
                break;
            }
            self.send(kept.2, kept.3, &kept.4);
        }
    }

    fn read(&mut self, to: u16, socket: &UdpSocket) {
        let mut bytes = [0; 65_536];
        loop {
            let (length, from) = match socket.recv_from(&mut bytes) {
                Ok(read) => read,
                // A party that is not there any more is told to the next read of its alias: not to us.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            let SocketAddr::V4(from) = from else { continue };
            // Weather is between the parties: what somebody sends to its own alias has lost its way.
            if *from.ip() != Ipv4Addr::LOCALHOST {
                continue;
            }
            self.weather(from.port(), to, bytes[..length].to_vec());
        }
    }

    fn weather(&mut self, from: u16, to: u16, bytes: Vec<u8>) {
        let Weather { lost, doubled, delayed } = self.weather;
        let chance = self.below(1_000);
        if chance < lost {
            self.counts.lost.fetch_add(1, Relaxed);
            return;
        }
        if chance < lost + doubled {
            self.counts.doubled.fetch_add(1, Relaxed);
            self.keep(30, from, to, bytes.clone());
        } else if chance < lost + doubled + delayed {
            self.counts.delayed.fetch_add(1, Relaxed);
            self.keep(60, from, to, bytes);
            return;
        }
        self.send(from, to, &bytes);
    }

    fn keep(&mut self, at_most_ms: u64, from: u16, to: u16, bytes: Vec<u8>) {
        let at = Instant::now() + Duration::from_millis(1 + self.below(at_most_ms));
        self.number += 1;
        self.kept.insert((at, self.number, from, to, bytes));
    }

    fn send(&mut self, from: u16, to: u16, bytes: &[u8]) {
        let alias = {
            let mut aliases = self.aliases.lock().unwrap_or_else(PoisonError::into_inner);
            match aliases.get(&from) {
                Some(socket) => socket.clone(),
                None => match bind(from) {
                    Ok(socket) => aliases.entry(from).or_insert(socket).clone(),
                    Err(_) => return,
                },
            }
        };
        self.counts.passed.fetch_add(1, Relaxed);
        let _ = alias.send_to(bytes, (Ipv4Addr::LOCALHOST, to));
    }

    /// xorshift64*
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

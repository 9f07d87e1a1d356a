//! Names to addresses, for the shard: RFC 3263's machine asks, and what the name servers say is kept as
//! long as they say.
//!
//! The shard asks with a URI and goes on; the answer comes back as mail. Runs on the service runtime;
//! nothing here is waited for. Each question leaves from a socket of its own with a random number, so
//! that an answer cannot be guessed (RFC 5452).

mod message;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cordboard_base::Random;
use cordboard_sip::resolve::{Abilities, Answer, Question, Request, Resolution, Step, Target};
use cordboard_sip::wire::Uri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::message::Said;

/// Resolutions at once; one more fails at once.
const AT_ONCE: usize = 1_024;
/// For a whole resolution, which may take three rounds of questions.
const LIMIT: Duration = Duration::from_secs(8);
/// Rounds over the servers.
const TRIES: usize = 2;
/// Answers that are kept; when there are more, those that have run out go, and then all.
const MAX_KEPT: usize = 4_096;
/// The longest that an answer is kept.
const MAX_TTL_S: u32 = 3_600;
/// The longest that an absence is kept.
const MAX_ABSENT_S: u32 = 60;

/// How DNS is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name servers; none: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// For one question to one server.
    pub timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout_ms: 1_000 }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Dns {
    servers: Arc<Vec<SocketAddr>>,
    timeout: Duration,
    abilities: Abilities,
    service: Handle,
    room: Arc<Semaphore>,
    kept: Arc<Mutex<HashMap<Question, (Instant, Answer)>>>,
}

impl Dns {
    /// A resolver on the service runtime, for a host with these transports and address families.
    #[must_use]
    pub fn new(config: &Config, abilities: Abilities, service: Handle) -> Self {
        let servers = if config.servers.is_empty() {
            let system = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            name_servers(&system)
        } else {
            config.servers.clone()
        };
        Self {
            servers: Arc::new(servers),
            timeout: Duration::from_millis(config.timeout_ms),
            abilities,
            service,
            room: Arc::new(Semaphore::new(AT_ONCE)),
            kept: Arc::default(),
        }
    }

    /// Resolves a URI and tells the outcome: targets in the order in which they are to be tried, or why
    /// there are none.
    pub fn resolve(&self, uri: String, told: impl FnOnce(Result<Vec<Target>, String>) + Send + 'static) {
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            return told(Err("too many names are being resolved: try again later".to_owned()));
        };
        let this = self.clone();
        self.service.spawn(async move {
            let found = tokio::time::timeout(LIMIT, this.targets(&uri)).await;
            drop(permit);
            let late = || Err("DNS did not answer in time: look at the name servers".to_owned());
            told(found.unwrap_or_else(|_| late()));
        });
    }

    async fn targets(&self, uri: &str) -> Result<Vec<Target>, String> {
        let parsed = Uri::parse(uri).map_err(|e| e.to_string())?;
        let request = Request::of_uri(&parsed).map_err(|e| e.to_string())?;
        let mut random = crate::shell::entropy();
        let (mut resolution, mut step) = Resolution::start(&request, &self.abilities);
        loop {
            let questions = match step {
                Step::Done(Ok(targets)) => return Ok(targets.all().to_vec()),
                Step::Done(Err(why)) => return Err(format!("{}: {why}", parsed.host)),
                // A question that got lost would be waited for without end.
                Step::Ask(questions) if questions.is_empty() => {
                    return Err(format!("{}: DNS was not asked", parsed.host));
                }
                Step::Ask(questions) => questions,
            };
            step = self.round(&mut resolution, questions, &mut random).await;
        }
    }

    /// Asks a round of questions at once, and hands in the answers.
    async fn round(
        &self,
        resolution: &mut Resolution,
        questions: Vec<Question>,
        random: &mut Random,
    ) -> Step {
        let mut round = tokio::task::JoinSet::new();
        for question in questions {
            let (this, mut own) = (self.clone(), Random::seeded(random.next_u64()));
            round.spawn(async move {
                let answer = this.answer(&question, &mut own).await;
                (question, answer)
            });
        }
        let mut step = Step::Ask(Vec::new());
        while let Some(joined) = round.join_next().await {
            if let Ok((question, answer)) = joined {
                step = resolution.answer(&question, answer, random);
            }
        }
        step
    }

    /// What is kept, or what a server says now.
    async fn answer(&self, question: &Question, random: &mut Random) -> Answer {
        let now = Instant::now();
        if let Some((until, answer)) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(question)
            && *until > now
        {
            return answer.clone();
        }
        for server in self.servers.iter().cycle().take(self.servers.len() * TRIES) {
            match tokio::time::timeout(self.timeout, exchange(*server, question, random)).await {
                Ok(Ok(Said::Records(records, ttl_s))) => {
                    return self.keep(question, ttl_s.min(MAX_TTL_S), Answer::Records(records));
                }
                Ok(Ok(Said::Absent(ttl_s))) => {
                    return self.keep(question, ttl_s.min(MAX_ABSENT_S), Answer::Absent);
                }
                Ok(Ok(said)) => tracing::debug!(%server, name = question.name, ?said, "DNS"),
                Ok(Err(error)) => tracing::debug!(%server, name = question.name, %error, "DNS"),
                Err(_) => tracing::debug!(%server, name = question.name, "DNS is silent"),
            }
        }
        Answer::Failed
    }

    fn keep(&self, question: &Question, ttl_s: u32, answer: Answer) -> Answer {
        if ttl_s > 0 {
            let now = Instant::now();
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= MAX_KEPT {
                kept.retain(|_, (until, _)| *until > now);
            }
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
            kept.insert(question.clone(), (now + Duration::from_secs(ttl_s.into()), answer.clone()));
        }
        answer
    }
}

/// Asks one server, by TCP when the answer does not fit a datagram.
async fn exchange(server: SocketAddr, question: &Question, random: &mut Random) -> std::io::Result<Said> {
    let id = random.next_u32() as u16;
    let unsaid = |text: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, text.to_owned());
    let ask = message::ask(id, question).ok_or_else(|| unsaid("the name cannot be asked for"))?;
    let own: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0)).await?;
    // Only what comes from the server itself is read.
    socket.connect(server).await?;
    socket.send(&ask).await?;
    let mut bytes = vec![0; 4_096];
    loop {
        let n = socket.recv(&mut bytes).await?;
        match message::read(&bytes[..n], id, question) {
            Some(Said::Truncated) => break,
            Some(said) => return Ok(said),
            None => {}
        }
    }
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(ask.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes()[..], &ask].concat()).await?;
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    message::read(&bytes, id, question).ok_or_else(|| unsaid("the answer is to another question"))
}

/// The servers of a resolv.conf, at most three (resolv.conf(5)); without any the one on this machine.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let address = line.trim().strip_prefix("nameserver")?.trim();
        Some(SocketAddr::new(address.parse().ok()?, 53))
    };
    let mut servers: Vec<SocketAddr> = text.lines().filter_map(server).take(3).collect();
    if servers.is_empty() {
        servers.push(SocketAddr::from(([127, 0, 0, 1], 53)));
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_servers_are_its_first_three() {
        let text = "# c\nsearch x\nnameserver 192.0.2.1\n nameserver 2001:db8::1\nnameserver nonsense\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        let servers: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.3:53"]);
        assert_eq!(name_servers("")[0].to_string(), "127.0.0.1:53");
    }
}

//! `cargo xtask demo`: a centre, a caller and an agent, and the call's timeline as it happens.
//!
//! Starts `cordboard serve` as an operator would, and uses nothing but what an operator, a carrier
//! and an agent have: SIP, RTP and the API. With `--once` it ends after the first call, and its
//! status says whether every step happened in order and both ends heard each other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cordboard_sim::flow::{Line, problems};
use cordboard_sim::phone::{Answering, Order, Phone, Told};
use crossbeam_channel::Receiver;
use serde_json::Value;

// What examples/demo.toml says.
const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const REDIRECT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5060);
const CENTRE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5070);
const CRM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
const TOKEN: &str = "demo";
const NUMBER: &str = "+4930100";

const CALLER_HZ: u16 = 700;
const AGENT_HZ: u16 = 1_100;
/// A call of the demo takes about 20 s.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let once = std::env::args().skip(1).any(|argument| argument == "--once");
    match run(once) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The centre's process; ended with us.
struct Centre(Child);

impl Drop for Centre {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(once: bool) -> Result<()> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/examples");
    let binary =
        std::env::var_os("CORDBOARD_BINARY").map_or_else(|| PathBuf::from("cordboard"), PathBuf::from);
    let delivered = crm()?;
    let data = std::env::temp_dir().join(format!("cordboard-demo-{}", std::process::id()));
    std::fs::create_dir_all(&data)?;
    let child = Command::new(&binary)
        .args(["serve", "--config"])
        .arg(examples.join("demo.toml"))
        .arg("--data")
        .arg(&data)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(data.join("log"))?)
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let mut centre = Centre(child);
    let result = with_centre(&mut centre, &delivered, once)
        .with_context(|| format!("the centre's log is {}", data.join("log").display()));
    drop(centre);
    if result.is_ok() {
        let _ = std::fs::remove_dir_all(&data);
    }
    result
}

fn with_centre(centre: &mut Centre, delivered: &AtomicU64, once: bool) -> Result<()> {
    let start = Instant::now();
    while api("GET", "/v1/healthz").is_err() {
        if let Some(status) = centre.0.try_wait()? {
            bail!("the centre did not start: {status}");
        }
        ensure!(start.elapsed() < PATIENCE, "the centre does not answer at http://{API}/v1/healthz");
        std::thread::sleep(Duration::from_millis(50));
    }
    println!(
        "the centre is up after {:.1} s: API http://{API}, redirect server {REDIRECT}, call centre {CENTRE}",
        start.elapsed().as_secs_f64()
    );
    let timeline = follow()?;

    let agent = Phone::start(CENTRE.ip(), 41_000..=41_099, 2)?;
    agent.order(Order::Answering(Answering {
        after_ms: Some(1_200),
        tone_hz: AGENT_HZ,
        listen_hz: CALLER_HZ,
    }));
    agent.order(Order::Register {
        registrar: CENTRE,
        user: "alice".to_owned(),
        password: "alice".to_owned(),
    });
    expect(&agent, "alice's phone registers", |told| matches!(told, Told::Registered { status: 200 }))?;

    let caller = Phone::start(CENTRE.ip(), 42_000..=42_099, 3)?;
    caller.order(Order::Call {
        target: format!("sip:{NUMBER}@{REDIRECT}"),
        number: "+493012345".to_owned(),
        tone_hz: CALLER_HZ,
        listen_hz: AGENT_HZ,
    });
    let interaction = one_call(&caller, &agent, &timeline)?;
    judge(&interaction, delivered)?;
    if once {
        return Ok(());
    }
    println!(
        "
The centre stays up; Ctrl-C ends it.
  call it        sip:{NUMBER}@{REDIRECT} from any softphone on this machine; press 1 or 2, then wait
  who answers    alice, a built-in phone that plays a tone; `cordboard agent logout alice` sends her home
  be an agent    register bob / bob at {CENTRE} (UDP), then: cordboard agent login bob
  look           cordboard calls, cordboard agents, cordboard queues, cordboard call {interaction}
  the API        http://{API}/openapi.json; curl -H 'Authorization: Bearer {TOKEN}' http://{API}/v1/queues
The command is {}; it finds the centre with CORDBOARD_TOKEN={TOKEN}.",
        std::env::var("CORDBOARD_BINARY").unwrap_or_else(|_| "cordboard".to_owned())
    );
    drop(caller);
    centre.0.wait()?;
    Ok(())
}

/// Follows the one call to its end and prints its lines. Answers with the interaction's identifier.
fn one_call(caller: &Phone, agent: &Phone, timeline: &Receiver<(String, Line)>) -> Result<String> {
    let start = Instant::now();
    let (mut began, mut id) = (None, String::new());
    let (mut caller_heard, mut agent_heard, mut agent_in, mut pressed) = (false, false, false, false);
    let (mut talking_since, mut hung_up, mut scored, mut agent_gone) = (None::<Instant>, false, false, false);
    let mut answered = None::<Instant>;
    loop {
        ensure!(start.elapsed() < PATIENCE, "the call is not over after {} s", PATIENCE.as_secs());
        while let Ok((interaction, line)) = timeline.recv_timeout(Duration::from_millis(20)) {
            let began = *began.get_or_insert(line.mono_ns);
            id = interaction;
            print(&line, began);
            // The agent comes to work when the caller has heard some music.
            if line.step == 13 && !std::mem::replace(&mut agent_in, true) {
                std::thread::sleep(Duration::from_millis(1_500));
                api("POST", "/v1/agents/demo/alice/login")?;
            }
        }
        while let Some(told) = caller.next(Duration::ZERO) {
            match told {
                Told::Answered => answered = Some(Instant::now()),
                Told::Heard { hz } if hz == AGENT_HZ => caller_heard = true,
                Told::Ended { status } => {
                    ensure!(hung_up && agent_gone, "the caller was cut off with status {status}");
                    ensure!(caller_heard, "the caller never heard the agent's tone of {AGENT_HZ} Hz");
                    ensure!(agent_heard, "the agent never heard the caller's tone of {CALLER_HZ} Hz");
                    println!(
                        "     the caller heard {AGENT_HZ} Hz, the agent heard {CALLER_HZ} Hz, and both were hung up"
                    );
                    // The last lines are on their way.
                    while let Ok((_, line)) = timeline.recv_timeout(Duration::from_millis(500)) {
                        print(&line, began.unwrap_or_default());
                    }
                    return Ok(id);
                }
                _ => {}
            }
        }
        while let Some(told) = agent.next(Duration::ZERO) {
            match told {
                Told::Answered => talking_since = Some(Instant::now()),
                Told::Heard { hz } if hz == CALLER_HZ => agent_heard = true,
                Told::Ended { .. } => agent_gone = true,
                _ => {}
            }
        }
        if answered.is_some_and(|at| at.elapsed() > Duration::from_secs(2))
            && !std::mem::replace(&mut pressed, true)
        {
            caller.order(Order::Digits("1".to_owned()));
        }
        let talked = talking_since.is_some_and(|at| at.elapsed() > Duration::from_secs(2));
        if talked && caller_heard && agent_heard && !std::mem::replace(&mut hung_up, true) {
            agent.order(Order::HangUp);
        }
        // The survey: after the agent has gone, the caller gives a five.
        if agent_gone && hung_up && !std::mem::replace(&mut scored, true) {
            std::thread::sleep(Duration::from_secs(1));
            caller.order(Order::Digits("5".to_owned()));
        }
    }
}

fn print(line: &Line, began_ns: u64) {
    let number = if line.step == 0 { String::new() } else { line.step.to_string() };
    let ms = (line.mono_ns as f64 - began_ns as f64) / 1e6;
    let evidence = line.evidence();
    let brackets = if evidence.is_empty() { String::new() } else { format!("  [{evidence}]") };
    let title = if line.step == 0 { "" } else { line.title.as_str() };
    println!("{number:>3} {ms:>9.1} ms  {title:<30} {}{brackets}", line.detail);
}

/// Holds the call against the flow, from what `cordboard call ID --json` shows.
fn judge(interaction: &str, delivered: &AtomicU64) -> Result<()> {
    let call = api("GET", &format!("/v1/calls/{interaction}"))?;
    let lines: Vec<Line> =
        serde_json::from_value(call["timeline"].clone()).context("the call has a timeline")?;
    let wrong = problems(&lines);
    ensure!(wrong.is_empty(), "the timeline is not the flow: {}", wrong.join("; "));
    ensure!(call["live"] == Value::Bool(false), "the call's record is not closed");
    let start = Instant::now();
    while delivered.load(Ordering::Relaxed) < 6 && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let events = delivered.load(Ordering::Relaxed);
    ensure!(events >= 6, "the CTI adapter delivered {events} events to its endpoint");
    println!("steps 3 to 18 in order, with their evidence; {events} events delivered by the CTI adapter");
    Ok(())
}

fn expect(phone: &Phone, what: &str, good: impl Fn(&Told) -> bool) -> Result<()> {
    let told = phone.next(Duration::from_secs(5)).with_context(|| format!("{what}: nothing came in 5 s"))?;
    ensure!(good(&told), "{what}: {told:?}");
    Ok(())
}

/// A request to the API; the answer's JSON (null for none).
fn api(method: &str, path: &str) -> Result<Value> {
    let mut stream = request(method, path)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the API answers HTTP")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(status.starts_with('2'), "{method} {path}: {status} {body}");
    Ok(serde_json::from_str(body).unwrap_or(Value::Null))
}

/// HTTP/1.0, so that an answer ends with its connection and is not chunked.
fn request(method: &str, path: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&API, Duration::from_secs(1))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {API}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n"
    )?;
    Ok(stream)
}

/// The live lines of all calls.
fn follow() -> Result<Receiver<(String, Line)>> {
    let stream = request("GET", "/v1/timeline")?;
    let (sender, receiver) = crossbeam_channel::bounded(1_024);
    std::thread::spawn(move || {
        for text in BufReader::new(stream).lines().map_while(Result::ok) {
            let Some(data) = text.strip_prefix("data:") else { continue };
            let Ok(value) = serde_json::from_str::<Value>(data) else { continue };
            let (Some(interaction), Ok(line)) =
                (value["interaction"].as_str(), serde_json::from_value(value["line"].clone()))
            else {
                continue;
            };
            if sender.send((interaction.to_owned(), line)).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The CRM that the CTI adapter posts to: takes everything and counts the events.
fn crm() -> Result<Arc<AtomicU64>> {
    let listener = TcpListener::bind(CRM).with_context(|| format!("the demo's CRM needs {CRM}"))?;
    let delivered = Arc::new(AtomicU64::new(0));
    let count = delivered.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let count = count.clone();
            std::thread::spawn(move || serve_crm(stream, &count));
        }
    });
    Ok(delivered)
}

fn serve_crm(mut stream: TcpStream, count: &AtomicU64) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let events = match serde_json::from_slice(&body).ok()? {
            Value::Array(events) => events.len() as u64,
            _ => 1,
        };
        count.fetch_add(events, Ordering::Relaxed);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
    }
}

//! What an operator sees of a node, also while something in it or beside it stands still.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use cordboard_e2e::capture::Capture;
use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::raw::RawUa;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::{Setup, TOKEN};
use cordboard_e2e::webhook::Webhook;
use cordboard_e2e::{eventually, ms, place, s};

use crate::flow::{answers, caller, talk};

#[test]
fn a_log_that_nobody_reads_stalls_no_call_and_what_was_lost_is_counted() {
    let scene = Scene::new("unread-log");
    let mut setup = Setup::default();
    setup.agent("alice");
    let (mut centre, mut unread) = Centre::start_unread(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    centre.agent("alice", "login");
    // Each of these is a line: more than the pipe, and then the queue, can hold.
    for _ in 0..10_500 {
        let answer = centre.request("POST", "/v1/calls/none/clear", b"").expect("the API answers");
        assert_eq!(answer.status, 400);
    }
    assert!(centre.metric("cordboard_log_lines_dropped_total") > 0.0, "the queue was never full");
    let mut phone = caller(&centre, "4930111");
    talk(&mut phone, "c", &mut alice, "alice-1");
    phone.hang_up("c");
    assert_eq!(phone.ended("c")["status"], 200);
    assert_eq!(alice.ended("alice-1")["status"], 200);
    assert_eq!(centre.json("/v1/healthz")["state"], "serving");
    // Now somebody reads: the rest of the log comes, with a word on what was lost.
    let reader = std::thread::spawn(move || {
        let mut log = String::new();
        let _ = unread.read_to_string(&mut log);
        log
    });
    std::thread::sleep(s(3));
    centre.term();
    assert!(centre.ended(s(10)).success());
    let log = reader.join().expect("the log");
    assert!(log.contains("lines of the log were dropped"), "nothing tells of the lost lines");
    assert!(!log.contains("panicked"), "{log}");
}

/// Stops one thread of a process, as a hung system call or an endless loop would.
struct Hung(i32);

impl Hung {
    fn thread(pid: i32, name: &str) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process's threads");
        let tid: i32 = tasks
            .flatten()
            .find(|task| {
                std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
            })
            .and_then(|task| task.file_name().to_str()?.parse().ok())
            .unwrap_or_else(|| panic!("no thread is named {name}"));
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the thread is one of our child's; no memory of ours is handed over.
        unsafe {
            let seized = libc::ptrace(libc::PTRACE_SEIZE, tid, none, none);
            assert_eq!(seized, 0, "a child's thread may be traced: {}", std::io::Error::last_os_error());
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, tid, none, none), 0);
            let mut status = 0;
            assert_eq!(libc::waitpid(tid, &raw mut status, libc::__WALL), tid);
        }
        Self(tid)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: as above; the thread goes on.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, none, none) };
    }
}

#[test]
fn a_thread_that_hangs_fails_the_health_and_metrics_come_all_the_same() {
    let scene = Scene::new("hung-thread");
    let mut setup = Setup::default();
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    centre.agent("alice", "login");
    eventually("the view has the agent", s(2), || {
        (centre.metric("cordboard_agents{state=\"ready\"}") == 1.0).then_some(())
    });
    for name in ["domain", "media", "journal", "redirect"] {
        let hung = Hung::thread(centre.pid(), name);
        eventually(&format!("the health says that {name} stands still"), s(8), || {
            let answer = centre.get("/v1/healthz").ok()?;
            (answer.status == 503 && answer.json()["stalled"] == serde_json::json!([name])).then_some(())
        });
        let asked = Instant::now();
        let metrics = centre.get("/metrics").expect("metrics").text();
        assert!(asked.elapsed() < ms(500), "metrics took {:?}", asked.elapsed());
        assert!(metrics.contains("\ncordboard_up 0\n"), "{metrics}");
        assert!(metrics.contains("cordboard_agents{state=\"ready\"} 1\n"), "{metrics}");
        drop(hung);
        eventually(&format!("{name} goes on"), s(5), || {
            (centre.get("/v1/healthz").ok()?.status == 200).then_some(())
        });
    }
    centre.finish();
}

#[test]
fn a_second_sigterm_clears_the_calls_that_the_first_one_waits_for() {
    let scene = Scene::new("second-sigterm");
    let mut setup = Setup::default();
    setup.agent("alice");
    let mut centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    centre.agent("alice", "login");
    let mut phone = caller(&centre, "4930111");
    talk(&mut phone, "c", &mut alice, "alice-1");
    centre.term();
    std::thread::sleep(s(2));
    assert!(!phone.has("ended", |_| true), "the first SIGTERM waits for the call");
    assert_eq!(centre.get("/v1/healthz").expect("health").json()["state"], "draining");
    centre.term();
    phone.ended("c");
    alice.ended("alice-1");
    assert!(centre.ended(s(5)).success(), "it ends at once, and well");
    centre.no_panics();
    // The record is whole: who ended it, and why.
    centre.spawn();
    let record = centre.record();
    assert_eq!((&record["end"]["cause"], &record["end"]["by"]), (&41.into(), &"operator".into()), "{record}");
    centre.finish();
}

#[test]
fn follow_prints_the_timeline_as_it_happens_and_ends_with_the_call() {
    let scene = Scene::new("follow");
    let mut setup = Setup::default();
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    let mut phone = caller(&centre, "4930111");
    phone.confirmed("c");
    let id = centre.calls(1)[0]["interaction"].as_str().expect("an id").to_owned();
    let _ = centre.waiting(1);
    let mut follow = Command::new(place::binary())
        .args(["call", &id, "--follow"])
        .env("CORDBOARD_API", format!("http://{}", centre.api()))
        .env("CORDBOARD_TOKEN", TOKEN)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command line starts");
    let lines = BufReader::new(follow.stdout.take().expect("its output")).lines();
    let (sender, printed) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let mut all = Vec::new();
    let mut until = |what: &str| {
        let end = Instant::now() + s(10);
        while !all.last().is_some_and(|line: &String| line.contains(what)) {
            let left = end.saturating_duration_since(Instant::now());
            all.push(printed.recv_timeout(left).unwrap_or_else(|_| panic!("no {what:?} in {all:#?}")));
        }
        all.len()
    };
    // What was before it began, and then, while it runs, what happens.
    until("new call");
    until("enters the queue");
    assert!(!phone.has("ended", |_| true));
    centre.agent("alice", "login");
    until("accepts");
    talk(&mut phone, "c", &mut alice, "alice-1");
    phone.hang_up("c");
    phone.ended("c");
    assert_eq!(alice.ended("alice-1")["status"], 200);
    let status = eventually("follow ends with the call", s(5), || follow.try_wait().ok().flatten());
    assert!(status.success());
    let mut steps: Vec<u32> =
        all.iter().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    let count = steps.len();
    steps.dedup();
    assert!(count >= 10 && steps.first() == Some(&3), "{all:#?}");
    centre.finish();
}

/// sngrep as a Homer: it takes HEP and writes the packets that were in it to a file.
struct Homer {
    process: Child,
    port: u16,
    file: PathBuf,
}

impl Homer {
    fn start(scene: &Scene) -> Self {
        let (port, file) = (free_port(), scene.dir().join("homer.pcap"));
        let process = place::program("sngrep", "sngrep")
            .args(["-N", "-q", "-L", &format!("udp:127.0.0.1:{port}"), "-O"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sngrep starts");
        eventually("sngrep listens", s(5), || file.exists().then_some(()));
        Self { process, port, file }
    }
}

impl Drop for Homer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The interaction of the only live call.
fn only_call(centre: &Centre) -> String {
    centre.calls(1)[0]["interaction"].as_str().expect("an id").to_owned()
}

/// What tshark decoded as SIP on the wire: the bytes of each message, in order.
fn on_the_wire(capture: &mut Capture, call_ids: &[String]) -> Vec<String> {
    let of: Vec<String> = call_ids.iter().map(|id| format!("sip.Call-ID == \"{id}\"")).collect();
    capture.rows(&of.join(" || "), &["udp.payload"]).into_iter().map(|row| row[0].clone()).collect()
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[test]
fn the_sip_of_a_call_is_shown_as_it_was_on_the_wire_and_other_programs_read_its_capture() {
    let scene = Scene::new("sip-trace");
    let mut setup = Setup::default();
    setup.agent("alice");
    let homer = Homer::start(&scene);
    setup.more = format!("[trace]\nsip_keep_s = 3\nhep = \"127.0.0.1:{}\"\nhep_id = 77\n", homer.port);
    let centre = Centre::start(&scene, &setup);
    let sip = [centre.ports.redirect, centre.ports.centre];
    let mut capture = Capture::start(&scene, &sip, centre.ports.rtp);
    let mut alice = Phone::agent(&centre, "alice", answers());
    centre.agent("alice", "login");
    let mut phone = caller(&centre, "4930111");
    talk(&mut phone, "c", &mut alice, "alice-1");
    let id = only_call(&centre);
    phone.hang_up("c");
    assert_eq!(phone.ended("c")["status"], 200);
    assert_eq!(alice.ended("alice-1")["status"], 200);
    let _ = centre.record();
    // Byte for byte what an independent listener heard, the redirect role's part and the agent's leg too.
    let items = centre.items(&format!("/v1/calls/{id}/sip"));
    let text = |item: &serde_json::Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
    let mut call_ids: Vec<String> = items.iter().map(|item| text(item, "call_id")).collect();
    call_ids.sort();
    call_ids.dedup();
    assert_eq!(call_ids.len(), 2, "the caller's leg and the agent's: {call_ids:?}");
    let shown: Vec<String> = items.iter().map(|item| hex(&text(item, "text"))).collect();
    let (mut here, mut wire) = (shown.clone(), on_the_wire(&mut capture, &call_ids));
    assert!(wire.len() >= 15, "{} messages were on the wire", wire.len());
    here.sort();
    wire.sort();
    assert_eq!(here, wire);
    let whats: Vec<String> = items
        .iter()
        .map(|i| format!("{} {} {}", text(i, "role"), text(i, "direction"), text(i, "what")))
        .collect();
    assert_eq!(whats[..2], ["redirect received INVITE", "redirect sent 302 Moved Temporarily"]);
    // Two ports, two threads: the caller sends these two one right after the other.
    for next in ["redirect received ACK", "centre received INVITE"] {
        assert!(whats[2..8].iter().any(|what| what == next), "{next} in {whats:?}");
    }
    assert!(items.iter().all(|i| i["retransmission"] == false), "{items:#?}");
    // For a person: a column each for caller, redirect role, centre and phone.
    let printed = centre.cli(&["call", &id, "--sip"]);
    assert!(printed.status.success(), "{printed:?}");
    let printed = String::from_utf8(printed.stdout).expect("text");
    for expected in [
        &format!("redirect 127.0.0.1:{}", sip[0]),
        "INVITE (",
        "302 Moved",
        "180 Ringing",
        "BYE (",
        "m=audio ",
    ] {
        assert!(printed.contains(expected), "no {expected:?} in:\n{printed}");
    }
    // As a file that tshark reads: the same messages, none malformed, all sums right.
    let file = scene.dir().join("call.pcap");
    let written = centre.cli(&["call", &id, "--pcap", file.to_str().expect("a path")]);
    assert!(written.status.success(), "{written:?}");
    let mut read = Capture::of(&file, &sip);
    let rows =
        read.rows("sip", &["udp.payload", "udp.checksum.status", "ip.checksum.status", "frame.time_epoch"]);
    assert_eq!(rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>(), shown);
    assert!(rows.iter().all(|row| row[1] == "1" && row[2] == "1"), "1 is good: {rows:?}");
    let times: Vec<f64> = rows.iter().map(|row| row[3].parse().expect("a time")).collect();
    assert!(times.is_sorted() && times[times.len() - 1] - times[0] < 60.0, "{times:?}");
    read.nothing_malformed(shown.len(), 0);
    // The Homer got each of them: sngrep takes HEP and writes what it understood.
    let heard = homer.file.clone();
    let mut understood = Vec::new();
    eventually("the Homer has all of it", s(5), || {
        understood = Capture::of(&heard, &sip)
            .rows("sip", &["udp.payload", "udp.srcport", "udp.dstport"])
            .into_iter()
            .filter(|row| shown.contains(&row[0]))
            .collect();
        (understood.len() >= shown.len()).then_some(())
    });
    let mut messages: Vec<String> = understood.iter().map(|row| row[0].clone()).collect();
    messages.sort();
    assert_eq!(messages, here);
    let ports = sip.map(|port| port.to_string());
    assert!(
        understood.iter().all(|row| ports.contains(&row[1]) || ports.contains(&row[2])),
        "{understood:?}"
    );
    assert_eq!(centre.metric("cordboard_trace_hep_dropped_total"), 0.0);
    drop(homer);
    // After its time it is gone, and the answer says why.
    let gone = eventually("the messages are let go", s(8), || {
        let answer = centre.get(&format!("/v1/calls/{id}/sip")).ok()?;
        (answer.status == 404).then(|| answer.text())
    });
    assert!(gone.contains("sip_keep_s"), "{gone}");
    centre.finish();
}

#[test]
fn a_retransmission_is_marked_a_refused_caller_is_seen_by_call_id_and_a_reload_switches_it() {
    let scene = Scene::new("sip-retransmission");
    let mut setup = Setup::default();
    let centre = Centre::start(&scene, &setup);
    let off = centre.get("/v1/calls/nobody/sip").expect("an answer");
    assert!(off.status == 409 && off.text().contains("trace.sip_keep_s"), "{}", off.text());
    setup.more = "[trace]\nsip_keep_s = 60\n".into();
    setup.edits.push(("sources = [\"127.0.0.0/8\"]".into(), "sources = [\"127.9.9.9\"]".into()));
    centre.write(&setup);
    let done = centre.cli(&["reload"]);
    assert!(done.status.success(), "{done:?}");
    let to = std::net::SocketAddr::from(([127, 0, 0, 1], centre.ports.centre));
    let mut ua = RawUa::new();
    let invite = format!(
        "INVITE sip:100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKagain;rport\r\nMax-Forwards: 70\r\nFrom: <sip:x@127.0.0.1>;tag=1\r\nTo: <sip:100@127.0.0.1>\r\nCall-ID: seen/again@x\r\nCSeq: 1 INVITE\r\nContact: <sip:x@127.0.0.1:{port}>\r\nContent-Length: 0\r\n\r\n",
        port = ua.port
    );
    ua.send(to, invite.as_bytes());
    ua.expect_status(403, "INVITE", s(3));
    ua.send(to, invite.as_bytes());
    ua.expect_status(403, "INVITE", s(3));
    let items = eventually("all is seen", s(3), || {
        let answer = centre.get("/v1/calls/seen%2Fagain%40x/sip").ok()?;
        let items = answer.json()["items"].as_array()?.clone();
        (items.iter().filter(|i| i["what"] == "403 Forbidden").count() >= 2).then_some(items)
    });
    let invites: Vec<_> =
        items.iter().filter(|i| i["what"] == "INVITE").map(|i| i["retransmission"] == true).collect();
    assert_eq!(invites, [false, true]);
    let refusals: Vec<_> =
        items.iter().filter(|i| i["what"] == "403 Forbidden").map(|i| i["retransmission"] == true).collect();
    assert_eq!(refusals[..2], [false, true]);
    let printed = centre.cli(&["call", "seen/again@x", "--sip"]);
    let printed = String::from_utf8(printed.stdout).expect("text");
    assert!(printed.contains("* INVITE") && printed.contains("* a retransmission"), "{printed}");
    centre.finish();
}

/// A span as the collector prints what it has decoded.
#[derive(Debug, Default, Clone)]
struct Span {
    trace: String,
    parent: String,
    id: String,
    name: String,
    status: String,
    start: u64,
    end: u64,
    attributes: BTreeMap<String, String>,
}

/// Rotel, an OpenTelemetry collector: it takes OTLP/HTTP and prints every span that it understood.
struct Collector {
    process: Child,
    port: u16,
    log: PathBuf,
}

impl Collector {
    fn start(scene: &Scene) -> Self {
        let (port, grpc, log) = (free_port(), free_port(), scene.dir().join("collector.log"));
        let out = File::create(&log).expect("a log");
        let process = Command::new(place::rotel())
            .args([
                "start",
                "--exporter",
                "blackhole",
                "--debug-log",
                "traces",
                "--debug-log-verbosity",
                "detailed",
            ])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{port}")])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}"), "--pid-file"])
            .arg(scene.dir().join("collector.pid"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a log"))
            .stderr(out)
            .spawn()
            .expect("rotel starts");
        eventually("the collector listens", s(10), || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { process, port, log }
    }

    fn spans(&self) -> Vec<Span> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut spans: Vec<Span> = Vec::new();
        for line in text.lines() {
            if line.starts_with("Span #") {
                spans.push(Span::default());
                continue;
            }
            let Some(span) = spans.last_mut() else { continue };
            if let Some((key, value)) = line.trim().strip_prefix("-> ").and_then(|pair| pair.split_once(": "))
            {
                let value = value.split_once('(').map_or(value, |(_, v)| v.trim_end_matches(')'));
                span.attributes.insert(key.into(), value.into());
            } else if let Some((key, value)) = line.split_once(':') {
                let value = value.trim().to_owned();
                match key.trim() {
                    "Trace ID" => span.trace = value,
                    "Parent ID" => span.parent = value,
                    "ID" => span.id = value,
                    "Name" => span.name = value,
                    "Status code" => span.status = value,
                    "Start time" => span.start = value.parse().expect("a time"),
                    "End time" => span.end = value.parse().expect("a time"),
                    _ => {}
                }
            }
        }
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_collector_gets_each_call_as_one_tree_with_its_steps_and_what_plugins_were_asked() {
    let scene = Scene::new("spans");
    let collector = Collector::start(&scene);
    let hook = Webhook::start();
    let mut setup = Setup::default();
    setup.agent("alice").webhook(&hook.url());
    setup.more = format!("[telemetry]\notlp = \"http://127.0.0.1:{}\"\n", collector.port);
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    centre.agent("alice", "login");
    let mut phone = caller(&centre, "4930111");
    talk(&mut phone, "c", &mut alice, "alice-1");
    let id = only_call(&centre);
    std::thread::sleep(s(1));
    phone.hang_up("c");
    assert_eq!(phone.ended("c")["status"], 200);
    assert_eq!(alice.ended("alice-1")["status"], 200);
    let record = centre.record();
    let mut spans = Vec::new();
    eventually("the whole tree has come", s(15), || {
        spans = collector.spans();
        let has = |name: &str| spans.iter().any(|span| span.name == name);
        (has("call") && has("plugin adapter") && has("plugin script")).then_some(())
    });
    std::thread::sleep(s(2));
    let spans = collector.spans();
    let roots: Vec<_> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    assert_eq!(roots.len(), 1, "{roots:#?}");
    let root = roots[0];
    assert_eq!((&*root.name, &root.attributes["cordboard.interaction"]), ("call", &id));
    let mut ids: Vec<&str> = spans.iter().map(|span| &*span.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), spans.len(), "every span has an id of its own");
    for span in spans.iter().filter(|span| span.id != root.id) {
        assert_eq!((&span.trace, &span.parent), (&root.trace, &root.id), "{span:?}");
        assert!(span.start <= span.end && span.start + 1_000_000_000 >= root.start, "{span:?} in {root:?}");
    }
    let steps = record["timeline"].as_array().expect("a timeline");
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    for step in steps {
        assert!(!named(step["title"].as_str().expect("a title")).is_empty(), "{step}");
    }
    assert_eq!(named("offer").len(), 1);
    for (hook, plugin, outcome) in [
        ("router", "router-numbers", "script"),
        ("script", "ivr-support", "returned"),
        ("policy place", "policy-longest-idle", ""),
        ("policy rank", "policy-longest-idle", ""),
        ("adapter", "cti-webhook", ""),
    ] {
        let asked = named(&format!("plugin {hook}"));
        assert!(!asked.is_empty(), "no span of {hook}: {spans:#?}");
        for span in asked {
            assert_eq!(span.attributes["cordboard.plugin"], plugin);
            assert!(span.attributes["cordboard.outcome"].contains(outcome), "{span:?}");
            assert_eq!(span.status, "STATUS_CODE_OK", "{span:?}");
        }
    }
    // The script's span is as long as the script ran: from the answer to the end of the call.
    let script = named("plugin script")[0];
    assert!(script.end - script.start > 500_000_000, "{script:?}");
    assert_eq!(centre.metric("cordboard_otlp_spans_total{what=\"lost\"}"), 0.0);
    assert_eq!(centre.metric("cordboard_otlp_spans_total{what=\"exported\"}"), spans.len() as f64);
    centre.finish();
}

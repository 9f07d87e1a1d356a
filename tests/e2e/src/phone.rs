//! A pjsua2 phone in a process of its own, driven by lines of JSON (`tests/e2e/peers/pj.py`).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::centre::Centre;
use crate::{eventually, place, s};

/// See the module.
#[derive(Debug)]
pub struct Phone {
    process: Child,
    orders: ChildStdin,
    events: Arc<Mutex<Vec<Value>>>,
    begin: usize,
    /// For messages of failures.
    pub name: String,
    public: String,
}

impl Phone {
    /// Starts the process and its transport on a free port.
    ///
    /// # Panics
    /// When pjsua2 cannot be used.
    #[must_use]
    pub fn start(name: &str) -> Self {
        Self::with_codec(name, None)
    }

    /// As [`Self::start`], with one codec only (`PCMU` or `PCMA`).
    ///
    /// # Panics
    /// When pjsua2 cannot be used.
    #[must_use]
    pub fn with_codec(name: &str, codec: Option<&str>) -> Self {
        let mut start = json!({ "do": "start" });
        if let Some(codec) = codec {
            start["codec"] = codec.into();
        }
        Self::with_start(name, &start)
    }

    /// A carrier's other end: a phone at a port of its own that answers whoever calls, by what `answer` says.
    #[must_use]
    pub fn at(name: &str, port: u16, answer: &Value) -> Self {
        let mut phone = Self::with_start(name, &json!({ "do": "start", "port": port }));
        let id = format!("sip:{name}@127.0.0.1:{port}");
        phone.order(&json!({ "do": "account", "name": name, "id": id, "answer": answer }));
        phone
    }

    /// As [`Self::start`], naming another address than its own in Via, Contact and SDP.
    ///
    /// # Panics
    /// When pjsua2 cannot be used.
    #[must_use]
    pub fn seen_as(name: &str, address: &str) -> Self {
        Self::with_start(name, &json!({ "do": "start", "public": address }))
    }

    /// As [`Self::start`], with whatever else `start` of `pj.py` takes: `transport`, `codec`, `ca`…
    ///
    /// # Panics
    /// When pjsua2 cannot be used.
    #[must_use]
    pub fn with(name: &str, mut start: Value) -> Self {
        start["do"] = "start".into();
        Self::with_start(name, &start)
    }

    fn with_start(name: &str, start: &Value) -> Self {
        let mut process = Command::new(place::pjsua2_python())
            .arg(place::beside("e2e/peers/pj.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("Python starts");
        let public = start["public"].as_str().unwrap_or_default().to_owned();
        let orders = process.stdin.take().expect("its input");
        let lines = BufReader::new(process.stdout.take().expect("its output"));
        let events: Arc<Mutex<Vec<Value>>> = Arc::default();
        let told = events.clone();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str::<Value>(&line) {
                    told.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                }
            }
        });
        let mut phone = Self { process, orders, events, begin: 0, name: name.into(), public };
        phone.hears("ready", s(10), |_| true);
        phone.order(start);
        phone
    }

    /// A carrier's phone: an account without registration that calls by the redirect role.
    #[must_use]
    pub fn caller(number: &str) -> Self {
        let mut phone = Self::start(number);
        phone.order(&json!({ "do": "account", "name": number, "id": format!("sip:{number}@127.0.0.1") }));
        phone
    }

    /// An agent's phone that registers; it answers by what `answer` says (`{"status": 200}`…).
    #[must_use]
    pub fn agent(centre: &Centre, name: &str, answer: Value) -> Self {
        let mut phone = Self::start(name);
        phone.register(centre, name, answer);
        phone
    }

    /// Registers one more account, and waits for the 200.
    pub fn register(&mut self, centre: &Centre, name: &str, answer: Value) {
        let at = if self.public.is_empty() { "127.0.0.1" } else { &self.public };
        let registrar = format!("sip:{at}:{}", centre.ports.centre);
        self.register_at(&registrar, name, answer, json!({}));
    }

    /// As [`Self::register`], at any registrar, with whatever else an `account` of `pj.py` takes.
    pub fn register_at(&mut self, registrar: &str, name: &str, answer: Value, mut more: Value) {
        for (key, value) in [
            ("do", json!("account")),
            ("name", json!(name)),
            ("id", json!(format!("sip:{name}@acme"))),
            ("registrar", json!(registrar)),
            ("user", json!(name)),
            ("password", json!(format!("secret-{name}"))),
            ("answer", answer),
        ] {
            more[key] = value;
        }
        self.order(&more);
        self.hears("registered", s(20), |e| e["account"] == name && e["status"] == 200);
    }

    /// Sends an order and waits until it is done.
    ///
    /// # Panics
    /// When the phone refuses it.
    pub fn order(&mut self, order: &Value) {
        let before = self.all().len();
        self.orders.write_all(format!("{order}\n").as_bytes()).expect("the phone lives");
        let what = format!("{} does {order}", self.name);
        eventually(&what, s(10), || {
            let events = self.all();
            let error = events[before..].iter().find(|e| e["event"] == "error");
            assert!(error.is_none(), "{}: {order}: {}", self.name, error.unwrap());
            events[before..].iter().any(|e| e["event"] == "done" && e["do"] == order["do"]).then_some(())
        });
    }

    /// Calls a number by the redirect role, sending a tone and listening for others.
    pub fn call(&mut self, centre: &Centre, call: &str, number: &str, tone: u32, listen: &[u32]) {
        self.call_uri(call, &format!("sip:{number}@127.0.0.1:{}", centre.ports.redirect), tone, listen);
    }

    /// As [`Self::call`], to any URI.
    pub fn call_uri(&mut self, call: &str, uri: &str, tone: u32, listen: &[u32]) {
        let account = self.name.clone();
        self.order(&json!({ "do": "call", "account": account, "call": call, "uri": uri, "tone": tone, "listen": listen }));
    }

    /// Presses keys (RFC 4733).
    pub fn press(&mut self, call: &str, digits: &str) {
        self.order(&json!({ "do": "dtmf", "call": call, "digits": digits }));
    }

    /// Hangs up, or gives up while it rings.
    pub fn hang_up(&mut self, call: &str) {
        self.order(&json!({ "do": "hangup", "call": call }));
    }

    fn all(&self) -> Vec<Value> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Events from now on only.
    pub fn forget_events(&mut self) {
        self.begin = self.all().len();
    }

    /// Whether an event has come.
    #[must_use]
    pub fn has(&self, event: &str, like: impl Fn(&Value) -> bool) -> bool {
        self.all()[self.begin..].iter().any(|e| e["event"] == event && like(e))
    }

    /// How many events of a kind have come.
    #[must_use]
    pub fn count(&self, event: &str) -> usize {
        self.all()[self.begin..].iter().filter(|e| e["event"] == event).count()
    }

    /// Waits for an event.
    ///
    /// # Panics
    /// When it does not come in time.
    pub fn hears(&mut self, event: &str, within: Duration, like: impl Fn(&Value) -> bool) -> Value {
        let end = std::time::Instant::now() + within;
        loop {
            let events = self.all();
            if let Some(found) = events[self.begin..].iter().find(|e| e["event"] == event && like(e)) {
                return found.clone();
            }
            assert!(
                std::time::Instant::now() < end,
                "{}: no event {event:?} within {within:?}, but {:#?}",
                self.name,
                &events[self.begin..]
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a call is confirmed.
    pub fn confirmed(&mut self, call: &str) {
        self.hears("confirmed", s(10), |e| e["call"] == call);
    }

    /// Waits until 200 ms of a tone were heard on a call.
    pub fn hears_tone(&mut self, call: &str, hz: u32) {
        self.hears("tone", s(10), |e| e["call"] == call && e["hz"] == hz);
    }

    /// Hears nothing of a tone for so long, from now on.
    ///
    /// # Panics
    /// When it is heard.
    pub fn hears_tone_absent(&mut self, call: &str, hz: u32, within: Duration) {
        // What was on its way may still come.
        std::thread::sleep(crate::ms(300));
        self.listen_anew(call);
        std::thread::sleep(within);
        assert!(!self.has("tone", |e| e["call"] == call && e["hz"] == hz), "{} hears {hz} Hz", self.name);
    }

    /// Waits for the end of a call, and returns it: status, reason, what was heard.
    pub fn ended(&mut self, call: &str) -> Value {
        self.hears("ended", s(20), |e| e["call"] == call)
    }

    /// Forgets what was heard on a call so far, so that tones are told anew.
    pub fn listen_anew(&mut self, call: &str) {
        self.forget_events();
        self.order(&json!({ "do": "forget", "call": call }));
    }

    /// SIGKILL: the phone vanishes without a word.
    pub fn vanish(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.vanish();
    }
}

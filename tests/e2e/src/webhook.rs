//! A tiny HTTP server that keeps the CloudEvents it is sent, in the order in which they came.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// See the module.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Where it listens.
    pub at: SocketAddr,
    events: Arc<Mutex<Vec<Value>>>,
    status: Arc<Mutex<u16>>,
    refused: Arc<AtomicUsize>,
}

impl Webhook {
    /// Listens on a free port until the process ends.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the webhook");
        let hook = Self {
            at: listener.local_addr().expect("its address"),
            events: Arc::default(),
            status: Arc::new(Mutex::new(204)),
            refused: Arc::default(),
        };
        let serving = hook.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hook = serving.clone();
                std::thread::spawn(move || hook.serve(stream));
            }
        });
        hook
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/events", self.at)
    }

    /// What it answers from now on; what is refused is not kept.
    pub fn answer(&self, status: u16) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// How many requests were refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.load(Relaxed)
    }

    /// The events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The types of the events about one interaction, in order.
    #[must_use]
    pub fn types_about(&self, interaction: &str) -> Vec<String> {
        let mine = |e: &&Value| e["subject"] == interaction;
        self.events().iter().filter(mine).filter_map(|e| Some(e["type"].as_str()?.to_owned())).collect()
    }

    /// The types of the events by interaction, in order, each event once however often it was sent.
    #[must_use]
    pub fn types_once(&self) -> BTreeMap<String, Vec<String>> {
        let mut seen = BTreeSet::new();
        let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in self.events() {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            if seen.insert(text("id")) {
                types.entry(text("subject")).or_default().push(text("type"));
            }
        }
        types
    }

    fn serve(&self, stream: TcpStream) {
        let Ok(mut answers) = stream.try_clone() else { return };
        let mut reader = BufReader::new(stream);
        loop {
            let mut length = 0_usize;
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            loop {
                line.clear();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if line.trim().is_empty() {
                    break;
                }
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().unwrap_or(0);
                }
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            let status = *self.status.lock().unwrap_or_else(PoisonError::into_inner);
            if status < 300 {
                let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
                match serde_json::from_slice(&body) {
                    Ok(Value::Array(batch)) => events.extend(batch),
                    Ok(one) => events.push(one),
                    Err(error) => events.push(Value::String(format!("no JSON: {error}"))),
                }
            }
            if status >= 300 {
                self.refused.fetch_add(1, Relaxed);
            }
            if answers
                .write_all(format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").as_bytes())
                .is_err()
            {
                return;
            }
        }
    }
}

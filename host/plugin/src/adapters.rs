//! Runs `cti-adapter` plugins: a batch of events, a fresh instance, one verdict an event.
//!
//! Called by the server's feed, which keeps the cursor, the retries and the dead letters. HTTP that an
//! adapter sends is checked here against its grant and then handed to the server's client.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use cordboard_call::Name;
use cordboard_call::policy::Fault;
use wasmtime::Store;

use crate::engine::Code;
use crate::guest::{Guest, Level};
use crate::question::{Deadline, Question, ask};
use crate::registry::Registry;
use crate::url::Url;
use crate::world::World;
use crate::worlds::cti as world;
use crate::worlds::cti::cordboard::cti::{http, types};

/// A CloudEvent for an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CloudEvent {
    /// Unique and growing within the tenant.
    pub sequence: u64,
    /// The event's identifier.
    pub id: String,
    /// Such as `/tenants/demo`.
    pub source: String,
    /// Such as `call.new`.
    pub kind: String,
    /// The interaction, or the agent.
    pub subject: String,
    /// RFC 3339.
    pub time: String,
    /// A JSON object.
    pub data: String,
}

/// What an adapter says of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Delivered.
    Done,
    /// Again after so many milliseconds, 1 to 3,600,000.
    Retry(u32),
    /// To the dead letters, with this reason.
    Dead(String),
}

/// A request that a grant covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// Such as `POST`.
    pub method: String,
    /// Where to.
    pub url: Url,
    /// None that the host sets itself.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// From connecting to the end of the body.
    pub timeout_ms: u32,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpResponse {
    /// Such as 200.
    pub status: u16,
    /// Those that are text.
    pub headers: Vec<(String, String)>,
    /// At most [`crate::Limits::http_body_bytes`]; a client should stop reading there.
    pub body: Vec<u8>,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpError {
    /// Not within the time.
    Timeout,
    /// Not reached, or not HTTP.
    Connect(String),
    /// It cannot be sent like this.
    Invalid(String),
}

/// The answer to a request, later.
pub type HttpAnswer = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send>>;

/// The server's HTTP client. It follows no redirection: the target would escape the grant.
pub trait Http: Send + Sync + 'static {
    /// Sends a request that is granted. Polled on the plugins' runtime, which has no sockets: a
    /// client of another runtime hands over by a channel.
    fn send(&self, request: HttpRequest) -> HttpAnswer;
}

/// The adapters of a host. A clone is another handle of the same.
#[derive(Clone)]
pub struct Adapters {
    registry: Registry,
    http: Arc<dyn Http>,
}

impl std::fmt::Debug for Adapters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Adapters").field(&self.registry).finish()
    }
}

impl Adapters {
    /// On these plugins, with this client.
    #[must_use]
    pub fn new(registry: Registry, http: Arc<dyn Http>) -> Self {
        Self { registry, http }
    }

    /// Hands over a batch: one verdict an event, in order.
    ///
    /// May be awaited on any runtime with timers; the guest runs on the plugins' own.
    ///
    /// # Errors
    /// How the plugin failed; the events are kept and the caller tries again later. After a trap the
    /// batch has been handed over twice: delivery is at least once.
    pub async fn handle(&self, plugin: &Name, events: Vec<CloudEvent>) -> Result<Vec<Verdict>, Fault> {
        let adapters = self.clone();
        let plugin = plugin.clone();
        let run = async move { adapters.run(&plugin, events).await };
        // The engine going down is the only way for the task to vanish.
        self.registry.engine().runtime().spawn(run).await.unwrap_or(Err(Fault::Missing))
    }

    async fn run(&self, plugin: &Name, events: Vec<CloudEvent>) -> Result<Vec<Verdict>, Fault> {
        let events: Vec<types::Event> = events.into_iter().map(event).collect();
        let limits = self.registry.engine().limits();
        let deadline = Deadline { wall_ms: limits.adapter_ms, cpu_ms: limits.adapter_cpu_ms };
        let question = Batch { events: &events, http: &self.http, requests: limits.http_requests };
        ask(&self.registry, plugin, World::CtiAdapter, deadline, &question).await
    }
}

struct Batch<'q> {
    events: &'q [types::Event],
    http: &'q Arc<dyn Http>,
    requests: u32,
}

impl Question for Batch<'_> {
    type State = world::State;
    type Answer = Vec<Verdict>;

    fn state(&self) -> world::State {
        world::State { http: Some(self.http.clone()), requests_left: self.requests }
    }

    async fn put(
        &self,
        code: &Code,
        store: &mut Store<world::Data>,
    ) -> wasmtime::Result<Result<Vec<Verdict>, Fault>> {
        let Code::Cti(pre) = code else { return Ok(Err(Fault::Missing)) };
        let instance = pre.instantiate_async(&mut *store).await?;
        let verdicts = instance.call_handle(&mut *store, self.events).await?;
        Ok(check(verdicts, self.events.len()))
    }
}

fn event(event: CloudEvent) -> types::Event {
    let CloudEvent { sequence, id, source, kind, subject, time, data } = event;
    types::Event { sequence, id, source, type_: kind, subject, time, data }
}

fn check(verdicts: Vec<types::Verdict>, events: usize) -> Result<Vec<Verdict>, Fault> {
    if verdicts.len() != events {
        return Err(Fault::Nonsense(format!("{} verdicts for {events} events", verdicts.len())));
    }
    Ok(verdicts
        .into_iter()
        .map(|verdict| match verdict {
            types::Verdict::Done => Verdict::Done,
            types::Verdict::Retry(ms) => Verdict::Retry(ms.clamp(1, 3_600_000)),
            types::Verdict::Dead(reason) => Verdict::Dead(crate::guest::clip(&reason, 1_024).to_owned()),
        })
        .collect())
}

/// Headers that decide where a message goes or ends: the client sets them.
const OURS: [&str; 7] =
    ["host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "proxy-authorization"];

impl Guest<world::State> {
    /// Checks a request against the grants and the limits.
    fn granted(&mut self, request: http::Request) -> Result<HttpRequest, http::Error> {
        let invalid = |text: String| Err(http::Error::Invalid(text));
        let url = Url::parse(&request.url).map_err(http::Error::Invalid)?;
        let context = self.context.clone();
        if !context.grants.allows_http(&url) {
            context.stats.denied.fetch_add(1, Relaxed);
            let text = format!(
                "the grant `http` covers {}, not {}:{}",
                if context.grants.http.is_empty() {
                    "nothing".into()
                } else {
                    context.grants.http.join(", ")
                },
                url.host,
                url.port
            );
            self.log.line(Level::Warn, &text);
            return Err(http::Error::Denied(text));
        }
        if self.world.requests_left == 0 {
            context.stats.denied.fetch_add(1, Relaxed);
            return Err(http::Error::Denied(format!(
                "the limit `http_requests` is {}",
                context.limits.http_requests
            )));
        }
        self.world.requests_left -= 1;
        let token = |text: &str| !text.is_empty() && text.bytes().all(is_token);
        if !token(&request.method) || request.method.eq_ignore_ascii_case("connect") {
            return invalid(format!("`{}` is not a method to send", request.method));
        }
        if request.headers.len() > 64 || request.body.len() > context.limits.http_body_bytes {
            return invalid(format!(
                "at most 64 headers and a body of {} bytes",
                context.limits.http_body_bytes
            ));
        }
        for (name, value) in &request.headers {
            if !token(name) || OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
                return invalid(format!("the header `{name}` is not a plugin's to set"));
            }
            if value.bytes().any(|b| b < 0x20 && b != b'\t' || b == 0x7f) {
                return invalid(format!("the header `{name}` holds a control character"));
            }
        }
        Ok(HttpRequest {
            method: request.method,
            url,
            headers: request.headers,
            body: request.body,
            timeout_ms: request.timeout_ms.clamp(1, 60_000),
        })
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

impl http::Host for Guest<world::State> {
    async fn send(
        &mut self,
        request: http::Request,
    ) -> wasmtime::Result<Result<http::Response, http::Error>> {
        self.host_call()?;
        let request = match self.granted(request) {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        let Some(client) = self.world.http.clone() else {
            return Ok(Err(http::Error::Denied("`describe` reaches nothing".into())));
        };
        self.context.stats.http_requests.fetch_add(1, Relaxed);
        let timeout = crate::limits::ms(u64::from(request.timeout_ms));
        let answer = tokio::time::timeout(timeout, client.send(request)).await;
        let most = self.context.limits.http_body_bytes;
        Ok(match answer.unwrap_or(Err(HttpError::Timeout)) {
            Ok(response) if response.body.len() > most => {
                Err(http::Error::Invalid(format!("the answer is longer than {most} bytes")))
            }
            Ok(response) => {
                Ok(http::Response { status: response.status, headers: response.headers, body: response.body })
            }
            Err(HttpError::Timeout) => Err(http::Error::Timeout),
            Err(HttpError::Connect(text)) => Err(http::Error::Connect(text)),
            Err(HttpError::Invalid(text)) => Err(http::Error::Invalid(text)),
        })
    }
}

//! HTTP to hosts that the operator granted.
//!
//! Requests block until the answer is there; the host runs other work meanwhile.

use super::bindings::cordboard::cti::http as raw;
use super::{BATCH_TYPE, Event, SINGLE_TYPE, batch_json};

pub use raw::{Error, Response};

/// A request in the making. It times out after 10 s unless told otherwise.
#[derive(Clone, Debug)]
pub struct Request(raw::Request);

/// A POST to an absolute `http` URL.
pub fn post(url: impl Into<String>) -> Request {
    request("POST", url)
}

/// A GET of an absolute `http` URL.
pub fn get(url: impl Into<String>) -> Request {
    request("GET", url)
}

/// A request with any method.
pub fn request(method: &str, url: impl Into<String>) -> Request {
    Request(raw::Request {
        method: method.to_owned(),
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout_ms: 10_000,
    })
}

impl Request {
    /// One more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.headers.push((name.into(), value.into()));
        self
    }

    /// The body and its content type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.0.body = body.into();
        self.header("Content-Type", content_type)
    }

    /// One event as the body, in CloudEvents' structured mode.
    #[must_use]
    pub fn json_event(self, event: &Event) -> Self {
        self.body(SINGLE_TYPE, event.to_json())
    }

    /// Events as the body, in CloudEvents' batched mode.
    #[must_use]
    pub fn json_batch<'a>(self, events: impl IntoIterator<Item = &'a Event>) -> Self {
        self.body(BATCH_TYPE, batch_json(events))
    }

    /// Gives up after so many milliseconds, 1 to 60,000.
    #[must_use]
    pub fn timeout_ms(mut self, ms: u32) -> Self {
        self.0.timeout_ms = ms.clamp(1, 60_000);
        self
    }

    /// Sends it and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Denied`] when the host is not granted, [`Error::Timeout`], [`Error::Connect`]
    /// when retrying may help, [`Error::Invalid`] when it cannot. Any HTTP status is an answer.
    pub fn send(self) -> Result<Response, Error> {
        #[cfg(target_arch = "wasm32")]
        return raw::send(&self.0);
        #[cfg(not(target_arch = "wasm32"))]
        return super::testing::answer(self.0);
    }
}

impl Response {
    /// Whether the status is one of 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

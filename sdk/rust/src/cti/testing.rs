//! Events and a web server's double, for native tests of adapters.

use std::cell::RefCell;

use super::Event;
use super::bindings::cordboard::cti::http::{Error, Request, Response};

type Answer = Box<dyn FnMut(&Request) -> Result<Response, Error>>;

thread_local! {
    static SERVER: RefCell<Option<Answer>> = const { RefCell::new(None) };
    static REQUESTS: RefCell<Vec<Request>> = const { RefCell::new(Vec::new()) };
}

/// From here on requests of this thread are answered by this function.
pub fn server(answer: impl FnMut(&Request) -> Result<Response, Error> + 'static) {
    REQUESTS.with_borrow_mut(Vec::clear);
    SERVER.with_borrow_mut(|server| *server = Some(Box::new(answer)));
}

/// From here on requests of this thread get this status and an empty body.
pub fn server_status(status: u16) {
    server(move |_| Ok(response(status)));
}

/// An answer without headers and body.
pub fn response(status: u16) -> Response {
    Response { status, headers: Vec::new(), body: Vec::new() }
}

/// Takes the requests that were sent.
pub fn requests() -> Vec<Request> {
    REQUESTS.with_borrow_mut(std::mem::take)
}

/// An event of a test.
pub fn event(sequence: u64, kind: &str, subject: &str, data: &str) -> Event {
    Event {
        sequence,
        id: format!("test-{sequence}"),
        source: "/test".to_owned(),
        type_: kind.to_owned(),
        subject: subject.to_owned(),
        time: "2026-03-02T10:00:00Z".to_owned(),
        data: data.to_owned(),
    }
}

pub(super) fn answer(request: Request) -> Result<Response, Error> {
    let answer = SERVER.with_borrow_mut(|server| match server {
        Some(answer) => answer(&request),
        None => Err(Error::Connect("the test has no server".to_owned())),
    });
    REQUESTS.with_borrow_mut(|requests| requests.push(request));
    answer
}

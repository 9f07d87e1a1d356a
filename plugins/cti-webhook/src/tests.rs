//! The webhook against a server's double.

use cordboard_sdk::cti::testing::{event, requests, response, server, server_status};
use cordboard_sdk::cti::*;
use cordboard_sdk::testing::settings;

use super::Webhook;

fn three() -> Vec<Event> {
    vec![
        event(1, "call.new", "A", "{}"),
        event(2, "agent.state", "ann", "{}"),
        event(3, "call.bridged", "A", "{}"),
    ]
    .into_iter()
    .map(recent)
    .collect()
}

/// An event of about now, since old ones are given up.
fn recent(mut event: Event) -> Event {
    "2999-01-01T00:00:00Z".clone_into(&mut event.time);
    event
}

fn is_retry(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Retry(_))
}

fn body(request: &[u8]) -> String {
    String::from_utf8(request.to_vec()).unwrap()
}

#[test]
fn a_batch_is_one_request_with_the_configured_header() {
    settings([("url", "http://crm.example/hook"), ("authorization", "Bearer t")]);
    server_status(204);
    let events = three();
    assert_eq!(Webhook::handle(&events), same(Verdict::Done, &events));
    let requests = requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method, "POST");
    assert_eq!(requests[0].url, "http://crm.example/hook");
    assert_eq!(body(&requests[0].body), batch_json(&events));
    for header in [("Authorization", "Bearer t"), ("Content-Type", "application/cloudevents-batch+json")] {
        assert!(requests[0].headers.contains(&(header.0.to_owned(), header.1.to_owned())), "{header:?}");
    }
}

#[test]
fn single_mode_posts_each_event_on_its_own() {
    settings([("url", "http://crm.example/"), ("mode", "single")]);
    server_status(200);
    let events = three();
    Webhook::handle(&events);
    let requests = requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(body(&requests[2].body), events[2].to_json());
    assert!(requests[0].headers.iter().any(|(_, value)| value == "application/cloudevents+json"));
}

#[test]
fn only_wanted_types_are_sent_and_the_others_are_done() {
    settings([("url", "http://crm.example/"), ("types", "call.*, queue.entered")]);
    server_status(500);
    let answers = Webhook::handle(&three());
    assert!(is_retry(&answers[0]) && answers[1] == Verdict::Done && is_retry(&answers[2]));
    settings([("url", "http://crm.example/"), ("types", "none")]);
    server_status(500);
    assert_eq!(Webhook::handle(&three()), same(Verdict::Done, &three()));
    assert!(requests().is_empty(), "nothing to send, nothing sent");
}

#[test]
fn what_may_pass_is_tried_again_and_what_will_not_is_dead() {
    settings([("url", "http://crm.example/")]);
    for (status, retried) in
        [(408, true), (429, true), (500, true), (503, true), (301, false), (401, false), (404, false)]
    {
        server_status(status);
        let answers = Webhook::handle(&three());
        assert!(answers.iter().all(|answer| is_retry(answer) == retried), "{status}: {answers:?}");
        assert_eq!(requests().len(), 1, "{status}");
        if !retried {
            assert_eq!(answers[0], dead(format!("HTTP {status}")));
        }
    }
}

#[test]
fn a_server_that_is_away_is_asked_once_and_the_events_wait() {
    for mode in ["batch", "single"] {
        settings([("url", "http://crm.example/"), ("mode", mode)]);
        server(|_| Err(http::Error::Connect("refused".to_owned())));
        assert!(Webhook::handle(&three()).iter().all(is_retry), "{mode}");
        assert_eq!(requests().len(), 1, "{mode}");
    }
}

#[test]
fn the_operators_mistakes_cost_no_event() {
    settings([("url", "http://crm.example/")]);
    server(|_| Err(http::Error::Denied("http crm.example".to_owned())));
    assert!(Webhook::handle(&three()).iter().all(is_retry));
    settings([]);
    assert!(Webhook::handle(&three()).iter().all(is_retry));
}

#[test]
fn retry_after_is_obeyed() {
    settings([("url", "http://crm.example/")]);
    server(|_| {
        let mut busy = response(429);
        busy.headers.push(("retry-after".to_owned(), "17".to_owned()));
        Ok(busy)
    });
    assert_eq!(Webhook::handle(&three())[0], Verdict::Retry(17_000));
}

#[test]
fn the_delay_grows_with_the_age_and_ends_with_the_patience() {
    settings([("url", "http://crm.example/"), ("give_up_after_s", "99999999999")]);
    server_status(500);
    let old = event(1, "call.new", "A", "{}");
    let ancient = Event { time: "1999-01-01T00:00:00Z".to_owned(), ..old.clone() };
    assert_eq!(Webhook::handle(std::slice::from_ref(&recent(old.clone()))), [Verdict::Retry(1_000)]);
    assert_eq!(Webhook::handle(std::slice::from_ref(&ancient)), [Verdict::Retry(300_000)]);
    settings([("url", "http://crm.example/"), ("give_up_after_s", "3600")]);
    let answers = Webhook::handle(std::slice::from_ref(&ancient));
    assert_eq!(answers, [dead("given up after 3600 s: HTTP 500")]);
}

#[test]
fn one_bad_event_does_not_take_its_batch_with_it() {
    settings([("url", "http://crm.example/")]);
    server(|request| Ok(response(if body(&request.body).contains("poison") { 400 } else { 200 })));
    let events: Vec<Event> = (0..8)
        .map(|n| recent(event(n, "call.new", &format!("S{n}"), if n == 5 { "\"poison\"" } else { "{}" })))
        .collect();
    let answers = Webhook::handle(&events);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(*answer == dead("HTTP 400"), n == 5, "{n}: {answer:?}");
    }
}

#[test]
fn no_event_overtakes_an_earlier_one_of_its_subject() {
    // Single mode: the first of A fails for a while, so the second of A must not be sent.
    settings([("url", "http://crm.example/"), ("mode", "single")]);
    server(|request| Ok(response(if body(&request.body).contains("call.new") { 503 } else { 200 })));
    let answers = Webhook::handle(&three());
    assert!(is_retry(&answers[0]) && answers[1] == Verdict::Done && is_retry(&answers[2]));
    assert_eq!(requests().len(), 2);
    // Batch mode: the batch is halved, and the half with the first of A fails for a while.
    settings([("url", "http://crm.example/")]);
    server(|request| {
        let body = body(&request.body);
        let status = if body.matches("specversion").count() > 1 {
            400
        } else if body.contains("call.new") {
            503
        } else {
            200
        };
        Ok(response(status))
    });
    let answers = Webhook::handle(&three());
    assert!(is_retry(&answers[0]) && answers[1] == Verdict::Done && is_retry(&answers[2]), "{answers:?}");
    assert!(requests().iter().all(|sent| {
        let body = body(&sent.body);
        body.matches("specversion").count() > 1 || !body.contains("call.bridged")
    }));
}

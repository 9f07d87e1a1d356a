//! Batches of events, and what an adapter may reach; redirect policies, which are asked the same way.

use std::sync::{Arc, Mutex};

use cordboard_call::policy::Fault;
use cordboard_plugin::{
    Adapters, CloudEvent, Grants, Http, HttpAnswer, HttpError, HttpRequest, HttpResponse, Install, Limits,
    Manifest, Node, Redirects, Verdict, World,
};

use crate::harness::{Host, component_bytes, limits, settings, wait};

/// A client that notes what it is given.
#[derive(Default)]
struct Notebook {
    sent: Mutex<Vec<HttpRequest>>,
    answer: Mutex<Option<Result<HttpResponse, HttpError>>>,
}

impl Http for Notebook {
    fn send(&self, request: HttpRequest) -> HttpAnswer {
        self.sent.lock().unwrap().push(request);
        let answer = self.answer.lock().unwrap().clone();
        let ok = HttpResponse { status: 204, ..HttpResponse::default() };
        Box::pin(async move { answer.unwrap_or(Ok(ok)) })
    }
}

fn events(data: &[&str]) -> Vec<CloudEvent> {
    data.iter()
        .enumerate()
        .map(|(at, data)| CloudEvent {
            sequence: at as u64 + 1,
            id: at.to_string(),
            source: "/tenants/demo".into(),
            kind: "call.new".into(),
            subject: "01JD".into(),
            time: "2026-11-23T12:00:00Z".into(),
            data: format!("{{\"text\":\"{data}\"}}"),
        })
        .collect()
}

fn adapter(limits: Limits, settings: &[(&str, &str)]) -> (Host, Adapters, Arc<Notebook>) {
    let host = Host::with(limits, 16);
    host.load_with("cti", "misbehave_cti", World::CtiAdapter, settings).expect("installed");
    let http = Arc::new(Notebook::default());
    let adapters = Adapters::new(host.registry.clone(), http.clone());
    (host, adapters, http)
}

#[test]
fn an_adapter_gives_a_verdict_an_event() {
    let (_host, adapters, _) = adapter(limits(), &[]);
    let verdicts = wait(adapters.handle(&"cti".into(), events(&["a", "b"])));
    assert_eq!(verdicts, Ok(vec![Verdict::Done, Verdict::Done]));
    let verdicts = wait(adapters.handle(&"cti".into(), events(&["misbehave:retry"])));
    assert_eq!(verdicts, Ok(vec![Verdict::Retry(1)]), "0 ms would be a busy loop");
    let verdicts = wait(adapters.handle(&"cti".into(), events(&["misbehave:dead"]))).expect("an answer");
    assert!(matches!(&verdicts[..], [Verdict::Dead(reason)] if reason.len() == 1_024), "cut to measure");
}

#[test]
fn each_way_to_fail_has_its_name() {
    let limits = Limits { adapter_cpu_ms: 300, ..limits() };
    let (_host, adapters, _) = adapter(limits, &[]);
    let ask = |mode: &str| wait(adapters.handle(&"cti".into(), events(&[&format!("misbehave:{mode}")])));
    assert!(matches!(ask("trap"), Err(Fault::Trap(_))));
    assert!(matches!(ask("few"), Err(Fault::Nonsense(text)) if text == "0 verdicts for 1 events"));
    assert!(matches!(ask("many"), Err(Fault::Nonsense(_))));
    assert_eq!(ask("loop"), Err(Fault::Timeout), "CPU, long before the 30 s of a batch");
    assert!(ask("well").is_ok());
}

#[test]
fn an_adapter_that_eats_memory_is_named() {
    let (_host, adapters, _) = adapter(Limits { adapter_cpu_ms: 20_000, ..limits() }, &[]);
    assert_eq!(wait(adapters.handle(&"cti".into(), events(&["misbehave:memory"]))), Err(Fault::Memory));
}

#[test]
fn what_no_grant_covers_is_denied_and_never_sent() {
    let (host, adapters, http) = adapter(limits(), &[("url", "http://192.0.2.9/")]);
    let verdicts = wait(adapters.handle(&"cti".into(), events(&["misbehave:ungranted"])));
    assert_eq!(verdicts, Ok(vec![Verdict::Done]), "the adapter says done only when it was denied");
    assert!(http.sent.lock().unwrap().is_empty());
    assert_eq!(host.registry.stats("cti").expect("counted").denied, 1);
    assert!(host.logged("the grant `http` covers nothing, not 192.0.2.9:80"));
}

#[test]
fn the_webhook_posts_to_the_host_that_is_granted_and_to_no_other() {
    let manifest =
        Manifest::parse(include_str!("../../../../plugins/cti-webhook/plugin.toml")).expect("good");
    let bytes = component_bytes("cti_webhook");
    for (granted, reached) in
        [(vec!["crm.example.com:8080".to_owned()], true), (vec!["other.example.com".to_owned()], false)]
    {
        let host = Host::new();
        host.registry
            .install(&Install {
                name: "cti",
                world: Some(World::CtiAdapter),
                bytes: &bytes,
                manifest: Some(manifest.clone()),
                settings: settings(&[("url", "http://crm.example.com:8080/hook")]),
                grant: Grants { http: granted },
            })
            .expect("installed");
        let http = Arc::new(Notebook::default());
        let adapters = Adapters::new(host.registry.clone(), http.clone());
        let verdicts = wait(adapters.handle(&"cti".into(), events(&["a", "b"]))).expect("an answer");
        let sent = http.sent.lock().unwrap();
        assert_eq!(!sent.is_empty(), reached, "{verdicts:?}");
        if reached {
            assert_eq!(verdicts, [Verdict::Done, Verdict::Done]);
            assert_eq!(
                (sent[0].url.host.as_str(), sent[0].url.port, sent[0].url.path.as_str()),
                ("crm.example.com", 8080, "/hook")
            );
            assert!(String::from_utf8_lossy(&sent[0].body).contains("\"specversion\""));
        } else {
            assert!(verdicts.iter().all(|verdict| *verdict != Verdict::Done), "{verdicts:?}");
        }
    }
}

#[test]
fn an_answer_of_the_other_side_decides_the_verdict() {
    let manifest =
        Manifest::parse(include_str!("../../../../plugins/cti-webhook/plugin.toml")).expect("good");
    let host = Host::new();
    host.registry
        .install(&Install {
            name: "cti",
            world: Some(World::CtiAdapter),
            bytes: &component_bytes("cti_webhook"),
            manifest: Some(manifest),
            settings: settings(&[("url", "http://crm.example.com/hook")]),
            grant: Grants { http: vec!["*.example.com".into()] },
        })
        .expect("installed");
    let http = Arc::new(Notebook::default());
    let adapters = Adapters::new(host.registry.clone(), http.clone());
    *http.answer.lock().unwrap() = Some(Err(HttpError::Connect("refused".into())));
    let verdicts = wait(adapters.handle(&"cti".into(), events(&["a"]))).expect("an answer");
    assert!(matches!(verdicts[..], [Verdict::Retry(_)]), "{verdicts:?}");
    *http.answer.lock().unwrap() = Some(Ok(HttpResponse { status: 400, ..HttpResponse::default() }));
    let verdicts = wait(adapters.handle(&"cti".into(), events(&["a"]))).expect("an answer");
    assert!(matches!(verdicts[..], [Verdict::Dead(_)]), "{verdicts:?}");
}

#[test]
fn a_redirect_policy_plans_and_its_nonsense_is_named() {
    let host = Host::with(Limits { redirect_ms: 5_000, ..limits() }, 16);
    host.load("redirect", "misbehave_redirect", World::RedirectPolicy);
    let redirects = Redirects::new(host.registry.clone());
    let plan = |mode: &str| {
        let attributes =
            if mode.is_empty() { Vec::new() } else { vec![("misbehave".to_owned(), mode.to_owned())] };
        let nodes = [
            Node { id: "a".into(), capacity: 10, calls: 1, calls_per_s: 1, attributes },
            Node { id: "b".into(), capacity: 10, ..Node::default() },
        ];
        wait(redirects.plan(&"redirect".into(), &nodes, &["trunk".to_owned()]))
    };
    let good = plan("").expect("a plan");
    assert_eq!((good.classes, good.ttl_ms), (vec![("default".to_owned(), vec![100, 100])], 5_000));
    assert!(matches!(plan("nonsense"), Err(Fault::Nonsense(_))));
    assert!(matches!(plan("huge"), Err(Fault::Nonsense(_))));
    assert!(matches!(plan("trap"), Err(Fault::Trap(_))));
    assert_eq!(plan("memory"), Err(Fault::Memory));
    let host = Host::with(Limits { redirect_ms: 100, ..limits() }, 16);
    host.load_with("redirect", "misbehave_redirect", World::RedirectPolicy, &[("mode", "loop")])
        .expect("installed");
    let redirects = Redirects::new(host.registry.clone());
    assert_eq!(wait(redirects.plan(&"redirect".into(), &[], &[])), Err(Fault::Timeout));
}

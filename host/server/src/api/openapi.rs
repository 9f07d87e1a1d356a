//! The OpenAPI 3.1 document, made from the one table of routes.

use serde_json::{Map, Value, json};

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// In small letters.
    pub method: &'static str,
    /// With `{names}`.
    pub path: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Whether a token is needed.
    pub guarded: bool,
    /// Names of query parameters with their JSON type.
    pub query: &'static [(&'static str, &'static str)],
    /// Media type and schema of the body, if it takes one.
    pub body: Option<(&'static str, &'static str)>,
    /// Media type and schema of the answer.
    pub answer: (&'static str, &'static str),
}

const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";
const FILTER: &[(&str, &str)] = &[
    ("tenant", "string"),
    ("since_ms", "integer"),
    ("until_ms", "integer"),
    ("caller", "string"),
    ("called", "string"),
    ("workgroup", "string"),
    ("agent", "string"),
    ("cause", "integer"),
    ("before_row", "integer"),
    ("limit", "integer"),
];
const EXPORT: &[(&str, &str)] = &[
    ("format", "string"),
    ("tenant", "string"),
    ("since_ms", "integer"),
    ("until_ms", "integer"),
    ("caller", "string"),
    ("called", "string"),
    ("workgroup", "string"),
    ("agent", "string"),
    ("cause", "integer"),
    ("limit", "integer"),
];

const fn get(path: &'static str, summary: &'static str, schema: &'static str) -> Route {
    Route { method: "get", path, summary, guarded: true, query: &[], body: None, answer: (JSON, schema) }
}

const fn post(path: &'static str, summary: &'static str, schema: &'static str) -> Route {
    Route { method: "post", ..get(path, summary, schema) }
}

/// All of them.
pub const ROUTES: &[Route] = &[
    Route { guarded: false, ..get("/v1/healthz", "Whether calls can be served: 200 or 503", "Health") },
    Route { guarded: false, ..get("/openapi.json", "This document", "Any") },
    Route {
        answer: ("text/plain", "Text"),
        ..get("/metrics", "Metrics in the Prometheus text format", "Text")
    },
    get("/v1/node", "What this node is and does", "Node"),
    post("/v1/reload", "Read the configuration anew and apply it without dropping a call", "Reloaded"),
    post("/v1/drain", "Refuse new calls; live ones go on", "Node"),
    get("/v1/calls", "Live calls", "Calls"),
    get("/v1/calls/{id}", "A call with its timeline, live or ended", "Call"),
    Route {
        answer: (SSE, "Text"),
        ..get(
            "/v1/calls/{id}/events",
            "A call's timeline as it happens: `line`, `closed` and `missed` events",
            "Text",
        )
    },
    get(
        "/v1/calls/{id}/sip",
        "The SIP of a call's legs, message by message; `id` may be a Call-ID too. `trace.sip_keep_s` says how long it is kept",
        "Sip",
    ),
    Route {
        answer: ("application/vnd.tcpdump.pcap", "Binary"),
        ..get(
            "/v1/calls/{id}/pcap",
            "The same as a capture file; what came by TLS or WebSocket stands in it in the clear",
            "Binary",
        )
    },
    post("/v1/calls/{id}/clear", "End a call", "Done"),
    post("/v1/calls/{id}/hold", "Hold a call: the caller hears music", "Done"),
    post("/v1/calls/{id}/retrieve", "Retrieve a held call", "Done"),
    Route { answer: (SSE, "Text"), ..get("/v1/timeline", "All calls' timelines as they happen", "Text") },
    get("/v1/agents", "Agents with their states", "Agents"),
    Route {
        body: Some((JSON, "AgentWish")),
        ..post(
            "/v1/agents/{tenant}/{agent}/{action}",
            "`action` is login, logout, ready or not-ready",
            "Done",
        )
    },
    get("/v1/queues", "Queues with their entries", "Queues"),
    get("/v1/trunks", "Trunks with their calls, registrations and destinations", "Trunks"),
    Route { query: FILTER, ..get("/v1/records", "Detail records, newest first", "Records") },
    Route {
        query: EXPORT,
        answer: ("text/csv", "Text"),
        ..get(
            "/v1/records/export",
            "Detail records as CSV, or whole as JSON lines with `format=jsonl`",
            "Text",
        )
    },
    get("/v1/records/{id}", "A detail record with its timeline", "Call"),
    get("/v1/plugins", "Plugins in service with their counters", "Plugins"),
    Route {
        method: "put",
        body: Some(("application/wasm", "Binary")),
        ..get(
            "/v1/plugins/{name}",
            "Check a component and put it into service: new calls take it, live ones end on theirs",
            "Loaded",
        )
    },
    post("/v1/plugins/{name}/roll-back", "Go back to the version before", "Any"),
    Route {
        query: &[("limit", "integer")],
        ..get("/v1/dead-letters", "Events that adapters have given up, newest first", "DeadLetters")
    },
    get("/v1/bans", "Senders that are shut out for a while", "Bans"),
    Route { method: "delete", ..get("/v1/bans/{source}", "Let a sender in again", "Done") },
    Route { method: "delete", ..get("/v1/dead-letters/{id}", "Forget a dead letter", "Done") },
];

fn object(properties: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> =
        properties.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    json!({ "type": "object", "properties": properties })
}

fn of(kind: &str) -> Value {
    json!({ "type": kind })
}

fn optional(kind: &str) -> Value {
    json!({ "type": [kind, "null"] })
}

fn list(item: Value) -> Value {
    object(&[("items", json!({ "type": "array", "items": item }))])
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn schemas() -> Value {
    let (text, number, flag) = (of("string"), of("integer"), of("boolean"));
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    let line = object(&[
        ("step", number.clone()),
        ("title", text.clone()),
        ("wall_ms", number.clone()),
        ("mono_ns", number.clone()),
        ("after_ms", of("number")),
        ("call_id", optional("string")),
        ("cseq", optional("integer")),
        ("bus_seq", optional("integer")),
        ("ticket", optional("string")),
        ("token", optional("string")),
        ("detail", text.clone()),
    ]);
    json!({
        "Any": {},
        "Text": text,
        "Binary": { "type": "string", "format": "binary" },
        "Done": object(&[("done", flag.clone())]),
        "Health": object(&[("ok", flag.clone()), ("state", text.clone()), ("stalled", texts.clone())]),
        "Problem": object(&[("type", text.clone()), ("title", text.clone()), ("status", number.clone()), ("detail", text.clone())]),
        "Node": object(&[
            ("node", text.clone()), ("version", text.clone()), ("roles", texts.clone()), ("redirect", optional("string")),
            ("centre", optional("string")), ("uptime_s", number.clone()), ("calls", number.clone()), ("scripts", number.clone()), ("draining", flag.clone()),
        ]),
        "Reloaded": object(&[("needs_restart", texts.clone()), ("plugins", json!({ "type": "object", "additionalProperties": { "type": "string" } }))]),
        "AgentWish": object(&[("ready", flag.clone()), ("reason", text.clone())]),
        "Line": line,
        "Calls": list(object(&[
            ("interaction", text.clone()), ("tenant", text.clone()), ("caller", text.clone()), ("called", text.clone()), ("state", text.clone()),
            ("began_ms", number.clone()), ("workgroup", optional("string")), ("agent", optional("string")), ("attributes", of("array")), ("last", json!({})),
        ])),
        "Call": object(&[
            ("live", flag.clone()), ("interaction", text.clone()), ("tenant", text.clone()), ("trunk", text.clone()), ("caller", text.clone()),
            ("called", text.clone()), ("call_id", text.clone()), ("began_ms", number.clone()), ("ended_ms", number.clone()), ("end", of("object")),
            ("attributes", of("array")), ("offers", of("array")), ("workgroup", text.clone()), ("agent", text.clone()), ("waited_ms", number.clone()),
            ("talked_ms", number.clone()), ("timeline", json!({ "type": "array", "items": reference("Line") })),
        ]),
        "Sip": object(&[
            ("items", json!({ "type": "array", "items": object(&[
                ("wall_ms", number.clone()), ("after_ms", of("number")), ("role", text.clone()), ("direction", text.clone()),
                ("transport", text.clone()), ("local", text.clone()), ("remote", text.clone()), ("call_id", text.clone()), ("what", text.clone()),
                ("cseq", text.clone()), ("retransmission", flag.clone()), ("bytes", number.clone()), ("text", text.clone()),
            ]) })),
            ("left_out", number.clone()),
        ]),
        "Agents": list(object(&[
            ("tenant", text.clone()), ("agent", text.clone()), ("state", text.clone()), ("reason", text.clone()), ("since_ms", number.clone()),
            ("interaction", optional("string")), ("misses", number.clone()), ("calls", number.clone()), ("reachable", flag.clone()), ("workgroups", texts.clone()),
        ])),
        "Queues": list(object(&[
            ("tenant", text.clone()), ("workgroup", text.clone()), ("waiting", number.clone()), ("offered", number.clone()), ("taken", number.clone()),
            ("longest_wait_ms", number.clone()), ("estimate_s", optional("integer")), ("agents_ready", number.clone()),
            ("agents_logged_in", number.clone()), ("entered", number.clone()), ("served", number.clone()), ("abandoned", number.clone()),
            ("estimate_error_ms", optional("integer")), ("entries", of("array")),
        ])),
        "Trunks": list(object(&[
            ("trunk", text.clone()), ("calls_in", number.clone()), ("calls_out", number.clone()), ("max_calls", number.clone()),
            ("admitted", number.clone()), ("refused", number.clone()), ("out", number.clone()), ("out_full", number.clone()), ("peer", optional("string")),
            ("registration", json!({ "type": ["object", "null"], "properties": {
                "state": text, "expires_in_s": optional("integer"), "status": optional("integer"), "reason": text, "failures": number,
            } })),
            ("destinations", json!({ "type": "array", "items": object(&[
                ("uri", text.clone()), ("priority", number.clone()), ("weight", number.clone()), ("serves", flag.clone()),
                ("last_status", optional("integer")), ("calls", number.clone()), ("failed", number.clone()),
            ]) })),
        ])),
        "Records": list(object(&[
            ("row", number.clone()), ("interaction", text.clone()), ("tenant", text.clone()), ("trunk", text.clone()), ("caller", text.clone()),
            ("called", text.clone()), ("call_id", text.clone()), ("began_ms", number.clone()), ("ended_ms", number.clone()), ("cause", number.clone()),
            ("ended_by", text.clone()), ("text", text.clone()), ("status", number.clone()), ("answered", flag.clone()), ("workgroup", text.clone()),
            ("agent", text.clone()), ("waited_ms", number.clone()), ("talked_ms", number.clone()), ("estimate_ms", optional("integer")),
            ("estimate_actual_ms", optional("integer")), ("recordings", texts.clone()),
        ])),
        "Plugins": list(of("object")),
        "Loaded": object(&[("plugin", text.clone()), ("digest", text.clone()), ("description", of("object"))]),
        "Bans": list(object(&[("source", text.clone()), ("until_ms", number.clone()), ("times", number.clone())])),
        "DeadLetters": list(object(&[
            ("id", number.clone()), ("adapter", text.clone()), ("place", number.clone()), ("wall_ms", number), ("reason", text), ("event", of("object")),
        ])),
    })
}

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let mut parameters: Vec<Value> = route
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        parameters.extend(
            route.query.iter().map(|(name, kind)| json!({ "name": name, "in": "query", "required": false, "schema": { "type": kind } })),
        );
        let problem = json!({ "description": "what went wrong (RFC 9457)", "content": { "application/problem+json": { "schema": reference("Problem") } } });
        let (kind, schema) = route.answer;
        let mut operation = json!({
            "summary": route.summary,
            "parameters": parameters,
            "responses": {
                "200": { "description": "done", "content": { kind: { "schema": reference(schema) } } },
                "default": problem,
            },
        });
        if route.guarded {
            operation["security"] = json!([{ "bearer": [] }]);
        }
        if let Some((kind, schema)) = route.body {
            operation["requestBody"] = json!({ "content": { kind: { "schema": reference(schema) } } });
        }
        paths.entry(route.path).or_insert_with(|| json!({}))[route.method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Cordboard admin API", "version": env!("CARGO_PKG_VERSION"), "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" } },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_document_is_defined() {
        let document = document();
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
        assert_eq!(
            document["paths"].as_object().unwrap().len(),
            ROUTES.iter().map(|r| r.path).collect::<std::collections::BTreeSet<_>>().len()
        );
    }
}

//! Metrics in the Prometheus text format 0.0.4. Counters end in `_total`, units stand in the name.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::extract::State as Extract;
use axum::http::header;
use axum::response::IntoResponse;
use cordboard_call::commands::{AgentStateName, Command, Reply};

use super::State;

/// The text, family by family.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP cordboard_{name} {help}\n# TYPE cordboard_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "cordboard_{name}");
        for (i, (label, value)) in labels.iter().enumerate() {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{escaped}\"", if i == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.family(name, "counter", help);
        for (what, value) in values {
            self.sample(name, &[(label, what)], value);
        }
    }
}

fn read(value: &AtomicU64) -> u64 {
    value.load(Relaxed)
}

pub(super) async fn metrics(Extract(shared): State) -> impl IntoResponse {
    let mut t = Text::default();
    t.gauge("up", "1 while calls can be served", u8::from(shared.health().ok));
    t.counter("calls_closed_total", "calls whose record is whole", read(&shared.releaser.closed));
    if let Some(centre) = &shared.centre {
        if let Some(c) = centre.shard_view.counts() {
            t.gauge("calls", "calls that are up", c.calls);
            t.gauge("legs", "SIP legs that are up", c.legs);
            t.gauge("media_legs", "media legs that are up", c.media_legs);
            t.gauge("scripts", "scripts that run", c.scripts);
            t.gauge("rings", "offers that ring", c.tokens);
            t.gauge("shard_timers", "timers of the shard", c.timers);
            let n = c.totals;
            t.counter("calls_total", "calls admitted", n.calls);
            t.counter("calls_answered_total", "calls answered", n.answered);
            t.counters(
                "calls_refused_total",
                "calls refused, by reason",
                "reason",
                &[
                    ("source", n.refused_source),
                    ("number", n.refused_number),
                    ("limit", n.refused_limit),
                    ("draining", n.refused_draining),
                    ("media", n.refused_media),
                ],
            );
            t.counters(
                "plugin_defaults_total",
                "times a default was taken for a plugin",
                "station",
                &[("router", n.router_faults), ("script", n.script_faults)],
            );
            t.counter("offers_crossed_total", "offers whose 200 crossed the CANCEL", n.crossed);
            t.counter("agents_vanished_total", "agents' phones that vanished in a call", n.agents_vanished);
            t.counter(
                "illegal_hand_offs_total",
                "hand-offs between stations that the table forbids; must stay 0",
                n.illegal_hand_offs,
            );
            let e = c.endpoint;
            t.gauge("sip_transactions", "SIP transactions that live", e.transactions);
            t.counters(
                "sip_messages_total",
                "SIP messages",
                "direction",
                &[("received", e.received), ("sent", e.sent)],
            );
            t.counters(
                "sip_odd_messages_total",
                "SIP messages out of the ordinary",
                "what",
                &[
                    ("malformed", e.malformed),
                    ("absorbed", e.absorbed),
                    ("retransmitted", e.retransmitted),
                    ("unmatched", e.unmatched),
                    ("refused_full", e.refused_full),
                    ("timed_out", e.timed_out),
                ],
            );
        }
        for (_, port) in centre.shard_view.ports() {
            t.counters(
                "udp_datagrams_total",
                "datagrams of the centre's socket",
                "what",
                &[
                    ("received", port.received),
                    ("sent", port.sent),
                    ("truncated", port.truncated),
                    ("overflowed", port.overflowed),
                    ("refused", port.refused),
                ],
            );
        }
        t.counter(
            "shard_held_back_total",
            "rounds in which the shard did not read its sockets since others were behind",
            read(&centre.shard_view.held_back),
        );
        t.counter("shard_rounds_total", "rounds of the shard's loop", read(&centre.shard_view.rounds));
        t.counter("domain_rounds_total", "rounds of the domain's loop", read(&centre.domain_view.rounds));
        let m = centre.media.counters();
        t.gauge("media_legs_open", "legs of the media thread", read(&m.legs));
        t.gauge("media_legs_ticking", "legs that need the 20 ms clock", read(&m.ticking));
        t.counters(
            "media_packets_total",
            "RTP packets",
            "what",
            &[
                ("received", read(&m.received)),
                ("relayed", read(&m.relayed)),
                ("played", read(&m.played)),
                ("unsent", read(&m.unsent)),
            ],
        );
        t.counter(
            "media_skipped_ms_total",
            "milliseconds of audio left out since the thread was held up",
            read(&m.skipped_ms),
        );
        t.gauge("media_late_us", "longest delay of a slot of the clock", read(&m.late_us));
        if let Some(c) = centre.domain_view.counts() {
            t.gauge("interactions", "interactions that live", c.interactions);
            t.gauge("reservations", "agents reserved", c.agents_reserved);
            t.gauge("ghosts", "places kept for callers who may call back", c.ghosts);
            let n = &c.totals;
            t.counters(
                "queue_entries_total",
                "places by what became of them",
                "what",
                &[
                    ("entered", n.entered),
                    ("served", n.served),
                    ("abandoned", n.abandoned),
                    ("refused", n.refused),
                ],
            );
            t.counters(
                "offers_total",
                "offers by result",
                "result",
                &[
                    ("accepted", n.accepted),
                    ("no-answer", n.no_answer),
                    ("busy", n.busy),
                    ("declined", n.declined),
                    ("unreachable", n.unreachable),
                    ("lost", n.lost),
                    ("caller-gone", n.caller_gone),
                    ("revoked", n.revoked),
                    ("no-call", n.no_call),
                    ("lease-expired", n.leases_expired),
                ],
            );
            t.counter(
                "policy_faults_total",
                "times the default was taken for a queue policy",
                n.policy_faults,
            );
            t.counter("events_total", "events of the domain", n.events);
        }
    }
    if let Reply::Queues(queues) = shared.ask(Command::Queues).await {
        t.family("queue_waiting", "gauge", "callers who wait");
        for q in &queues {
            t.sample("queue_waiting", &[("tenant", &q.tenant), ("workgroup", &q.workgroup)], q.waiting);
        }
        t.family("queue_longest_wait_ms", "gauge", "wait of the head");
        for q in &queues {
            t.sample(
                "queue_longest_wait_ms",
                &[("tenant", &q.tenant), ("workgroup", &q.workgroup)],
                q.longest_wait_ms,
            );
        }
    }
    if let Reply::Agents(agents) = shared.ask(Command::Agents).await {
        t.family("agents", "gauge", "agents by state");
        let states = [
            ("logged-out", AgentStateName::LoggedOut),
            ("not-ready", AgentStateName::NotReady),
            ("ready", AgentStateName::Ready),
            ("reserved", AgentStateName::Reserved),
            ("busy", AgentStateName::Busy),
            ("working-after-call", AgentStateName::WorkingAfterCall),
        ];
        for (name, state) in states {
            t.sample("agents", &[("state", name)], agents.iter().filter(|a| a.state == state).count());
        }
    }
    if let Some((_, view)) = &shared.redirect {
        let c = view.counts();
        t.counters(
            "redirects_total",
            "INVITEs to the redirect role",
            "answer",
            &[
                ("302", c.redirected),
                ("503", c.without_node),
                ("refused", c.refused),
                ("malformed", c.malformed),
            ],
        );
        t.gauge("redirect_nodes", "nodes that may be named", view.live().len());
    }
    plugins(&mut t, &shared);
    journal(&mut t, &shared);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], t.0)
}

fn plugins(t: &mut Text, shared: &crate::node::Shared) {
    let list = shared.registry.list();
    t.family("plugin_questions_total", "counter", "questions to a plugin");
    for p in &list {
        t.sample("plugin_questions_total", &[("plugin", &p.name)], p.stats.questions);
    }
    t.family("plugin_faults_total", "counter", "faults of a plugin by kind");
    for p in &list {
        let kinds = [
            ("trap", p.stats.traps),
            ("timeout", p.stats.timeouts),
            ("memory", p.stats.memory),
            ("nonsense", p.stats.nonsense),
            ("error", p.stats.errors),
            ("full", p.stats.no_room),
        ];
        for (kind, count) in kinds {
            t.sample("plugin_faults_total", &[("plugin", &p.name), ("kind", kind)], count);
        }
    }
    t.family("plugin_cpu_seconds_total", "counter", "CPU of a plugin's instances");
    for p in &list {
        t.sample("plugin_cpu_seconds_total", &[("plugin", &p.name)], p.stats.cpu_ns as f64 / 1e9);
    }
    t.family("plugin_memory_peak_bytes", "gauge", "largest memory of one instance");
    for p in &list {
        t.sample("plugin_memory_peak_bytes", &[("plugin", &p.name)], p.stats.memory_peak_bytes);
    }
    t.counters(
        "speech_total",
        "texts for the synthesiser",
        "what",
        &[
            ("cached", read(&shared.speech.hits)),
            ("spoken", read(&shared.speech.spoken)),
            ("failed", read(&shared.speech.failed)),
        ],
    );
}

fn journal(t: &mut Text, shared: &crate::node::Shared) {
    let s = shared.journal.stats();
    t.counter("journal_commits_total", "transactions", read(&s.commits));
    t.counter("journal_facts_total", "facts made durable", read(&s.facts));
    t.counter("journal_failures_total", "commits that failed and were tried again", read(&s.failures));
    t.counter("journal_compactions_total", "snapshots that replaced the journal", read(&s.compactions));
    t.counter("journal_busy_seconds_total", "time in transactions", read(&s.busy_ns) as f64 / 1e9);
    t.gauge("journal_rows", "rows in the journal", read(&s.rows));
    t.gauge("journal_bytes", "bytes in the journal", read(&s.bytes));
    t.gauge("journal_pending", "jobs that wait for a commit", shared.journal.pending());
    t.counter("outbox_events_total", "events made durable for adapters", read(&s.events));
    t.counter("outbox_dropped_total", "events given up since the outbox was full", read(&s.events_dropped));
    let views = shared.delivery.views();
    t.family("adapter_events_total", "counter", "events of an adapter by what became of them");
    for (name, v) in &views {
        for (what, value) in
            [("delivered", &v.delivered), ("retried", &v.retried), ("dead", &v.dead), ("fault", &v.faults)]
        {
            t.sample("adapter_events_total", &[("adapter", name), ("what", what)], read(value));
        }
    }
    t.family("adapter_waiting", "gauge", "events that an adapter has in memory and not dealt with");
    for (name, v) in &views {
        t.sample("adapter_waiting", &[("adapter", name)], read(&v.waiting));
    }
}

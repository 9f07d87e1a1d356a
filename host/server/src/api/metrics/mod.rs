//! `/metrics`: what is counted, read from views and counters that are at most 250 ms old.
//!
//! Nothing here asks the domain, the disk or a plugin: metrics come while those stand still, which is
//! when they are wanted most.

mod families;
mod trunks;

use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State as Extract;
use axum::http::header;
use axum::response::IntoResponse;
use cordboard_call::domain::counts::QueueFigures;
use cordboard_plugin::Listed;

pub(crate) use self::families::{Families, Kind};
use super::State;
use crate::node::{Centre, Shared};
use crate::telemetry;

pub(super) async fn metrics(Extract(shared): State) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], collect(&shared).text())
}

/// All metrics of the node.
pub(crate) fn collect(shared: &Shared) -> Families {
    let mut t = Families::default();
    t.gauge("up", "1 while calls can be served", shared.health().ok);
    t.counter("calls_closed_total", "calls whose record is whole", &shared.releaser.closed);
    if let Some(centre) = &shared.centre {
        shard(&mut t, centre);
        trunks::trunks(&mut t, &centre.shard_view.trunks());
        media(&mut t, centre);
        domain(&mut t, centre);
    }
    redirect(&mut t, shared);
    gate(&mut t, shared);
    plugins(&mut t, shared);
    journal(&mut t, shared);
    log(&mut t);
    if let Some(exporter) = &shared.exporter {
        t.counters(
            "otlp_spans_total",
            "spans for the collector",
            "what",
            &[("exported", &exporter.exported), ("lost", &exporter.lost)],
        );
    }
    let (bytes, call_ids, hep_dropped) = shared.trace.counts();
    t.gauge("trace_bytes", "bytes of SIP messages that are kept", bytes);
    t.gauge("trace_call_ids", "Call-IDs whose SIP messages are kept", call_ids);
    t.counter("trace_hep_dropped_total", "messages that were not sent to the Homer", hep_dropped);
    t
}

fn shard(t: &mut Families, centre: &Centre) {
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
        t.counter("sip_session_refreshes_total", "sessions kept alive by a refresh (RFC 4028)", e.refreshed);
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
    sockets(t, centre);
    t.counter(
        "shard_held_back_total",
        "rounds in which the shard did not read its sockets since others were behind",
        &centre.shard_view.held_back,
    );
    t.counter(
        "shard_shed_total",
        "new calls that got 503 since datagrams came faster than they could be served",
        &centre.shard_view.shed,
    );
    t.counter(
        "shard_passed_over_total",
        "OPTIONS and the like that got no answer since datagrams came faster than they could be served",
        &centre.shard_view.passed_over,
    );
    t.counter("shard_rounds_total", "rounds of the shard's loop", &centre.shard_view.rounds);
    t.counter("domain_rounds_total", "rounds of the domain's loop", &centre.domain_view.rounds);
}

fn sockets(t: &mut Families, centre: &Centre) {
    let traffic = centre.shard_view.traffic();
    let sum = |of: fn(&cordboard_net::udp::Counters) -> u64| traffic.ports.iter().map(|(_, p)| of(p)).sum();
    let udp: [(&str, u64); 5] = [
        ("received", sum(|p| p.received)),
        ("sent", sum(|p| p.sent)),
        ("truncated", sum(|p| p.truncated)),
        ("overflowed", sum(|p| p.overflowed)),
        ("refused", sum(|p| p.refused)),
    ];
    t.counters("udp_datagrams_total", "datagrams of the centre's UDP sockets", "what", &udp);
    let c = traffic.connections;
    t.gauge("connections", "connections that are up or being set up", c.open);
    t.counters(
        "connections_total",
        "connections by how they began; refused: a limit was reached",
        "what",
        &[("accepted", c.accepted), ("dialled", c.dialled), ("refused", c.refused)],
    );
    let closed: Vec<(&str, u64)> = cordboard_net::stream::Closed::WORDS.into_iter().zip(c.closed).collect();
    t.counters("connections_closed_total", "connections by how they ended", "why", &closed);
    t.counters(
        "connection_messages_total",
        "SIP messages over connections",
        "what",
        &[("received", c.received), ("sent", c.sent), ("unsent", c.unsent)],
    );
}

fn media(t: &mut Families, centre: &Centre) {
    let m = centre.media.counters();
    t.gauge("media_legs_open", "legs of the media thread", &m.legs);
    t.gauge("media_legs_ticking", "legs that need the 20 ms clock", &m.ticking);
    t.counters(
        "media_packets_total",
        "RTP packets",
        "what",
        &[("received", &m.received), ("relayed", &m.relayed), ("played", &m.played), ("unsent", &m.unsent)],
    );
    t.counter(
        "media_skipped_ms_total",
        "milliseconds of audio left out since the thread was held up",
        &m.skipped_ms,
    );
    t.gauge("media_late_us", "longest delay of a slot of the clock", &m.late_us);
}

fn domain(t: &mut Families, centre: &Centre) {
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
        t.counter("policy_faults_total", "times the default was taken for a queue policy", n.policy_faults);
        t.counter("events_total", "events of the domain", n.events);
    }
    let Some(board) = centre.domain_view.board() else { return };
    let of = |q: &QueueFigures| [("tenant", q.tenant.to_string()), ("workgroup", q.workgroup.to_string())];
    t.family(
        Kind::Gauge,
        "queue_waiting",
        "callers who wait",
        board.queues.iter().map(|q| (of(q), q.waiting)),
    );
    t.family(
        Kind::Gauge,
        "queue_longest_wait_ms",
        "wait of the head",
        board.queues.iter().map(|q| (of(q), q.longest_wait_ms)),
    );
    t.family(
        Kind::Gauge,
        "agents",
        "agents by state",
        board.agents.iter().map(|(state, count)| ([("state", (*state).to_owned())], *count)),
    );
}

fn gate(t: &mut Families, shared: &Shared) {
    let c = shared.gate.counts();
    t.counters(
        "gate_packets_total",
        "requests of senders that are no trunk",
        "verdict",
        &[("admitted", c.admitted), ("shed", c.shed), ("banned", c.banned)],
    );
    t.counter("gate_bans_total", "bans that were begun", c.bans);
    t.counter("gate_forgotten_total", "senders forgotten since the table was full", c.forgotten);
}

fn redirect(t: &mut Families, shared: &Shared) {
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
        let ports = view.ports();
        let sum = |of: fn(&cordboard_net::udp::Counters) -> u64| ports.iter().map(of).sum::<u64>();
        t.counters(
            "redirect_datagrams_total",
            "datagrams of the redirect role's sockets",
            "what",
            &[
                ("received", sum(|c| c.received)),
                ("sent", sum(|c| c.sent)),
                ("truncated", sum(|c| c.truncated)),
                ("overflowed", sum(|c| c.overflowed)),
                ("refused", sum(|c| c.refused)),
            ],
        );
        t.gauge("redirect_nodes", "nodes that may be named", view.live().len());
    }
}

fn plugins(t: &mut Families, shared: &Shared) {
    let list = shared.registry.list();
    let of = |p: &Listed| [("plugin", p.name.to_string())];
    t.family(
        Kind::Counter,
        "plugin_questions_total",
        "questions to a plugin",
        list.iter().map(|p| (of(p), p.stats.questions)),
    );
    let faults = list.iter().flat_map(|p| {
        let s = p.stats;
        [
            ("trap", s.traps),
            ("timeout", s.timeouts),
            ("memory", s.memory),
            ("nonsense", s.nonsense),
            ("error", s.errors),
            ("full", s.no_room),
        ]
        .map(|(kind, count)| ([("plugin", p.name.to_string()), ("kind", kind.to_owned())], count))
    });
    t.family(Kind::Counter, "plugin_faults_total", "faults of a plugin by kind", faults);
    t.family(
        Kind::Counter,
        "plugin_cpu_seconds_total",
        "CPU of a plugin's instances",
        list.iter().map(|p| (of(p), p.stats.cpu_ns as f64 / 1e9)),
    );
    t.family(
        Kind::Gauge,
        "plugin_memory_peak_bytes",
        "largest memory of one instance",
        list.iter().map(|p| (of(p), p.stats.memory_peak_bytes)),
    );
    let s = &shared.speech;
    t.counters(
        "speech_total",
        "texts for the synthesiser",
        "what",
        &[("cached", &s.hits), ("spoken", &s.spoken), ("shared", &s.shared), ("failed", &s.failed)],
    );
    t.gauge("speech_waiting", "texts that wait for a synthesiser", &s.waiting);
    t.gauge("speech_disk_bytes", "bytes of synthesised texts on disk", &*s.disk_bytes);
}

fn journal(t: &mut Families, shared: &Shared) {
    let s = shared.journal.stats();
    t.counter("journal_commits_total", "transactions", &s.commits);
    t.counter("journal_facts_total", "facts made durable", &s.facts);
    t.counter("journal_failures_total", "commits that failed and were tried again", &s.failures);
    t.counter("journal_compactions_total", "snapshots that replaced the journal", &s.compactions);
    t.counter("journal_busy_seconds_total", "time in transactions", s.busy_ns.load(Relaxed) as f64 / 1e9);
    t.gauge("journal_rows", "rows in the journal", &s.rows);
    t.gauge("journal_bytes", "bytes in the journal", &s.bytes);
    t.gauge("journal_pending", "jobs that wait for a commit", shared.journal.pending());
    t.counter("outbox_events_total", "events made durable for adapters", &s.events);
    t.counter("outbox_dropped_total", "events given up since the outbox was full", &s.events_dropped);
    let views = shared.delivery.views();
    let events = views.iter().flat_map(|(name, v)| {
        [("delivered", &v.delivered), ("retried", &v.retried), ("dead", &v.dead), ("fault", &v.faults)]
            .map(|(what, value)| ([("adapter", name.to_string()), ("what", what.to_owned())], value))
    });
    t.family(Kind::Counter, "adapter_events_total", "events of an adapter by what became of them", events);
    t.family(
        Kind::Gauge,
        "adapter_waiting",
        "events that an adapter has in memory and not dealt with",
        views.iter().map(|(name, v)| ([("adapter", name.to_string())], &v.waiting)),
    );
}

fn log(t: &mut Families) {
    let Some(counts) = telemetry::log::counts() else { return };
    t.counters(
        "log_lines_dropped_total",
        "lines that were not logged: standard error was behind, or a warning repeated too often",
        "why",
        &[("full", &counts.dropped), ("repeated", &counts.repeated)],
    );
}

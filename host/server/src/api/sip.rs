//! The SIP of one call: as JSON for the ladder, and as a capture file.

use std::collections::{BTreeSet, HashSet};

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::header;
use axum::response::IntoResponse;
use cordboard_base::Id;
use cordboard_sip::capture::{Packet, Pcap};
use cordboard_sip::wire::Message as Parsed;
use serde::Serialize;

use super::calls::find;
use super::{Problem, State};
use crate::node::Shared;
use crate::trace::{Found, Message};

/// One message of a call.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SipView {
    /// Unix milliseconds.
    wall_ms: i64,
    /// Milliseconds since the first message.
    after_ms: f64,
    /// Whose socket: `redirect` or `centre`.
    role: &'static str,
    /// `received` or `sent`.
    direction: &'static str,
    /// `UDP`, `TCP`, `TLS`, `WS` or `WSS`.
    transport: &'static str,
    /// Our address.
    local: String,
    /// The other's.
    remote: String,
    /// Of the leg.
    call_id: String,
    /// The method, or status and reason.
    what: String,
    /// `CSeq`, such as `1 INVITE`.
    cseq: String,
    /// The same bytes went the same way before.
    retransmission: bool,
    /// Bytes on the wire.
    bytes: usize,
    /// The message; what is not UTF-8 is replaced.
    text: String,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SipList {
    /// In the order in which they were read or sent.
    items: Vec<SipView>,
    /// Messages between the first and the last ones that were too many to keep.
    left_out: u64,
}

fn view(messages: &[Message]) -> Vec<SipView> {
    let first_ns = messages.first().map_or(0, |m| m.at.mono_ns);
    let mut seen = HashSet::new();
    messages
        .iter()
        .map(|m| {
            let parsed = Parsed::parse(m.bytes.clone()).ok();
            let text = String::from_utf8_lossy(&m.bytes).into_owned();
            let line = text.lines().next().unwrap_or_default();
            let what = match line.strip_prefix("SIP/2.0 ") {
                Some(status) => status.to_owned(),
                None => line.split(' ').next().unwrap_or_default().to_owned(),
            };
            let cseq = parsed.as_ref().and_then(Parsed::cseq);
            SipView {
                wall_ms: m.at.wall_ms,
                after_ms: m.at.mono_ns.saturating_sub(first_ns) as f64 / 1e6,
                role: m.role,
                direction: if m.sent { "sent" } else { "received" },
                transport: m.transport.via(),
                local: m.local.to_string(),
                remote: m.remote.to_string(),
                call_id: parsed.as_ref().map(|p| p.call_id().to_owned()).unwrap_or_default(),
                what,
                cseq: cseq.map(|(number, method)| format!("{number} {method}")).unwrap_or_default(),
                retransmission: !seen.insert((m.sent, m.local, m.remote, m.bytes.clone())),
                bytes: m.bytes.len(),
                text,
            }
        })
        .collect()
}

/// The messages of an interaction's legs, the redirect role's among them; or of one Call-ID, for what never
/// became a call.
async fn messages(shared: &Shared, id: &str) -> Result<Found, Problem> {
    if !shared.trace.keeps() {
        return Err(Problem::new(
            409,
            "this node keeps no SIP: set `trace.sip_keep_s` above 0 and have it reload the configuration",
        ));
    }
    let found = match id.parse::<Id>() {
        Ok(interaction) => {
            let call = find(shared, interaction).await?;
            let legs = call.timeline.iter().filter_map(|line| line.call_id.as_deref());
            let call_ids: BTreeSet<&str> = legs.chain([&*call.record.call_id]).collect();
            shared.trace.find(call_ids)
        }
        Err(_) => shared.trace.find([id]),
    };
    if found.messages.is_empty() {
        return Err(Problem::new(
            404,
            format!(
                "nothing is kept of {id}: it ended too long ago (`trace.sip_keep_s`), came before tracing was on, or is no interaction and no Call-ID of this node"
            ),
        ));
    }
    Ok(found)
}

pub(super) async fn list(
    Extract(shared): State,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let found = messages(&shared, &id).await?;
    Ok(Json(SipList { items: view(&found.messages), left_out: found.left_out }))
}

/// As a capture file. Times are those of the wall clock; within the file they grow with the monotonic one.
pub(super) async fn pcap(
    Extract(shared): State,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let found = messages(&shared, &id).await?;
    Ok(([(header::CONTENT_TYPE, "application/vnd.tcpdump.pcap")], file(&found.messages)))
}

fn file(messages: &[Message]) -> Vec<u8> {
    let mut pcap = Pcap::default();
    let mut file = Pcap::HEADER.to_vec();
    let Some(first) = messages.first() else { return file };
    let began_us = first.packet().at_unix_us;
    for message in messages {
        let at_unix_us = began_us + message.at.mono_ns.saturating_sub(first.at.mono_ns) / 1_000;
        pcap.write(&Packet { at_unix_us, ..message.packet() }, &mut file);
    }
    file
}

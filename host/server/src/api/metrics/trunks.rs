//! What is counted of trunks, from the shard's view of them.

use cordboard_call::shard::TrunkView;

use super::{Families, Kind};

pub(super) fn trunks(t: &mut Families, list: &[TrunkView]) {
    let name = |v: &TrunkView| ("trunk", v.trunk.to_string());
    let calls = list.iter().flat_map(|v| {
        [("in", v.calls_in), ("out", v.calls_out)]
            .map(|(way, calls)| ([name(v), ("direction", way.to_owned())], calls))
    });
    t.family(Kind::Gauge, "trunk_calls", "calls that are up, by trunk and direction", calls);
    let totals = list.iter().flat_map(|v| {
        [("admitted", v.admitted), ("refused", v.refused), ("out", v.out), ("out-full", v.out_full)]
            .map(|(what, calls)| ([name(v), ("what", what.to_owned())], calls))
    });
    t.family(
        Kind::Counter,
        "trunk_calls_total",
        "calls by trunk and what became of them at its door",
        totals,
    );
    let registered = list.iter().filter_map(|v| {
        let registration = v.registration.as_ref()?;
        Some(([name(v)], registration.state == "registered"))
    });
    t.family(Kind::Gauge, "trunk_registered", "1 while the trunk's registration holds", registered);
    let destinations = || list.iter().flat_map(|v| v.destinations.iter().map(move |d| (v, d)));
    t.family(
        Kind::Gauge,
        "trunk_destination_serves",
        "1 while calls are sent there before those that do not serve",
        destinations().map(|(v, d)| ([name(v), ("uri", d.uri.clone())], d.serves)),
    );
    t.family(
        Kind::Counter,
        "trunk_destination_calls_total",
        "calls sent to a destination; failed: those that it could not serve",
        destinations().flat_map(|(v, d)| {
            [("sent", d.calls), ("failed", d.failed)]
                .map(|(what, calls)| ([name(v), ("uri", d.uri.clone()), ("what", what.to_owned())], calls))
        }),
    );
}

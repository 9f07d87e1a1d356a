//! The redirect policy's weights, asked for off the path of any INVITE.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use cordboard_call::redirect::Weights;
use cordboard_plugin::Redirects;

use super::Shared;
use crate::shell::redirect::RedirectMail;

/// Asks the redirect policy for weights, again when they grow old.
pub(super) async fn weigh(shared: Arc<Shared>) {
    let Some((outlet, view)) = &shared.redirect else { return };
    let policies = Redirects::new(shared.registry.clone());
    let (mut calls_before, mut asked) = (0, Instant::now());
    loop {
        let config = shared.config();
        let mut wait = Duration::from_secs(1);
        if let Some(policy) = &config.redirect.policy {
            let calls_now = shared.centre.as_ref().map_or(0, |c| c.shard_view.calls_total.load(Relaxed));
            let since = asked.elapsed().as_secs_f64().max(0.1);
            let rate = (calls_now.saturating_sub(calls_before) as f64 / since) as u32;
            (calls_before, asked) = (calls_now, Instant::now());
            let live = view.live();
            let nodes: Vec<_> = live
                .iter()
                .map(|beat| cordboard_plugin::Node {
                    id: beat.id.to_string(),
                    capacity: beat.capacity,
                    calls: beat.calls,
                    calls_per_s: if beat.id == config.node { rate } else { 0 },
                    attributes: Vec::new(),
                })
                .collect();
            let classes: Vec<String> = config.model.trunks.iter().map(|t| t.name.to_string()).collect();
            if !nodes.is_empty() {
                match policies.plan(policy, &nodes, &classes).await {
                    Ok(plan) => {
                        wait = Duration::from_millis(u64::from(plan.ttl_ms).clamp(100, 5_000));
                        let weights = plan
                            .classes
                            .into_iter()
                            .map(|(class, weights)| Weights {
                                class: class.as_str().into(),
                                nodes: live.iter().map(|beat| beat.id.clone()).zip(weights).collect(),
                            })
                            .collect();
                        let _ = outlet.send(RedirectMail::Weigh(weights, u64::from(plan.ttl_ms)));
                    }
                    Err(fault) => {
                        tracing::warn!(%policy, %fault, "the redirect policy failed; spare capacity is taken")
                    }
                }
            }
        }
        tokio::time::sleep(wait).await;
    }
}

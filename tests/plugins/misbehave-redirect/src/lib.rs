//! A redirect policy that misbehaves when told: see tests/plugins/README.md.

#[path = "../../misbehave.rs"]
mod misbehave;

use cordboard_sdk::redirect::*;

/// The policy.
pub struct Misbehave;

impl Spread for Misbehave {
    fn plan(nodes: &[Node], _classes: &[String]) -> Plan {
        let mode = nodes
            .iter()
            .find_map(|node| node.attribute("misbehave").map(str::to_owned))
            .or_else(|| setting("mode"))
            .unwrap_or_default();
        misbehave::commit(&mode);
        match mode.as_str() {
            "nonsense" => {
                let mut plan = lasting_s(1);
                plan.ttl_ms = 0;
                plan.classes = vec![
                    ClassWeights { class: "default".to_owned(), weights: vec![u32::MAX; nodes.len() + 3] },
                    ClassWeights { class: "default".to_owned(), weights: Vec::new() },
                    ClassWeights { class: "\0".to_owned(), weights: vec![1] },
                ];
                plan
            }
            "huge" => Plan {
                classes: vec![ClassWeights { class: "x".repeat(1 << 20), weights: vec![1; 1 << 20] }; 4],
                ttl_ms: u32::MAX,
            },
            _ => lasting_s(5).class("default", nodes.iter().map(|_| 100)),
        }
    }

    fn attributes() -> Vec<(String, String)> {
        if let Some(mode) = setting("mode").as_deref().and_then(|mode| mode.strip_prefix("describe-")) {
            misbehave::commit(mode);
        }
        Vec::new()
    }
}

cordboard_sdk::redirect_policy!(Misbehave);

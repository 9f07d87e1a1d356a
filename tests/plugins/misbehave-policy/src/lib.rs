//! A queue policy that misbehaves when told: see tests/plugins/README.md.

#[path = "../../misbehave.rs"]
mod misbehave;

use cordboard_sdk::policy::*;

/// The policy.
pub struct Misbehave;

const BY_NUMBER: [&str; 9] =
    ["trap", "loop", "memory", "stack", "flood", "out-of-range", "duplicate", "steps", "huge"];

impl Policy for Misbehave {
    fn place(entry: &Entry) -> Placement {
        let mode = mode(entry, "place");
        misbehave::commit(&mode);
        let mut placement = by_arrival(entry);
        match mode.as_str() {
            // Pushed by hand, since the SDK stops at what the host takes.
            "steps" => placement.plan = vec![Step { after_ms: 1, action: Action::RaiseMs(1) }; 1_000],
            "huge" => {
                placement.plan = vec![Step { after_ms: 1, action: Action::DropSkills(vec![0; 1 << 20]) }];
            }
            "out-of-range" => placement.key_ms = i64::MIN,
            "duplicate" => {
                placement.plan = vec![Step { after_ms: u64::MAX, action: Action::Overflow(u32::MAX) }; 2];
            }
            _ => {}
        }
        placement
    }

    fn rank(entry: &Entry, candidates: &Candidates) -> Vec<u32> {
        let mode = mode(entry, "rank");
        misbehave::commit(&mode);
        match mode.as_str() {
            "out-of-range" => vec![candidates.len() as u32, u32::MAX],
            "duplicate" => vec![0; candidates.len() + 1],
            "huge" => vec![0; 1 << 22],
            _ => candidates.best_first(|agent| candidates.idle_ms[agent]),
        }
    }

    fn attributes() -> Vec<(String, String)> {
        if let Some(mode) = setting("mode").as_deref().and_then(|mode| mode.strip_prefix("describe-")) {
            misbehave::commit(mode);
        }
        Vec::new()
    }
}

fn mode(entry: &Entry, question: &str) -> String {
    let only = setting_or("in", "both".to_owned());
    if only != "both" && only != question {
        return String::new();
    }
    entry
        .number("misbehave")
        .and_then(|number| usize::try_from(number - 1).ok())
        .and_then(|index| BY_NUMBER.get(index))
        .map(|mode| (*mode).to_owned())
        .or_else(|| setting("mode"))
        .unwrap_or_default()
}

cordboard_sdk::queue_policy!(Misbehave);

//! An adapter that misbehaves when told: see tests/plugins/README.md.

#[path = "../../misbehave.rs"]
mod misbehave;

use cordboard_sdk::cti::*;

/// The adapter.
pub struct Misbehave;

impl Adapter for Misbehave {
    fn handle(events: &[Event]) -> Vec<Verdict> {
        let mode = events.iter().find_map(told).or_else(|| setting("mode")).unwrap_or_default();
        misbehave::commit(&mode);
        match mode.as_str() {
            "few" => Vec::new(),
            "many" => vec![Verdict::Done; events.len() * 2 + 1],
            "retry" => same(Verdict::Retry(0), events),
            "dead" => same(dead("x".repeat(1 << 20)), events),
            "ungranted" => {
                let sent = http::post(setting_or("url", "http://192.0.2.1/".to_owned())).send();
                log::info!("ungranted: {sent:?}");
                let verdict = match sent {
                    Err(http::Error::Denied(_)) => Verdict::Done,
                    other => dead(format!("not denied: {other:?}")),
                };
                same(verdict, events)
            }
            "slow" => events
                .iter()
                .map(|event| {
                    let url = setting_or("url", "http://192.0.2.1/".to_owned());
                    match http::post(url).json_event(event).timeout_ms(60_000).send() {
                        Ok(_) => Verdict::Done,
                        Err(_) => retry_in_s(1),
                    }
                })
                .collect(),
            _ => same(Verdict::Done, events),
        }
    }

    fn attributes() -> Vec<(String, String)> {
        if let Some(mode) = setting("mode").as_deref().and_then(|mode| mode.strip_prefix("describe-")) {
            misbehave::commit(mode);
        }
        Vec::new()
    }
}

/// `misbehave:MODE` in an event's data, up to whatever ends a word.
fn told(event: &Event) -> Option<String> {
    let (_, rest) = event.data.split_once("misbehave:")?;
    Some(rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect())
}

cordboard_sdk::cti_adapter!(Misbehave);

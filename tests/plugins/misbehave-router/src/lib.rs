//! A router that misbehaves when told: see tests/plugins/README.md.

#[path = "../../misbehave.rs"]
mod misbehave;

use cordboard_sdk::router::*;

/// The router.
pub struct Misbehave;

impl Router for Misbehave {
    fn route(call: &Incoming) -> Result<Route, NoRoute> {
        let mode = call
            .attribute("misbehave")
            .map(str::to_owned)
            .or_else(|| call.called.split_once("misbehave-").map(|(_, mode)| mode.to_owned()))
            .or_else(|| setting("mode"))
            .unwrap_or_default();
        misbehave::commit(&mode);
        let answer = match mode.as_str() {
            "error" => return Err(NoRoute::because("told to know no route")),
            "other" => Route::Other(vec![Attribute { name: "to".to_owned(), value: "the moon".to_owned() }]),
            "nonsense" => script("").into(),
            "nonsense-status" => refuse(100, 0, "\r\nX-Injected: yes").into(),
            "huge" => (0..10_000)
                .fold(script("default"), |answer, number| {
                    answer.attribute(number.to_string(), "x".repeat(1_024))
                })
                .into(),
            _ => script(setting_or("script", "default".to_owned())).into(),
        };
        Ok(answer)
    }

    fn attributes() -> Vec<(String, String)> {
        if let Some(mode) = setting("mode").as_deref().and_then(|mode| mode.strip_prefix("describe-")) {
            misbehave::commit(mode);
        }
        Vec::new()
    }
}

cordboard_sdk::call_router!(Misbehave);

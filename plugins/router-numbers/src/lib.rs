//! Router by dialled number and hour: the setting `rules` is a table, one rule a line, and the
//! first rule that matches answers.
//!
//! ```text
//! # number    conditions                     answer
//! +4930100*   mon-fri 08:00-18:00         -> script ivr-support
//! +4930100*                               -> script ivr-closed reason=night
//! +4930200    from +33*                   -> workgroup support skills=fr priority=5
//! +4930300                                -> bridge sip:1000@192.0.2.7 ring=30
//! +33*                                    -> bridge trunk:carrier-a,carrier-b
//! +4930400                                -> redirect sip:a@192.0.2.8,sip:b@192.0.2.9
//! *                                       -> refuse 404 cause=1 No such number
//! ```
//!
//! A line that cannot be read is named in `describe`, and costs only the calls that come as far
//! as that line: for them there is no route, and the tenant's default script runs.
//! `table` reads the lines, `when` knows days and hours. Nothing here is kept between calls.

mod table;
mod when;

use cordboard_sdk::router::*;

/// The router.
pub struct Numbers;

impl Router for Numbers {
    fn route(call: &Incoming) -> Result<Route, NoRoute> {
        let rules = setting_required("rules").map_err(|missing| NoRoute::because(missing.to_string()))?;
        for line in table::lines(&rules) {
            let rule = line.map_err(|problem| NoRoute::because(format!("rules, {problem}")))?;
            if rule.matches(call) {
                log::debug!("{} is routed by line {}", call.called, rule.line);
                return Ok(rule.answer);
            }
        }
        Err(NoRoute::because(format!("no rule for {}", call.called)))
    }

    fn attributes() -> Vec<(String, String)> {
        let rules = setting("rules").unwrap_or_default();
        let (good, bad): (Vec<_>, Vec<_>) = table::lines(&rules).partition(Result::is_ok);
        let mut attributes = vec![("rules".to_owned(), good.len().to_string())];
        attributes
            .extend(bad.into_iter().filter_map(Result::err).map(|problem| ("problem".to_owned(), problem)));
        attributes
    }
}

cordboard_sdk::call_router!(Numbers);

#[cfg(test)]
mod tests;

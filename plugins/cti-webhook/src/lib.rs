//! Webhook: posts the centre's events as CloudEvents to the setting `url`.
//!
//! In batch mode (the default) a batch is one POST of `application/cloudevents-batch+json`; in
//! single mode each event is one POST of `application/cloudevents+json`. `verdicts` turns what the
//! server said into what the host does, `age` knows how long an event has been waiting.
//! No event is sent before an earlier one of its subject has been taken.

mod age;
mod verdicts;

use std::collections::BTreeSet;

use cordboard_sdk::cti::*;

use verdicts::Said;

/// The webhook.
pub struct Webhook;

impl Adapter for Webhook {
    fn handle(events: &[Event]) -> Vec<Verdict> {
        let Ok(target) = Target::read() else {
            log::error!("setting url is missing: the events wait");
            return events.iter().map(|event| verdicts::later(event, None, "no url")).collect();
        };
        let mut answers: Vec<Verdict> = vec![Verdict::Done; events.len()];
        let wanted: Vec<usize> =
            (0..events.len()).filter(|&index| is_wanted(&target.types, &events[index].type_)).collect();
        if target.single {
            send_singly(&target, events, &wanted, &mut answers);
        } else {
            send_batch(&target, events, &wanted, &mut answers);
        }
        answers
    }
}

/// Where to and how, from the settings.
struct Target {
    url: String,
    types: Vec<String>,
    single: bool,
    authorization: Option<String>,
    timeout_ms: u32,
}

impl Target {
    fn read() -> Result<Self, cordboard_sdk::SettingError> {
        let types = setting_or("types", String::new());
        Ok(Target {
            url: setting_required("url")?,
            types: types.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect(),
            single: setting("mode").as_deref() == Some("single"),
            authorization: setting("authorization").filter(|value| !value.is_empty()),
            timeout_ms: setting_or("timeout_ms", 5_000),
        })
    }

    fn post(&self) -> http::Request {
        let request = http::post(self.url.clone()).timeout_ms(self.timeout_ms);
        match &self.authorization {
            Some(value) => request.header("Authorization", value.clone()),
            None => request,
        }
    }
}

/// No filter wants everything; `call.*` wants all types that begin with `call.`.
fn is_wanted(types: &[String], kind: &str) -> bool {
    types.is_empty()
        || types.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => kind.starts_with(beginning),
            None => kind == wanted,
        })
}

/// One POST for all. When the server rejects what a batch holds, its halves are sent, so that one
/// bad event does not take the others with it.
fn send_batch(target: &Target, events: &[Event], wanted: &[usize], answers: &mut [Verdict]) {
    if wanted.is_empty() {
        return;
    }
    let said = Said::of(target.post().json_batch(wanted.iter().map(|&index| &events[index])).send());
    if said.blames_the_content() && wanted.len() > 1 {
        let (first, second) = wanted.split_at(wanted.len() / 2);
        send_batch(target, events, first, answers);
        let waiting = subjects_that_wait(events, answers);
        let (held, free): (Vec<usize>, Vec<usize>) =
            second.iter().partition(|&&index| waiting.contains(events[index].subject.as_str()));
        for index in held {
            answers[index] = verdicts::later(&events[index], None, "an earlier event of its subject waits");
        }
        send_batch(target, events, &free, answers);
        return;
    }
    for &index in wanted {
        answers[index] = said.verdict(&events[index]);
    }
}

fn subjects_that_wait<'a>(events: &'a [Event], answers: &[Verdict]) -> BTreeSet<&'a str> {
    let waits = |(_, answer): &(&Event, &Verdict)| matches!(answer, Verdict::Retry(_));
    events.iter().zip(answers).filter(waits).map(|(event, _)| event.subject.as_str()).collect()
}

/// A POST an event. A server that cannot be reached is not asked again in this batch.
fn send_singly(target: &Target, events: &[Event], wanted: &[usize], answers: &mut [Verdict]) {
    let mut waiting: BTreeSet<&str> = BTreeSet::new();
    let mut away: Option<Said> = None;
    for &index in wanted {
        let event = &events[index];
        if waiting.contains(event.subject.as_str()) {
            answers[index] = verdicts::later(event, None, "an earlier event of its subject waits");
            continue;
        }
        let said = match &away {
            Some(said) => said.clone(),
            None => Said::of(target.post().json_event(event).send()),
        };
        answers[index] = said.verdict(event);
        if matches!(answers[index], Verdict::Retry(_)) {
            waiting.insert(&event.subject);
        }
        if said.is_unreachable() {
            away = Some(said);
        }
    }
}

cordboard_sdk::cti_adapter!(Webhook);

#[cfg(test)]
mod tests;

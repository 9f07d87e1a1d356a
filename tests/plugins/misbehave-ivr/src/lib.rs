//! A script that misbehaves when told: see tests/plugins/README.md.

#[path = "../../misbehave.rs"]
mod misbehave;

use cordboard_sdk::ivr::*;

/// The script.
pub struct Misbehave;

impl Script for Misbehave {
    fn run(call: &Call) -> Result<(), End> {
        let mode = mode(call);
        log::info!("mode {mode}");
        call.answer()?;
        if let Some(mode) = mode.strip_prefix("queued-") {
            queue(call)?;
            call.play_music("music", 1)?;
            return act(call, mode);
        }
        if let Some(mode) = mode.strip_prefix("served-") {
            let ticket = queue(call)?;
            loop {
                match call.play_music("music", 3_600) {
                    Ok(_) => {}
                    Err(Failure::Taken) => break,
                    Err(failure) => return Err(failure.into()),
                }
            }
            log::info!("outcome {}", ticket.outcome()?.end);
            return act(call, mode);
        }
        act(call, &mode)
    }

    fn attributes() -> Vec<(String, String)> {
        if let Some(mode) = setting("mode").as_deref().and_then(|mode| mode.strip_prefix("describe-")) {
            misbehave::commit(mode);
        }
        Vec::new()
    }
}

fn mode(call: &Call) -> String {
    let info = call.info();
    let dialled = info.called.split_once("misbehave-").map(|(_, mode)| mode.to_owned());
    call.attribute("misbehave").or(dialled).or_else(|| setting("mode")).unwrap_or_else(|| "well".to_owned())
}

fn queue(call: &Call) -> Result<Ticket, End> {
    match call.enqueue(&setting_or("workgroup", "support".to_owned()), Request::new())? {
        Enqueued::Queued(ticket) | Enqueued::Direct(ticket) => Ok(ticket),
        Enqueued::Refused(refusal) => Err(End::because(format!("refused: {}", refusal.reason))),
    }
}

fn act(call: &Call, mode: &str) -> Result<(), End> {
    misbehave::commit(mode);
    match mode {
        "return" => return Ok(()),
        "error" => return Err(End::because("told to give up")),
        "nonsense" => nonsense(call),
        "spin-calls" => loop {
            // Host calls that do not wait, without end.
            let _ = call.set_attribute("spin", "1");
            let _ = now();
        },
        "deaf" => loop {
            // Does not take `hung-up` for an answer.
            let _ = call.wait(10);
        },
        _ => {}
    }
    loop {
        call.play_music("music", 3_600)?;
    }
}

/// Everything that a verb can be given and should not: each must be refused or cut to measure.
fn nonsense(call: &Call) {
    let mut refused = 0;
    let mut count = |failed: bool| refused += u32::from(failed);
    count(call.play([audio("../../../../etc/passwd")]).is_err());
    count(call.play([audio("x".repeat(1 << 20))]).is_err());
    count(call.play([say("\0").lang("xx-not-a-language")]).is_err());
    count(call.play(vec![silence(0); 100_000]).is_err());
    let digits = GatherOptions {
        min_digits: 200,
        max_digits: 0,
        first_timeout_ms: 0,
        digit_timeout_ms: u32::MAX,
        finish: "no digit".to_owned(),
        clear_digits: true,
        attributes: vec![Attribute { name: String::new(), value: "x".repeat(1 << 20) }; 4],
    };
    count(call.gather([], digits.into()).is_err());
    let record = RecordOptions {
        max_ms: 0,
        silence_ms: u32::MAX,
        beep: false,
        finish: "*".repeat(1 << 16),
        label: "../../escape".to_owned(),
    };
    count(call.record(record.into()).is_err());
    count(call.send_digits("hello world").is_err());
    let request = QueueRequest {
        skills: vec!["x".repeat(1 << 10); 1 << 10],
        priority: 255,
        preferred_agent: Some(String::new()),
        attributes: Vec::new(),
    };
    count(call.enqueue("", request.into()).is_err());
    count(call.transfer("not a uri", 0).is_err());
    for number in 0..1_000 {
        count(call.set_attribute(&number.to_string(), &"x".repeat(1 << 16)).is_err());
    }
    log::info!("nonsense: {refused} refused");
}

cordboard_sdk::ivr_script!(Misbehave);

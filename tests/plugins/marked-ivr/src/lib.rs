//! A script that shows its version in everything that it does: the attributes `script.begin` and
//! `script.end`, and the prompt `mark-NN`, which is greeting, music and farewell alike.

#[path = "../../marked.rs"]
mod marked;

use cordboard_sdk::ivr::*;

use marked::mark;

/// The script.
pub struct Marked;

impl Script for Marked {
    fn run(call: &Call) -> Result<(), End> {
        let sound = format!("mark-{}", mark());
        call.answer()?;
        call.set_attribute("script.begin", &mark())?;
        call.play([audio(sound.clone())])?;
        let ticket = match call.enqueue(&setting_or("workgroup", "support".to_owned()), Request::new())? {
            Enqueued::Queued(ticket) | Enqueued::Direct(ticket) => ticket,
            Enqueued::Refused(refusal) => return Err(End::because(format!("refused: {}", refusal.reason))),
        };
        loop {
            match call.play_music(&sound, 3_600) {
                Ok(_) => {}
                Err(Failure::Taken) if ticket.outcome()?.end == "agent-left" => break,
                Err(Failure::Taken) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        call.play([audio(format!("mark-{}", mark()))])?;
        call.set_attribute("script.end", &mark())?;
        call.hang_up(16);
        Ok(())
    }
}

cordboard_sdk::ivr_script!(Marked);

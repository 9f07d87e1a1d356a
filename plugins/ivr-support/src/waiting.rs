//! What the caller hears in the queue, until an agent has taken the call and left it again.
//!
//! A round is: place and wait announced, the exit key offered, music, a promotion, music. Any
//! verb fails with `taken` the moment an agent answers, wherever the round is, so there is one
//! place that deals with agents: the loop in [`wait`].

use cordboard_sdk::ivr::*;

use crate::config::Config;
use crate::voicemail;
use crate::words::{self, Voice};

/// How the wait ended.
pub(crate) enum Waited {
    /// An agent took the call and has left; the caller is still there.
    Served,
    /// The caller left a message and gave the place up.
    LeftMessage,
    /// The place is gone without an agent, and not by the caller.
    Ended,
}

pub(crate) fn wait(voice: &Voice<'_>, config: &Config, ticket: &Ticket) -> Result<Waited, Failure> {
    let mut first = "connecting";
    let mut round = 0;
    loop {
        let heard = treat(voice, config, ticket, first, round);
        first = "";
        round += 1;
        match heard {
            Ok(Heard::Round) => {}
            Ok(Heard::ExitKey) => {
                if exit(voice, config, ticket)? {
                    return Ok(Waited::LeftMessage);
                }
            }
            Ok(Heard::PlaceGone) => return Ok(Waited::Ended),
            Err(Failure::Taken) => match ticket.outcome()?.end.as_str() {
                "agent-left" => return Ok(Waited::Served),
                "returned" => first = "returned",
                "caller-gone" => return Err(Failure::HungUp),
                later => {
                    log::info!("the conversation ended by {later}");
                    return Ok(Waited::Ended);
                }
            },
            Err(failure) => return Err(failure),
        }
    }
}

enum Heard {
    Round,
    ExitKey,
    PlaceGone,
}

/// One round. A digit stops what is playing; any but the exit key goes on with the next part.
fn treat(
    voice: &Voice<'_>,
    config: &Config,
    ticket: &Ticket,
    first: &str,
    round: usize,
) -> Result<Heard, Failure> {
    if ticket.state() == TicketState::Ended {
        return Ok(Heard::PlaceGone);
    }
    let mut spoken = Vec::new();
    if !first.is_empty() {
        spoken.push(voice.prompt(first));
    }
    // While a phone rings for this caller there is no place to announce.
    if let Some(position) = ticket.position() {
        spoken.push(voice.position(position));
        spoken.extend(ticket.wait_s().map(|wait_s| voice.wait(wait_s)));
        spoken.extend(config.exit_key.filter(|_| config.voicemail).map(|key| voice.exit_offer(key)));
    }
    let half_s = (config.announce_every_s / 2).max(1);
    let parts = [
        Part::Spoken(spoken),
        Part::Music(half_s),
        Part::Spoken(promotion(config, round).into_iter().collect()),
        Part::Music(half_s),
    ];
    for part in parts {
        let pressed = match part {
            Part::Spoken(prompts) => spoken_part(voice.call, prompts)?,
            Part::Music(for_s) => music(voice.call, config, for_s)?,
        };
        if pressed.is_some() && pressed == config.exit_key && config.voicemail {
            return Ok(Heard::ExitKey);
        }
    }
    Ok(Heard::Round)
}

enum Part {
    Spoken(Vec<Prompt>),
    Music(u32),
}

fn promotion(config: &Config, round: usize) -> Option<Prompt> {
    let count = config.promotions.len();
    (count > 0).then(|| audio(config.promotions[round % count].clone()))
}

/// Prompts, and the digit that stopped them.
fn spoken_part(call: &Call, prompts: Vec<Prompt>) -> Result<Option<char>, Failure> {
    if prompts.is_empty() {
        return Ok(None);
    }
    match words::audible_or(call.play_until_digit(prompts), PlayEnd::Finished)? {
        PlayEnd::Digit => call.typed_ahead(),
        PlayEnd::Finished => Ok(None),
    }
}

/// Music and the digit that stopped it; where there is none the same time in silence, since a
/// round must take its time.
fn music(call: &Call, config: &Config, for_s: u32) -> Result<Option<char>, Failure> {
    match call.play_music(&config.music, for_s) {
        Ok(PlayEnd::Digit) => call.typed_ahead(),
        Ok(PlayEnd::Finished) => Ok(None),
        Err(Failure::Media(text)) => {
            log::warn!("no music: {text}");
            call.menu([], for_s)
        }
        Err(failure) => Err(failure),
    }
}

/// The caller wants to leave a message. Meanwhile no agent is offered the call, and the place
/// is given up only when there is a message. `true` when the caller is out of the queue.
fn exit(voice: &Voice<'_>, config: &Config, ticket: &Ticket) -> Result<bool, Failure> {
    if ticket.protect()? != Left::Left {
        return Ok(false); // too late: an agent's phone rings
    }
    if voicemail::take(voice, config)? && ticket.leave()? == Left::Left {
        return Ok(true);
    }
    ticket.unprotect()?;
    Ok(false)
}

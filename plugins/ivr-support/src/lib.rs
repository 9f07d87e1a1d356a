//! The support line: greeting, language menu, business hours, queue, voicemail, survey.
//!
//! Read `Support::run` for the whole call; `waiting` is what the caller hears
//! in the queue, `voicemail` takes a message, `words` holds everything that is said, in both
//! languages, and `config` the settings. Nothing here decides which agent takes the call.

mod config;
mod voicemail;
mod waiting;
mod words;

use cordboard_sdk::ivr::*;

use config::Config;
use waiting::Waited;
use words::{Language, Voice};

/// The support line.
pub struct Support;

impl Script for Support {
    fn run(call: &Call) -> Result<(), End> {
        let config = Config::read()?;
        call.answer()?;
        let language = ask_language(call, &config)?;
        let voice = Voice { call, language, recorded: config.recorded };
        call.set_attribute("language", language.tag())?;

        if is_closed(&config) {
            voice.speak("closed")?;
            return leave_message_or_goodbye(&voice, &config, 16);
        }

        let request = Request::new()
            .skill(language.tag())
            .priority(config.priority)
            .attribute("language", language.tag());
        let ticket = match call.enqueue(&config.workgroup, request)? {
            Enqueued::Queued(ticket) | Enqueued::Direct(ticket) => ticket,
            Enqueued::Refused(refusal) => {
                log::info!("{} refused the call: {} {}", config.workgroup, refusal.reason, refusal.text);
                voice.speak("busy")?;
                return leave_message_or_goodbye(&voice, &config, cause_of(&refusal.reason));
            }
        };

        match waiting::wait(&voice, &config, &ticket)? {
            Waited::Served => survey(&voice, &config),
            Waited::LeftMessage => goodbye(&voice, 16),
            Waited::Ended => leave_message_or_goodbye(&voice, &config, 31),
        }
    }
}

/// 1 is English, 2 is French; silence and other digits, twice, are the default language.
fn ask_language(call: &Call, config: &Config) -> Result<Language, Failure> {
    if !config.menu {
        return Ok(config.language);
    }
    let voices = [Language::English, Language::French].map(|language| Voice {
        call,
        language,
        recorded: config.recorded,
    });
    let menu: Vec<Prompt> = voices.iter().map(|voice| voice.prompt("menu")).collect();
    let mut prompts: Vec<Prompt> = voices.iter().map(|voice| voice.prompt("greeting")).collect();
    prompts.extend(menu.clone());
    for prompts in [prompts, menu] {
        match words::audible_or(call.menu(prompts, 5), None)? {
            Some('1') => return Ok(Language::English),
            Some('2') => return Ok(Language::French),
            _ => {}
        }
    }
    Ok(config.language)
}

fn is_closed(config: &Config) -> bool {
    match open(&config.hours) {
        Some(open) => !open,
        None => {
            log::warn!("there is no calendar {}: taken for open", config.hours);
            false
        }
    }
}

fn leave_message_or_goodbye(voice: &Voice<'_>, config: &Config, cause: u8) -> Result<(), End> {
    if config.voicemail && voicemail::take(voice, config)? {
        return goodbye(voice, 16);
    }
    goodbye(voice, cause)
}

fn goodbye(voice: &Voice<'_>, cause: u8) -> Result<(), End> {
    voice.speak("goodbye")?;
    voice.call.hang_up(cause);
    Ok(())
}

/// One digit from 1 to 5, kept as the attribute `survey.score`.
fn survey(voice: &Voice<'_>, config: &Config) -> Result<(), End> {
    if config.survey {
        for _ in 0..2 {
            let pressed = words::audible_or(voice.call.menu([voice.prompt("survey")], 6), None)?;
            if let Some(score @ '1'..='5') = pressed {
                voice.call.set_attribute("survey.score", &score.to_string())?;
                voice.speak("survey-thanks")?;
                break;
            }
        }
    }
    goodbye(voice, 16)
}

/// The Q.850 cause for a caller whom the workgroup did not take.
fn cause_of(reason: &str) -> u8 {
    match reason {
        "full" => 42,                            // switching equipment congestion
        "closed" | "no-agents" | "skills" => 20, // subscriber absent
        _ => 31,                                 // normal, unspecified
    }
}

cordboard_sdk::ivr_script!(Support);

#[cfg(test)]
mod tests;

//! Takes a message. Who calls it decides what happens to the caller's place in the queue.

use cordboard_sdk::ivr::*;

use crate::config::Config;
use crate::words::{self, Voice};

/// Asks for a message and records it; once more when it was too short. `true` when there is one:
/// its name is then the attribute `voicemail`.
pub(crate) fn take(voice: &Voice<'_>, config: &Config) -> Result<bool, Failure> {
    for attempt in 1..=2 {
        voice.speak("voicemail")?;
        let record =
            Record::up_to_s(config.voicemail_max_s, "voicemail").beep().finish("#").until_silent_s(5);
        let Some(recording) = words::audible_or(voice.call.record(record).map(Some), None)? else {
            return Ok(false);
        };
        if recording.duration_ms >= config.voicemail_min_ms {
            voice.call.set_attribute("voicemail", &recording.name)?;
            voice.speak("voicemail-thanks")?;
            return Ok(true);
        }
        log::info!("message {attempt} had only {} ms", recording.duration_ms);
        voice.speak("voicemail-short")?;
    }
    Ok(false)
}

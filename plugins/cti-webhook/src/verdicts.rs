//! What the server said, and what becomes of an event then.
//!
//! 2xx: done. 408, 429, 5xx, a time-out, no connection: again, later each time. Any other status:
//! dead, since the same request would be refused again. What the operator can mend without the
//! event being at fault (no grant, no valid URL) waits.

use cordboard_sdk::cti::*;

use crate::age;

/// The outcome of one POST.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    kind: Kind,
    /// What `Retry-After` asks for, in seconds.
    retry_after_s: Option<u32>,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Taken,
    /// This request, not the server, is at fault: 400, 413, 422.
    BadContent,
    Refused,
    Later,
    Unreachable,
}

impl Said {
    pub(crate) fn of(result: Result<http::Response, http::Error>) -> Self {
        let unreachable = |text: String| Said { kind: Kind::Unreachable, retry_after_s: None, text };
        match result {
            Ok(response) => Said {
                kind: match response.status {
                    200..=299 => Kind::Taken,
                    400 | 413 | 422 => Kind::BadContent,
                    408 | 429 | 500..=599 => Kind::Later,
                    _ => Kind::Refused,
                },
                retry_after_s: response.header("Retry-After").and_then(|value| value.trim().parse().ok()),
                text: format!("HTTP {}", response.status),
            },
            Err(http::Error::Timeout) => unreachable("no answer in time".to_owned()),
            Err(http::Error::Connect(text)) => unreachable(text),
            Err(http::Error::Denied(grant)) => {
                log::error!("the operator has not granted {grant}: the events wait");
                unreachable(format!("not granted: {grant}"))
            }
            Err(http::Error::Invalid(text)) => {
                log::error!("setting url: {text}: the events wait");
                unreachable(text)
            }
        }
    }

    /// Whether a smaller batch might fare better.
    pub(crate) fn blames_the_content(&self) -> bool {
        self.kind == Kind::BadContent
    }

    /// Whether asking again now is a waste of time.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.kind == Kind::Unreachable
    }

    pub(crate) fn verdict(&self, event: &Event) -> Verdict {
        match self.kind {
            Kind::Taken => Verdict::Done,
            Kind::BadContent | Kind::Refused => dead(self.text.clone()),
            Kind::Later | Kind::Unreachable => later(event, self.retry_after_s, &self.text),
        }
    }
}

/// The event comes again, unless it has waited longer than the setting `give_up_after_s`.
///
/// An instance keeps nothing, so the number of attempts is unknown; but an event that has waited
/// long has been tried often. A delay of half its age makes each wait half as long again as the
/// one before: 1 s at first, 5 min at most.
pub(crate) fn later(event: &Event, retry_after_s: Option<u32>, text: &str) -> Verdict {
    let age_ms = age::of_ms(&event.time).unwrap_or(0);
    let give_up_after_s = setting_or("give_up_after_s", 86_400_u64);
    if age_ms / 1_000 >= give_up_after_s {
        return dead(format!("given up after {give_up_after_s} s: {text}"));
    }
    let delay_ms = (age_ms / 2).clamp(1_000, 300_000) as u32;
    let asked_ms = retry_after_s.unwrap_or(0).min(3_600) * 1_000;
    Verdict::Retry(delay_ms.max(asked_ms))
}

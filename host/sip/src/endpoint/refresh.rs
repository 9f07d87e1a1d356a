//! Session timers (RFC 4028): who keeps a session alive, how often, and its end when nobody does.
//!
//! ```text
//!   agreed in INVITE/UPDATE and its 2xx: interval, refresher
//!     we refresh:   at half the interval an UPDATE, or a re-INVITE where the other side allows none
//!     they refresh: nothing for the interval less a margin --> BYE
//! ```

use cordboard_base::{Now, TimerId, secs};

use super::Endpoint;
use super::core::{Core, LegTimer, Wake};
use super::leg::{Leg, OurOffer, Phase};
use super::types::{Config, End};
use crate::wire::{Message, Method, Name, Params, text};

/// 4: "the default value of the Min-SE header field is 90 seconds", and none may be smaller.
pub(super) const MIN_SE_S: u32 = 90;

/// The timer of a leg that is up.
#[derive(Debug)]
pub(super) struct SessionTimer {
    pub(super) interval_s: u32,
    pub(super) we_refresh: bool,
    refresh: Option<TimerId>,
    expire: Option<TimerId>,
}

impl SessionTimer {
    pub(super) fn stop(&mut self, core: &mut Core) {
        core.stop(&mut self.refresh);
        core.stop(&mut self.expire);
    }
}

/// What a request wants, or a 2xx grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    interval_s: Option<u32>,
    min_se_s: u32,
    /// The refresher is the one who sent the request.
    uac: Option<bool>,
    supports: bool,
}

/// What a 2xx of ours grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) interval_s: u32,
    pub(super) uac: bool,
    /// 9: "Require: timer" when the other side is to refresh.
    pub(super) required: bool,
}

impl Asked {
    pub(super) fn of(message: &Message) -> Self {
        let value = message.header(Name::SessionExpires);
        let (interval, params) = value.map_or(("", ""), |v| v.split_once(';').unwrap_or((v, "")));
        let number = |text: &str| text::number(text::trim(text));
        Self {
            interval_s: number(interval),
            min_se_s: message
                .header(Name::MinSe)
                .and_then(|v| number(v.split(';').next()?))
                .unwrap_or(MIN_SE_S),
            uac: Params::new(params).get("refresher").map(|r| r.eq_ignore_ascii_case("uac")),
            supports: message.headers(Name::Supported).any(|o| o.eq_ignore_ascii_case("timer")),
        }
    }

    /// Whether the interval is too small, which only a caller that knows timers can be told (9).
    pub(super) fn is_too_short(&self, config: &Config) -> bool {
        config.session_expires_s > 0
            && self.supports
            && self.interval_s.is_some_and(|s| s < config.min_se_s.max(MIN_SE_S))
    }

    /// Table 2 of section 9.
    pub(super) fn grant(&self, config: &Config) -> Option<Granted> {
        let own = Some(config.session_expires_s).filter(|s| *s > 0)?;
        // The UAS may lower what was asked for, and not below the Min-SE of the request.
        let interval_s = match self.interval_s {
            Some(theirs) => theirs.min(own),
            None if self.supports => own,
            // Without the other side's help we would refresh alone: its OPTIONS do the same for less.
            None => return None,
        };
        let uac = self.supports && self.uac != Some(false);
        Some(Granted { interval_s: interval_s.max(self.min_se_s).max(MIN_SE_S), uac, required: uac })
    }
}

impl Endpoint {
    /// Refuses a request whose session interval is too small (422). True when it has been refused.
    pub(super) fn refuses_interval(&mut self, now: Now, txn_id: u64, request: &Message) -> bool {
        let sessions = matches!(request.method(), Method::Invite | Method::Update);
        if !sessions || !Asked::of(request).is_too_short(&self.core.config) {
            return false;
        }
        let min_se_s = self.core.config.min_se_s.max(MIN_SE_S);
        self.respond_with(now, txn_id, 422, |b| b.format(Name::MinSe, min_se_s));
        true
    }

    /// 200 to an INVITE, UPDATE or PRACK of theirs: with our Contact, and what is agreed about the timer.
    pub(super) fn accept_session(&mut self, now: Now, leg_id: u64, txn_id: u64, sdp: Option<&str>) {
        let Some(request) = self.txns.get(txn_id).and_then(|t| t.request.clone()) else { return };
        let sessions = matches!(request.method(), Method::Invite | Method::Update);
        let granted = Asked::of(&request).grant(&self.core.config).filter(|_| sessions);
        self.respond_in_dialog(now, txn_id, 200, sdp, |mut b| {
            if let Some(Granted { interval_s, uac, required }) = granted {
                if required {
                    b = b.header(Name::Require, "timer");
                }
                let who = if uac { "uac" } else { "uas" };
                b = b.format(Name::SessionExpires, format_args!("{interval_s};refresher={who}"));
            }
            b
        });
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        if let Some(sdp) = sdp {
            leg.said = Some(sdp.into());
        }
        if sessions {
            learn(leg, &request);
            self.set_timer(now, leg_id, granted.map(|g| (g.interval_s, !g.uac)));
        }
    }

    /// The 2xx to an INVITE or UPDATE of ours.
    pub(super) fn timer_granted(&mut self, now: Now, leg_id: u64, response: &Message) {
        let asked = Asked::of(response);
        if let Some(leg) = self.legs.get_mut(leg_id) {
            learn(leg, response);
        }
        // 7.2: without the header there is no timer; the refresher is named, and is us when it is not.
        let timer = asked.interval_s.map(|s| (s.max(MIN_SE_S), asked.uac != Some(false)));
        self.set_timer(now, leg_id, timer);
    }

    fn set_timer(&mut self, now: Now, leg_id: u64, timer: Option<(u32, bool)>) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        if let Some(mut old) = leg.timer.take() {
            old.stop(&mut self.core);
            self.core.totals.refreshed += u64::from(timer.is_some());
        }
        let Some((interval_s, we_refresh)) = timer.filter(|_| matches!(leg.phase, Phase::Talking(_))) else {
            return;
        };
        // 10: "it is RECOMMENDED that the refresh is sent once half the session interval has elapsed", and
        // a BYE "slightly before the session expiration. The minimum of 32 seconds and one third of the
        // session interval is RECOMMENDED."
        let half = secs(u64::from(interval_s / 2));
        let end = secs(u64::from(interval_s - (interval_s / 3).min(32)));
        let refresh = we_refresh.then(|| self.core.wake(now, half, Wake::Leg(leg_id, LegTimer::Refresh)));
        let expire = Some(self.core.wake(now, end, Wake::Leg(leg_id, LegTimer::Expire)));
        leg.timer = Some(Box::new(SessionTimer { interval_s, we_refresh, refresh, expire }));
    }

    /// Our turn to refresh.
    pub(super) fn on_refresh(&mut self, now: Now, leg_id: u64) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let Some(timer) = &mut leg.timer else { return };
        // Tried again until the expiry, in case this one fails or something is in its way.
        let again = secs(u64::from((timer.interval_s / 10).max(1)));
        timer.refresh = Some(self.core.wake(now, again, Wake::Leg(leg_id, LegTimer::Refresh)));
        if !self.may_offer(leg_id) {
            return;
        }
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let update = leg.allows_update;
        // A re-INVITE without a change repeats what we said last (RFC 4028 7.4).
        let sdp = if update { None } else { leg.said.as_deref().map(str::to_owned) };
        leg.ours = Some(OurOffer { sdp, update, asked: false, txn: None, retry: None, glares: 0 });
        self.send_offer(now, leg_id);
    }

    /// Nobody has refreshed the session.
    pub(super) fn on_expire(&mut self, now: Now, leg_id: u64) {
        if let Some(timer) = self.legs.get_mut(leg_id).and_then(|l| l.timer.as_mut()) {
            timer.expire = None;
        }
        self.end_with_bye(now, leg_id, End::NoAnswer);
    }
}

/// What the other side says that it can do.
fn learn(leg: &mut Leg, message: &Message) {
    let mut allow = message.headers(Name::Allow).peekable();
    if allow.peek().is_some() {
        leg.allows_update = allow.any(|m| m == "UPDATE");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(interval_s: Option<u32>, uac: Option<bool>, supports: bool) -> Asked {
        Asked { interval_s, min_se_s: MIN_SE_S, uac, supports }
    }

    #[test]
    fn the_callee_grants_as_table_2_has_it() {
        let config = Config { session_expires_s: 1_800, min_se_s: 90, ..Config::default() };
        let grant = |a: Asked| a.grant(&config).map(|g| (g.interval_s, g.uac, g.required));
        assert_eq!(grant(asked(None, None, false)), None);
        assert_eq!(grant(asked(None, None, true)), Some((1_800, true, true)));
        assert_eq!(grant(asked(Some(600), None, true)), Some((600, true, true)));
        assert_eq!(grant(asked(Some(600), Some(false), true)), Some((600, false, false)));
        // A proxy asked for a caller that knows no timers.
        assert_eq!(grant(asked(Some(600), None, false)), Some((600, false, false)));
        assert_eq!(grant(asked(Some(7_200), Some(true), true)), Some((1_800, true, true)));
        let floor = Asked { min_se_s: 2_000, ..asked(Some(7_200), None, true) };
        assert_eq!(grant(floor), Some((2_000, true, true)));
        let off = Config { session_expires_s: 0, ..config.clone() };
        assert_eq!(asked(None, None, true).grant(&off), None);
        assert_eq!(asked(Some(300), None, true).grant(&off), None);
        assert!(asked(Some(60), None, true).is_too_short(&config));
        assert!(!asked(Some(60), None, false).is_too_short(&config), "whoever knows no timers knows no 422");
    }
}

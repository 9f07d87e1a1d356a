//! The settings of the support line, read once a call. `plugin.toml` says what each is for.

use cordboard_sdk::ivr::*;

use crate::words::Language;

/// The settings.
pub(crate) struct Config {
    pub(crate) workgroup: String,
    pub(crate) hours: String,
    pub(crate) menu: bool,
    pub(crate) language: Language,
    pub(crate) priority: u8,
    pub(crate) announce_every_s: u32,
    pub(crate) exit_key: Option<char>,
    pub(crate) music: String,
    pub(crate) promotions: Vec<String>,
    pub(crate) voicemail: bool,
    pub(crate) voicemail_max_s: u32,
    pub(crate) voicemail_min_ms: u32,
    pub(crate) survey: bool,
    /// Play the library's prompts and never ask for a synthesiser.
    pub(crate) recorded: bool,
}

impl Config {
    pub(crate) fn read() -> Result<Self, End> {
        Ok(Config {
            workgroup: setting_required("workgroup")?,
            hours: setting_or("hours", "office".to_owned()),
            menu: setting_or("menu", true),
            language: match setting("language").as_deref() {
                Some("fr") => Language::French,
                _ => Language::English,
            },
            priority: setting_or("priority", 0_u8).min(100),
            announce_every_s: setting_or("announce_every_s", 30_u32).clamp(2, 3_600),
            exit_key: exit_key(),
            music: setting_or("music", "music".to_owned()),
            promotions: setting_or("promotions", "promotion-1,promotion-2".to_owned())
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            voicemail: setting_or("voicemail", true),
            voicemail_max_s: setting_or("voicemail_max_s", 120_u32).clamp(1, 3_600),
            voicemail_min_ms: setting_or("voicemail_min_ms", 1_500_u32),
            survey: setting_or("survey", true),
            recorded: setting("voice").as_deref() == Some("recorded"),
        })
    }
}

/// `*`, `#` or `0`, since the offer is recorded for these; `none` for no key.
fn exit_key() -> Option<char> {
    match setting("exit_key").as_deref().map(str::trim) {
        None | Some("*") => Some('*'),
        Some("#") => Some('#'),
        Some("0") => Some('0'),
        Some("" | "none") => None,
        Some(other) => {
            log::warn!("exit_key {other:?} is not one of * # 0 none: * holds");
            Some('*')
        }
    }
}

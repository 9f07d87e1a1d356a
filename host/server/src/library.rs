//! The prompts of the tenants, the synthesised speech, and the tenants' clocks, as the shard and
//! the plugins ask for them.
//!
//! Prompts are the WAV files of a tenant's folder, decoded at start and at each reload, so that a
//! look-up never touches the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cordboard_call::Name;
use cordboard_media::clip::Clip;
use cordboard_plugin::{Fetch, Hours, LocalTime, Prompts};

use crate::config::{Config, hours};
use crate::speech::Speech;

type Clips = BTreeMap<Name, BTreeMap<String, Arc<Clip>>>;

/// All of it. Shared by every thread.
#[derive(Debug)]
pub struct Library {
    clips: ArcSwap<Clips>,
    config: ArcSwap<Config>,
    speech: Arc<Speech>,
}

impl Library {
    /// Reads all prompts.
    ///
    /// # Errors
    /// The first prompt that cannot be read, in words.
    pub fn load(config: &Arc<Config>, speech: Arc<Speech>) -> Result<Self, String> {
        Ok(Self {
            clips: ArcSwap::from_pointee(read_all(config)?),
            config: ArcSwap::new(config.clone()),
            speech,
        })
    }

    /// Reads all prompts anew; on an error nothing changes.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn reload(&self, config: &Arc<Config>) -> Result<(), String> {
        self.clips.store(Arc::new(read_all(config)?));
        self.config.store(config.clone());
        Ok(())
    }

    /// How many prompts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clips.load().values().map(BTreeMap::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tenant's local time at a time.
    #[must_use]
    pub fn local_time(&self, tenant: &Name, wall_ms: i64) -> LocalTime {
        let config = self.config.load();
        let zone = config.tenants.get(tenant).map_or(jiff::tz::TimeZone::UTC, |t| t.zone.clone());
        let (at, offset) = hours::local(&zone, wall_ms);
        LocalTime {
            year: at.year().max(0) as u16,
            month: at.month() as u8,
            day: at.day() as u8,
            hour: at.hour() as u8,
            minute: at.minute() as u8,
            second: at.second() as u8,
            weekday: at.weekday().to_monday_one_offset() as u8,
            utc_offset_minutes: offset as i16,
        }
    }

    fn find(&self, tenant: &Name, name: &str) -> Option<Arc<Clip>> {
        self.clips.load().get(tenant)?.get(name).cloned()
    }
}

/// The clips of all tenants: `NAME.wav` of the folder, and `FOLDER/NAME.wav` below it as `FOLDER/NAME`.
fn read_all(config: &Config) -> Result<Clips, String> {
    let mut clips = Clips::new();
    for (tenant, more) in &config.tenants {
        let mut found = BTreeMap::new();
        if let Some(folder) = &more.prompts {
            read_folder(folder, "", &mut found)?;
        }
        clips.insert(tenant.clone(), found);
    }
    Ok(clips)
}

fn read_folder(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Arc<Clip>>) -> Result<(), String> {
    let entries = std::fs::read_dir(folder)
        .map_err(|e| format!("the prompts in {} cannot be read: {e}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let Some(stem) = path.file_stem().and_then(|s| s.to_str()) else { continue };
        let name = format!("{prefix}{stem}");
        if path.is_dir() && prefix.is_empty() {
            read_folder(&path, &format!("{name}/"), found)?;
        } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("wav")) {
            let bytes = std::fs::read(&path)
                .map_err(|e| format!("the prompt {} cannot be read: {e}", path.display()))?;
            let clip = Clip::from_wav(&bytes).map_err(|e| format!("the prompt {}: {e}", path.display()))?;
            found.insert(name, Arc::new(clip));
        }
    }
    Ok(())
}

impl cordboard_call::shard::Prompts for Library {
    fn clip(&self, tenant: &Name, name: &str) -> Option<Arc<Clip>> {
        self.find(tenant, name)
    }
}

/// The library for the plugin host, where the two traits of the name `clip` would collide.
#[derive(Debug, Clone)]
pub struct ForScripts(pub Arc<Library>);

impl Prompts for ForScripts {
    fn clip(&self, tenant: &Name, name: &str) -> Fetch {
        Fetch::Now(self.0.find(tenant, name).ok_or_else(|| {
            let clips = self.0.clips.load();
            let names = clips
                .get(tenant)
                .map(|c| c.keys().map(String::as_str).collect::<Vec<_>>())
                .unwrap_or_default();
            format!("the tenant {tenant} has no prompt `{name}`{}", crate::config::suggest(name, names))
        }))
    }

    fn speech(&self, _: &Name, text: &str, language: &str) -> Fetch {
        match self.0.speech.cached(text, language) {
            Some(clip) => Fetch::Now(Ok(clip)),
            None => Fetch::Later(self.0.speech.say(text.to_owned(), language.to_owned())),
        }
    }
}

impl Hours for ForScripts {
    fn now(&self, tenant: &Name) -> LocalTime {
        self.0.local_time(tenant, wall_ms())
    }

    fn open(&self, tenant: &Name, calendar: &str) -> Option<bool> {
        let config = self.0.config.load();
        let tenant = config.tenants.get(tenant)?;
        let (at, _) = hours::local(&tenant.zone, wall_ms());
        Some(tenant.hours.get(calendar)?.is_open(at))
    }
}

/// Unix milliseconds.
pub(crate) fn wall_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

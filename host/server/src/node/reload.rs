//! What changes while calls are up: components that are put into service, and the configuration that is
//! read anew. Called by the API, by SIGHUP and by the watched folder; it never touches a live call.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError};

use cordboard_call::Name;
use cordboard_plugin::{Grants, Install, Manifest, Registry, World};
use serde::Serialize;

use super::Shared;
use crate::api::Problem;
use crate::config::{self, Config, Problems};
use crate::shell::domain::DomainMail;
use crate::shell::redirect::RedirectMail;
use crate::shell::shard::{self, ShardMail, SharedPrompts};

/// The outcome of a reload.
#[derive(Debug, Clone, Serialize)]
pub struct Reloaded {
    /// Keys whose new values take a restart; the old ones hold.
    pub needs_restart: Vec<&'static str>,
    /// Plugins that were put into service, with their digests.
    pub plugins: BTreeMap<String, String>,
}

/// A version in service.
#[derive(Debug, Clone, Serialize)]
pub struct Loaded {
    /// The plugin.
    pub plugin: String,
    /// The component's digest.
    pub digest: String,
    /// What it says of itself.
    pub description: cordboard_plugin::Description,
}

/// Why a reload did not happen; what was in force stays.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file is wrong.
    #[error(transparent)]
    Config(#[from] Problems),
    /// A plugin is refused.
    #[error("the plugin `{0}`: {1}")]
    Plugin(String, String),
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Certificate(String),
    /// The prompts cannot be read.
    #[error("{0}")]
    Prompts(String),
}

impl Shared {
    /// Puts a component into service under a configured plugin's name, settings, grants and manifest.
    ///
    /// # Errors
    /// As a problem of the API.
    pub fn install(&self, name: &str, bytes: &[u8]) -> Result<Loaded, Problem> {
        let config = self.config();
        let plugin = config.plugins.iter().find(|p| &*p.name == name).ok_or_else(|| {
            let names = config.plugins.iter().map(|p| &*p.name);
            Problem::new(
                404,
                format!("the configuration has no plugin `{name}`{}", config::suggest(name, names)),
            )
        })?;
        let loaded = install(&self.registry, plugin, bytes).map_err(|why| Problem::new(422, why))?;
        if std::fs::read(&plugin.file).is_ok_and(|on_disk| on_disk == bytes) {
            let mut from_disk = self.from_disk.lock().unwrap_or_else(PoisonError::into_inner);
            from_disk.insert(plugin.name.clone(), fingerprint(plugin, bytes));
        }
        Ok(loaded)
    }

    /// Reads the configuration anew and applies it without dropping a call.
    ///
    /// # Errors
    /// What is wrong; nothing has changed then, unless a plugin is refused only when it is put into
    /// service: those named before it in the file are in service already.
    pub fn reload(&self) -> Result<Reloaded, ReloadError> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.config();
        let new = config::load(&old.file, &self.overrides)?;
        let (new, needs_restart) = config::reload::merge(&old, new);
        let new = Arc::new(new);
        let renewal = config::transports::renewal(&new, super::start::FIRST_OF_MORE)
            .map_err(|error| ReloadError::Certificate(error.to_string()))?;
        let vetter = self.registry.engine().vetter();
        let mut components = Vec::new();
        for plugin in &new.plugins {
            let refused = |why: String| ReloadError::Plugin(plugin.name.to_string(), why);
            let bytes = std::fs::read(&plugin.file)
                .map_err(|e| refused(format!("{}: {e}", plugin.file.display())))?;
            vetter.check(&bytes, plugin.expected_world()).map_err(|problems| {
                refused(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            })?;
            components.push(bytes);
        }
        self.library.reload(&new).map_err(ReloadError::Prompts)?;
        if let Err(error) = make_folders(&new) {
            tracing::error!(%error, folder = %new.store.recordings.display(), "folders for recordings cannot be made");
        }
        let mut plugins = BTreeMap::new();
        let mut from_disk = self.from_disk.lock().unwrap_or_else(PoisonError::into_inner);
        for (plugin, bytes) in new.plugins.iter().zip(&components) {
            // What has not changed on disk stays as it is in service, be it loaded or rolled back since.
            let mark = fingerprint(plugin, bytes);
            if from_disk.get(&plugin.name) == Some(&mark) {
                continue;
            }
            let loaded = install(&self.registry, plugin, bytes)
                .map_err(|why| ReloadError::Plugin(plugin.name.to_string(), why))?;
            from_disk.insert(plugin.name.clone(), mark);
            plugins.insert(loaded.plugin, loaded.digest);
        }
        for gone in old.plugins.iter().filter(|p| new.plugins.iter().all(|n| n.name != p.name)) {
            self.registry.remove(&gone.name);
            from_disk.remove(&gone.name);
        }
        drop(from_disk);
        self.config.store(new.clone());
        self.delivery.configure(adapters(&new));
        self.trace.configure(new.trace);
        if let Some(centre) = &self.centre {
            shard::post(&centre.shard, ShardMail::Renew(Box::new(renewal)));
            centre.domain.send_waiting(DomainMail::Configure(new.model.clone()));
            shard::post(
                &centre.shard,
                ShardMail::Configure(new.model.clone(), SharedPrompts(self.library.clone())),
            );
        }
        self.gate.configure(&new.defence, &new.model);
        if let Some((redirect, _)) = &self.redirect {
            redirect.send_waiting(RedirectMail::Configure(new.model.clone(), new.redirect.nodes.clone()));
        }
        tracing::info!(?needs_restart, "the configuration was read anew");
        Ok(Reloaded { needs_restart, plugins })
    }
}

/// Folders that must be there before a call wants to write into them.
pub(super) fn make_folders(config: &Config) -> std::io::Result<()> {
    for tenant in &config.model.tenants {
        std::fs::create_dir_all(config.store.recordings.join(&*tenant.name))?;
    }
    Ok(())
}

/// Which adapters get whose events.
pub(super) fn adapters(config: &Config) -> BTreeMap<Name, BTreeSet<Name>> {
    let mut wanted: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    for tenant in &config.model.tenants {
        for adapter in &tenant.adapters {
            wanted.entry(adapter.clone()).or_default().insert(tenant.name.clone());
        }
    }
    wanted
}

/// A component as it is on disk, with everything that makes a version of it.
pub(super) fn fingerprint(plugin: &config::Plugin, bytes: &[u8]) -> u64 {
    let mut hash = std::hash::DefaultHasher::new();
    let manifest = plugin.manifest.as_ref().and_then(|file| std::fs::read(file).ok());
    (bytes, manifest, &plugin.world, &plugin.grant_http, &plugin.settings).hash(&mut hash);
    hash.finish()
}

/// Checks a component and puts it into service.
pub(super) fn install(registry: &Registry, plugin: &config::Plugin, bytes: &[u8]) -> Result<Loaded, String> {
    let manifest = match &plugin.manifest {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|e| format!("the manifest {} cannot be read: {e}", path.display()))?;
            Some(Manifest::parse(&text).map_err(|e| format!("the manifest {}: {e}", path.display()))?)
        }
        None => None,
    };
    let world: Option<World> = match &plugin.world {
        Some(world) => Some(world.parse().map_err(|e: cordboard_plugin::NoSuchWorld| e.to_string())?),
        None => None,
    };
    let version = registry
        .install(&Install {
            name: &plugin.name,
            world,
            bytes,
            manifest,
            settings: plugin.settings.clone(),
            grant: Grants { http: plugin.grant_http.clone() },
        })
        .map_err(|e| e.to_string())?;
    Ok(Loaded {
        plugin: plugin.name.to_string(),
        digest: version.digest().to_string(),
        description: version.description().clone(),
    })
}

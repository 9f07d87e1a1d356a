//! Names that must refer to something, names that may be there only once, and files that must be
//! there: what can only be seen when the whole file was read.

use std::collections::BTreeSet;

use cordboard_call::model::{Fallback, Phone};

use super::load::Places;
use super::problem::suggest;
use super::read::{At, Source};
use super::{Config, Role};

pub(super) fn check(source: &Source<'_>, config: &Config, places: &Places) {
    roles(source, config);
    for (used, world) in &places.plugins {
        let names = config.plugins.iter().map(|p| &*p.name);
        refers(source, used, "plugin", names);
        let plugin = config.plugins.iter().find(|p| *p.name == *used.value);
        if let Some(found) = plugin.and_then(|p| world_of(p).ok().flatten()).filter(|found| found != world) {
            source.problem(
                used.line,
                &*used.key,
                format!("the plugin `{}` is of the world `{found}`; a `{world}` is needed here", used.value),
            );
        }
    }
    for used in &places.tenant_names {
        refers(source, used, "tenant", config.model.tenants.iter().map(|t| &*t.name));
    }
    once(source, "plugins", config.plugins.iter().map(|p| (&*p.name, p.line)));
    once(source, "tenants", config.model.tenants.iter().map(|t| (&*t.name, 0)));
    once(source, "trunks", config.model.trunks.iter().map(|t| (&*t.name, 0)));
    let peers = || config.model.trunks.iter().filter_map(|t| t.peer.as_ref());
    once(source, "trunks.registers.user", peers().map(|p| (&*p.user, 0)));
    for agent in config.model.tenants.iter().flat_map(|t| &t.agents) {
        if let Phone::Registered { user, .. } = &agent.phone
            && peers().any(|p| p.user == *user)
        {
            source.problem(
                0,
                "trunks.registers.user",
                format!("`{user}` is the user of the agent `{}`'s phone too", agent.name),
            );
        }
    }
    once(
        source,
        "tenants.numbers",
        config.model.tenants.iter().flat_map(|t| t.numbers.iter().map(|n| (&**n, 0))),
    );
    for plugin in &config.plugins {
        let key = format!("plugins `{}`", plugin.name);
        if !plugin.file.is_file() {
            source.problem(
                plugin.line,
                &*key,
                format!(
                    "there is no component {}: build it, or name another `file` or `plugin_dir`",
                    plugin.file.display()
                ),
            );
        } else if plugin.manifest.is_none() && plugin.world.is_none() {
            source.problem(
                plugin.line,
                &*key,
                "has no manifest beside its component, so `world` must say what it is",
            );
        }
        if let Err(error) = world_of(plugin) {
            source.problem(plugin.line, &*key, error);
        }
    }
    for (tenant, here) in config.model.tenants.iter().zip(&places.tenants) {
        let workgroups = || tenant.workgroups.iter().map(|w| &*w.name);
        let agents = || tenant.agents.iter().map(|a| &*a.name);
        here.workgroups.iter().for_each(|used| refers(source, used, "workgroup", workgroups()));
        here.agents.iter().for_each(|used| refers(source, used, "agent", agents()));
        here.skills.iter().for_each(|used| refers(source, used, "skill", tenant.skills.iter().map(|s| &**s)));
        let prompts = config.tenants.get(&tenant.name).and_then(|t| t.prompts.as_deref());
        for used in &here.prompts {
            match prompts {
                None => source.problem(
                    used.line,
                    &*used.key,
                    "the tenant has no `prompts` folder to take it from",
                ),
                Some(folder) if !folder.join(format!("{}.wav", used.value)).is_file() => {
                    source.problem(
                        used.line,
                        &*used.key,
                        format!(
                            "there is no prompt {}",
                            folder.join(format!("{}.wav", used.value)).display()
                        ),
                    );
                }
                Some(_) => {}
            }
        }
        once(source, "tenants.workgroups", workgroups().map(|n| (n, 0)));
        once(source, "tenants.agents", agents().map(|n| (n, 0)));
        if tenant.router.is_none()
            && tenant.script.is_none()
            && !matches!(tenant.fallback, Fallback::Workgroup(_))
        {
            source.problem(
                0,
                format!("tenants `{}`", tenant.name),
                "has no router, no script and no fallback workgroup: its calls could only be hung up",
            );
        }
    }
}

fn roles(source: &Source<'_>, config: &Config) {
    if config.roles.is_empty() {
        source.problem(0, "roles", "is empty; expected `redirect`, `centre` and `domain`, or some of them");
    }
    if config.has(Role::Centre) != config.has(Role::Domain) {
        source.problem(
            0,
            "roles",
            "`centre` and `domain` speak over a bus inside the process in this version: name both or neither",
        );
    }
    if config.has(Role::Redirect)
        && config.redirect.nodes.is_empty()
        && !(config.has(Role::Centre) && config.redirect.name_self)
    {
        source.problem(0, "redirect.nodes", "a redirect role without a centre beside it needs nodes to name");
    }
    if config.has(Role::Centre) && config.model.trunks.is_empty() {
        source.problem(
            0,
            "trunks",
            "is empty; a centre needs at least one [[trunks]] that may send it calls",
        );
    }
    if config.has(Role::Centre) && config.model.tenants.is_empty() {
        source.problem(
            0,
            "tenants",
            "is empty; a centre needs at least one [[tenants]] whose calls it takes",
        );
    }
}

/// The world's name, from the manifest or the configuration.
fn world_of(plugin: &super::Plugin) -> Result<Option<String>, String> {
    let bare = |world: &str| world.split('@').next().unwrap_or(world).to_owned();
    if let Some(path) = &plugin.manifest {
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("the manifest {} cannot be read: {e}", path.display()))?;
        let manifest = cordboard_plugin::Manifest::parse(&text)
            .map_err(|e| format!("the manifest {}: {e}", path.display()))?;
        manifest.settings(&plugin.settings).map_err(|e| e.to_string())?;
        return Ok(Some(bare(&manifest.world)));
    }
    Ok(plugin.world.as_deref().map(bare))
}

fn refers<'a>(
    source: &Source<'_>,
    used: &At<String>,
    what: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) {
    if used.value.is_empty() || names.clone().any(|name| name == used.value) {
        return;
    }
    source.problem(
        used.line,
        &*used.key,
        format!("there is no {what} `{}`{}", used.value, suggest(&used.value, names)),
    );
}

fn once<'a>(source: &Source<'_>, key: &str, names: impl Iterator<Item = (&'a str, usize)>) {
    let mut seen = BTreeSet::new();
    for (name, line) in names {
        if !name.is_empty() && !seen.insert(name) {
            source.problem(line, key, format!("`{name}` is there twice"));
        }
    }
}

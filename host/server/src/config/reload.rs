//! What a reload changes, and what it cannot change without a restart.

use super::Config;

/// The new configuration as it can be used now: keys that need a restart keep their old values and
/// are named.
#[must_use]
pub fn merge(old: &Config, new: Config) -> (Config, Vec<&'static str>) {
    let mut needs_restart = Vec::new();
    let mut merged = new;
    macro_rules! keep {
        ($($name:literal => $($field:ident).+),* $(,)?) => {$(
            if merged.$($field).+ != old.$($field).+ {
                needs_restart.push($name);
                merged.$($field).+ = old.$($field).+.clone();
            }
        )*};
    }
    keep! {
        "node" => node,
        "roles" => roles,
        "listen" => listen,
        "media" => media,
        "store.path" => store.path,
        "store.durability" => store.power,
        "store.recordings" => store.recordings,
        "api.listen" => api.listen,
        "log" => log,
        "telemetry.otlp" => otlp,
        "speech" => speech,
        "dns" => dns,
        "passages" => passages,
        "redirect.capacity" => redirect.capacity,
        "redirect.name_self" => redirect.name_self,
        "redirect.threads" => redirect.threads,
        "serialise_bus" => serialise_bus,
        "plugin limits (plugin_memory_mib, script_cpu_ms, max_scripts, quarantine_faults)" => plugin_limits,
    }
    // Sockets stay where they are; certificates, client authorities and origins are new for new connections.
    let bound =
        |c: &Config| c.listeners.iter().map(|l| (l.transport, l.address, l.advertised)).collect::<Vec<_>>();
    if bound(&merged) != bound(old) {
        needs_restart.push("listeners (transport, address, advertised)");
        merged.listeners = old.listeners.clone();
    }
    if merged.model.node != old.model.node {
        let mut model = (*merged.model).clone();
        model.node = old.model.node.clone();
        merged.model = std::sync::Arc::new(model);
    }
    (merged, needs_restart)
}

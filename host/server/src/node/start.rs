//! Builds a node up: threads, sockets, plugins, in the order in which each needs the one before.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use cordboard_bus::{Link, Outlet};
use cordboard_call::facts::Fact;
use cordboard_call::shard::ShardConfig;
use cordboard_net::Clock;
use cordboard_net::media::MediaThread;
use cordboard_net::stream::{Connections, Listen, Shown, Transport};
use cordboard_net::udp::{Options as PortOptions, Port};
use cordboard_plugin::{
    Adapters, Engine, EngineConfig, LogLine, PluginEvent, Registry, Scripts, WasmPolicies,
};
use cordboard_sip::endpoint::{DialogRecord, Listener};
use cordboard_store::{Durability, Journal, Options as StoreOptions};

use super::reload::{adapters, fingerprint, install, make_folders};
use super::weigh::weigh;
use super::{Centre, Node, ServeOptions, Shared, health};
use crate::config::{self, Config, Role};
use crate::cti::Delivery;
use crate::dns::Dns;
use crate::http::HttpClient;
use crate::library::{ForScripts, Library, wall_ms};
use crate::shell::domain::{DomainMail, DomainSetup, DomainView};
use crate::shell::gate::Gate;
use crate::shell::plugins::ToPlugins;
use crate::shell::redirect::{Beside, RedirectMail, RedirectSetup, RedirectView};
use crate::shell::release::{Releaser, Told};
use crate::shell::shard::{self, ShardMail, ShardSetup, ShardView, SharedPrompts};
use crate::shell::{self, domain, redirect};
use crate::speech::Speech;
use crate::telemetry::Exporter;
use crate::telemetry::hooks::{Hooks, Noted};
use crate::trace::{Tap, Trace};

/// The centre's listener in the shard.
const CENTRE: u16 = 1;
/// The first of `[[listeners]]` in the shard; the others follow in their order.
pub(super) const FIRST_OF_MORE: u16 = CENTRE + 1;
/// Messages that wait for a thread.
const INBOX: usize = 262_144;

/// What the centre can send with, and to.
fn abilities(config: &Config) -> cordboard_sip::resolve::Abilities {
    let more = || config.listeners.iter();
    let has = |v6: bool| config.listen.centre.is_ipv6() == v6 || more().any(|l| l.address.is_ipv6() == v6);
    let usual = cordboard_sip::resolve::Abilities::default();
    let by = |wanted: Transport| more().any(|l| l.transport == wanted);
    let mut transports = usual.transports;
    transports.extend(by(Transport::Tcp).then_some(Transport::Tcp));
    transports.extend(by(Transport::Tls).then_some(Transport::Tls));
    cordboard_sip::resolve::Abilities { transports, v4: has(false), v6: has(true), ..usual }
}

impl Node {
    /// Starts everything that the configuration names.
    ///
    /// # Errors
    /// What could not be started, and what to do.
    pub fn start(config: Config, options: ServeOptions) -> Result<Self> {
        cordboard_base::map::seed_hashes(shell::entropy().next_u64());
        let config = Arc::new(config);
        let clock = Clock::start();
        let service = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("service")
            .enable_all()
            .build()
            .context("the service runtime cannot be started")?;
        let releaser = Arc::new(Releaser::new(config.serialise_bus));

        let (exporter, hooks) = match &config.otlp {
            Some(url) => {
                let (exporter, hooks) =
                    Exporter::start(url, &config.node, service.handle(), releaser.watch(), clock);
                (Some(exporter), hooks)
            }
            None => (None, Hooks::default()),
        };
        let told = releaser.clone();
        let store = StoreOptions {
            durability: if config.store.power { Durability::Power } else { Durability::Process },
            keep_whole: options.journal_keep_whole,
            ..StoreOptions::new(&config.store.path)
        };
        let (journal, running, recovered) = Journal::open(store, move |committed| {
            told.publish(committed.events);
            told.release(committed.held);
        })?;
        if recovered.rows_given_up > 0 {
            tracing::warn!(rows = recovered.rows_given_up, "damaged rows of the journal were given up");
        }

        make_folders(&config)
            .with_context(|| format!("store.recordings: {}", config.store.recordings.display()))?;

        let policy_changed: Arc<std::sync::OnceLock<Outlet<DomainMail>>> = Arc::default();
        let registry = start_plugins(&config, policy_changed.clone())?;
        for plugin in &config.plugins {
            let bytes = std::fs::read(&plugin.file)
                .with_context(|| format!("the component {}", plugin.file.display()))?;
            if let Err(why) = install(&registry, plugin, &bytes) {
                bail!("the plugin `{}` ({}): {why}", plugin.name, plugin.file.display());
            }
        }
        let speech = Arc::new(Speech::new(config.speech.clone(), service.handle().clone()));
        let library = Arc::new(Library::load(&config, speech.clone()).map_err(anyhow::Error::msg)?);
        let for_scripts = Arc::new(ForScripts(library.clone()));
        let scripts =
            Scripts::new(registry.clone(), for_scripts.clone(), for_scripts, config.store.recordings.clone());
        let http = Arc::new(HttpClient::new(service.handle().clone()));
        let delivery = Delivery::new(
            service.handle().clone(),
            Adapters::new(registry.clone(), http),
            journal.clone(),
            releaser.clone(),
            clock,
            hooks.clone(),
        );
        delivery.configure(adapters(&config));

        let from_disk = config
            .plugins
            .iter()
            .filter_map(|p| Some((p.name.clone(), fingerprint(p, &std::fs::read(&p.file).ok()?))))
            .collect();
        let dns = Dns::new(&config.dns, abilities(&config), service.handle().clone());
        let draining = Arc::new(AtomicBool::new(false));
        let trace = Arc::<Trace>::default();
        trace.configure(config.trace);
        let gate = Gate::new(&config.defence, &config.model);
        let mut threads = Vec::new();
        let (mut media, mut domain_thread) = (None, None);
        let centre = if config.has(Role::Centre) {
            let plugins = |shard: Outlet<ShardMail>| {
                ToPlugins::new(&registry, scripts.clone(), library.clone(), dns, shard, hooks.clone())
            };
            let (centre, media_thread, shard_thread, domain) = start_centre(
                &config,
                clock,
                &journal,
                &releaser,
                &registry,
                recovered.facts,
                &library,
                trace.tap("centre"),
                hooks.clone(),
                &gate,
                plugins,
            )?;
            let _ = policy_changed.set(centre.domain.clone());
            media = Some(media_thread);
            domain_thread = Some(domain);
            threads.push(shard_thread);
            Some(centre)
        } else {
            None
        };
        let redirect = if config.has(Role::Redirect) {
            let (outlet, view, thread) =
                start_redirect(&config, clock, centre.as_ref(), &draining, trace.tap("redirect"), &gate)?;
            threads.push(thread);
            Some((outlet, view))
        } else {
            None
        };
        let shared = Arc::new(Shared {
            config: ArcSwap::new(config.clone()),
            overrides: options.overrides,
            clock,
            started: Instant::now(),
            registry,
            scripts,
            journal,
            releaser,
            library,
            speech,
            delivery,
            centre,
            redirect,
            gate,
            draining,
            trace,
            exporter,
            reloading: Mutex::new(()),
            watch: health::Watch::default(),
            from_disk: Mutex::new(from_disk),
        });
        let (api, serving) = service
            .block_on(crate::api::serve(config.api.listen, shared.clone()))
            .with_context(|| format!("api.listen: {} cannot be bound", config.api.listen))?;
        service.spawn(serving);
        service.spawn(health::watch(shared.clone()));
        service.spawn(crate::watch::housekeeping(shared.clone()));
        service.spawn(crate::watch::plugin_folder(shared.clone()));
        if shared.redirect.is_some() {
            service.spawn(weigh(shared.clone()));
        }
        Ok(Self {
            shared,
            api,
            service: Some(service),
            media,
            journal: Some(running),
            threads,
            domain: domain_thread,
        })
    }
}

fn start_plugins(
    config: &Config,
    policy_changed: Arc<std::sync::OnceLock<Outlet<DomainMail>>>,
) -> Result<Registry> {
    let mut engine = EngineConfig::new(Arc::new(|line: LogLine| {
        let interaction = line.interaction.map(|id| id.to_string()).unwrap_or_default();
        match line.level {
            cordboard_plugin::Level::Debug => {
                tracing::debug!(plugin = %line.plugin, interaction, "{}", line.text)
            }
            cordboard_plugin::Level::Info => {
                tracing::info!(plugin = %line.plugin, interaction, "{}", line.text)
            }
            cordboard_plugin::Level::Warn => {
                tracing::warn!(plugin = %line.plugin, interaction, "{}", line.text)
            }
            cordboard_plugin::Level::Error => {
                tracing::error!(plugin = %line.plugin, interaction, "{}", line.text)
            }
        }
    }));
    let limits = config.plugin_limits;
    engine.limits.memory_bytes = limits.memory_mib as usize * (1 << 20);
    engine.limits.script_cpu_ms = limits.script_cpu_ms;
    engine.limits.scripts = limits.max_scripts as usize;
    // Room for the questions of the other worlds beside the scripts.
    engine.instances = limits.max_scripts + 200;
    engine.limits.quarantine_faults = limits.quarantine_faults;
    engine.limits.grace_ms = config.model.limits.script_grace_ms;
    engine.cache = config.store.path.parent().map(|folder| folder.join("code"));
    let engine = Engine::new(engine)?;
    let sizing = engine.sizing();
    match &sizing.limited_by {
        Some(why) => tracing::warn!(
            instances = sizing.instances,
            wanted = sizing.wanted,
            why,
            "the machine allows fewer plugin instances than wanted"
        ),
        None => {
            tracing::info!(instances = sizing.instances, pagemap_scan = sizing.pagemap_scan, "plugin engine")
        }
    }
    Ok(Registry::new(engine, move |event| {
        let changed = match event {
            PluginEvent::Installed { plugin, digest, replaced } => {
                tracing::info!(%plugin, %digest, replaced = replaced.is_some(), "plugin in service");
                plugin
            }
            PluginEvent::Quarantined { plugin, digest, fault, now } => {
                tracing::error!(%plugin, %digest, %fault, rolled_back = now.is_some(), "plugin in quarantine after too many faults");
                plugin
            }
            PluginEvent::RolledBack { plugin, to, .. } => {
                tracing::warn!(%plugin, %to, "plugin rolled back");
                plugin
            }
            PluginEvent::OnProbation { plugin, digest } => {
                tracing::warn!(%plugin, %digest, "plugin tried again after its quarantine");
                plugin
            }
            PluginEvent::Removed { plugin } => {
                tracing::info!(%plugin, "plugin out of service");
                plugin
            }
        };
        if let Some(domain) = policy_changed.get() {
            // Of no consequence for a plugin that is no policy; a full inbox places anew at the next change.
            let _ = domain.send(DomainMail::PolicyChanged(changed));
        }
    }))
}

/// Dialogs that were up when the former life ended.
fn orphans(facts: &[Fact]) -> Vec<(u64, DialogRecord)> {
    let mut up = BTreeMap::new();
    for fact in facts {
        match fact {
            Fact::DialogUp { leg, dialog, .. } => {
                up.insert(*leg, (**dialog).clone());
            }
            Fact::DialogDown { leg } => {
                up.remove(leg);
            }
            _ => {}
        }
    }
    up.into_iter().collect()
}

#[allow(clippy::too_many_arguments, reason = "it is called once, and each is a part of the centre")]
fn start_centre(
    config: &Arc<Config>,
    clock: Clock,
    journal: &Journal<Vec<Told>>,
    releaser: &Arc<Releaser>,
    registry: &Registry,
    facts: Vec<Fact>,
    library: &Arc<Library>,
    tap: Tap,
    hooks: Hooks,
    gate: &Gate,
    plugins: impl FnOnce(Outlet<ShardMail>) -> ToPlugins,
) -> Result<(Centre, MediaThread, JoinHandle<()>, JoinHandle<()>)> {
    let orphans = orphans(&facts);
    let port = Port::bind(config.listen.centre, PortOptions::default())
        .with_context(|| format!("listen.centre: {} cannot be bound", config.listen.centre))?;
    tracing::info!(address = %port.local_addr(), receive_buffer = port.receive_buffer(), "centre listens");
    let (poll, waker) = shard::poll().context("the shard cannot be woken")?;
    let (shard, inbox) = cordboard_bus::inbox(INBOX, waker.clone());
    releaser.connect(shard.clone());

    // A life's number grows with every start, also when the clock was set back a little.
    let epoch = wall_ms().max(0) as u64;
    let (ready, is_ready) = std::sync::mpsc::channel();
    let policies = registry.clone();
    let domain_view = Arc::new(DomainView::default());
    let setup = DomainSetup {
        model: config.model.clone(),
        epoch,
        clock,
        facts,
        policies: move || Noted::new(WasmPolicies::new(policies), hooks),
        journal: journal.clone(),
        releaser: releaser.clone(),
        view: domain_view.clone(),
    };
    let domain_thread = domain::start(setup, INBOX, move |outlet| drop(ready.send(outlet)))
        .context("the domain's thread cannot be started")?;
    let domain = is_ready.recv().context("the domain ended while it recovered")?;

    let mut media_config = cordboard_net::media::Config::new(
        config.media.address,
        config.media.advertised,
        config.media.ports.0..=config.media.ports.1,
        shell::seed(),
    );
    media_config.max_legs = config.media.max_legs as usize;
    let to_shard = shard.clone();
    let media = MediaThread::start(media_config, clock, move |events| {
        shard::post(&to_shard, ShardMail::Media(events))
    })
    .context("the media thread cannot be started")?;
    let shard_view = Arc::new(ShardView::default());
    let notes = journal.clone();
    let mut listeners = vec![Listener::udp(
        CENTRE,
        SocketAddr::new(config.centre_advertised().ip(), port.local_addr().port()),
    )];
    let (ports, connections) = open_listeners(config, clock, &poll, port, &mut listeners)?;
    let setup = ShardSetup {
        config: ShardConfig {
            passages: config.passages.clone(),
            ..ShardConfig::new(1, epoch, listeners, config.media.advertised)
        },
        model: config.model.clone(),
        prompts: SharedPrompts(library.clone()),
        clock,
        ports,
        connections,
        poll,
        waker,
        inbox,
        domain: Link::new(domain.clone(), config.serialise_bus),
        media: media.handle(),
        plugins: plugins(shard.clone()),
        note: Box::new(move |facts| notes.try_note(facts)),
        orphans,
        tap,
        gate: gate.clone(),
        view: shard_view.clone(),
    };
    let shard_thread = shard::start(setup).context("the shard's thread cannot be started")?;
    // The former lives' facts are recovered: from here on the journal begins with what holds now.
    domain.send_waiting(DomainMail::Compact);
    let handle = media.handle();
    Ok((Centre { shard, shard_view, domain, domain_view, media: handle }, media, shard_thread, domain_thread))
}

/// Opens `[[listeners]]` beside the centre's own port.
fn open_listeners(
    config: &Config,
    clock: Clock,
    poll: &mio::Poll,
    own: Port,
    listeners: &mut Vec<Listener>,
) -> Result<(Vec<(u16, Port)>, Connections)> {
    let renewal = config::transports::renewal(config, FIRST_OF_MORE)?;
    let shown = renewal.listeners.clone();
    let registry = poll.registry().try_clone().context("the shard's poll cannot be shared")?;
    let mut connections = Connections::new(clock.now(), registry, renewal);
    let mut ports = vec![(CENTRE, own)];
    for (listener, Shown { listener: id, tls, origins }) in config.listeners.iter().zip(shown) {
        let config::transports::Listener { transport, address, .. } = *listener;
        let failed = || format!("listeners: {transport} {address} cannot be bound");
        let bound = if transport == Transport::Udp {
            let port = Port::bind(address, PortOptions::default()).with_context(failed)?;
            let bound = port.local_addr();
            ports.push((id, port));
            bound
        } else {
            connections
                .listen(Listen { listener: id, transport, address, tls, origins })
                .with_context(failed)?
        };
        tracing::info!(%transport, address = %bound, "centre listens");
        let local = listener.reached_at(config.listen.advertised, bound);
        listeners.push(Listener { id, transport, local });
    }
    Ok((ports, connections))
}

fn start_redirect(
    config: &Arc<Config>,
    clock: Clock,
    centre: Option<&Centre>,
    draining: &Arc<AtomicBool>,
    tap: Tap,
    gate: &Gate,
) -> Result<(Outlet<RedirectMail>, Arc<RedirectView>, JoinHandle<()>)> {
    let mut address = config.listen.redirect;
    let mut doors = Vec::new();
    for _ in 0..config.redirect.threads {
        let options = PortOptions { shared: config.redirect.threads > 1, ..PortOptions::default() };
        let port = Port::bind(address, options)
            .with_context(|| format!("listen.redirect: {address} cannot be bound"))?;
        address = port.local_addr();
        doors.push(port);
    }
    let receive_buffer = doors.first().map_or(0, Port::receive_buffer);
    tracing::info!(%address, threads = doors.len(), receive_buffer, "redirect role listens");
    // Nodes are asked from the same host; the other family, where there is one, from any address.
    let other: IpAddr =
        if address.is_ipv4() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let probes = [address.ip(), other]
        .into_iter()
        .filter_map(|ip| Port::bind(SocketAddr::new(ip, 0), PortOptions::default()).ok())
        .collect();
    let (poll, waker) = shard::poll().context("the redirect role cannot be woken")?;
    let (outlet, inbox) = cordboard_bus::inbox(1_024, waker.clone());
    let view = Arc::new(RedirectView::default());
    let beside = centre.filter(|_| config.redirect.name_self).map(|centre| Beside {
        id: config.node.clone(),
        contact: format!("sip:{}", config.centre_advertised()),
        capacity: config.redirect.capacity,
        view: centre.shard_view.clone(),
        draining: draining.clone(),
        shard: centre.shard.clone(),
    });
    let setup = RedirectSetup {
        model: config.model.clone(),
        nodes: config.redirect.nodes.clone(),
        beside,
        clock,
        doors,
        probes,
        poll,
        waker,
        inbox,
        tap: Arc::new(tap),
        gate: gate.clone(),
        view: view.clone(),
    };
    let thread = redirect::start(setup).context("the redirect role's thread cannot be started")?;
    Ok((outlet, view, thread))
}

//! The configuration: one TOML file, read whole and checked whole before anything of it is used.
//!
//! Called by `serve`, `check` and a reload. [`load`] gives a [`Config`] in which every default is
//! filled in and every name refers to something, or all [`Problems`] at once. What changes at a
//! reload is computed by [`reload`].

mod check;
pub mod hours;
mod load;
mod problem;
mod read;
pub mod reload;
pub mod transports;
mod trunks;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cordboard_call::Name;
use cordboard_call::model::Model;
use cordboard_call::trunk::passages::Key;

pub(crate) use self::problem::suggest;
pub use self::problem::{Problem, Problems};

/// What a process of the binary does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Answers INVITEs with 302.
    Redirect,
    /// Holds calls and their media.
    Centre,
    /// Queues and agents.
    Domain,
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// This node's name.
    pub node: Name,
    /// What this process does.
    pub roles: Vec<Role>,
    /// Sockets.
    pub listen: Listen,
    /// More sockets of the centre.
    pub listeners: Vec<transports::Listener>,
    /// TLS towards others.
    pub tls: transports::Tls,
    /// Limits of connections.
    pub connections: cordboard_net::stream::Limits,
    /// Media.
    pub media: Media,
    /// The redirect role's settings.
    pub redirect: Redirect,
    /// What the core sees.
    pub model: Arc<Model>,
    /// What only the server needs of each tenant, by name.
    pub tenants: BTreeMap<Name, Tenant>,
    /// In the order of the file.
    pub plugins: Vec<Plugin>,
    /// Limits of plugins.
    pub plugin_limits: PluginLimits,
    /// Where components are looked for.
    pub plugin_dir: PathBuf,
    /// Whether the folder is watched for new versions.
    pub watch_plugins: bool,
    /// The journal and the records.
    pub store: Store,
    /// The admin API.
    pub api: Api,
    /// The log.
    pub log: Log,
    /// Where spans go: the base URL of an OTLP/HTTP collector.
    pub otlp: Option<String>,
    /// What is kept of the calls' SIP, and where it is sent.
    pub trace: crate::trace::Settings,
    /// The synthesiser.
    pub speech: Speech,
    /// Who is shut out, and for how long.
    pub defence: crate::shell::gate::Config,
    /// How names are resolved.
    pub dns: crate::dns::Config,
    /// What the nodes of one centre know each other's calls by; none: made up at each start.
    pub passages: Option<Key>,
    /// Whether messages between authorities are encoded even inside the process.
    pub serialise_bus: bool,
    /// How long live calls may go on after SIGTERM, in milliseconds.
    pub drain_timeout_ms: u64,
}

/// The sockets of the roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Of the redirect role.
    pub redirect: SocketAddr,
    /// Of the call centre.
    pub centre: SocketAddr,
    /// The address that others reach us by, when it is not the one that is bound.
    pub advertised: Option<IpAddr>,
}

/// The media plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Media {
    /// Bound.
    pub address: IpAddr,
    /// In SDP.
    pub advertised: IpAddr,
    /// RTP ports, both ends included.
    pub ports: (u16, u16),
    /// Legs at once; one more cannot be opened.
    pub max_legs: u32,
}

/// The redirect role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The `redirect-policy` plugin; none: spare capacity.
    pub policy: Option<Name>,
    /// Nodes besides this one.
    pub nodes: Vec<Node>,
    /// Calls a second that this node is named for before others; the weight of its spare capacity.
    pub capacity: u32,
    /// Whether this process's own centre is named.
    pub name_self: bool,
    /// Threads that answer, each with a socket of its own at the same address.
    pub threads: u32,
}

/// A call-centre node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub id: Name,
    /// Where its centre listens.
    pub address: SocketAddr,
    /// Calls that it is made for.
    pub capacity: u32,
    /// Whether OPTIONS is sent to it twice a second and silence for 2 s takes it out; otherwise it always counts as well.
    pub probe: bool,
}

/// What only the server needs of a tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// Its time zone.
    pub zone: jiff::tz::TimeZone,
    /// Its calendars.
    pub hours: BTreeMap<String, hours::Calendar>,
    /// The folder of its prompts.
    pub prompts: Option<PathBuf>,
}

/// A plugin in service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// Its name in the configuration.
    pub name: Name,
    /// The component.
    pub file: PathBuf,
    /// Its manifest, if there is one.
    pub manifest: Option<PathBuf>,
    /// Its world, when there is no manifest: `ivr-script`…
    pub world: Option<String>,
    /// Hosts that it may reach by HTTP.
    pub grant_http: Vec<String>,
    /// Settings.
    pub settings: BTreeMap<String, String>,
    /// The line of the file where it stands.
    pub line: usize,
}

impl Plugin {
    /// The world that the manifest or the configuration names, if it is one that this host knows.
    #[must_use]
    pub fn expected_world(&self) -> Option<cordboard_plugin::World> {
        let named = self.world.clone().or_else(|| {
            let text = std::fs::read_to_string(self.manifest.as_ref()?).ok()?;
            cordboard_plugin::Manifest::parse(&text).ok().map(|manifest| manifest.world)
        });
        named?.parse().ok()
    }
}

/// Limits of plugins that an operator may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginLimits {
    /// Linear memory of one instance.
    pub memory_mib: u32,
    /// CPU of one script over its whole call.
    pub script_cpu_ms: u64,
    /// Scripts at once.
    pub max_scripts: u32,
    /// Faults within a minute that put a version in quarantine.
    pub quarantine_faults: u32,
}

/// The store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The file.
    pub path: PathBuf,
    /// Whether a commit survives the loss of power.
    pub power: bool,
    /// How long records are kept; 0: for ever.
    pub retention_days: u32,
    /// Where recordings go.
    pub recordings: PathBuf,
}

/// The admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Bound.
    pub listen: SocketAddr,
    /// Who may use it.
    pub tokens: Vec<Token>,
}

/// A bearer token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose, for the log.
    pub name: Name,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// Whether it may change anything.
    pub write: bool,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Filter directives, such as `info` or `info,cordboard::shell=debug`.
    pub level: String,
    /// JSON lines instead of text.
    pub json: bool,
}

/// The synthesiser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speech {
    /// The program, called like espeak-ng.
    pub command: String,
    /// Processes at once.
    pub max_processes: usize,
    /// For one text.
    pub timeout_ms: u64,
    /// The cache's folder.
    pub cache: PathBuf,
    /// Bytes there; what was used longest ago goes first.
    pub cache_bytes: u64,
    /// Clips in memory.
    pub max_clips: usize,
}

impl Config {
    /// Whether this process has a role.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The address of the centre as others reach it.
    #[must_use]
    pub fn centre_advertised(&self) -> SocketAddr {
        SocketAddr::new(self.listen.advertised.unwrap_or(self.listen.centre.ip()), self.listen.centre.port())
    }

    /// The address of the redirect role as others reach it.
    #[must_use]
    pub fn redirect_advertised(&self) -> SocketAddr {
        SocketAddr::new(
            self.listen.advertised.unwrap_or(self.listen.redirect.ip()),
            self.listen.redirect.port(),
        )
    }
}

/// What the command line or the environment says beside the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Instead of `plugin_dir`.
    pub plugin_dir: Option<PathBuf>,
    /// Instead of `data`.
    pub data: Option<PathBuf>,
}

/// Reads and checks a file.
///
/// # Errors
/// All that is wrong with it.
pub fn load(file: &Path, overrides: &Overrides) -> Result<Config, Problems> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Problems::one(file, 0, "", format!("cannot be read: {e}")))?;
    parse(file, &text, overrides)
}

/// Checks the text of a file. `file` is where relative paths begin.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(file: &Path, text: &str, overrides: &Overrides) -> Result<Config, Problems> {
    load::parse(file, text, overrides)
}

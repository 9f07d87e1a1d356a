//! A centre's configuration, written for one test: a tenant `acme` with the number 100, a workgroup
//! `support`, and whatever the test changes.

use std::fmt::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

/// The token that may do everything.
pub const TOKEN: &str = "e2e-operator";
/// The token that may read.
pub const READER: &str = "e2e-reader";

/// A plugin in service.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Its name in the configuration.
    pub name: String,
    /// The component, `NAME.wasm` of the plugins' folder.
    pub component: String,
    /// Settings.
    pub settings: Vec<(String, String)>,
    /// Hosts that it may reach.
    pub http: Vec<String>,
}

/// An agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// The name.
    pub name: String,
    /// A SIP URI; none: it registers with its name and the password `secret-NAME`.
    pub address: Option<String>,
    /// Skills of level 5.
    pub skills: Vec<String>,
    /// Ready from the start.
    pub ready: bool,
}

/// See the module. Seconds may be broken.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Rules of `router-numbers`; empty: no router.
    pub rules: String,
    /// The tenant's router, when it is not `router-numbers`.
    pub router: Option<String>,
    /// The tenant's script.
    pub script: Option<String>,
    /// Lines of `[tenants.fallback]`.
    pub fallback: String,
    /// The policy of the workgroup.
    pub policy: Option<String>,
    /// Lines of the workgroup `support`.
    pub workgroup: Vec<(String, String)>,
    /// More of the tenant, as TOML.
    pub tenant: String,
    /// More of the file, as TOML tables.
    pub more: String,
    /// Agents.
    pub agents: Vec<Agent>,
    /// Plugins.
    pub plugins: Vec<Plugin>,
    /// Names of adapters.
    pub adapters: Vec<String>,
    /// Lines of `[limits]`.
    pub limits: Vec<(String, String)>,
    /// Lines of `[redirect]`.
    pub redirect: String,
    /// Instead of the plugins' folder.
    pub plugin_dir: Option<std::path::PathBuf>,
    /// Whether every message between shard and domain is written down and read, as tests want it.
    pub serialise_bus: bool,
    /// Texts of the file that are replaced at the end.
    pub edits: Vec<(String, String)>,
    /// RTP ports.
    pub rtp_ports: u16,
    /// The first of them; none: wherever no other test of this run has been.
    pub rtp_first: Option<u16>,
    /// Seconds in which a caller who was lost finds the old place.
    pub call_back_grace_s: u32,
}

impl Default for Setup {
    fn default() -> Self {
        let mut setup = Self {
            rules: "* -> script ivr-support".into(),
            router: None,
            script: Some("ivr-support".into()),
            fallback: "cause = 41".into(),
            policy: Some("policy-longest-idle".into()),
            workgroup: Vec::new(),
            tenant: String::new(),
            more: String::new(),
            agents: Vec::new(),
            plugins: Vec::new(),
            adapters: Vec::new(),
            limits: Vec::new(),
            redirect: String::new(),
            plugin_dir: None,
            serialise_bus: true,
            edits: Vec::new(),
            rtp_ports: 400,
            rtp_first: None,
            call_back_grace_s: 60,
        };
        setup.plugin("ivr-support", "ivr-support");
        setup.plugin("policy-longest-idle", "policy-longest-idle");
        for (key, value) in [
            ("workgroup", "support"),
            ("menu", "false"),
            ("survey", "false"),
            ("voice", "recorded"),
            ("voicemail", "false"),
            ("announce_every_s", "2"),
        ] {
            setup.set("ivr-support", key, value);
        }
        setup
            .group("ring_timeout_s", "4")
            .group("wrap_up_s", "0")
            .group("miss_back_off_s", "0.3")
            .group("max_misses", "2");
        setup
    }
}

impl Setup {
    /// Puts a component into service under a name.
    pub fn plugin(&mut self, name: &str, component: &str) -> &mut Self {
        self.plugins.push(Plugin {
            name: name.into(),
            component: component.into(),
            settings: Vec::new(),
            http: Vec::new(),
        });
        self
    }

    /// Sets a setting of a plugin.
    ///
    /// # Panics
    /// When there is no such plugin.
    pub fn set(&mut self, plugin: &str, key: &str, value: &str) -> &mut Self {
        let plugin = self.plugins.iter_mut().find(|p| p.name == plugin).expect("a plugin of that name");
        plugin.settings.retain(|(k, _)| k != key);
        plugin.settings.push((key.into(), value.into()));
        self
    }

    /// Sets a line of the workgroup, as TOML.
    pub fn group(&mut self, key: &str, value: &str) -> &mut Self {
        self.workgroup.retain(|(k, _)| k != key);
        self.workgroup.push((key.into(), value.into()));
        self
    }

    /// Sets a limit, as TOML.
    pub fn limit(&mut self, key: &str, value: &str) -> &mut Self {
        self.limits.retain(|(k, _)| k != key);
        self.limits.push((key.into(), value.into()));
        self
    }

    /// An agent whose phone registers, with both languages; not logged in.
    pub fn agent(&mut self, name: &str) -> &mut Self {
        self.agents.push(Agent {
            name: name.into(),
            address: None,
            skills: vec!["en".into(), "fr".into()],
            ready: false,
        });
        self
    }

    /// An agent whose phone is at an address, ready from the start.
    pub fn agent_at(&mut self, name: &str, address: &str) -> &mut Self {
        self.agents.push(Agent {
            name: name.into(),
            address: Some(address.into()),
            skills: vec!["en".into(), "fr".into()],
            ready: true,
        });
        self
    }

    /// The events go to a webhook.
    pub fn webhook(&mut self, url: &str) -> &mut Self {
        self.plugin("cti-webhook", "cti-webhook").set("cti-webhook", "url", url);
        let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
        if let Some(plugin) = self.plugins.last_mut() {
            plugin.http.push(host);
        }
        self.adapters.push("cti-webhook".into());
        self
    }

    /// The file's text.
    #[must_use]
    pub fn toml(&self, ports: &Ports, prompts: &Path, store: &Path) -> String {
        let mut t = String::new();
        let quoted = |text: &str| serde_json::Value::String(text.into()).to_string();
        let list = |texts: &[String]| serde_json::to_string(texts).unwrap_or_default();
        let lines = |pairs: &[(String, String)]| {
            pairs.iter().fold(String::new(), |t, (k, v)| t + &format!("{k} = {v}\n"))
        };
        let hash =
            |token: &str| Sha256::digest(token).iter().fold(String::new(), |t, b| t + &format!("{b:02x}"));
        let _ = write!(
            t,
            "node = \"e2e\"\nplugin_dir = {}\nwatch_plugins = {}\nserialise_bus = {}\n\n[listen]\nredirect = \"127.0.0.1:{}\"\ncentre = \"127.0.0.1:{}\"\n\n[media]\nports = \"{}-{}\"\n\n[limits]\n{}\n[redirect]\n{}\n[store]\npath = {}\n\n[api]\nlisten = \"127.0.0.1:{}\"\n[[api.tokens]]\nname = \"operator\"\nsha256 = \"{}\"\n[[api.tokens]]\nname = \"reader\"\nmay = \"read\"\nsha256 = \"{}\"\n\n[log]\nlevel = \"info\"\n\n[[trunks]]\nname = \"carrier\"\nsources = [\"127.0.0.0/8\"]\nmax_calls = 5000\nmax_calls_per_s = 1000\n\n",
            quoted(&self.plugin_dir.clone().unwrap_or_else(crate::place::plugins).display().to_string()),
            self.more.contains("#watch"),
            self.serialise_bus,
            ports.redirect,
            ports.centre,
            ports.rtp.0,
            ports.rtp.1,
            lines(&self.limits),
            self.redirect,
            quoted(&store.display().to_string()),
            ports.api,
            hash(TOKEN),
            hash(READER),
        );
        let mut plugins = self.plugins.clone();
        if !self.rules.is_empty() && self.router.is_none() {
            plugins.push(Plugin {
                name: "router-numbers".into(),
                component: "router-numbers".into(),
                settings: vec![("rules".into(), self.rules.clone())],
                http: Vec::new(),
            });
        }
        for plugin in &plugins {
            let _ = write!(
                t,
                "[[plugins]]\nname = {}\nfile = {}\n[plugins.grants]\nhttp = {}\n[plugins.settings]\n",
                quoted(&plugin.name),
                quoted(&format!("{}.wasm", plugin.component)),
                list(&plugin.http)
            );
            for (key, value) in &plugin.settings {
                let _ = writeln!(t, "{key} = {}", quoted(value));
            }
            t.push('\n');
        }
        let router =
            self.router.clone().or_else(|| (!self.rules.is_empty()).then(|| "router-numbers".to_owned()));
        let _ = write!(
            t,
            "[[tenants]]\nname = \"acme\"\nnumbers = [\"*\"]\nrealm = \"acme\"\nskills = [\"en\", \"fr\"]\nprompts = {}\nadapters = {}\ncall_back_grace_s = {}\n",
            quoted(&prompts.display().to_string()),
            list(&self.adapters),
            self.call_back_grace_s
        );
        if let Some(router) = router {
            let _ = writeln!(t, "router = {}", quoted(&router));
        }
        if let Some(script) = &self.script {
            let _ = writeln!(t, "script = {}", quoted(script));
        }
        let _ = write!(
            t,
            "{}\n[tenants.hours.office]\nopen = [\"daily 00:00-24:00\"]\n\n[tenants.fallback]\n{}\n\n[[tenants.workgroups]]\nname = \"support\"\nmusic = \"music\"\n{}",
            self.tenant,
            self.fallback,
            lines(&self.workgroup)
        );
        if let Some(policy) = &self.policy {
            let _ = writeln!(t, "policy = {}", quoted(policy));
        }
        for agent in &self.agents {
            let phone = match &agent.address {
                Some(address) => format!("{{ address = {} }}", quoted(address)),
                None => format!(
                    "{{ user = {}, password = {} }}",
                    quoted(&agent.name),
                    quoted(&format!("secret-{}", agent.name))
                ),
            };
            let skills: Vec<String> = agent.skills.iter().map(|s| format!("{s} = 5")).collect();
            let _ = write!(
                t,
                "\n[[tenants.agents]]\nname = {}\nphone = {phone}\nworkgroups = [\"support\"]\nskills = {{ {} }}\nready_at_start = {}\n",
                quoted(&agent.name),
                skills.join(", "),
                agent.ready
            );
        }
        let _ = write!(t, "\n{}", self.more);
        for (from, into) in &self.edits {
            assert!(t.contains(from), "{from:?} is not in the configuration");
            t = t.replace(from, into);
        }
        t
    }
}

/// The ports of one centre.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Redirect role.
    pub redirect: u16,
    /// Call centre.
    pub centre: u16,
    /// Admin API.
    pub api: u16,
    /// First and last.
    pub rtp: (u16, u16),
}

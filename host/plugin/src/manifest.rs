//! `plugin.toml`: what a plugin says of itself and asks for, and what the operator grants it.
//!
//! Called when a plugin is installed. What a plugin may reach is its manifest's request cut down by
//! the operator's grant; this module is the one place that computes it. It reaches nothing itself.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::World;
use crate::url::Url;

/// A parsed `plugin.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// The plugin's own name; the configuration may install it under another.
    pub name: String,
    /// Its semantic version.
    pub version: String,
    /// Such as `ivr-script@0.1.0`.
    pub world: String,
    /// One line for people.
    #[serde(default)]
    pub about: String,
    /// The component's file name.
    #[serde(default)]
    pub component: String,
    /// What it asks for.
    #[serde(default)]
    pub grants: Grants,
    /// What can be set.
    #[serde(default)]
    pub settings: BTreeMap<String, Setting>,
    /// Anything for people and tools; the host does not read it.
    #[serde(default)]
    pub meta: BTreeMap<String, toml::Value>,
}

/// A setting as the manifest declares it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// One line for people.
    #[serde(default)]
    pub about: String,
    /// Its value when the configuration gives none.
    #[serde(default)]
    pub default: Option<String>,
    /// Whether the configuration must give one.
    #[serde(default)]
    pub required: bool,
}

/// What a plugin may reach, or asks to reach.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// Hosts for HTTP: `crm.example.com`, `crm.example.com:8080`, `*.example.com`, `*` for all, or
    /// `setting:KEY` for the host of the URL in that setting. Without a port: port 80.
    #[serde(default)]
    pub http: Vec<String>,
}

/// A manifest, or settings and grants that do not fit it. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadManifest(pub String);

impl Manifest {
    /// Reads a `plugin.toml`.
    ///
    /// # Errors
    /// It is not TOML, a key is unknown or missing, or the world is not one of this host's.
    pub fn parse(text: &str) -> Result<Self, BadManifest> {
        let manifest: Self = toml::from_str(text).map_err(|e| BadManifest(format!("plugin.toml: {e}")))?;
        manifest.world().map(|_| manifest)
    }

    /// A manifest for a component that came without one: no grants, no settings declared.
    #[must_use]
    pub fn bare(name: &str, world: World) -> Self {
        Self {
            name: name.into(),
            version: String::new(),
            world: world.to_string(),
            about: String::new(),
            component: String::new(),
            grants: Grants::default(),
            settings: BTreeMap::new(),
            meta: BTreeMap::new(),
        }
    }

    /// The world it was made for.
    ///
    /// # Errors
    /// This host does not serve it.
    pub fn world(&self) -> Result<World, BadManifest> {
        self.world.parse().map_err(|e| BadManifest(format!("plugin.toml, world: {e}")))
    }

    /// The settings that an instance sees: the given ones, and the defaults of the others.
    ///
    /// # Errors
    /// A required setting is missing, or one is given that the manifest does not declare.
    pub fn settings(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, BadManifest> {
        if !self.settings.is_empty()
            && let Some(key) = given.keys().find(|key| !self.settings.contains_key(*key))
        {
            let known: Vec<&str> = self.settings.keys().map(String::as_str).collect();
            return Err(BadManifest(format!(
                "{}: no setting `{key}`; the plugin has {}",
                self.name,
                known.join(", ")
            )));
        }
        let mut settings = given.clone();
        for (key, setting) in &self.settings {
            if settings.contains_key(key) {
                continue;
            }
            match &setting.default {
                Some(value) => {
                    settings.insert(key.clone(), value.clone());
                }
                None if setting.required => {
                    return Err(BadManifest(format!(
                        "{}: the setting `{key}` is required ({})",
                        self.name,
                        if setting.about.is_empty() {
                            "plugin.toml does not say what for"
                        } else {
                            &setting.about
                        }
                    )));
                }
                None => {}
            }
        }
        Ok(settings)
    }
}

impl Grants {
    /// The request cut down by the operator's grant: what both cover.
    ///
    /// `setting:KEY` is resolved first on both sides. A pattern of the request stands when the grant
    /// covers it; a wider request is narrowed to the grant's patterns that it covers.
    #[must_use]
    pub fn cut_down(request: &Self, grant: &Self, settings: &BTreeMap<String, String>) -> Self {
        let request = resolve(&request.http, settings);
        let grant = resolve(&grant.http, settings);
        let mut http: Vec<String> = Vec::new();
        for asked in &request {
            for given in &grant {
                let both = if covers(given, asked) {
                    asked
                } else if covers(asked, given) {
                    given
                } else {
                    continue;
                };
                if !http.contains(both) {
                    http.push(both.clone());
                }
            }
        }
        Self { http }
    }

    /// Whether a request to this URL is covered.
    #[must_use]
    pub(crate) fn allows_http(&self, url: &Url) -> bool {
        let target = format!("{}:{}", url.host, url.port);
        self.http.iter().any(|pattern| covers(pattern, &target))
    }
}

/// Patterns as `host:port` in small letters.
fn resolve(patterns: &[String], settings: &BTreeMap<String, String>) -> Vec<String> {
    patterns
        .iter()
        .filter_map(|pattern| match pattern.strip_prefix("setting:") {
            Some(key) => {
                let url = Url::parse(settings.get(key)?).ok()?;
                Some(format!("{}:{}", url.host, url.port))
            }
            None => Some(normal(pattern)),
        })
        .collect()
}

fn normal(pattern: &str) -> String {
    let pattern = pattern.trim().to_ascii_lowercase();
    let has_port = pattern.rsplit_once(':').is_some_and(|(host, port)| {
        (port == "*" || port.parse::<u16>().is_ok()) && (!host.contains(':') || host.ends_with(']'))
    });
    if pattern == "*" {
        "*:*".into()
    } else if has_port {
        pattern
    } else {
        format!("{pattern}:80")
    }
}

/// Whether all that `narrow` matches is matched by `wide`; both are normal.
fn covers(wide: &str, narrow: &str) -> bool {
    let (Some((wide_host, wide_port)), Some((host, port))) = (wide.rsplit_once(':'), narrow.rsplit_once(':'))
    else {
        return false;
    };
    let host_fits = match wide_host.strip_prefix('*') {
        Some("") => true,
        // `*.example.com` covers what ends with `.example.com`, and not `example.com` itself.
        Some(suffix) => suffix.starts_with('.') && host.len() > suffix.len() && host.ends_with(suffix),
        None => wide_host == host,
    };
    host_fits && (wide_port == "*" || wide_port == port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(http: &[&str]) -> Grants {
        Grants { http: http.iter().map(|s| (*s).to_owned()).collect() }
    }

    fn cut(request: &[&str], grant: &[&str]) -> Vec<String> {
        let settings = BTreeMap::from([("url".to_owned(), "http://CRM.example.com:8080/hook".to_owned())]);
        Grants::cut_down(&grants(request), &grants(grant), &settings).http
    }

    #[test]
    fn a_grant_is_what_was_asked_and_given() {
        assert_eq!(cut(&["a.example"], &["a.example", "b.example"]), ["a.example:80"]);
        assert_eq!(cut(&["a.example"], &[]), Vec::<String>::new());
        assert_eq!(cut(&[], &["*"]), Vec::<String>::new(), "what was not asked for is not given");
        assert_eq!(cut(&["*"], &["a.example:81"]), ["a.example:81"]);
        assert_eq!(cut(&["setting:url"], &["*.example.com:*"]), ["crm.example.com:8080"]);
        assert_eq!(cut(&["setting:url"], &["setting:url"]), ["crm.example.com:8080"]);
        assert_eq!(cut(&["setting:url"], &["crm.example.com"]), Vec::<String>::new(), "another port");
        assert_eq!(cut(&["*.example.com"], &["evil-example.com"]), Vec::<String>::new());
    }

    #[test]
    fn a_wildcard_covers_hosts_below_and_not_beside() {
        assert!(covers("*.example.com:80", "a.b.example.com:80"));
        assert!(!covers("*.example.com:80", "example.com:80"));
        assert!(!covers("*.example.com:80", "badexample.com:80"));
        assert!(!covers("*example.com:80", "badexample.com:80"), "a star stands for whole labels");
        assert!(covers("[::1]:8080", "[::1]:8080"));
        assert_eq!(normal("[::1]"), "[::1]:80");
    }

    #[test]
    fn a_manifest_declares_its_settings() {
        let manifest = Manifest::parse(
            "name = \"x\"\nversion = \"1.0.0\"\nworld = \"cti-adapter@0.1.0\"\n\
             [settings.url]\nabout = \"where to\"\nrequired = true\n[settings.mode]\ndefault = \"batch\"\n",
        )
        .expect("it parses");
        assert_eq!(manifest.world(), Ok(World::CtiAdapter));
        let missing = manifest.settings(&BTreeMap::new()).expect_err("url is required");
        assert!(missing.0.contains("`url` is required (where to)"), "{missing}");
        let given = BTreeMap::from([("url".to_owned(), "http://x/".to_owned())]);
        assert_eq!(manifest.settings(&given).expect("fits")["mode"], "batch");
        let unknown = BTreeMap::from([("uri".to_owned(), String::new())]);
        assert!(manifest.settings(&unknown).expect_err("unknown").0.contains("no setting `uri`"));
        let world = Manifest::parse("name = \"x\"\nversion = \"1\"\nworld = \"ivr-script@9.0.0\"\n")
            .expect_err("world");
        assert!(world.0.contains("0.1.0"), "{world}");
    }
}

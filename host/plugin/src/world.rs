//! The five worlds of the contract and their text, which is also what a component is vetted against.

use std::fmt;
use std::str::FromStr;

/// A world of the contract, at the version that this host serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// Where a new call goes.
    CallRouter,
    /// The treatment of one call.
    IvrScript,
    /// In what order callers wait and which agent is asked.
    QueuePolicy,
    /// How calls are spread over nodes.
    RedirectPolicy,
    /// Between the centre's events and another system.
    CtiAdapter,
}

impl World {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::CallRouter, Self::IvrScript, Self::QueuePolicy, Self::RedirectPolicy, Self::CtiAdapter];

    /// Its name in WIT.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CallRouter => "call-router",
            Self::IvrScript => "ivr-script",
            Self::QueuePolicy => "queue-policy",
            Self::RedirectPolicy => "redirect-policy",
            Self::CtiAdapter => "cti-adapter",
        }
    }

    /// Its package in WIT, without the version.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self {
            Self::CallRouter => "cordboard:router",
            Self::IvrScript => "cordboard:ivr",
            Self::QueuePolicy => "cordboard:policy",
            Self::RedirectPolicy => "cordboard:redirect",
            Self::CtiAdapter => "cordboard:cti",
        }
    }

    /// The version that this host serves.
    #[must_use]
    pub const fn version(self) -> &'static str {
        "0.1.0"
    }

    /// The contract's text.
    #[must_use]
    pub const fn wit(self) -> &'static str {
        match self {
            Self::CallRouter => include_str!("../../../wit/router/0.1.0/router.wit"),
            Self::IvrScript => include_str!("../../../wit/ivr/0.1.0/ivr.wit"),
            Self::QueuePolicy => include_str!("../../../wit/policy/0.1.0/policy.wit"),
            Self::RedirectPolicy => include_str!("../../../wit/redirect/0.1.0/redirect.wit"),
            Self::CtiAdapter => include_str!("../../../wit/cti/0.1.0/cti.wit"),
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name(), self.version())
    }
}

/// No world of this host. Says which there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a world of this host; it serves call-router@0.1.0, ivr-script@0.1.0, queue-policy@0.1.0, \
     redirect-policy@0.1.0 and cti-adapter@0.1.0"
)]
pub struct NoSuchWorld(pub String);

impl FromStr for World {
    type Err = NoSuchWorld;

    fn from_str(text: &str) -> Result<Self, NoSuchWorld> {
        let (name, version) =
            text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
        let world = Self::ALL.into_iter().find(|world| world.name() == name);
        world
            .filter(|world| version.is_none_or(|version| version == world.version()))
            .ok_or_else(|| NoSuchWorld(text.into()))
    }
}

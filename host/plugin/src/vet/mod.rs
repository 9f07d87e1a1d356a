//! Whether a component may come in: what it is, what it needs, what it lacks, in words for a
//! newcomer.
//!
//! Called by [`crate::registry`] before anything is compiled, and by `cordboard check`. It
//! only reads bytes: nothing of the component runs. What passes here still has to pass wasmtime's
//! exact check of types, its own `describe`, and the operator's grants.

mod compare;
mod needs;

use std::fmt;

use wit_parser::decoding::DecodedWasm;
use wit_parser::{Resolve, WorldId, WorldItem, WorldKey};

use crate::limits::Limits;
use crate::world::World;
use crate::{Digest, wasi};

pub(crate) use needs::{HEAVY, LIGHT, Needs};

/// One reason why a component may not come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The bytes are not a component.
    NotAComponent(String),
    /// It is a plugin of another world.
    WrongWorld {
        /// What was expected.
        expected: World,
        /// What it seems to be, if that can be said.
        found: Option<World>,
    },
    /// It lacks an export of its world.
    MissingExport {
        /// The export as the contract writes it.
        wanted: String,
    },
    /// An export or import has another type than the contract gives it.
    WrongType {
        /// `export route` or `import cordboard:ivr/calls.call.play`.
        what: String,
        /// Where the types part.
        difference: String,
    },
    /// It needs what this host does not offer to that world.
    UnknownImport {
        /// What it needs.
        import: String,
        /// What to do.
        hint: String,
    },
    /// It needs what no plugin gets.
    NotGranted {
        /// What it needs.
        import: String,
        /// What to do.
        hint: String,
    },
    /// It is larger than a limit allows.
    TooLarge(String),
    /// It fits the contract and still could not be made ready: compiling, linking, `describe`.
    Failed(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAComponent(text) | Self::TooLarge(text) | Self::Failed(text) => f.write_str(text),
            Self::WrongWorld { expected, found: Some(found) } => {
                write!(f, "it is a {found}, and a {expected} is wanted here")
            }
            Self::WrongWorld { expected, found: None } => {
                write!(f, "it is not a {expected}: it exports nothing that this world asks for")
            }
            Self::MissingExport { wanted } => write!(f, "it does not export `{wanted}`"),
            Self::WrongType { what, difference } => {
                write!(f, "{what} has another type than in the contract: {difference}")
            }
            Self::UnknownImport { import, hint } => {
                write!(f, "it needs `{import}`, which this host does not offer: {hint}")
            }
            Self::NotGranted { import, hint } => {
                write!(f, "it needs `{import}`, which no plugin gets: {hint}")
            }
        }
    }
}

/// What vetting found.
#[derive(Debug, Clone)]
pub struct Vetted {
    /// Its name.
    pub digest: Digest,
    /// Its world.
    pub world: World,
    /// What it imports of the contract and of WASI, with versions.
    pub imports: Vec<String>,
    pub(crate) needs: Needs,
}

/// The examiner. It holds the contract, parsed once.
pub struct Vetter {
    worlds: Vec<(World, Resolve, WorldId)>,
    max_bytes: usize,
}

impl fmt::Debug for Vetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vetter").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

impl Vetter {
    /// With the contract of this host.
    ///
    /// # Errors
    /// The contract's own text does not parse, which a test excludes.
    pub fn new(limits: &Limits) -> Result<Self, String> {
        let mut worlds = Vec::new();
        for world in World::ALL {
            let mut resolve = Resolve::default();
            let package =
                resolve.push_source(world.name(), world.wit()).map_err(|e| format!("{world}: {e:#}"))?;
            let id = resolve
                .select_world(&[package], Some(world.name()))
                .map_err(|e| format!("{world}: {e:#}"))?;
            worlds.push((world, resolve, id));
        }
        Ok(Self { worlds, max_bytes: limits.component_bytes })
    }

    /// Examines a component. `expected` is the world it must have, or none if any will do.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self, bytes: &[u8], expected: Option<World>) -> Result<Vetted, Vec<Problem>> {
        if bytes.len() > self.max_bytes {
            return Err(vec![Problem::TooLarge(format!(
                "it has {} bytes, and the limit `component_bytes` is {}",
                bytes.len(),
                self.max_bytes
            ))]);
        }
        let (resolve, world) = decode(bytes).map_err(|text| vec![Problem::NotAComponent(text)])?;
        let needs = Needs::of(bytes).map_err(|text| vec![Problem::NotAComponent(text)])?;
        let found = self.guess(&resolve, world);
        let Some(wanted) = expected.or(found) else {
            return Err(vec![Problem::NotAComponent(
                "it exports nothing that a world of the contract asks for (a router exports `route`, a script `run`, \
                 a policy `place` and `rank`, a redirect policy `plan`, an adapter `handle`)"
                    .into(),
            )]);
        };
        if found != Some(wanted) {
            let mut problems = vec![Problem::WrongWorld { expected: wanted, found }];
            problems.extend(self.missing(wanted, &resolve, world));
            return Err(problems);
        }
        let mut problems = self.missing(wanted, &resolve, world);
        let imports = self.imports(wanted, &resolve, world, &mut problems);
        if problems.is_empty() {
            Ok(Vetted { digest: Digest::of(bytes), world: wanted, imports, needs })
        } else {
            Err(problems)
        }
    }

    /// The world whose exports the component has most of; its imports decide a tie.
    fn guess(&self, resolve: &Resolve, id: WorldId) -> Option<World> {
        let found = &resolve.worlds[id];
        self.worlds
            .iter()
            .map(|(world, contract, contract_id)| {
                let exports = contract.worlds[*contract_id].exports.keys();
                let exports = exports.filter(|key| match key {
                    WorldKey::Name(name) => name != "describe" && found.exports.contains_key(*key),
                    WorldKey::Interface(_) => false,
                });
                let imports = found.imports.keys().filter(|key| {
                    resolve
                        .name_world_key(key)
                        .strip_prefix(world.package())
                        .is_some_and(|rest| rest.starts_with('/'))
                });
                (exports.count() * 100 + imports.count(), *world)
            })
            .filter(|(score, _)| *score > 0)
            .max_by_key(|(score, world)| (*score, std::cmp::Reverse(*world)))
            .map(|(_, world)| world)
    }

    fn contract(&self, world: World) -> (&Resolve, WorldId) {
        let at = self.worlds.iter().position(|(w, _, _)| *w == world).unwrap_or_default();
        (&self.worlds[at].1, self.worlds[at].2)
    }

    /// Exports that are missing or have another type.
    fn missing(&self, world: World, resolve: &Resolve, id: WorldId) -> Vec<Problem> {
        let (contract, contract_id) = self.contract(world);
        let mut problems = Vec::new();
        for (key, item) in &contract.worlds[contract_id].exports {
            let WorldItem::Function(wanted) = item else { continue };
            match resolve.worlds[id].exports.get(key) {
                Some(WorldItem::Function(found)) => {
                    if let Some(difference) = compare::functions(contract, wanted, resolve, found) {
                        problems.push(Problem::WrongType {
                            what: format!("export `{}`", wanted.name),
                            difference,
                        });
                    }
                }
                _ => problems.push(Problem::MissingExport { wanted: compare::signature(contract, wanted) }),
            }
        }
        problems
    }

    /// Every import with its version; problems for those that cannot be had.
    fn imports(
        &self,
        world: World,
        resolve: &Resolve,
        id: WorldId,
        problems: &mut Vec<Problem>,
    ) -> Vec<String> {
        let mut names = Vec::new();
        for (key, item) in &resolve.worlds[id].imports {
            let import = resolve.name_world_key(key);
            match item {
                WorldItem::Type { .. } => continue,
                WorldItem::Function(_) => problems.push(Problem::UnknownImport {
                    import: import.clone(),
                    hint: format!("a plugin imports interfaces of {} and of WASI 0.2", world.package()),
                }),
                WorldItem::Interface { id, .. } => {
                    let name = import.split_once('@').map_or(import.as_str(), |(name, _)| name);
                    if name.starts_with("wasi:") {
                        problems.extend(wasi_problem(&import));
                    } else if name.strip_prefix(world.package()).is_some_and(|rest| rest.starts_with('/')) {
                        self.interface(world, resolve, *id, &import, problems);
                    } else {
                        problems.push(Problem::UnknownImport {
                            import: import.clone(),
                            hint: foreign(&import, world),
                        });
                    }
                }
            }
            names.push(import);
        }
        names
    }

    /// Compares an imported interface of the contract function by function.
    fn interface(
        &self,
        world: World,
        resolve: &Resolve,
        id: wit_parser::InterfaceId,
        import: &str,
        problems: &mut Vec<Problem>,
    ) {
        let (contract, contract_id) = self.contract(world);
        let offered = contract.worlds[contract_id].imports.iter().find_map(|(key, item)| match item {
            WorldItem::Interface { id, .. } if contract.name_world_key(key) == import => Some(*id),
            _ => None,
        });
        let Some(offered) = offered else {
            let version = import.split_once('@').map_or("none", |(_, version)| version);
            let hint = if version == world.version() {
                let names: Vec<String> = contract.worlds[contract_id]
                    .imports
                    .keys()
                    .map(|key| contract.name_world_key(key))
                    .collect();
                format!("{world} has {}", names.join(", "))
            } else {
                format!("it was built for version {version}, and this host serves {}", world.version())
            };
            problems.push(Problem::UnknownImport { import: import.into(), hint });
            return;
        };
        let offered = &contract.interfaces[offered].functions;
        for (name, found) in &resolve.interfaces[id].functions {
            match offered.get(name) {
                Some(wanted) => {
                    if let Some(difference) = compare::functions(contract, wanted, resolve, found) {
                        problems.push(Problem::WrongType { what: format!("import `{import}` `{name}`"), difference });
                    }
                }
                None => problems.push(Problem::UnknownImport {
                    import: format!("{import} {name}"),
                    hint: "it was built against a newer or a changed contract; build it against this host's wit folder".into(),
                }),
            }
        }
    }
}

fn decode(bytes: &[u8]) -> Result<(Resolve, WorldId), String> {
    match bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            return Err("it is a core WebAssembly module and not a component: build it for the target wasm32-wasip2, or wrap it \
                        with `wasm-tools component new`"
                .into());
        }
        [0, b'a', b's', b'm', ..] => {}
        _ => {
            let begin = String::from_utf8_lossy(&bytes[..bytes.len().min(8)]).into_owned();
            return Err(format!("it is not WebAssembly: it begins with {begin:?} and not with \"\\0asm\""));
        }
    }
    match wit_parser::decoding::decode(bytes) {
        Ok(DecodedWasm::Component(resolve, world)) => Ok((resolve, world)),
        Ok(DecodedWasm::WitPackage(..)) => {
            Err("it is a WIT package and not a component: it holds types and no code".into())
        }
        Err(e) => Err(format!("it is not a valid component: {e:#}")),
    }
}

fn wasi_problem(import: &str) -> Option<Problem> {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    if wasi::OFFERED.contains(&name) || wasi::OFFERED_TOO.contains(&name) {
        if version.starts_with("0.2.") {
            return None;
        }
        let hint = format!("this host has WASI 0.2, and the component was built for {version}");
        return Some(Problem::UnknownImport { import: import.into(), hint });
    }
    let hint = if name.starts_with("wasi:sockets/") {
        "sockets would pass by the grants; an adapter reaches HTTP hosts through `cordboard:cti/http`"
    } else if name.starts_with("wasi:http/") {
        "an adapter reaches HTTP hosts through `cordboard:cti/http`, where the operator's grant is checked"
    } else {
        "a plugin gets wasi:io, clocks, random, cli and an empty file system"
    };
    Some(Problem::NotGranted { import: import.into(), hint: hint.into() })
}

fn foreign(import: &str, world: World) -> String {
    match World::ALL
        .into_iter()
        .find(|other| import.strip_prefix(other.package()).is_some_and(|r| r.starts_with('/')))
    {
        Some(other) => format!("that is a part of {other}, and this is a {world}"),
        None => format!("a {world} may import {} and WASI 0.2", world.package()),
    }
}

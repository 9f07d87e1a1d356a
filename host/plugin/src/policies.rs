//! Runs `queue-policy` plugins inside the domain's thread: one living instance a workgroup, asked
//! synchronously, within 5 ms.
//!
//! Owned by a domain's shell and handed to the domain as its [`Policies`]. A new version is taken
//! between two decisions. A trap costs the instance: the question is asked once more of a new one,
//! and then the domain takes its default.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use cordboard_call::Name;
use cordboard_call::policy::{
    Candidates, Entry, Fault, MAX_CANDIDATES, MAX_PLAN_STEPS, Placement, PlanAction, PlanStep, Policies,
};
use wasmtime::{Store, UpdateDeadline};

use crate::engine::Code;
use crate::guest::{self, Guest};
use crate::meter::{Meter, clock_ns};
use crate::registry::{Plugin, Registry, Version};
use crate::wasi::Question;
use crate::world::World;
use crate::worlds::policy as world;
use crate::worlds::policy::cordboard::policy::types as wit;

/// The policies of one domain. Not shared: each domain's thread has its own.
pub struct WasmPolicies {
    registry: Registry,
    places: BTreeMap<(Name, Name), Place>,
}

impl std::fmt::Debug for WasmPolicies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.places.keys()).finish()
    }
}

/// The instance of a workgroup.
struct Place {
    name: Name,
    plugin: Arc<Plugin>,
    generation: u64,
    version: Arc<Version>,
    living: Option<Living>,
}

struct Living {
    store: Store<world::Data>,
    instance: world::QueuePolicy,
    question: Arc<Question>,
    booked_bytes: usize,
}

impl WasmPolicies {
    /// On these plugins.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self { registry, places: BTreeMap::new() }
    }

    /// Asks a question of the workgroup's instance, and once more of a new one after a trap.
    fn ask<T>(
        &mut self,
        at: (&Name, &Name),
        plugin: &Name,
        seen: &Seen<'_>,
        question: impl Fn(&mut Living) -> wasmtime::Result<T>,
        check: impl Fn(T) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let key = (at.0.clone(), at.1.clone());
        let fresh = match self.places.get(&key) {
            Some(place) => {
                place.name != *plugin
                    || place.generation != place.plugin.generation()
                    || place.living.is_none()
            }
            None => true,
        };
        if fresh {
            // The old instance goes first: its place in the pool may be needed.
            self.places.remove(&key);
            let held = self.registry.plugin(plugin).ok_or(Fault::Missing)?;
            let version = self.registry.serving(plugin, World::QueuePolicy).ok_or(Fault::Missing)?;
            let generation = version.generation();
            self.places.insert(
                key.clone(),
                Place { name: plugin.clone(), plugin: held, generation, version, living: None },
            );
        }
        let registry = self.registry.clone();
        let Some(place) = self.places.get_mut(&key) else { return Err(Fault::Missing) };
        place.version.context.stats.questions.fetch_add(1, Relaxed);
        let answer = match place.once(&registry, seen, &question) {
            Err(fault @ (Fault::Trap(_) | Fault::Memory)) => {
                registry.fault(&place.version, &fault);
                place.once(&registry, seen, &question)
            }
            answer => answer,
        };
        let answer = answer.and_then(check);
        if let Err(fault) = &answer {
            // The next question looks anew whether the version still serves.
            place.living = None;
            registry.fault(&place.version, fault);
        }
        answer
    }
}

/// What of the question the guest's clock and randomness are made of.
struct Seen<'a> {
    entry: &'a Entry,
    candidates: usize,
}

impl Seen<'_> {
    /// The same question gives the same seed.
    fn seed(&self) -> u64 {
        [
            self.entry.arrived_ms as u64,
            self.entry.now_ms as u64,
            u64::from(self.entry.misses),
            self.candidates as u64,
        ]
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |seed, word| (seed ^ word).wrapping_mul(0x0000_0100_0000_01b3))
    }
}

impl Place {
    fn once<T>(
        &mut self,
        registry: &Registry,
        seen: &Seen<'_>,
        question: impl Fn(&mut Living) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        let context = &self.version.context;
        let policy_ms = context.limits.policy_ms;
        let _inside = registry.engine().0.ticker.enter();
        let meter = match &self.living {
            Some(living) => living.store.data().meter.clone(),
            None => Meter::new(u64::MAX / 1_000_000),
        };
        meter.begin();
        let began_cpu_ns = clock_ns(libc::CLOCK_THREAD_CPUTIME_ID);
        let asked = (|| {
            if self.living.is_none() {
                self.living = Some(self.version.live(seen, meter.clone(), began_cpu_ns, policy_ms)?);
            }
            let Some(living) = &mut self.living else { return Err(Fault::Missing) };
            living.question.now_ms.store(seen.entry.now_ms.max(0) as u64, Relaxed);
            living.question.seed.store(seen.seed(), Relaxed);
            living.store.data().log.refill();
            living.question.began_cpu_ns.store(began_cpu_ns, Relaxed);
            living.store.set_epoch_deadline(policy_ms);
            let answer = question(living);
            let answer = answer.map_err(|e| guest::fault(&e, &living.store));
            let peak_bytes = living.store.data().limiter.peak_bytes;
            if peak_bytes > living.booked_bytes {
                living.booked_bytes = peak_bytes;
                context.stats.memory_peak_bytes.fetch_max(peak_bytes as u64, Relaxed);
            }
            answer
        })();
        meter.end();
        context.stats.cpu_ns.fetch_add(meter.book_ns(), Relaxed);
        if asked.is_err() {
            // After a trap the instance is dead.
            self.living = None;
        }
        asked
    }
}

impl Version {
    fn live(
        &self,
        seen: &Seen<'_>,
        meter: Arc<Meter>,
        began_cpu_ns: u64,
        policy_ms: u64,
    ) -> Result<Living, Fault> {
        let Code::Policy(pre) = &*self.code else { return Err(Fault::Missing) };
        let question = Arc::new(Question::default());
        question.now_ms.store(seen.entry.now_ms.max(0) as u64, Relaxed);
        question.seed.store(seen.seed(), Relaxed);
        question.began_cpu_ns.store(began_cpu_ns, Relaxed);
        let mut guest = Guest::new(self.context.clone(), meter, None, world::State);
        guest.question = Some(question.clone());
        let mut store = guest::store(&self.engine, guest);
        store.set_epoch_deadline(policy_ms);
        // The deadline is one of CPU: a policy cannot wait, so time beyond it was somebody else's,
        // and a machine that is busy must not cost a good policy its place.
        let since = question.clone();
        store.epoch_deadline_callback(move |_| {
            let used_ns =
                clock_ns(libc::CLOCK_THREAD_CPUTIME_ID).saturating_sub(since.began_cpu_ns.load(Relaxed));
            Ok(if used_ns < policy_ms * 1_000_000 {
                UpdateDeadline::Continue(1)
            } else {
                UpdateDeadline::Interrupt
            })
        });
        let instance = pre.instantiate(&mut store).map_err(|e| guest::fault(&e, &store))?;
        Ok(Living { store, instance, question, booked_bytes: 0 })
    }
}

impl Policies for WasmPolicies {
    fn place(
        &mut self,
        tenant: &Name,
        workgroup: &Name,
        plugin: &Name,
        entry: &Entry,
    ) -> Result<Placement, Fault> {
        let asked = self::entry(entry);
        let seen = Seen { entry, candidates: 0 };
        let placement = self.ask(
            (tenant, workgroup),
            plugin,
            &seen,
            |living| living.instance.call_place(&mut living.store, &asked),
            |placement| check_place(placement, entry.arrived_ms),
        )?;
        let plan = placement.plan.into_iter().filter_map(|step| {
            let action = match step.action {
                wit::Action::DropSkills(skills) => PlanAction::DropSkills(skills),
                wit::Action::RaiseMs(ms) => PlanAction::RaiseMs(ms),
                wit::Action::Overflow(workgroup) => PlanAction::Overflow(workgroup),
                wit::Action::Other(_) => return None,
            };
            Some(PlanStep { after_ms: step.after_ms, action })
        });
        Ok(Placement { key_ms: placement.key_ms, plan: plan.collect() })
    }

    fn rank(
        &mut self,
        tenant: &Name,
        workgroup: &Name,
        plugin: &Name,
        entry: &Entry,
        candidates: &Candidates,
    ) -> Result<Vec<u32>, Fault> {
        let asked = self::entry(entry);
        let columns = wit::Candidates {
            agents: candidates.agents.clone(),
            idle_ms: candidates.idle_ms.clone(),
            calls: candidates.calls.clone(),
            busy_ms: candidates.busy_ms.clone(),
            skill_level: candidates.skill_level.clone(),
            skill_count: candidates.skill_count.clone(),
            preferred: candidates.preferred.clone(),
        };
        let agents = candidates.agents.len();
        let seen = Seen { entry, candidates: agents };
        self.ask(
            (tenant, workgroup),
            plugin,
            &seen,
            |living| living.instance.call_rank(&mut living.store, &asked, &columns),
            |order| check(order, agents),
        )
    }
}

/// How far a key or a step may lie from the arrival: 30 days. More would only overflow later sums.
const FARTHEST_MS: u64 = 30 * 86_400_000;
/// Skills that one step may drop.
const MOST_SKILLS: usize = 256;

/// A key near the arrival, and a plan that the domain's timers can keep.
fn check_place(placement: wit::Placement, arrived_ms: i64) -> Result<wit::Placement, Fault> {
    let nonsense = |text: String| Err(Fault::Nonsense(text));
    if placement.key_ms.abs_diff(arrived_ms) > FARTHEST_MS {
        return nonsense(format!("a key of {} for an arrival at {arrived_ms}", placement.key_ms));
    }
    if placement.plan.len() > MAX_PLAN_STEPS {
        return nonsense(format!(
            "a plan of {} steps, and {MAX_PLAN_STEPS} are the most",
            placement.plan.len()
        ));
    }
    for step in &placement.plan {
        if step.after_ms > FARTHEST_MS {
            return nonsense(format!("a step after {} ms", step.after_ms));
        }
        match &step.action {
            wit::Action::DropSkills(skills) if skills.len() > MOST_SKILLS => {
                return nonsense(format!("a step that drops {} skills", skills.len()));
            }
            wit::Action::RaiseMs(ms) if ms.unsigned_abs() > FARTHEST_MS => {
                return nonsense(format!("a step that raises by {ms} ms"));
            }
            _ => {}
        }
    }
    Ok(placement)
}

/// Every index once, and none beyond the columns.
fn check(order: Vec<u32>, agents: usize) -> Result<Vec<u32>, Fault> {
    debug_assert!(agents <= MAX_CANDIDATES, "the domain asks about {MAX_CANDIDATES} agents at most");
    let mut seen = [0_u64; MAX_CANDIDATES.div_ceil(64)];
    for index in &order {
        let at = *index as usize;
        if at >= agents.min(MAX_CANDIDATES) {
            return Err(Fault::Nonsense(format!("it ranks candidate {index} of {agents}")));
        }
        if seen[at / 64] & (1 << (at % 64)) != 0 {
            return Err(Fault::Nonsense(format!("it ranks candidate {index} twice")));
        }
        seen[at / 64] |= 1 << (at % 64);
    }
    Ok(order)
}

fn entry(entry: &Entry) -> wit::Entry {
    wit::Entry {
        arrived_ms: entry.arrived_ms,
        now_ms: entry.now_ms,
        priority: entry.priority,
        skills: entry.skills.clone(),
        misses: entry.misses,
        numbers: Vec::new(),
    }
}

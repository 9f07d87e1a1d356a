//! What a queue policy is asked and answers, in the core's own types.

use cordboard_base::Id;
use serde::{Deserialize, Serialize};

use crate::Name;

/// How a plugin failed to answer. The core then takes its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// No such plugin is in service.
    Missing,
    /// It trapped; the text is the trap's.
    Trap(String),
    /// It did not answer in time or used up its CPU.
    Timeout,
    /// It wanted more memory than it is allowed.
    Memory,
    /// It answered what cannot be.
    Nonsense(String),
    /// It returned an error for the operator.
    Error(String),
    /// The host had no room to run it, and why; nothing is held against the plugin.
    Full(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("no such plugin is in service"),
            Self::Trap(text) => write!(f, "the plugin trapped: {text}"),
            Self::Timeout => f.write_str("the plugin did not answer in time"),
            Self::Memory => f.write_str("the plugin wanted more memory than it is allowed"),
            Self::Nonsense(text) => write!(f, "the plugin answered what cannot be: {text}"),
            Self::Error(text) => write!(f, "the plugin says: {text}"),
            Self::Full(text) => write!(f, "there is no room to run the plugin: {text}"),
        }
    }
}

/// An entry as a policy sees it: numbers only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Unix milliseconds; never changes.
    pub arrived_ms: i64,
    /// Unix milliseconds of the question.
    pub now_ms: i64,
    /// 0 to 100.
    pub priority: u8,
    /// Numbers of the tenant's skill table.
    pub skills: Vec<u32>,
    /// Offers that agents have missed.
    pub misses: u32,
}

/// Where an entry stands, and what happens as it waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The lower, the earlier.
    pub key_ms: i64,
    /// At most 16 steps.
    pub plan: Vec<PlanStep>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// After the arrival.
    pub after_ms: u64,
    /// What to do.
    pub action: PlanAction,
}

/// What the host does when an entry has waited so long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlanAction {
    /// No longer require these skills.
    DropSkills(Vec<u32>),
    /// Subtract from the key.
    RaiseMs(i64),
    /// Offer it to this workgroup's agents too, by index in the tenant.
    Overflow(u32),
}

/// The agents who may take an entry, as columns of one length.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Candidates {
    /// Indices of the tenant's agents.
    pub agents: Vec<u32>,
    /// Free for so long.
    pub idle_ms: Vec<u64>,
    /// Taken since log-in.
    pub calls: Vec<u64>,
    /// Talking and wrap-up since log-in.
    pub busy_ms: Vec<u64>,
    /// Sum of levels in the required skills.
    pub skill_level: Vec<u64>,
    /// Skills in all.
    pub skill_count: Vec<u64>,
    /// 1 for the preferred agent.
    pub preferred: Vec<u64>,
}

/// The most candidates that one question holds.
pub const MAX_CANDIDATES: usize = 256;
/// The most steps that a plan holds.
pub const MAX_PLAN_STEPS: usize = 16;

/// Who answers the domain's questions: WebAssembly in production, plain functions in tests.
///
/// Synchronous, because a decision of the domain is one step: nothing may come between the
/// ranking and the reservation. An `Err` makes the domain take its default.
pub trait Policies {
    /// The next question is about this call: for who watches, never for the answer.
    fn about(&mut self, _interaction: Id) {}

    /// Where a new entry stands.
    ///
    /// # Errors
    /// How the plugin failed.
    fn place(
        &mut self,
        tenant: &Name,
        workgroup: &Name,
        plugin: &Name,
        entry: &Entry,
    ) -> Result<Placement, Fault>;

    /// Indices into the columns, best first; empty: nobody yet.
    ///
    /// # Errors
    /// How the plugin failed.
    fn rank(
        &mut self,
        tenant: &Name,
        workgroup: &Name,
        plugin: &Name,
        entry: &Entry,
        candidates: &Candidates,
    ) -> Result<Vec<u32>, Fault>;
}

/// First in first out, longest idle: what holds without a policy and after a fault.
#[derive(Debug, Clone, Copy, Default)]
pub struct Native;

impl Policies for Native {
    fn place(&mut self, _: &Name, _: &Name, _: &Name, entry: &Entry) -> Result<Placement, Fault> {
        Ok(Placement { key_ms: entry.arrived_ms - i64::from(entry.priority) * 10_000, plan: Vec::new() })
    }

    fn rank(&mut self, _: &Name, _: &Name, _: &Name, _: &Entry, c: &Candidates) -> Result<Vec<u32>, Fault> {
        let mut order: Vec<u32> = (0..c.agents.len() as u32).collect();
        order.sort_by_key(|i| {
            let i = *i as usize;
            (std::cmp::Reverse(c.preferred[i]), std::cmp::Reverse(c.idle_ms[i]), c.agents[i])
        });
        Ok(order)
    }
}

//! Runs `redirect-policy` plugins: how calls are spread over nodes. Never on the path of a call.
//!
//! Called by the redirect role when nodes change or a plan grows old. Without an answer the weights
//! are the nodes' spare capacity.

use cordboard_call::Name;
use cordboard_call::policy::Fault;
use wasmtime::Store;

use crate::engine::Code;
use crate::question::{Deadline, Question, ask};
use crate::registry::Registry;
use crate::world::World;
use crate::worlds::redirect as world;
use crate::worlds::redirect::cordboard::redirect::types as wit;

/// A call-centre node as the policy sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Its name.
    pub id: String,
    /// Calls that it is configured for.
    pub capacity: u32,
    /// Calls that it has.
    pub calls: u32,
    /// New calls a second, lately.
    pub calls_per_s: u32,
    /// Anything else.
    pub attributes: Vec<(String, String)>,
}

/// A checked plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// For each class (a trunk's name, or `default`) one weight a node, 0 to 1,000.
    pub classes: Vec<(String, Vec<u32>)>,
    /// How long it holds, 100 to 3,600,000.
    pub ttl_ms: u32,
}

/// The redirect policies of a host. A clone is another handle of the same.
#[derive(Debug, Clone)]
pub struct Redirects {
    registry: Registry,
}

impl Redirects {
    /// On these plugins.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }

    /// Asks for a plan. `classes` are the trunks' names.
    ///
    /// # Errors
    /// How the plugin failed; the weights are then the nodes' spare capacity.
    pub async fn plan(&self, plugin: &Name, nodes: &[Node], classes: &[String]) -> Result<Plan, Fault> {
        let wall_ms = self.registry.engine().limits().redirect_ms;
        let deadline = Deadline { wall_ms, cpu_ms: wall_ms };
        let question = PlanQuestion { nodes, classes };
        ask(&self.registry, plugin, World::RedirectPolicy, deadline, &question).await
    }
}

struct PlanQuestion<'q> {
    nodes: &'q [Node],
    classes: &'q [String],
}

impl Question for PlanQuestion<'_> {
    type State = world::State;
    type Answer = Plan;

    fn state(&self) -> world::State {
        world::State
    }

    async fn put(
        &self,
        code: &Code,
        store: &mut Store<world::Data>,
    ) -> wasmtime::Result<Result<Plan, Fault>> {
        let Code::Redirect(pre) = code else { return Ok(Err(Fault::Missing)) };
        let nodes: Vec<wit::Node> = self.nodes.iter().map(node).collect();
        let instance = pre.instantiate_async(&mut *store).await?;
        let plan = instance.call_plan(&mut *store, &nodes, self.classes).await?;
        Ok(check(plan, nodes.len()))
    }
}

fn node(node: &Node) -> wit::Node {
    wit::Node {
        id: node.id.clone(),
        capacity: node.capacity,
        calls: node.calls,
        calls_per_s: node.calls_per_s,
        attributes: node.attributes.clone(),
    }
}

fn check(plan: wit::Plan, nodes: usize) -> Result<Plan, Fault> {
    let nonsense = |text| Err(Fault::Nonsense(text));
    if !(100..=3_600_000).contains(&plan.ttl_ms) {
        return nonsense(format!("a plan for {} ms; it is 100 to 3,600,000", plan.ttl_ms));
    }
    if plan.classes.len() > 1_024 {
        return nonsense(format!("{} classes", plan.classes.len()));
    }
    for class in &plan.classes {
        if class.weights.len() != nodes {
            return nonsense(format!(
                "class `{}` has {} weights for {nodes} nodes",
                class.class,
                class.weights.len()
            ));
        }
        if let Some(weight) = class.weights.iter().find(|weight| **weight > 1_000) {
            return nonsense(format!("class `{}` has a weight of {weight}; it is 0 to 1,000", class.class));
        }
    }
    let classes = plan.classes.into_iter().map(|class| (class.class, class.weights)).collect();
    Ok(Plan { classes, ttl_ms: plan.ttl_ms })
}

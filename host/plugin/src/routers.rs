//! Runs `call-router` plugins: one question, one fresh instance, one answer within 50 ms.
//!
//! Called by the server when a shard asks where a new call goes. Whether the answer fits the tenant
//! is checked by the shard; here only what no tenant could make sense of is refused.

use cordboard_call::Name;
use cordboard_call::policy::Fault;
use cordboard_call::router::{Incoming, Route};
use wasmtime::Store;

use crate::engine::Code;
use crate::question::{Deadline, Question, ask};
use crate::registry::Registry;
use crate::script::LocalTime;
use crate::world::World;
use crate::worlds::router as world;
use crate::worlds::router::cordboard::router::types as wit;

/// The routers of a host. A clone is another handle of the same.
#[derive(Debug, Clone)]
pub struct Routers {
    registry: Registry,
}

/// The most of a list in an answer.
const MOST: usize = 64;
/// The longest text in an answer.
const LONGEST_BYTES: usize = 4_096;

impl Routers {
    /// On these plugins.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }

    /// Asks where a call goes. `local` is the tenant's time.
    ///
    /// # Errors
    /// How the plugin failed; the caller then takes its default.
    pub async fn ask_route(
        &self,
        plugin: &Name,
        incoming: &Incoming,
        local: LocalTime,
    ) -> Result<Route, Fault> {
        let wall_ms = self.registry.engine().limits().route_ms;
        let deadline = Deadline { wall_ms, cpu_ms: wall_ms };
        let question = RouteQuestion { incoming, local };
        ask(&self.registry, plugin, World::CallRouter, deadline, &question).await
    }

    /// The same for a caller that cannot wait: `answer` is called on the plugins' runtime.
    pub fn ask(
        &self,
        plugin: Name,
        incoming: Box<Incoming>,
        local: LocalTime,
        answer: impl FnOnce(Result<Route, Fault>) + Send + 'static,
    ) {
        let routers = self.clone();
        self.registry.engine().runtime().spawn(async move {
            answer(routers.ask_route(&plugin, &incoming, local).await);
        });
    }
}

struct RouteQuestion<'q> {
    incoming: &'q Incoming,
    local: LocalTime,
}

impl Question for RouteQuestion<'_> {
    type State = world::State;
    type Answer = Route;

    fn state(&self) -> world::State {
        world::State
    }

    async fn put(
        &self,
        code: &Code,
        store: &mut Store<world::Data>,
    ) -> wasmtime::Result<Result<Route, Fault>> {
        let Code::Router(pre) = code else { return Ok(Err(Fault::Missing)) };
        let instance = pre.instantiate_async(&mut *store).await?;
        let answer = instance.call_route(&mut *store, &question(self.incoming, self.local)).await?;
        Ok(answer.map_err(Fault::Error).and_then(route))
    }
}

fn question(incoming: &Incoming, local: LocalTime) -> wit::Incoming {
    let attributes = |list: &[(String, String)]| {
        list.iter().map(|(name, value)| wit::Attribute { name: name.clone(), value: value.clone() }).collect()
    };
    wit::Incoming {
        tenant: incoming.tenant.to_string(),
        trunk: incoming.trunk.to_string(),
        caller: incoming.caller.clone(),
        caller_name: incoming.caller_name.clone(),
        called: incoming.called.clone(),
        headers: attributes(&incoming.headers),
        local: wit::LocalTime {
            year: local.year,
            month: local.month,
            day: local.day,
            hour: local.hour,
            minute: local.minute,
            weekday: local.weekday,
            utc_offset_minutes: local.utc_offset_minutes,
        },
        attributes: attributes(&incoming.attributes),
    }
}

fn route(route: wit::Route) -> Result<Route, Fault> {
    let text = |text: String, what: &str| {
        if text.len() <= LONGEST_BYTES {
            Ok(text)
        } else {
            nonsense(format!("{what} of {} bytes", text.len()))
        }
    };
    let attributes = |list: Vec<wit::Attribute>| -> Result<Vec<(String, String)>, Fault> {
        if list.len() > MOST {
            return nonsense(format!("{} attributes, and {MOST} are the most", list.len()));
        }
        list.into_iter().map(|a| Ok((text(a.name, "a name")?, text(a.value, "a value")?))).collect()
    };
    Ok(match route {
        wit::Route::Script(to) => {
            Route::Script { script: text(to.script, "a name")?, attributes: attributes(to.attributes)? }
        }
        wit::Route::Workgroup(to) => {
            if to.priority > 100 || to.skills.len() > MOST {
                return nonsense(format!("a priority of {} and {} skills", to.priority, to.skills.len()));
            }
            Route::Workgroup {
                workgroup: text(to.workgroup, "a name")?,
                skills: to.skills,
                priority: to.priority,
                attributes: attributes(to.attributes)?,
            }
        }
        wit::Route::Bridge(to) => Route::Bridge {
            address: text(to.address, "an address")?,
            ring_timeout_ms: u64::from(to.ring_timeout_s) * 1_000,
            attributes: attributes(to.attributes)?,
        },
        wit::Route::Redirect(to) if to.contacts.len() > MOST => {
            return nonsense(format!("{} contacts", to.contacts.len()));
        }
        wit::Route::Redirect(to) => Route::Redirect { contacts: to.contacts },
        wit::Route::Refuse(to) => {
            Route::Refuse { status: to.status, cause: to.cause, text: text(to.text, "a text")? }
        }
        wit::Route::Other(_) => return nonsense("a route that a host of 0.1.0 does not know".into()),
    })
}

fn nonsense<T>(text: String) -> Result<T, Fault> {
    Err(Fault::Nonsense(text))
}

/// Whether it begins like a SIP URI; the shard parses it.
pub(crate) fn is_sip_uri(text: &str) -> bool {
    let scheme = text.split(':').next().unwrap_or_default();
    text.len() <= LONGEST_BYTES
        && scheme.len() < text.len()
        && (scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips"))
}

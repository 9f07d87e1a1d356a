//! The first question to every component: what it is. It must answer within a second, and one that
//! cannot is not put into service.

use std::sync::Arc;

use crate::engine::{Code, Engine};
use crate::guest::{self, Context, Guest};
use crate::limits::ms;
use crate::meter::{Meter, metered};
use crate::registry::Description;
use crate::script::Mailbox;
use crate::worlds::{cti, policy, redirect, router};

/// Asks on the engine's runtime and waits; must not be called on that runtime.
pub(crate) fn ask(
    engine: &Engine,
    tier: &wasmtime::Engine,
    context: &Arc<Context>,
    code: &Code,
) -> Result<Description, String> {
    let limit_ms = context.limits.describe_ms;
    let meter = Meter::new(limit_ms);
    if let Code::Policy(pre) = code {
        return policy(engine, tier, context, pre, limit_ms);
    }
    macro_rules! described {
        ($pre:expr, $state:expr) => {{
            let (pre, context) = ($pre.clone(), context.clone());
            let mut store = guest::store(tier, Guest::new(context, meter.clone(), None, $state));
            guest::give_way(&mut store);
            let asked = metered(meter, engine.0.ticker.clone(), async move {
                let described = match pre.instantiate_async(&mut store).await {
                    Ok(instance) => instance.call_describe(&mut store).await,
                    Err(e) => Err(e),
                };
                described
                    .map(|d| (d.name, d.version, d.about, d.attributes.into_iter().map(Into::into).collect()))
                    .map_err(|e| guest::fault(&e, &store))
            });
            let (answer, answered) = std::sync::mpsc::channel();
            engine.0.runtime().spawn(async move {
                let asked = tokio::time::timeout(ms(limit_ms), asked).await;
                let _ = answer.send(asked);
            });
            answered.recv().map_err(|_| "the engine is shutting down".to_owned())?
        }};
    }
    let asked = match code {
        Code::Router(pre) => described!(pre, router::State),
        Code::Script(pre) => described!(pre, crate::script::State::silent(Arc::new(Mailbox::default()))),
        Code::Redirect(pre) => described!(pre, redirect::State),
        Code::Cti(pre) => described!(pre, cti::State { http: None, requests_left: 0 }),
        Code::Policy(_) => return Err("a policy is asked elsewhere".into()),
    };
    match asked {
        Ok(Ok((name, version, about, attributes))) => Ok(Description { name, version, about, attributes }),
        Ok(Err(fault)) => Err(format!("its `describe` failed: {fault}")),
        Err(_) => Err(format!("its `describe` did not answer within {limit_ms} ms")),
    }
}

fn policy(
    engine: &Engine,
    tier: &wasmtime::Engine,
    context: &Arc<Context>,
    pre: &policy::QueuePolicyPre<policy::Data>,
    limit_ms: u64,
) -> Result<Description, String> {
    let mut guest = Guest::new(context.clone(), Meter::new(limit_ms), None, policy::State);
    guest.question = Some(Arc::default());
    let mut store = guest::store(tier, guest);
    store.set_epoch_deadline(limit_ms);
    let _inside = engine.0.ticker.enter();
    let described = pre.instantiate(&mut store).and_then(|instance| instance.call_describe(&mut store));
    let d = described.map_err(|e| format!("its `describe` failed: {}", guest::fault(&e, &store)))?;
    Ok(Description { name: d.name, version: d.version, about: d.about, attributes: d.attributes })
}

impl From<crate::worlds::router::cordboard::router::types::Attribute> for (String, String) {
    fn from(a: crate::worlds::router::cordboard::router::types::Attribute) -> Self {
        (a.name, a.value)
    }
}

impl From<crate::worlds::ivr::cordboard::ivr::calls::Attribute> for (String, String) {
    fn from(a: crate::worlds::ivr::cordboard::ivr::calls::Attribute) -> Self {
        (a.name, a.value)
    }
}

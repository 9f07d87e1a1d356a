//! One question to a fresh instance, on the engine's runtime, against a deadline.
//!
//! Used by routers, redirect policies and adapters, whose questions can be asked twice: after a trap
//! the question is asked once more of another fresh instance. A script is never asked twice.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use cordboard_call::Name;
use cordboard_call::policy::Fault;
use wasmtime::Store;

use crate::engine::Code;
use crate::guest::{self, Guest};
use crate::limits::ms;
use crate::meter::{Meter, metered};
use crate::registry::{Registry, Version};
use crate::world::World;

/// A question that a fresh instance can answer.
pub(crate) trait Question: Sync {
    /// The state of an instance.
    type State: Send + 'static;
    /// What it answers.
    type Answer: Send;

    /// Of a new instance.
    fn state(&self) -> Self::State;

    /// Instantiates, calls, converts. The outer error is the guest's end, the inner one what is
    /// wrong with its answer.
    fn put<'a>(
        &'a self,
        code: &'a Code,
        store: &'a mut Store<Guest<Self::State>>,
    ) -> impl Future<Output = wasmtime::Result<Result<Self::Answer, Fault>>> + Send + 'a;
}

/// How long, and how much.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) wall_ms: u64,
    pub(crate) cpu_ms: u64,
}

/// Asks; after a trap once more, within the same deadline.
pub(crate) async fn ask<Q: Question>(
    registry: &Registry,
    plugin: &Name,
    world: World,
    deadline: Deadline,
    question: &Q,
) -> Result<Q::Answer, Fault> {
    let version = registry.serving(plugin, world).ok_or(Fault::Missing)?;
    version.context.stats.questions.fetch_add(1, Relaxed);
    let meter = Meter::new(deadline.cpu_ms);
    let asked = async {
        match once(registry, &version, &meter, question).await {
            // A trap, or too much memory: perhaps the instance was unlucky. An answer that makes no
            // sense and an error are answers. A second loop would only miss the deadline again.
            Err(fault @ (Fault::Trap(_) | Fault::Memory)) => {
                registry.fault(&version, &fault);
                once(registry, &version, &meter, question).await
            }
            other => other,
        }
    };
    let answer = tokio::time::timeout(ms(deadline.wall_ms), asked).await;
    match &answer {
        Ok(Ok(_)) => {}
        Ok(Err(fault)) => registry.fault(&version, fault),
        Err(_) if meter.busy() => registry.fault(&version, &Fault::Timeout),
        // It waited for others, or the machine had no time for it: counted, and not held against it.
        Err(_) => version.context.stats.count(&Fault::Timeout),
    }
    answer.unwrap_or(Err(Fault::Timeout))
}

async fn once<Q: Question>(
    registry: &Registry,
    version: &Version,
    meter: &Arc<Meter>,
    question: &Q,
) -> Result<Q::Answer, Fault> {
    let guest = Guest::new(version.context.clone(), meter.clone(), None, question.state());
    let mut store = Settled(guest::store(&version.engine, guest));
    guest::give_way(&mut store.0);
    let asked = question.put(&version.code, &mut store.0);
    let asked = metered(meter.clone(), registry.engine().0.ticker.clone(), asked).await;
    asked.unwrap_or_else(|e| Err(guest::fault(&e, &store.0)))
}

/// Books what an instance has used however its run ends, a timeout's drop included.
pub(crate) struct Settled<W: 'static>(pub(crate) Store<Guest<W>>);

impl<W> Drop for Settled<W> {
    fn drop(&mut self) {
        guest::settle(&self.0);
    }
}

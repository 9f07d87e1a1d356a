//! `ivr-script@0.1.0`. The verbs themselves are in [`crate::script`].

use crate::guest::Guest;
pub(crate) use crate::script::State;

wasmtime::component::bindgen!({
    path: "../../wit/ivr/0.1.0",
    world: "ivr-script",
    imports: {
        // What only reads, or only writes into the store, never suspends.
        "cordboard:ivr/host": trappable,
        "cordboard:ivr/calls.[method]call.info": trappable,
        "cordboard:ivr/calls.[method]call.attribute": trappable,
        "cordboard:ivr/calls.[method]call.set-attribute": trappable,
        "cordboard:ivr/calls.[method]ticket.id": trappable,
        "cordboard:ivr/calls.[method]ticket.state": trappable,
        "cordboard:ivr/calls.[method]ticket.position": trappable,
        "cordboard:ivr/calls.[method]ticket.wait-s": trappable,
        "cordboard:ivr/calls.[drop]call": trappable,
        "cordboard:ivr/calls.[drop]ticket": trappable,
        default: async | trappable,
    },
    exports: { default: async },
    with: {
        "cordboard:ivr/calls.call": crate::script::CallHandle,
        "cordboard:ivr/calls.ticket": crate::script::TicketHandle,
    },
});

pub(crate) type Data = Guest<State>;

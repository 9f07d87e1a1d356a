//! The resource `ticket`: reads from the snapshot, and the three verbs of a place.

use cordboard_base::Id;
use cordboard_call::messages::TicketState;
use cordboard_call::script::{Done, Left, Verb};
use wasmtime::component::Resource;

use super::mailbox::TicketView;
use super::{State, TicketHandle, misplaced, wit};
use crate::guest::Guest;

impl Guest<State> {
    fn place(&self, ticket: &Resource<TicketHandle>) -> wasmtime::Result<Id> {
        let place = self.world.tickets.get(ticket.rep() as usize).copied();
        place.ok_or_else(|| wasmtime::format_err!("no such ticket"))
    }

    fn view(&mut self, ticket: &Resource<TicketHandle>) -> wasmtime::Result<TicketView> {
        self.host_call()?;
        Ok(self.world.mailbox.ticket(self.place(ticket)?))
    }

    async fn left(&mut self, verb: Verb) -> wasmtime::Result<Result<wit::Left, wit::Failure>> {
        Ok(match self.world.verb(verb).await {
            Ok(Done::Left(Left::Left)) => Ok(wit::Left::Left),
            Ok(Done::Left(Left::Offered)) => Ok(wit::Left::Offered),
            Ok(Done::Left(Left::Taken)) => Ok(wit::Left::Taken),
            Ok(done) => Err(misplaced(&done)),
            Err(failure) => Err(failure),
        })
    }
}

impl wit::HostTicket for Guest<State> {
    fn id(&mut self, ticket: Resource<TicketHandle>) -> wasmtime::Result<String> {
        self.host_call()?;
        Ok(self.place(&ticket)?.to_string())
    }

    fn state(&mut self, ticket: Resource<TicketHandle>) -> wasmtime::Result<wit::TicketState> {
        Ok(match self.view(&ticket)?.state {
            TicketState::Waiting => wit::TicketState::Waiting,
            TicketState::Offered => wit::TicketState::Offered,
            TicketState::Taken => wit::TicketState::Taken,
            TicketState::Returned => wit::TicketState::Returned,
            TicketState::Ended => wit::TicketState::Ended,
        })
    }

    fn position(&mut self, ticket: Resource<TicketHandle>) -> wasmtime::Result<u32> {
        Ok(self.view(&ticket)?.position)
    }

    fn wait_s(&mut self, ticket: Resource<TicketHandle>) -> wasmtime::Result<Option<u32>> {
        Ok(self.view(&ticket)?.wait_s)
    }

    async fn leave(
        &mut self,
        ticket: Resource<TicketHandle>,
    ) -> wasmtime::Result<Result<wit::Left, wit::Failure>> {
        self.host_call()?;
        let ticket = self.place(&ticket)?;
        self.left(Verb::Leave { ticket }).await
    }

    async fn protect(
        &mut self,
        ticket: Resource<TicketHandle>,
        on: bool,
    ) -> wasmtime::Result<Result<wit::Left, wit::Failure>> {
        self.host_call()?;
        let ticket = self.place(&ticket)?;
        self.left(Verb::Protect { ticket, on }).await
    }

    async fn outcome(
        &mut self,
        ticket: Resource<TicketHandle>,
    ) -> wasmtime::Result<Result<wit::Outcome, wit::Failure>> {
        self.host_call()?;
        let ticket = self.place(&ticket)?;
        Ok(match self.world.verb(Verb::Outcome { ticket }).await {
            Ok(Done::Outcome(outcome)) => {
                Ok(wit::Outcome { end: outcome.end, agent: outcome.agent, talked_ms: outcome.talked_ms })
            }
            Ok(done) => Err(misplaced(&done)),
            Err(failure) => Err(failure),
        })
    }

    fn drop(&mut self, _: Resource<TicketHandle>) -> wasmtime::Result<()> {
        // Dropping a ticket never leaves the queue: garbage collectors drop when they like.
        Ok(())
    }
}

//! The four transaction machines of RFC 3261 17, corrected by RFC 6026, as pure tables.
//!
//! A machine is a function from a state and an input to the next state and a list of actions; the
//! endpoint's transaction table calls it and carries the actions out. Nothing here knows a message,
//! an address or a clock: which messages match which transaction is the table's business
//! (`endpoint::txns`), when a timer is due stands in [`timers`].
//!
//! `None` instead of a move means that the input has no meaning in that state and is absorbed.

pub mod client;
pub mod invite_client;
pub mod invite_server;
pub mod server;
pub mod timers;

pub use timers::{Timer, Times};

/// What the table of transactions does for a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send the request, or the newest response.
    Send,
    /// Send it once more: counted as a retransmission.
    Resend,
    /// Send the ACK of a final response from 300 (RFC 3261 17.1.1.3).
    Ack,
    /// Start a timer at its first interval.
    Start(Timer),
    /// Start a retransmission timer again at twice its interval, up to its limit.
    Double(Timer),
    /// Start a retransmission timer again at T2 (RFC 3261 17.1.2.2, Proceeding).
    Slow(Timer),
    /// Stop the retransmission timer and the one that would end the state.
    Stop,
    /// Hand the message to the user of the transaction.
    Deliver,
    /// Tell the user that nobody answered (Timer B or F) or that no ACK came (Timer H).
    TimedOut,
    /// Tell the user that the message could not be sent.
    Unsent,
}

/// The next state of a machine and what to do on the way, in order.
pub type Move<S> = Option<(S, &'static [Action])>;

/// How a transaction's user and its peer see a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 100 to 199.
    Provisional,
    /// 200 to 299.
    Success,
    /// 300 to 699.
    Failure,
}

impl Class {
    /// The class of a status.
    #[must_use]
    pub fn of(status: u16) -> Self {
        match status {
            0..200 => Self::Provisional,
            200..300 => Self::Success,
            _ => Self::Failure,
        }
    }
}

/// Everything that can happen to a transaction. Client machines know `Received`, server machines
/// `Request`, `Ack` and `Respond`; the rest is common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A response came (client).
    Received(Class),
    /// The request came again (server).
    Request,
    /// An ACK came (INVITE server).
    Ack,
    /// The user sends a response (server).
    Respond(Class),
    /// A timer fired.
    Fired(Timer),
    /// The transport could not send.
    TransportError,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::{Debug, Write};

    const CLASSES: [Class; 3] = [Class::Provisional, Class::Success, Class::Failure];

    fn inputs() -> Vec<Input> {
        let mut all: Vec<_> = CLASSES.iter().map(|c| Input::Received(*c)).collect();
        all.extend([Input::Request, Input::Ack]);
        all.extend(CLASSES.iter().map(|c| Input::Respond(*c)));
        all.extend(Timer::ALL.iter().map(|t| Input::Fired(*t)));
        all.push(Input::TransportError);
        all
    }

    /// One line a legal move, so that a changed table is a changed line in review.
    fn table<S: Debug + Copy>(states: &[S], step: impl Fn(S, Input) -> Move<S>) -> String {
        let mut text = String::new();
        for state in states {
            for input in inputs() {
                if let Some((next, actions)) = step(*state, input) {
                    let _ = writeln!(text, "{state:?} + {input:?} -> {next:?} {actions:?}");
                }
            }
        }
        text
    }

    #[test]
    fn invite_client_moves_only_as_drawn() {
        use invite_client::State::*;
        assert_eq!(
            table(&[Calling, Proceeding, Completed, Accepted, Terminated], invite_client::step),
            "\
Calling + Received(Provisional) -> Proceeding [Stop, Deliver]
Calling + Received(Success) -> Accepted [Stop, Start(M), Deliver]
Calling + Received(Failure) -> Completed [Stop, Ack, Start(D), Deliver]
Calling + Fired(A) -> Calling [Resend, Double(A)]
Calling + Fired(B) -> Terminated [Stop, TimedOut]
Calling + TransportError -> Terminated [Stop, Unsent]
Proceeding + Received(Provisional) -> Proceeding [Deliver]
Proceeding + Received(Success) -> Accepted [Stop, Start(M), Deliver]
Proceeding + Received(Failure) -> Completed [Stop, Ack, Start(D), Deliver]
Proceeding + Fired(B) -> Terminated [Stop, TimedOut]
Proceeding + TransportError -> Terminated [Stop, Unsent]
Completed + Received(Failure) -> Completed [Ack]
Completed + Fired(D) -> Terminated []
Completed + TransportError -> Terminated [Stop]
Accepted + Received(Success) -> Accepted [Deliver]
Accepted + Fired(M) -> Terminated []
"
        );
    }

    #[test]
    fn client_moves_only_as_drawn() {
        use client::State::*;
        assert_eq!(
            table(&[Trying, Proceeding, Completed, Terminated], client::step),
            "\
Trying + Received(Provisional) -> Proceeding [Deliver]
Trying + Received(Success) -> Completed [Stop, Start(K), Deliver]
Trying + Received(Failure) -> Completed [Stop, Start(K), Deliver]
Trying + Fired(E) -> Trying [Resend, Double(E)]
Trying + Fired(F) -> Terminated [Stop, TimedOut]
Trying + TransportError -> Terminated [Stop, Unsent]
Proceeding + Received(Provisional) -> Proceeding [Deliver]
Proceeding + Received(Success) -> Completed [Stop, Start(K), Deliver]
Proceeding + Received(Failure) -> Completed [Stop, Start(K), Deliver]
Proceeding + Fired(E) -> Proceeding [Resend, Slow(E)]
Proceeding + Fired(F) -> Terminated [Stop, TimedOut]
Proceeding + TransportError -> Terminated [Stop, Unsent]
Completed + Fired(K) -> Terminated []
"
        );
    }

    #[test]
    fn invite_server_moves_only_as_drawn() {
        use invite_server::State::*;
        assert_eq!(
            table(&[Proceeding, Completed, Confirmed, Accepted, Terminated], invite_server::step),
            "\
Proceeding + Request -> Proceeding [Resend]
Proceeding + Respond(Provisional) -> Proceeding [Send]
Proceeding + Respond(Success) -> Accepted [Send, Start(L)]
Proceeding + Respond(Failure) -> Completed [Send, Start(G), Start(H)]
Completed + Request -> Completed [Resend]
Completed + Ack -> Confirmed [Stop, Start(I)]
Completed + Fired(G) -> Completed [Resend, Double(G)]
Completed + Fired(H) -> Terminated [Stop, TimedOut]
Completed + TransportError -> Terminated [Stop, Unsent]
Confirmed + Fired(I) -> Terminated []
Accepted + Ack -> Accepted [Deliver]
Accepted + Respond(Success) -> Accepted [Resend]
Accepted + Fired(L) -> Terminated []
"
        );
    }

    #[test]
    fn server_moves_only_as_drawn() {
        use server::State::*;
        assert_eq!(
            table(&[Trying, Proceeding, Completed, Terminated], server::step),
            "\
Trying + Respond(Provisional) -> Proceeding [Send]
Trying + Respond(Success) -> Completed [Stop, Send, Start(J)]
Trying + Respond(Failure) -> Completed [Stop, Send, Start(J)]
Trying + Fired(Unanswered) -> Terminated []
Trying + TransportError -> Terminated [Stop, Unsent]
Proceeding + Request -> Proceeding [Resend]
Proceeding + Respond(Provisional) -> Proceeding [Send]
Proceeding + Respond(Success) -> Completed [Stop, Send, Start(J)]
Proceeding + Respond(Failure) -> Completed [Stop, Send, Start(J)]
Proceeding + Fired(Unanswered) -> Terminated []
Proceeding + TransportError -> Terminated [Stop, Unsent]
Completed + Request -> Completed [Resend]
Completed + Fired(J) -> Terminated []
Completed + TransportError -> Terminated [Stop]
"
        );
    }
}

//! The INVITE server transaction: RFC 3261 17.2.1 with the Accepted state of RFC 6026 7.1.
//!
//! ```text
//!               | INVITE received; the user sends 100 at once
//!               v
//!         +------------+--+ INVITE: send the last 1xx again
//!         | Proceeding |<-+ user 1xx: send
//!         +------------+
//!           |        | user 300-699: send, G and H
//!           |        v
//!           |   +-----------+--+ INVITE: send again
//!           |   | Completed |<-+ G: send again, G doubles up to T2
//!           |   +-----------+ ------ H: timed out -----------+
//!           |        | ACK                                   |
//!  user 2xx:|        v  I                                    |
//!     send L|   +-----------+--+ ACK, INVITE: absorbed       |
//!           |   | Confirmed |<-+                             |
//!           |   +-----------+                                |
//!           v        | I                                     v
//!      +----------+  |                                +------------+
//!      | Accepted |--+------------ L ---------------> | Terminated |
//!      +----------+                                   +------------+
//!        INVITE: absorbed; user 2xx: send again; ACK: deliver
//! ```

use super::{Action, Class, Input, Move, Timer};

/// Where the transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No final response yet.
    Proceeding,
    /// A final response from 300 was sent and waits for its ACK.
    Completed,
    /// The ACK came; repetitions are absorbed.
    Confirmed,
    /// A 2xx was sent; the user repeats it, repeated INVITEs are absorbed.
    Accepted,
    /// Gone.
    Terminated,
}

/// One move.
#[must_use]
pub fn step(state: State, input: Input) -> Move<State> {
    use Action::*;
    use State::*;
    Some(match (state, input) {
        (Proceeding, Input::Request) => (Proceeding, &[Resend]),
        (Proceeding, Input::Respond(Class::Provisional)) => (Proceeding, &[Send]),
        (Proceeding, Input::Respond(Class::Success)) => (Accepted, &[Send, Start(Timer::L)]),
        (Proceeding, Input::Respond(Class::Failure)) => {
            (Completed, &[Send, Start(Timer::G), Start(Timer::H)])
        }
        (Completed, Input::Request) => (Completed, &[Resend]),
        (Completed, Input::Fired(Timer::G)) => (Completed, &[Resend, Double(Timer::G)]),
        (Completed, Input::Fired(Timer::H)) => (Terminated, &[Stop, TimedOut]),
        (Completed, Input::Ack) => (Confirmed, &[Stop, Start(Timer::I)]),
        (Confirmed, Input::Fired(Timer::I)) => (Terminated, &[]),
        // RFC 6026 7.1: "any retransmissions of the 2xx ... are passed to the transport layer", and an ACK
        // that matches this transaction is for the user.
        (Accepted, Input::Respond(Class::Success)) => (Accepted, &[Resend]),
        (Accepted, Input::Ack) => (Accepted, &[Deliver]),
        (Accepted, Input::Fired(Timer::L)) => (Terminated, &[]),
        (Completed, Input::TransportError) => (Terminated, &[Stop, Unsent]),
        _ => return None,
    })
}

//! The INVITE client transaction: RFC 3261 17.1.1 with the Accepted state of RFC 6026 7.2.
//!
//! ```text
//!              | INVITE sent, A and B started
//!              v      A: send again, A doubles
//!         +---------+----+
//!         | Calling | <--+   B: timed out --------------------------+
//!         +---------+                                               |
//!           |  |  | 1xx: deliver                                    |
//!           |  |  v                                                 |
//!           |  | +------------+--+                                  |
//!           |  | | Proceeding |<-+ 1xx: deliver                     |
//!           |  | +------------+ ---- B, cancelled: timed out -------+
//!           |  |   |  | 300-699: ACK, D, deliver                    |
//!       2xx:|  +---|--+------------> +-----------+--+               |
//!    deliver|      | 2xx: deliver    | Completed |<-+ 300-699: ACK  |
//!         M |      | M               +-----------+                  |
//!           v      v                    | D                         |
//!         +----------+--+               v                           |
//!         | Accepted |<-+ 2xx: deliver  +--------> +------------+ <-+
//!         +----------+ ---- M ----------+--------> | Terminated |
//!                                                  +------------+
//! ```

use super::{Action, Class, Input, Move, Timer};

/// Where the transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The INVITE was sent and nothing came back.
    Calling,
    /// A provisional response came.
    Proceeding,
    /// A final response from 300 came and gets its ACK each time.
    Completed,
    /// A 2xx came; more of them, from this fork or others, are for the user.
    Accepted,
    /// Gone.
    Terminated,
}

/// What starts it.
pub const START: &[Action] = &[Action::Send, Action::Start(Timer::A), Action::Start(Timer::B)];

/// One move.
#[must_use]
pub fn step(state: State, input: Input) -> Move<State> {
    use Action::*;
    use State::*;
    Some(match (state, input) {
        // 17.1.1.2: "When timer A fires, the client transaction MUST retransmit the request by passing it to
        // the transport layer, and MUST reset the timer with a value of 2*T1."
        (Calling, Input::Fired(Timer::A)) => (Calling, &[Resend, Double(Timer::A)]),
        // In Proceeding B runs only after a CANCEL (9.1): the user starts it.
        (Calling | Proceeding, Input::Fired(Timer::B)) => (Terminated, &[Stop, TimedOut]),
        (Calling, Input::Received(Class::Provisional)) => (Proceeding, &[Stop, Deliver]),
        (Proceeding, Input::Received(Class::Provisional)) => (Proceeding, &[Deliver]),
        (Calling | Proceeding, Input::Received(Class::Success)) => {
            (Accepted, &[Stop, Start(Timer::M), Deliver])
        }
        (Calling | Proceeding, Input::Received(Class::Failure)) => {
            (Completed, &[Stop, Ack, Start(Timer::D), Deliver])
        }
        // "Any retransmissions of the final response that are received while in the Completed state MUST
        // cause the ACK to be re-passed to the transport layer"
        (Completed, Input::Received(Class::Failure)) => (Completed, &[Ack]),
        (Completed, Input::Fired(Timer::D)) => (Terminated, &[]),
        // RFC 6026 8.4: 2xx in Accepted "MUST be passed to the TU"; the user acknowledges them.
        (Accepted, Input::Received(Class::Success)) => (Accepted, &[Deliver]),
        (Accepted, Input::Fired(Timer::M)) => (Terminated, &[]),
        (Calling | Proceeding, Input::TransportError) => (Terminated, &[Stop, Unsent]),
        (Completed, Input::TransportError) => (Terminated, &[Stop]),
        _ => return None,
    })
}

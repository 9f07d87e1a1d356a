//! The client transaction of every other method: RFC 3261 17.1.2.
//!
//! ```text
//!              | request sent, E and F started
//!              v
//!         +--------+--+ E: send again, E doubles up to T2
//!         | Trying |<-+
//!         +--------+ ---------------- F: timed out ---------+
//!           |    | 1xx: deliver                             |
//!           |    v                                          |
//!           |  +------------+--+ E: send again, E is T2     |
//!           |  | Proceeding |<-+ 1xx: deliver               |
//!           |  +------------+ ------- F: timed out ---------+
//!           |    | 200-699: deliver, K                      |
//!           v    v                                          v
//!         +-----------+                              +------------+
//!         | Completed | ----------- K -------------> | Terminated |
//!         +-----------+                              +------------+
//! ```

use super::{Action, Class, Input, Move, Timer};

/// Where the transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The request was sent and nothing came back.
    Trying,
    /// A provisional response came.
    Proceeding,
    /// The final response came; repetitions are absorbed.
    Completed,
    /// Gone.
    Terminated,
}

/// What starts it.
pub const START: &[Action] = &[Action::Send, Action::Start(Timer::E), Action::Start(Timer::F)];

/// One move.
#[must_use]
pub fn step(state: State, input: Input) -> Move<State> {
    use Action::*;
    use State::*;
    Some(match (state, input) {
        (Trying, Input::Fired(Timer::E)) => (Trying, &[Resend, Double(Timer::E)]),
        // 17.1.2.2: "If Timer E fires while in the Proceeding state, the request MUST be passed to the
        // transport layer for retransmission, and Timer E MUST be reset with a value of T2 seconds."
        (Proceeding, Input::Fired(Timer::E)) => (Proceeding, &[Resend, Slow(Timer::E)]),
        (Trying | Proceeding, Input::Fired(Timer::F)) => (Terminated, &[Stop, TimedOut]),
        (Trying | Proceeding, Input::Received(Class::Provisional)) => (Proceeding, &[Deliver]),
        (Trying | Proceeding, Input::Received(_)) => (Completed, &[Stop, Start(Timer::K), Deliver]),
        (Completed, Input::Fired(Timer::K)) => (Terminated, &[]),
        (Trying | Proceeding, Input::TransportError) => (Terminated, &[Stop, Unsent]),
        _ => return None,
    })
}

//! The server transaction of every other method: RFC 3261 17.2.2.
//!
//! ```text
//!              | request received
//!              v
//!         +--------+--+ request: absorbed
//!         | Trying |<-+
//!         +--------+ ------------- Unanswered --------------+
//!           |    | user 1xx: send                           |
//!           |    v                                          |
//!           |  +------------+--+ request: send again        |
//!           |  | Proceeding |<-+ user 1xx: send             |
//!           |  +------------+ ---- Unanswered --------------+
//!           |    | user 200-699: send, J                    |
//!           v    v                                          v
//!         +-----------+--+ request: send again       +------------+
//!         | Completed |<-+ ----------- J ----------> | Terminated |
//!         +-----------+                              +------------+
//! ```
//!
//! The RFC lets Trying last for ever; here it ends when the client has given up (Timer F), so that a
//! user that never answers costs nothing that stays.

use super::{Action, Class, Input, Move, Timer};

/// Where the transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The request came and the user has said nothing.
    Trying,
    /// The user has sent a provisional response.
    Proceeding,
    /// The final response was sent; repeated requests get it again.
    Completed,
    /// Gone.
    Terminated,
}

/// What starts it.
pub const START: &[Action] = &[Action::Start(Timer::Unanswered)];

/// One move.
#[must_use]
pub fn step(state: State, input: Input) -> Move<State> {
    use Action::*;
    use State::*;
    Some(match (state, input) {
        (Proceeding | Completed, Input::Request) => (state, &[Resend]),
        (Trying | Proceeding, Input::Respond(Class::Provisional)) => (Proceeding, &[Send]),
        (Trying | Proceeding, Input::Respond(_)) => (Completed, &[Stop, Send, Start(Timer::J)]),
        (Trying | Proceeding, Input::Fired(Timer::Unanswered)) => (Terminated, &[]),
        (Completed, Input::Fired(Timer::J)) => (Terminated, &[]),
        (Trying | Proceeding, Input::TransportError) => (Terminated, &[Stop, Unsent]),
        (Completed, Input::TransportError) => (Terminated, &[Stop]),
        _ => return None,
    })
}

//! The table of legal hand-offs of a call between the stations that a shard owns.
//!
//! ```text
//!            admitted        asked           script
//!   Trunk ------------> Center ------> Router ------------> Ivr <-----------------+
//!     |                   | \            |  \               |  ^                  |
//!     | refused           |  \ no router |   \ workgroup    |  | gave the place   | the agent
//!     |                   |   +----------|----\----> Ivr    |  | up, refused      | has left
//!     |                   |              |     \            v  |                  |
//!     |                   |              |      +-------> Queue <------+          |
//!     |                   |              |                  |  ^       | vanished |
//!     |                   |              | address    offer |  | nobody|          |
//!     |                   |              |                  v  | took  |          |
//!     |                   |              |                 Agent ---> Bridge -----+
//!     |                   |              +------------------------------^
//!     v                   v              v        (Ivr: transfer) ------^
//!   Gone <---------------------- from every station, once ---------------
//! ```
//!
//! Every change of a call's station goes through [`hand_off`]. An illegal one is an error value
//! that the shard counts and writes into the call's timeline; the call goes on.

use serde::{Deserialize, Serialize};

/// Where a call is. `Queue` and `Agent` are the domain's stations as the shard sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Station {
    /// Its trunk is known.
    Trunk,
    /// Admitted; it has an interaction.
    Center,
    /// The router plugin is asked.
    Router,
    /// A script, or the tenant's fallback, has it.
    Ivr,
    /// It waits at a place of a queue.
    Queue,
    /// It rings at one or more agents.
    Agent,
    /// It is joined to another party, or that party rings without a queue.
    Bridge,
    /// Over.
    Gone,
}

/// A hand-off that the table does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Illegal {
    /// From here.
    pub from: Station,
    /// To there.
    pub to: Station,
}

impl std::fmt::Display for Illegal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "no call goes from {:?} to {:?}: a fault of the shard, please report it",
            self.from, self.to
        )
    }
}

impl std::error::Error for Illegal {}

use Station::{Agent, Bridge, Center, Gone, Ivr, Queue, Router, Trunk};

/// The table: from, to, when.
pub const LEGAL: &[(Station, Station, &str)] = &[
    (Trunk, Center, "admitted under the trunk's limits"),
    (Center, Router, "the tenant has a router"),
    (Center, Ivr, "the tenant has none: its script or fallback"),
    (Router, Ivr, "to a script, or to the fallback"),
    (Router, Queue, "straight to a workgroup: the place is given"),
    (Router, Bridge, "straight to an address"),
    (Ivr, Queue, "the place is given"),
    (Ivr, Bridge, "transferred to an address"),
    (Queue, Agent, "offered"),
    (Queue, Ivr, "the place was given up"),
    (Agent, Queue, "nobody took it: the same place"),
    (Agent, Ivr, "the place ended while it rang"),
    (Agent, Bridge, "an agent accepted"),
    (Bridge, Ivr, "the other party has left, or did not answer"),
    (Bridge, Queue, "the agent vanished: the same place"),
    (Trunk, Gone, "over"),
    (Center, Gone, "over"),
    (Router, Gone, "over"),
    (Ivr, Gone, "over"),
    (Queue, Gone, "over"),
    (Agent, Gone, "over"),
    (Bridge, Gone, "over"),
];

/// Moves a call, if the table has the hand-off.
///
/// # Errors
/// The hand-off is not in the table; the station stays as it was.
pub fn hand_off(at: &mut Station, to: Station) -> Result<(), Illegal> {
    if LEGAL.iter().any(|(f, t, _)| f == at && *t == to) {
        *at = to;
        Ok(())
    } else {
        Err(Illegal { from: *at, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table as a picture: a change of it is a change here, for a reader to see.
    #[test]
    fn the_table_is_this() {
        const ALL: [Station; 8] = [Trunk, Center, Router, Ivr, Queue, Agent, Bridge, Gone];
        let picture: Vec<String> = ALL
            .iter()
            .map(|from| {
                let row: String = ALL
                    .iter()
                    .map(|to| {
                        let mut at = *from;
                        if hand_off(&mut at, *to).is_ok() { 'x' } else { '.' }
                    })
                    .collect();
                format!("{from:?} {row}")
            })
            .collect();
        assert_eq!(
            picture,
            [
                "Trunk .x.....x",
                "Center ..xx...x",
                "Router ...xx.xx",
                "Ivr ....x.xx",
                "Queue ...x.x.x",
                "Agent ...xx.xx",
                "Bridge ...xx..x",
                "Gone ........",
            ]
        );
    }

    #[test]
    fn an_illegal_hand_off_is_a_value_and_moves_nothing() {
        let mut at = Gone;
        let error = hand_off(&mut at, Bridge).unwrap_err();
        assert_eq!((at, error), (Gone, Illegal { from: Gone, to: Bridge }));
        assert!(error.to_string().contains("Gone to Bridge"));
    }
}

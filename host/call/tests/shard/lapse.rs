//! The shard beside a real domain, with a bus that stands still for a while: leases run out, and
//! whatever each side believes meanwhile, in the end both have the same conversations.

use cordboard_base::Random;
use cordboard_call::domain::{self, Domain};
use cordboard_call::messages::*;
use cordboard_call::policy::Native;
use cordboard_call::script::{Done, Verb};

use crate::world::{World, model};

/// What stands still.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Still {
    Nothing,
    ToDomain,
    ToShard,
    Both,
    /// The domain's own thread: it neither reads nor ticks, and ticks before it reads when it is back.
    Domain,
}

struct Pair {
    w: World,
    domain: Domain,
    still: Still,
    heard: usize,
    said: Vec<ToShard>,
    accepted: [usize; 3],
}

impl Pair {
    fn talking() -> Self {
        let mut w = World::new();
        w.queue = false;
        let domain = Domain::new(std::sync::Arc::new(model()), 0, 1, Random::seeded(3), w.now);
        let mut pair =
            Self { w, domain, still: Still::Nothing, heard: 0, said: Vec::new(), accepted: [0; 3] };
        pair.w.dial("+4930", true);
        assert_eq!(pair.w.does(Verb::Answer), Ok(Done::Ok));
        let what = Verb::Enqueue { workgroup: "support".to_owned(), request: QueueRequest::default() };
        let verb = pair.w.verb(what);
        pair.pass(1);
        assert!(matches!(pair.w.result(verb), Some(Ok(Done::Queued { .. }))));
        assert_eq!((pair.domain.counts().talking, pair.w.media.joined.len()), (1, 1));
        pair
    }

    fn domain(&mut self, input: domain::Input) {
        let mut out = Vec::new();
        self.domain.handle(self.w.now, input, &mut Native, &mut out);
        for output in out {
            if let domain::Output::Bus(_, envelope) = output {
                self.said.push(envelope.body);
            }
        }
    }

    /// Both sides hear what they may, until nothing is left to say; phones that ring are answered.
    fn settle(&mut self) {
        loop {
            let before = (self.heard, self.said.len());
            if self.still != Still::Domain
                && self.domain.next_deadline_ns().is_some_and(|at| at <= self.w.now.mono_ns)
            {
                self.domain(domain::Input::Tick);
            }
            while !matches!(self.still, Still::ToDomain | Still::Both | Still::Domain)
                && self.heard < self.w.told.len()
            {
                let (interaction, body) = self.w.told[self.heard].clone();
                self.heard += 1;
                let seq = self.heard as u64;
                let envelope = Envelope { from: 1, epoch: 7, seq, interaction, lines: Vec::new(), body };
                self.domain(domain::Input::Bus(envelope));
            }
            if !matches!(self.still, Still::ToShard | Still::Both) {
                for body in std::mem::take(&mut self.said) {
                    self.w.tell(body);
                }
            }
            for n in 1..=3 {
                let invites = self.w.agents[n - 1].invites();
                if invites > self.accepted[n - 1] {
                    self.accepted[n - 1] = invites;
                    self.w.accept(n);
                }
            }
            let quiet = self.said.is_empty() || self.still != Still::Nothing;
            if quiet && before == (self.heard, self.said.len()) {
                return;
            }
        }
    }

    fn pass(&mut self, s: u64) {
        for _ in 0..s {
            self.w.pass(1_000);
            self.settle();
        }
    }
}

#[test]
fn a_bus_that_stands_still_books_nobody_twice_and_leaves_nobody_alone() {
    for still in [Still::ToDomain, Still::ToShard, Still::Both, Still::Domain] {
        let mut lapsed = 0;
        for stall_s in (1..=21).map(|n| n * 7) {
            let mut pair = Pair::talking();
            pair.pass(3);
            pair.still = still;
            pair.pass(stall_s);
            pair.still = Still::Nothing;
            pair.pass(150);
            let counts = pair.domain.counts();
            let at = format!("{still:?} for {stall_s} s: {counts:?}");
            lapsed += counts.totals.leases_expired;
            let up: usize = pair.w.agents.iter().map(|p| p.sip.counts().legs).sum();
            // A second lease in a row is the end of the place: the caller is the script's again.
            let one = usize::from(counts.totals.leases_expired < 2);
            assert_eq!((counts.talking, pair.w.media.joined.len(), up), (one, one, one), "{at}");
            assert_eq!((counts.ringing, counts.agents_busy, counts.taken), (0, one, one), "{at}");
            assert_eq!(pair.w.caller.ended(), 0, "{at}");
            pair.w.hang_up();
            pair.pass(5);
            let counts = pair.domain.counts();
            assert_eq!((counts.interactions, counts.talking, counts.timers.leases), (0, 0, 0), "{at}");
        }
        // A domain that stood still asks first, and one that is heard all the time has nothing to ask.
        assert_eq!(lapsed > 0, matches!(still, Still::ToDomain | Still::Both), "{still:?}");
    }
}

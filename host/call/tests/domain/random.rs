//! Random lives against a small reference model, from seeds.
//!
//! The model is the shard's judgement (what rings, what talks) and the rules in a few lines: who
//! may be asked, in what order, for whom. It knows nothing of how the domain does it. Each seeded
//! bug is found by it, or the model proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use cordboard_base::{Id, Random};
use cordboard_call::Name;
use cordboard_call::commands::{Command, Reply};
use cordboard_call::domain::{Input, Output};
use cordboard_call::facts::Fact;
use cordboard_call::messages::*;
use cordboard_call::model::Model;
use cordboard_call::policy::{Candidates, Entry, Fault, Native, Placement, PlanAction, PlanStep, Policies};

use crate::harness::*;
use crate::recovery::assert_same;

/// Sensible most of the time: the default with a plan; sometimes it faults or talks nonsense.
struct Moody(Random);

impl Policies for Moody {
    fn place(&mut self, t: &Name, w: &Name, p: &Name, entry: &Entry) -> Result<Placement, Fault> {
        let raise = PlanStep { after_ms: 4_000, action: PlanAction::RaiseMs(3_000) };
        match self.0.below(10) {
            0 => Err(Fault::Trap("unreachable".into())),
            _ => Native.place(t, w, p, entry).map(|placed| Placement { plan: vec![raise], ..placed }),
        }
    }

    fn rank(&mut self, t: &Name, w: &Name, p: &Name, e: &Entry, c: &Candidates) -> Result<Vec<u32>, Fault> {
        match self.0.below(10) {
            0 => Err(Fault::Timeout),
            1 => Ok(vec![u32::MAX]),
            _ => Native.rank(t, w, p, e, c),
        }
    }
}

fn centre() -> Model {
    let mut m = model(
        vec![workgroup("support"), workgroup("sales"), workgroup("round")],
        vec![
            agent("alice", &["support"], &[("en", 5)]),
            agent("bob", &["support", "sales"], &[("fr", 5)]),
            agent("carol", &["sales", "round"], &[("en", 2), ("fr", 2)]),
            agent("dave", &["round", "support"], &[]),
            agent("erin", &["round"], &[("en", 1)]),
        ],
    );
    m.tenants[0].workgroups[1].policy = Some("moody".into());
    m.tenants[0].workgroups[2].round = 2;
    m.tenants[0].workgroups[2].wrap_up_ms = 0;
    m
}

#[derive(Debug, Clone, PartialEq)]
enum Hold {
    Ringing,
    Talking,
}

/// What the reference knows of an agent.
#[derive(Debug, Clone, Default)]
struct Person {
    logged_in: bool,
    /// After the present call: not ready (false: nor logged in).
    pending: Option<bool>,
    ready: bool,
    misses: u32,
    /// No call before this time.
    quiet_until_ms: i64,
}

#[derive(Debug, Clone)]
struct Held {
    interaction: Id,
    ticket: Id,
    agent: String,
    state: Hold,
    revoked: bool,
}

#[derive(Debug, Clone)]
struct Waiter {
    interaction: Id,
    workgroup: String,
    skills: Vec<String>,
    key: (i64, u64),
    protected: bool,
    waits: bool,
}

struct Reference {
    w: World,
    random: Random,
    calls: BTreeMap<Id, u32>,
    tokens: BTreeMap<Id, Held>,
    spent: Vec<(Id, Held)>,
    waiters: BTreeMap<Id, Waiter>,
    people: BTreeMap<String, Person>,
    arrivals: u64,
    opened: u64,
    old: Vec<Envelope<ToDomain>>,
    facts_seen: usize,
}

impl Reference {
    fn new(seed: u64) -> Self {
        let mut w = World::new(centre());
        w.policies = Box::new(Moody(Random::seeded(seed ^ 0xfeed)));
        let names = w.model.tenants[0].agents.iter().map(|a| (a.name.to_string(), Person::default()));
        Self {
            people: names.collect(),
            w,
            random: Random::seeded(seed),
            calls: BTreeMap::new(),
            tokens: BTreeMap::new(),
            spent: Vec::new(),
            waiters: BTreeMap::new(),
            arrivals: 0,
            opened: 0,
            old: Vec::new(),
            facts_seen: 0,
        }
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.random.below(from.len() as u64) as usize].clone())
    }

    fn say(&mut self, id: Id, body: ToDomain) {
        let envelope = self.w.envelope(Some(id), body);
        self.old.push(envelope.clone());
        self.input(Input::Bus(envelope));
    }

    /// One input, with the rules checked on every output in order.
    fn input(&mut self, input: Input) {
        self.w.input(input);
        let outputs = std::mem::take(&mut self.w.last);
        self.w.sent.clear();
        self.w.events.clear();
        for output in &outputs {
            match output {
                Output::Fact(fact) => self.on_fact(fact),
                Output::Bus(_, e) => match &e.body {
                    ToShard::Offer(offer) => self.on_offer(e.interaction.expect("of a call"), offer),
                    ToShard::Revoke { token } => {
                        if let Some(held) = self.tokens.get_mut(token) {
                            held.revoked = true;
                        }
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        self.facts_seen = self.w.facts.len();
    }

    fn on_fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Queued { ticket, interaction, workgroup, key_ms, skills, .. } => {
                self.arrivals += 1;
                let waiter = Waiter {
                    interaction: *interaction,
                    workgroup: workgroup.to_string(),
                    skills: skills.iter().map(|s| s.to_string()).collect(),
                    key: (*key_ms, self.arrivals),
                    protected: false,
                    waits: true,
                };
                assert!(self.waiters.insert(*ticket, waiter).is_none(), "a ticket is given once");
            }
            Fact::Placed { ticket, key_ms } => {
                let waiter = self.waiters.get_mut(ticket).expect("a live place");
                waiter.key.0 = *key_ms;
            }
            Fact::Unqueued { ticket, .. } => {
                assert!(self.waiters.remove(ticket).is_some(), "a place ends once");
            }
            Fact::Closed(record) => {
                assert!(self.calls.remove(&record.interaction).is_some(), "an interaction closes once");
            }
            _ => {}
        }
    }

    fn may_take(&self, name: &str) -> bool {
        let person = &self.people[name];
        let held = self.tokens.values().any(|h| h.agent == name);
        person.logged_in && person.ready && !held && person.quiet_until_ms <= self.w.now.wall_ms
    }

    fn serves(&self, name: &str, waiter: &Waiter) -> bool {
        let tenant = &self.w.model.tenants[0];
        let agent = tenant.agent(name).expect("configured");
        agent.workgroups.iter().any(|w| **w == *waiter.workgroup)
            && waiter.skills.iter().all(|s| agent.skills.iter().any(|(have, _)| **have == **s))
    }

    /// The rules of an offer.
    fn on_offer(&mut self, id: Id, offer: &Offer) {
        let waiter = self.waiters.get(&offer.ticket).cloned().expect("an offer is for a live place");
        assert_eq!(waiter.interaction, id);
        assert!(waiter.waits, "a place that rings or talks is not offered again");
        assert!(!waiter.protected, "a protected caller is not offered");
        let mut names = BTreeSet::new();
        for offered in &offer.agents {
            let name = offered.agent.to_string();
            assert!(names.insert(name.clone()), "an agent is once in a round");
            assert!(
                self.may_take(&name),
                "{name} may not be asked: {:?} {:?}",
                self.people[&name],
                self.tokens
            );
            assert!(self.serves(&name, &waiter), "{name} serves the queue and has the skills");
            for (ticket, other) in &self.waiters {
                let earlier = other.waits && !other.protected && other.key < waiter.key;
                assert!(!(earlier && self.serves(&name, other)), "{ticket} was before {}", offer.ticket);
            }
        }
        self.waiters.get_mut(&offer.ticket).expect("live").waits = false;
        for offered in &offer.agents {
            let held = Held {
                interaction: id,
                ticket: offer.ticket,
                agent: offered.agent.to_string(),
                state: Hold::Ringing,
                revoked: false,
            };
            assert!(self.tokens.insert(offered.token, held).is_none(), "a token is fresh");
        }
    }

    /// The reference's rule for the end of an offer, applied before the domain hears of it.
    fn settle(&mut self, token: Id, result: OfferResult) {
        let Some(held) = self.tokens.get(&token).cloned().filter(|h| h.state == Hold::Ringing) else {
            return;
        };
        let now_ms = self.w.now.wall_ms;
        let person = self.people.get_mut(&held.agent).expect("a person");
        if result == OfferResult::Accepted {
            person.misses = 0;
            self.tokens.get_mut(&token).expect("live").state = Hold::Talking;
        } else {
            self.tokens.remove(&token);
            self.spent.push((token, held.clone()));
            match result {
                OfferResult::NoAnswer | OfferResult::Declined { .. } => {
                    person.misses += 1;
                    person.quiet_until_ms = now_ms + 10_000;
                    if person.misses >= 2 {
                        person.ready = false;
                    }
                }
                OfferResult::Busy => person.quiet_until_ms = now_ms + 10_000,
                OfferResult::Unreachable { .. } => person.ready = false,
                _ => {}
            }
            Self::call_over(person);
            let rings = self.tokens.values().any(|h| h.ticket == held.ticket);
            if let Some(waiter) = self.waiters.get_mut(&held.ticket)
                && !rings
            {
                waiter.waits = true;
            }
        }
        let agent = held.agent.as_str().into();
        let settled = Settled { token, ticket: held.ticket, agent, result, rang_ms: 10 };
        self.say(held.interaction, ToDomain::Settled(settled));
    }

    fn call_over(person: &mut Person) {
        if let Some(logged_in) = person.pending.take() {
            person.ready = false;
            person.logged_in = logged_in;
        }
    }

    fn others_lose(&mut self, ticket: Id) {
        let others: Vec<Id> = self
            .tokens
            .iter()
            .filter(|(_, h)| h.ticket == ticket && h.state == Hold::Ringing)
            .map(|(t, _)| *t)
            .collect();
        for token in others {
            self.settle(token, OfferResult::Lost);
        }
    }

    fn talk_ended(&mut self, token: Id, how: TalkEnd) {
        let Some(held) = self.tokens.remove(&token) else { return };
        self.spent.push((token, held.clone()));
        let now_ms = self.w.now.wall_ms;
        let waiter = self.waiters.get_mut(&held.ticket).expect("a live place");
        let person = self.people.get_mut(&held.agent).expect("a person");
        if how == TalkEnd::AgentVanished {
            waiter.waits = true;
            person.ready = false;
        } else if waiter.workgroup != "round" {
            // Five seconds of wrap-up.
            person.quiet_until_ms = now_ms + 5_000;
        }
        Self::call_over(person);
        let body = ToDomain::TalkEnded { token, ticket: held.ticket, talked_ms: 1_000, how };
        self.say(held.interaction, body);
    }

    fn hang_up(&mut self, id: Id) {
        let tokens: Vec<_> = self
            .tokens
            .iter()
            .filter(|(_, h)| h.interaction == id)
            .map(|(t, h)| (*t, h.state.clone()))
            .collect();
        // A shard settles everything before it says that the call is over; one that forgets is helped.
        let forgets = self.random.below(8) == 0;
        for (token, state) in tokens {
            match state {
                Hold::Ringing if forgets => {
                    let held = self.tokens.remove(&token).expect("live");
                    Self::call_over(self.people.get_mut(&held.agent).expect("a person"));
                }
                Hold::Ringing => {
                    // The reference's place ends with the first of them.
                    self.settle(token, OfferResult::CallerGone);
                }
                Hold::Talking => self.talk_ended(token, TalkEnd::CallerGone),
            }
        }
        self.say(id, ToDomain::CallEnded(ended()));
    }

    fn set_agent(&mut self, name: &str, what: u64) {
        let held = self.tokens.iter().find(|(_, h)| h.agent == name).map(|(t, h)| (*t, h.clone()));
        let person = self.people.get_mut(name).expect("a person");
        let (tenant, agent, reason) = ("acme".to_owned(), name.to_owned(), "break".to_owned());
        let command = match what {
            0 if !person.logged_in => Command::LogIn { tenant, agent, ready: true },
            0 | 1 => Command::SetReady { tenant, agent, ready: true, reason },
            2 => Command::SetReady { tenant, agent, ready: false, reason },
            _ => Command::LogOut { tenant, agent },
        };
        let out = match &command {
            Command::LogOut { .. } => Some(false),
            Command::LogIn { .. } => Some(true),
            _ => None,
        };
        let ready = matches!(command, Command::LogIn { .. } | Command::SetReady { ready: true, .. });
        let allowed = person.logged_in || out == Some(true) || out == Some(false);
        if allowed {
            match (&held, ready) {
                (Some(_), true) => {
                    person.pending = None;
                    person.misses = 0;
                }
                (Some(_), false) => person.pending = Some(out != Some(false)),
                (None, ready) => {
                    person.ready = ready;
                    person.pending = None;
                    // Wrap-up and back-off end with the agent's own word.
                    person.quiet_until_ms = 0;
                    if out != Some(false) {
                        person.misses = 0;
                    }
                }
            }
            if let Some(logged_in) = out
                && held.is_none()
            {
                person.logged_in = logged_in;
            }
        }
        let revoke_due = out == Some(false) && held.as_ref().is_some_and(|(_, h)| h.state == Hold::Ringing);
        self.input(Input::Command { request: 1, command });
        let reply = self.w.replies.pop().expect("one reply");
        assert_eq!(reply == Reply::Done, allowed, "{reply:?}");
        if revoke_due && let Some((token, _)) = held {
            assert!(self.tokens[&token].revoked, "a log-out while ringing withdraws the offer");
        }
    }

    fn step(&mut self) {
        let names: Vec<String> = self.people.keys().cloned().collect();
        let calls: Vec<Id> = self.calls.keys().copied().collect();
        let ringing: Vec<Id> =
            self.tokens.iter().filter(|(_, h)| h.state == Hold::Ringing).map(|(t, _)| *t).collect();
        let talking: Vec<Id> =
            self.tokens.iter().filter(|(_, h)| h.state == Hold::Talking).map(|(t, _)| *t).collect();
        match self.random.below(24) {
            0..=2 if calls.len() < 30 => {
                let id = Id::new(self.w.now, &mut self.random);
                self.calls.insert(id, 0);
                self.opened += 1;
                self.say(id, ToDomain::CallNew(call_new("+49")));
            }
            3..=6 => {
                let Some(id) = self.pick(&calls) else { return };
                let busy = self.waiters.values().any(|w| w.interaction == id);
                if busy && self.random.below(4) > 0 {
                    return;
                }
                let workgroup = self.pick(&["support", "sales", "round"]).expect("some");
                let skills =
                    self.pick(&[vec![], vec![], vec!["en".to_owned()], vec!["fr".to_owned()]]).expect("some");
                let key = self.calls[&id] + u32::from(self.random.below(6) > 0);
                self.calls.insert(id, key);
                let request =
                    QueueRequest { skills, priority: self.random.below(3) as u8, ..QueueRequest::default() };
                self.say(id, ToDomain::Enqueue { key: key.max(1), workgroup: workgroup.into(), request });
            }
            7..=12 => {
                let Some(token) = self.pick(&ringing) else { return };
                let revoked = self.tokens[&token].revoked;
                let result = match self.random.below(12) {
                    _ if revoked && self.random.below(2) == 0 => OfferResult::Revoked,
                    0 => OfferResult::NoAnswer,
                    1 => OfferResult::Busy,
                    2 => OfferResult::Declined { status: 603 },
                    3 => OfferResult::Unreachable { status: 503 },
                    _ => OfferResult::Accepted,
                };
                let ticket = self.tokens[&token].ticket;
                let accepted = result == OfferResult::Accepted;
                self.settle(token, result);
                if accepted {
                    self.others_lose(ticket);
                }
            }
            13..=15 => {
                let Some(token) = self.pick(&talking) else { return };
                let how = self.pick(&[
                    TalkEnd::AgentLeft,
                    TalkEnd::AgentLeft,
                    TalkEnd::AgentVanished,
                    TalkEnd::Transferred,
                ]);
                self.talk_ended(token, how.expect("some"));
            }
            16 => {
                let Some(id) = self.pick(&calls) else { return };
                self.hang_up(id);
            }
            17 | 18 => {
                let name = self.pick(&names).expect("some");
                let what = self.random.below(6);
                self.set_agent(&name, if what > 3 { 0 } else { what });
            }
            19 => {
                let waiting: Vec<(Id, Id)> = self.waiters.iter().map(|(t, w)| (*t, w.interaction)).collect();
                let Some((ticket, id)) = self.pick(&waiting) else { return };
                if self.random.below(3) == 0 {
                    self.say(id, ToDomain::Leave { request: 1, ticket });
                    return;
                }
                let on = self.random.below(2) == 0;
                let waiter = self.waiters.get_mut(&ticket).expect("live");
                if waiter.waits || !on {
                    waiter.protected = on;
                }
                self.say(id, ToDomain::Protect { request: 1, ticket, on });
            }
            20 => {
                // The past comes back: an old envelope as it was, or an old outcome in a new one.
                let old = self.old.clone();
                let Some(envelope) = self.pick(&old[old.len().saturating_sub(40)..]) else { return };
                self.input(Input::Bus(envelope));
                let spent = self.spent.clone();
                if let Some((token, held)) = self.pick(&spent[spent.len().saturating_sub(10)..]) {
                    let result =
                        self.pick(&[OfferResult::Accepted, OfferResult::NoAnswer, OfferResult::Lost]);
                    let agent = held.agent.as_str().into();
                    let result = result.expect("some");
                    let settled = Settled { token, ticket: held.ticket, agent, result, rang_ms: 1 };
                    self.say(held.interaction, ToDomain::Settled(settled));
                }
            }
            21 if self.random.below(4) == 0 => self.input(Input::PolicyChanged { plugin: "moody".into() }),
            22 if self.random.below(8) == 0 => {
                let model = std::sync::Arc::clone(&self.w.model);
                self.input(Input::Configure(model));
            }
            _ => {
                let ms = self.random.below(4_000);
                self.pass(ms);
            }
        }
    }

    /// Time passes; the shard renews what it works on.
    fn pass(&mut self, ms: u64) {
        let tokens: Vec<(Id, Id)> = self.tokens.iter().map(|(t, h)| (h.interaction, *t)).collect();
        for (id, token) in tokens {
            self.say(id, ToDomain::Renew { tokens: vec![token] });
        }
        let end = self.w.now.plus_ns(cordboard_base::ms(ms));
        while let Some(at) = self.w.domain.next_deadline_ns().filter(|at| *at <= end.mono_ns) {
            self.w.now = self.w.now.plus_ns(at.saturating_sub(self.w.now.mono_ns));
            self.input(Input::Tick);
        }
        self.w.now = end;
        self.input(Input::Tick);
    }

    /// What must hold between two events.
    fn check(&mut self) {
        let c = self.w.domain.counts();
        if c.backlog > 0 {
            return;
        }
        let count = |state: &Hold| self.tokens.values().filter(|h| h.state == *state).count();
        assert_eq!(
            (c.ringing, c.talking),
            (count(&Hold::Ringing), count(&Hold::Talking)),
            "tokens as the shard has them"
        );
        assert_eq!((c.agents_reserved, c.agents_busy), (c.ringing, c.talking), "each token holds one agent");
        assert_eq!(c.timers.leases, c.ringing + c.talking, "a lease a token");
        assert_eq!(c.waiting + c.offered + c.taken, self.waiters.len(), "places as the facts have them");
        assert_eq!(c.interactions, self.calls.len());
        assert_eq!(c.totals.opened, self.opened);
        // Nobody is idle while somebody waits for just that agent.
        for name in self.people.keys().filter(|n| self.may_take(n)) {
            for (ticket, waiter) in self.waiters.iter().filter(|(_, w)| w.waits && !w.protected) {
                assert!(!self.serves(name, waiter), "{name} is idle and {ticket} waits");
            }
        }
        // The order of those who wait is the order of keys and arrivals.
        let Reply::Queues(queues) = self.w.command(Command::Queues) else { panic!("queues") };
        self.facts_seen = self.w.facts.len();
        for queue in queues {
            let seen: Vec<Id> = queue.entries.iter().filter(|e| e.position > 0).map(|e| e.ticket).collect();
            let mut wanted: Vec<_> = self
                .waiters
                .iter()
                .filter(|(ticket, w)| {
                    let taken =
                        self.tokens.values().any(|h| h.ticket == **ticket && h.state == Hold::Talking);
                    *w.workgroup == *queue.workgroup && !taken
                })
                .collect();
            wanted.sort_by_key(|(_, w)| w.key);
            assert_eq!(seen, wanted.iter().map(|(t, _)| **t).collect::<Vec<_>>(), "places are kept");
        }
    }

    /// All go home: nothing may be left.
    fn finish(&mut self) {
        let calls: Vec<Id> = self.calls.keys().copied().collect();
        for id in calls {
            self.hang_up(id);
        }
        self.pass(60_000);
        let c = self.w.domain.counts();
        assert_eq!((c.interactions, c.waiting, c.offered, c.taken, c.listed), (0, 0, 0, 0, 0));
        assert_eq!((c.ringing, c.talking, c.agents_reserved, c.agents_busy, c.backlog), (0, 0, 0, 0, 0));
        let t = c.timers;
        assert_eq!(
            (t.leases, t.agents, t.plans, t.positions, t.deferred),
            (0, 0, 0, 0, 0),
            "no timer is left"
        );
        assert_eq!(c.totals.closed, self.opened);
        let facts = self.w.domain.snapshot();
        assert!(
            !facts.iter().any(|f| matches!(f, Fact::Opened { .. } | Fact::Queued { .. })),
            "nothing to carry"
        );
    }
}

fn life(seed: u64, steps: u32, prepare: impl FnOnce(&mut World)) {
    println!("seed {seed}");
    let mut r = Reference::new(seed);
    prepare(&mut r.w);
    for step in 0..steps {
        r.step();
        r.check();
        if step % 200 == 199 {
            assert_same(&r.w);
        }
    }
    r.finish();
}

#[test]
fn random_lives_keep_every_rule() {
    let seeds = std::env::var("DOMAIN_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(40);
    for seed in 0..seeds {
        life(seed, 1_500, |_| {});
    }
}

#[cfg(feature = "seeded-bugs")]
mod seeded {
    use cordboard_call::domain::Bugs;

    use super::life;

    fn is_found(bugs: Bugs) {
        let found = (0..20).any(|seed| {
            let run = move || life(seed, 1_500, |w| w.domain.seed_bugs(bugs));
            std::panic::catch_unwind(run).is_err()
        });
        assert!(found, "{bugs:?} went through unseen");
    }

    #[test]
    fn each_seeded_bug_is_found() {
        let none = Bugs::default();
        is_found(Bugs { cas_removed: true, ..none });
        is_found(Bugs { place_reset_on_return: true, ..none });
        is_found(Bugs { lease_timer_leaked: true, ..none });
        is_found(Bugs { miss_not_counted: true, ..none });
        is_found(Bugs { wrap_up_skipped: true, ..none });
        is_found(Bugs { double_offer_same_agent: true, ..none });
        is_found(Bugs { revoke_ignored: true, ..none });
    }
}

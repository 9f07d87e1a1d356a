//! A domain with a fake shard beside it, and everything it said in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use cordboard_base::{Id, Now, Random, ms};
use cordboard_call::commands::{AgentStateName, AgentView, Command, QueueView, Reply};
use cordboard_call::domain::{Domain, Input, Output};
use cordboard_call::events::Event;
use cordboard_call::facts::{Fact, Record};
use cordboard_call::messages::*;
use cordboard_call::model::*;
use cordboard_call::policy::{Native, Policies};
use cordboard_call::timeline::{Line, Step};

pub(crate) fn workgroup(name: &str) -> Workgroup {
    Workgroup {
        name: name.into(),
        policy: None,
        ring_timeout_ms: 15_000,
        wrap_up_ms: 5_000,
        max_waiting: 2_000,
        round: 1,
        max_misses: 2,
        miss_back_off_ms: 10_000,
        lease_ms: 30_000,
        music: Some("music".into()),
        refuse_without_agents: false,
        expected_handle_ms: 60_000,
    }
}

pub(crate) fn agent(name: &str, workgroups: &[&str], skills: &[(&str, u8)]) -> Agent {
    Agent {
        name: name.into(),
        phone: Phone::Address(format!("sip:{name}@127.0.0.1:5070")),
        workgroups: workgroups.iter().map(|w| (*w).into()).collect(),
        skills: skills.iter().map(|(s, l)| ((*s).into(), *l)).collect(),
        ready_at_start: false,
    }
}

pub(crate) fn model(workgroups: Vec<Workgroup>, agents: Vec<Agent>) -> Model {
    Model {
        node: "node".into(),
        trunks: Vec::new(),
        tenants: vec![Tenant {
            name: "acme".into(),
            numbers: Vec::new(),
            router: None,
            script: None,
            fallback: Fallback::Announce { prompt: None, cause: 16 },
            adapters: Vec::new(),
            skills: vec!["en".into(), "fr".into()],
            workgroups,
            agents,
            qualify: Vec::new(),
            realm: "acme".into(),
            call_back_grace_ms: 60_000,
        }],
        limits: Limits::default(),
    }
}

/// One workgroup `support` with alice and bob.
pub(crate) fn small() -> Model {
    model(
        vec![workgroup("support")],
        vec![agent("alice", &["support"], &[]), agent("bob", &["support"], &[])],
    )
}

pub(crate) struct World {
    pub(crate) domain: Domain,
    pub(crate) policies: Box<dyn Policies>,
    pub(crate) now: Now,
    pub(crate) model: Arc<Model>,
    pub(crate) facts: Vec<Fact>,
    /// What the last input brought.
    pub(crate) last: Vec<Output>,
    /// Not looked at yet.
    pub(crate) events: Vec<Event>,
    pub(crate) sent: Vec<Envelope<ToShard>>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) lines: BTreeMap<Id, Vec<Line>>,
    pub(crate) shard_epoch: u64,
    pub(crate) seq: u64,
    calls: u128,
}

pub(crate) const START: Now = Now { mono_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };

impl World {
    pub(crate) fn new(model: Model) -> Self {
        let model = Arc::new(model);
        Self {
            domain: Domain::new(Arc::clone(&model), 100, 1, Random::seeded(7), START),
            policies: Box::new(Native),
            now: START,
            model,
            facts: Vec::new(),
            last: Vec::new(),
            events: Vec::new(),
            sent: Vec::new(),
            replies: Vec::new(),
            lines: BTreeMap::new(),
            shard_epoch: 1,
            seq: 0,
            calls: 0,
        }
    }

    /// Kills the process and starts another on the same journal.
    pub(crate) fn restart(&mut self) -> Vec<Output> {
        let facts = self.facts.clone();
        let epoch = self.shard_epoch + 1;
        self.domain = Domain::new(Arc::clone(&self.model), 100, epoch, Random::seeded(epoch), self.now);
        self.shard_epoch = epoch;
        self.seq = 0;
        let out = self.domain.recover(self.now, facts);
        for output in &out {
            if let Output::Fact(fact) = output {
                self.facts.push(fact.clone());
            }
        }
        out
    }

    pub(crate) fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.domain.handle(self.now, input, self.policies.as_mut(), &mut out);
        self.last.clear();
        for output in out {
            match &output {
                Output::Fact(fact) => self.facts.push(fact.clone()),
                Output::Bus(0, envelope) => self.sent.push(envelope.clone()),
                Output::Bus(shard, _) => panic!("nobody is shard {shard}"),
                Output::Event(event) => self.events.push(event.clone()),
                Output::Reply { reply, .. } => self.replies.push(reply.clone()),
                Output::Line(id, line) => self.lines.entry(*id).or_default().push((**line).clone()),
                Output::PolicyFault { .. } => {}
            }
            self.last.push(output);
        }
    }

    pub(crate) fn envelope(&mut self, interaction: Option<Id>, body: ToDomain) -> Envelope<ToDomain> {
        self.seq += 1;
        Envelope { from: 0, epoch: self.shard_epoch, seq: self.seq, interaction, lines: Vec::new(), body }
    }

    pub(crate) fn say(&mut self, interaction: Id, body: ToDomain) {
        let envelope = self.envelope(Some(interaction), body);
        self.input(Input::Bus(envelope));
    }

    /// Lets time pass, waking the domain whenever it asks.
    pub(crate) fn pass_ms(&mut self, duration_ms: u64) {
        let end = self.now.plus_ns(ms(duration_ms));
        while let Some(at) = self.domain.next_deadline_ns().filter(|at| *at <= end.mono_ns) {
            self.now = self.now.plus_ns(at.saturating_sub(self.now.mono_ns));
            let before = self.domain.next_deadline_ns();
            self.input(Input::Tick);
            let stuck = self.domain.next_deadline_ns() == before && self.domain.counts().backlog == 0;
            assert!(
                !stuck || before != Some(at) || before > Some(self.now.mono_ns),
                "a timer that never fires"
            );
        }
        self.now = end;
        self.input(Input::Tick);
    }

    pub(crate) fn call_from(&mut self, caller: &str) -> Id {
        self.calls += 1;
        let id = Id((self.now.wall_ms as u128) << 80 | self.calls);
        self.say(id, ToDomain::CallNew(call_new(caller)));
        id
    }

    pub(crate) fn call(&mut self) -> Id {
        self.call_from("+4930")
    }

    pub(crate) fn ask(
        &mut self,
        id: Id,
        key: u32,
        workgroup: &str,
        request: QueueRequest,
    ) -> Result<Place, Refusal> {
        self.say(id, ToDomain::Enqueue { key, workgroup: workgroup.into(), request });
        let answer = self.sent.iter().rev().find_map(|e| match &e.body {
            ToShard::Enqueued { key: k, result } if *k == key && e.interaction == Some(id) => {
                Some(result.clone())
            }
            _ => None,
        });
        answer.expect("every enqueue is answered")
    }

    /// A new call, queued.
    pub(crate) fn queued(&mut self, workgroup: &str) -> (Id, Id) {
        let id = self.call();
        let place = self.ask(id, 1, workgroup, QueueRequest::default()).expect("a place");
        (id, place.ticket)
    }

    pub(crate) fn command(&mut self, command: Command) -> Reply {
        self.input(Input::Command { request: 1, command });
        self.replies.pop().expect("one reply")
    }

    pub(crate) fn log_in(&mut self, agent: &str) {
        let command = Command::LogIn { tenant: "acme".into(), agent: agent.into(), ready: true };
        assert_eq!(self.command(command), Reply::Done);
    }

    pub(crate) fn log_out(&mut self, agent: &str) {
        let command = Command::LogOut { tenant: "acme".into(), agent: agent.into() };
        assert_eq!(self.command(command), Reply::Done);
    }

    pub(crate) fn set_ready(&mut self, agent: &str, ready: bool, reason: &str) -> Reply {
        let (tenant, agent, reason) = ("acme".into(), agent.into(), reason.into());
        self.command(Command::SetReady { tenant, agent, ready, reason })
    }

    pub(crate) fn agent(&mut self, name: &str) -> AgentView {
        match self.command(Command::Agents) {
            Reply::Agents(views) => views.into_iter().find(|v| &*v.agent == name).expect("an agent"),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn state(&mut self, name: &str) -> (AgentStateName, String) {
        let view = self.agent(name);
        (view.state, view.reason)
    }

    pub(crate) fn queue(&mut self, name: &str) -> QueueView {
        match self.command(Command::Queues) {
            Reply::Queues(views) => views.into_iter().find(|v| &*v.workgroup == name).expect("a queue"),
            other => panic!("{other:?}"),
        }
    }

    /// The offers that were sent since the last look.
    pub(crate) fn offers(&mut self) -> Vec<(Id, Offer)> {
        let offers = self.sent.iter().filter_map(|e| match &e.body {
            ToShard::Offer(offer) => Some((e.interaction.expect("of a call"), offer.clone())),
            _ => None,
        });
        let offers = offers.collect();
        self.sent.retain(|e| !matches!(e.body, ToShard::Offer(_)));
        offers
    }

    /// The only offer since the last look: interaction, ticket, agent, token.
    pub(crate) fn offer(&mut self) -> (Id, Id, String, Id) {
        let offers = self.offers();
        assert_eq!(offers.len(), 1, "{offers:?}");
        let (id, offer) = &offers[0];
        assert_eq!(offer.agents.len(), 1, "{offer:?}");
        (*id, offer.ticket, offer.agents[0].agent.to_string(), offer.agents[0].token)
    }

    pub(crate) fn settle(&mut self, at: &(Id, Id, String, Id), result: OfferResult) {
        let (id, ticket, agent, token) = at;
        let agent = agent.as_str().into();
        let settled = Settled { token: *token, ticket: *ticket, agent, result, rang_ms: 100 };
        self.say(*id, ToDomain::Settled(settled));
    }

    pub(crate) fn talk_ended(&mut self, at: &(Id, Id, String, Id), how: TalkEnd, talked_ms: u64) {
        self.say(at.0, ToDomain::TalkEnded { token: at.3, ticket: at.1, talked_ms, how });
    }

    pub(crate) fn end(&mut self, id: Id) {
        self.say(id, ToDomain::CallEnded(ended()));
    }

    pub(crate) fn closed(&self) -> Vec<Record> {
        let closed = self.facts.iter().filter_map(|f| match f {
            Fact::Closed(record) => Some((**record).clone()),
            _ => None,
        });
        closed.collect()
    }

    pub(crate) fn steps(&self, id: Id) -> Vec<u8> {
        self.lines.get(&id).into_iter().flatten().map(|l| l.step.number()).collect()
    }

    pub(crate) fn kinds(&self) -> Vec<&str> {
        self.events.iter().map(|e| e.kind.as_str()).collect()
    }

    /// The last state told of a ticket: state and position.
    pub(crate) fn told(&self, ticket: Id) -> Option<(TicketState, u32)> {
        self.sent.iter().rev().find_map(|e| match &e.body {
            ToShard::Ticket { ticket: t, state, position, .. } if *t == ticket => Some((*state, *position)),
            _ => None,
        })
    }
}

pub(crate) fn call_new(caller: &str) -> CallNew {
    CallNew {
        tenant: "acme".into(),
        trunk: "pstn".into(),
        caller: caller.into(),
        caller_name: "A. Caller".into(),
        called: "100".into(),
        call_id: "call@id".into(),
        attributes: vec![("account".into(), "42".into())],
    }
}

pub(crate) fn ended() -> CallEnded {
    CallEnded {
        cause: 16,
        by: "caller".into(),
        text: "BYE".into(),
        status: 200,
        answered: true,
        duration_ms: 1_000,
        recordings: Vec::new(),
    }
}

pub(crate) fn line(step: Step) -> Line {
    Line {
        step,
        mono_ns: 0,
        wall_ms: 0,
        call_id: None,
        cseq: None,
        bus_seq: None,
        ticket: None,
        token: None,
        detail: "".into(),
    }
}

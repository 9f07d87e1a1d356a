//! The table of live transactions: matching (RFC 3261 17.1.3, 17.2.3), timers, retransmission.
//!
//! Runs the machines of [`crate::transaction`]. A response finds its transaction by the slot in
//! the branch that we minted, a request by a hash of branch, sent-by and method; both are compared
//! whole on a hit. Nothing here scans the table.

use std::hash::BuildHasher;

use bytes::Bytes;
use cordboard_base::map::HashState;
use cordboard_base::{Map, Now, TimerId};

use super::compose;
use super::core::{Core, Wake, minted_slot};
use super::slots::Slots;
use super::types::{Flow, Listener, RequestFailure};
use crate::transaction::{Action, Class, Input, Timer, client, invite_client, invite_server, server};
use crate::transport::Transport;
use crate::wire::{MAGIC_COOKIE, Message, Method, Name};

/// The machine of one transaction and its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    InviteClient(invite_client::State),
    Client(client::State),
    InviteServer(invite_server::State),
    Server(server::State),
}

impl Machine {
    fn step(self, input: Input) -> Option<(Self, &'static [Action])> {
        Some(match self {
            Self::InviteClient(s) => {
                let (next, actions) = invite_client::step(s, input)?;
                (Self::InviteClient(next), actions)
            }
            Self::Client(s) => {
                let (next, actions) = client::step(s, input)?;
                (Self::Client(next), actions)
            }
            Self::InviteServer(s) => {
                let (next, actions) = invite_server::step(s, input)?;
                (Self::InviteServer(next), actions)
            }
            Self::Server(s) => {
                let (next, actions) = server::step(s, input)?;
                (Self::Server(next), actions)
            }
        })
    }

    fn is_over(self) -> bool {
        matches!(
            self,
            Self::InviteClient(invite_client::State::Terminated)
                | Self::Client(client::State::Terminated)
                | Self::InviteServer(invite_server::State::Terminated)
                | Self::Server(server::State::Terminated)
        )
    }
}

/// Who hears of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody any more, or nobody ever (CANCEL, BYE of an orphan). A 2xx to such an INVITE is
    /// acknowledged and hung up, a provisional cancelled.
    Nobody,
    /// The INVITE of a leg, ours or theirs.
    Leg(u64),
    /// A re-INVITE or UPDATE of a leg, ours or theirs.
    Offer(u64),
    /// Our BYE of a leg.
    Bye(u64),
    /// A request inside a leg's dialog with the number that `leg_request` gave.
    InLeg(u64, u64),
    /// A request of `request`.
    Request(u64),
    /// A NOTIFY of a subscription.
    Subscription(u64),
    /// A request that waits for `respond`, of a leg or of none.
    Respond,
}

/// A dialog that a 2xx of ours-to-acknowledge made, and its ACK.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) tag: Box<str>,
    pub(super) ack: Bytes,
    pub(super) flow: Flow,
}

/// One live transaction.
#[derive(Debug)]
pub(super) struct Txn {
    pub(super) machine: Machine,
    pub(super) owner: Owner,
    /// Over a stream nothing is repeated.
    reliable: bool,
    /// The UDP listener to fall back to when no connection can be made (18.1.1).
    datagrams: Option<u16>,
    pub(super) flow: Flow,
    /// Client: our branch. Server: what identifies the request, see [`identity`].
    branch: Box<str>,
    sent_by: (Box<str>, u16),
    method: Method<'static>,
    /// Keys in the indices.
    key: Option<u64>,
    merged: Option<u64>,
    /// Server: the request, until the final response.
    pub(super) request: Option<Message>,
    /// Client: the request. Server: the newest response.
    pub(super) last: Bytes,
    /// Server: the To tag of our responses.
    pub(super) to_tag: Box<str>,
    /// INVITE client: the ACK of the failure, and those of the 2xx.
    ack: Bytes,
    pub(super) accepted: Vec<Accepted>,
    repeat: Option<TimerId>,
    limit: Option<TimerId>,
    interval_ns: u64,
}

/// What an input came to.
#[derive(Debug)]
pub(super) enum Told {
    /// Nothing that a user would hear of.
    Nothing,
    /// Hand the message up.
    Deliver,
    /// The transaction is over without an answer, and why.
    Over(Box<Txn>, RequestFailure),
}

/// Names a received request for matching (17.2.3).
pub(super) struct Identity<'a> {
    branch: std::borrow::Cow<'a, str>,
    host: &'a str,
    port: u16,
    key: u64,
}

/// Live transactions and the ways to find one.
#[derive(Debug, Default)]
pub(super) struct Txns {
    slots: Slots<Txn>,
    by_key: Map<u64, u64>,
    /// Transactions whose key was taken by another: practically always empty.
    crowded: Vec<(u64, u64)>,
    by_merge: Map<u64, u64>,
    hasher: HashState,
}

/// ACK matches the INVITE's transaction; every other method its own (17.2.3).
fn class_of(method: Method<'_>) -> &str {
    match method {
        Method::Ack => "INVITE",
        other => other.as_str(),
    }
}

impl Txns {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, id: u64) -> Option<&Txn> {
        self.slots.get(id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Txn> {
        self.slots.get_mut(id)
    }

    /// What names a request: branch and sent-by for a branch of RFC 3261, else everything that RFC
    /// 2543 clients keep the same (Request-URI, From tag, Call-ID, CSeq number).
    pub(super) fn identity<'a>(&self, request: &'a Message, method: Method<'_>) -> Option<Identity<'a>> {
        let via = request.top_via()?;
        let port =
            via.port.unwrap_or_else(|| Transport::named(via.transport).unwrap_or_default().default_port());
        let branch = match via.branch.filter(|_| via.is_rfc3261()) {
            Some(branch) => std::borrow::Cow::Borrowed(branch),
            None => {
                let tag = request.from().and_then(|f| f.tag()).unwrap_or("");
                let (number, _) = request.cseq()?;
                let branch = via.branch.unwrap_or("");
                format!("{} {tag} {} {number} {branch}", request.request_uri(), request.call_id()).into()
            }
        };
        let key = self.hasher.hash_one((&*branch, port, class_of(method)));
        Some(Identity { branch, host: via.host, port, key })
    }

    /// The server transaction of a request; `method` is INVITE when a CANCEL asks for its target.
    pub(super) fn find_server(&self, identity: &Identity<'_>, method: Method<'_>) -> Option<u64> {
        let fits = |id: u64| {
            self.slots.get(id).is_some_and(|t| {
                class_of(t.method) == class_of(method)
                    && *t.branch == *identity.branch
                    && t.is_sent_by(identity)
            })
        };
        let first = self.by_key.get(&identity.key).copied();
        first.filter(|id| fits(*id)).or_else(|| {
            self.crowded.iter().find(|(key, id)| *key == identity.key && fits(*id)).map(|(_, id)| *id)
        })
    }

    /// The client transaction of a response (17.1.3): the branch that we minted, the method of CSeq.
    pub(super) fn find_client(&self, response: &Message) -> Option<u64> {
        let branch = response.top_via()?.branch?;
        let method = response.cseq()?.1;
        if method == Method::Cancel {
            let key = self.cancel_key(branch);
            let id = *self.by_key.get(&key)?;
            return self.slots.get(id).filter(|t| *t.branch == *branch && t.method == method).map(|_| id);
        }
        let slot = minted_slot(branch.strip_prefix(MAGIC_COOKIE)?)?;
        let (id, txn) = self.slots.in_slot(slot)?;
        // The branch is one of a kind; the method tells an INVITE from its CANCEL.
        let fits = txn.is_client()
            && *txn.branch == *branch
            && txn.method == method.known().unwrap_or(Method::Other(""));
        fits.then_some(id)
    }

    fn cancel_key(&self, branch: &str) -> u64 {
        self.hasher.hash_one((branch, "CANCEL of ours"))
    }

    /// Starts a client transaction; `compose` writes the request with the branch that it is given.
    /// A method without a name of its own is `Other("")`.
    pub(super) fn start_client(
        &mut self,
        core: &mut Core,
        now: Now,
        owner: Owner,
        mut flow: Flow,
        method: Method<'static>,
        compose: impl Fn(&mut Core, Listener, &str) -> Vec<u8>,
    ) -> u64 {
        let branch = core.mint(MAGIC_COOKIE, self.slots.next_id());
        let mut listener = core.listener(flow.listener).unwrap_or(Listener::udp(flow.listener, flow.remote));
        let mut last = compose(core, listener, &branch);
        let mut datagrams = None;
        // 18.1.1: a request that would not fit into one packet goes by a stream, where that is wanted.
        let above = core.config.stream_above_bytes;
        if above > 0
            && last.len() > above
            && listener.transport == Transport::Udp
            && matches!(owner, Owner::Leg(_) | Owner::Request(_))
            && let Some(tcp) = core.listener_for(Transport::Tcp, listener.id)
        {
            datagrams = Some(listener.id);
            listener = tcp;
            flow.listener = tcp.id;
            last = compose(core, listener, &branch);
        }
        let (machine, start) = if method == Method::Invite {
            (Machine::InviteClient(invite_client::State::Calling), invite_client::START)
        } else {
            (Machine::Client(client::State::Trying), client::START)
        };
        let mut txn = Txn::new(machine, owner, flow, branch);
        txn.last = last.into();
        txn.method = method;
        txn.datagrams = datagrams;
        txn.reliable = listener.transport.is_reliable();
        let id = self.insert(core, txn);
        self.act(core, now, id, start);
        id
    }

    fn insert(&mut self, core: &mut Core, txn: Txn) -> u64 {
        let (reliable, flow) = (txn.reliable, txn.flow);
        let id = self.slots.insert(txn);
        if reliable {
            core.flows.attach(flow, id);
        }
        id
    }

    /// 18.1.1: the request that was sent by TCP for its size alone goes by UDP after all. False when it was not.
    pub(super) fn send_by_udp(&mut self, core: &mut Core, now: Now, id: u64) -> bool {
        let Some(txn) = self.slots.get_mut(id) else { return false };
        let Some(listener) = txn.datagrams.take().and_then(|udp| core.listener(udp)) else { return false };
        let Some(before) = core.listener(txn.flow.listener) else { return false };
        let number = compose::find(&txn.last, "CSeq").and_then(|c| c.split(' ').next()?.parse().ok());
        let changes = compose::Changes {
            uri: None,
            listener,
            before,
            branch: &txn.branch,
            cseq: number.unwrap_or(1),
            headers: &[],
        };
        let Some(request) = compose::again(&txn.last, &changes) else { return false };
        txn.last = request.into();
        txn.flow.listener = listener.id;
        txn.reliable = false;
        core.send(txn.flow, &txn.last);
        let timer = if txn.method == Method::Invite { Timer::A } else { Timer::E };
        self.act(core, now, id, &[Action::Start(timer)]);
        true
    }

    /// Starts the CANCEL of an INVITE of ours; it has the INVITE's branch (9.1).
    pub(super) fn start_cancel(&mut self, core: &mut Core, now: Now, invite: u64, reason: Option<&str>) {
        let Some(target) = self.slots.get(invite) else { return };
        let Some(bytes) = compose::derive(&target.last, "CANCEL", None, reason) else { return };
        let branch = target.branch.clone();
        let key = self.cancel_key(&branch);
        let mut txn = Txn::new(Machine::Client(client::State::Trying), Owner::Nobody, target.flow, branch);
        txn.method = Method::Cancel;
        txn.last = Bytes::from(bytes);
        txn.key = Some(key);
        txn.reliable = target.reliable;
        let id = self.insert(core, txn);
        self.by_key.entry(key).or_insert(id);
        self.act(core, now, id, client::START);
        // 9.1: without a final response within 64 T1 the INVITE counts as cancelled.
        self.act(core, now, invite, &[Action::Start(Timer::B)]);
    }

    /// Starts a server transaction for a received request.
    pub(super) fn start_server(
        &mut self,
        core: &mut Core,
        now: Now,
        identity: &Identity<'_>,
        request: &Message,
        flow: Flow,
    ) -> u64 {
        let invite = request.method() == Method::Invite;
        let machine = if invite {
            Machine::InviteServer(invite_server::State::Proceeding)
        } else {
            Machine::Server(server::State::Trying)
        };
        let mut txn = Txn::new(machine, Owner::Nobody, flow, identity.branch.as_ref().into());
        txn.reliable = core.is_reliable(flow.listener);
        txn.method = request.method().known().unwrap_or(Method::Other(""));
        txn.sent_by = (identity.host.into(), identity.port);
        txn.key = Some(identity.key);
        txn.request = Some(request.clone());
        if request.to().is_some_and(|t| t.tag().is_none()) {
            txn.merged = self.merge_key(flow.listener, request);
        }
        let merged = txn.merged;
        let id = self.insert(core, txn);
        match self.by_key.entry(identity.key) {
            std::collections::hash_map::Entry::Vacant(e) => {
                e.insert(id);
            }
            std::collections::hash_map::Entry::Occupied(_) => self.crowded.push((identity.key, id)),
        }
        if let Some(key) = merged {
            self.by_merge.entry(key).or_insert(id);
        }
        if !invite {
            self.act(core, now, id, server::START);
        }
        id
    }

    /// 8.2.2.2: a request without To tag whose From tag, Call-ID and CSeq are those of a live
    /// transaction, though it does not match it, came by two ways. The key alone decides: its 64 bits
    /// are seeded, and a false hit would cost one 482.
    pub(super) fn is_merged(&self, listener: u16, request: &Message) -> bool {
        request.to().is_some_and(|t| t.tag().is_none())
            && self.merge_key(listener, request).is_some_and(|key| self.by_merge.contains_key(&key))
    }

    /// Each listener is another role and another user agent (a redirected INVITE may come to two of
    /// ours), so the listener is part of the key.
    fn merge_key(&self, listener: u16, request: &Message) -> Option<u64> {
        let (number, method) = request.cseq()?;
        let tag = request.from().and_then(|f| f.tag()).unwrap_or("");
        Some(self.hasher.hash_one((listener, tag, request.call_id(), number, method.as_str())))
    }

    /// A response or a repetition of the request came in, a timer fired, the user responds.
    pub(super) fn step(&mut self, core: &mut Core, now: Now, id: u64, input: Input) -> Told {
        let Some(txn) = self.slots.get_mut(id) else { return Told::Nothing };
        let Some((machine, actions)) = txn.machine.step(input) else {
            if matches!(input, Input::Received(_) | Input::Ack) {
                core.totals.absorbed += 1;
            }
            return Told::Nothing;
        };
        txn.machine = machine;
        self.act(core, now, id, actions)
    }

    /// A failure came: the ACK is written at the first, and sent at each.
    pub(super) fn received(&mut self, core: &mut Core, now: Now, id: u64, response: &Message) -> Told {
        let class = Class::of(response.status());
        if let Some(txn) = self.slots.get_mut(id)
            && class == Class::Failure
            && txn.ack.is_empty()
            && matches!(txn.machine, Machine::InviteClient(_))
        {
            txn.ack =
                compose::derive(&txn.last, "ACK", response.header(Name::To), None).unwrap_or_default().into();
        }
        self.step(core, now, id, Input::Received(class))
    }

    /// Sends a response of the user.
    pub(super) fn respond(&mut self, core: &mut Core, now: Now, id: u64, status: u16, bytes: Vec<u8>) {
        let Some(txn) = self.slots.get_mut(id) else { return };
        let class = Class::of(status);
        txn.last = bytes.into();
        if class != Class::Provisional {
            txn.request = None;
        }
        self.step(core, now, id, Input::Respond(class));
    }

    fn act(&mut self, core: &mut Core, now: Now, id: u64, actions: &[Action]) -> Told {
        let Some(txn) = self.slots.get_mut(id) else { return Told::Nothing };
        let mut told = Told::Nothing;
        let mut unanswered = None;
        for action in actions {
            match action {
                Action::Send => core.send(txn.flow, &txn.last),
                Action::Resend => {
                    if !txn.last.is_empty() {
                        core.resend(txn.flow, &txn.last);
                    }
                }
                Action::Ack => core.send(txn.flow, &txn.ack),
                Action::Start(timer) => {
                    if let Some(ns) = timer.first_ns(core.times, txn.reliable) {
                        txn.start(core, now, id, *timer, ns);
                    }
                }
                Action::Double(timer) => {
                    let ns = timer.next_ns(core.times, txn.interval_ns);
                    txn.start(core, now, id, *timer, ns);
                }
                Action::Slow(timer) => txn.start(core, now, id, *timer, core.times.t2_ns),
                Action::Stop => {
                    core.stop(&mut txn.repeat);
                    core.stop(&mut txn.limit);
                }
                Action::Deliver => told = Told::Deliver,
                Action::TimedOut => unanswered = Some(RequestFailure::Timeout),
                Action::Unsent => unanswered = Some(RequestFailure::Unreachable),
            }
        }
        if txn.machine.is_over() {
            let gone = self.remove(core, id);
            if let (Some(txn), Some(why)) = (gone, unanswered) {
                core.totals.timed_out += 1;
                told = Told::Over(txn, why);
            }
        }
        told
    }

    /// Stops repeating a request whose user has lost interest; what still comes back is dealt with
    /// as for [`Owner::Nobody`].
    pub(super) fn abandon(&mut self, core: &mut Core, id: u64) {
        if let Some(txn) = self.slots.get_mut(id) {
            txn.owner = Owner::Nobody;
            core.stop(&mut txn.repeat);
        }
    }

    /// The request of a client transaction that has its final response.
    pub(super) fn take_request(&mut self, id: u64) -> Bytes {
        self.slots.get_mut(id).map(|txn| std::mem::take(&mut txn.last)).unwrap_or_default()
    }

    /// The To tag of a stateless response: the same for each repetition of the request.
    pub(super) fn stable_tag(&self, request: &Message) -> String {
        let via = request.header(Name::Via).unwrap_or("");
        format!("{:016x}", self.hasher.hash_one((via, request.call_id(), request.header(Name::CSeq))))
    }

    /// Frees a transaction at once.
    pub(super) fn remove(&mut self, core: &mut Core, id: u64) -> Option<Box<Txn>> {
        let mut txn = self.slots.remove(id)?;
        core.stop(&mut txn.repeat);
        core.stop(&mut txn.limit);
        if txn.reliable {
            core.flows.detach(txn.flow, id);
        }
        if let Some(key) = txn.key {
            if self.by_key.get(&key) == Some(&id) {
                self.by_key.remove(&key);
                // The next of the same key moves up, so that a free key means that there is none.
                if let Some(i) = self.crowded.iter().position(|(k, _)| *k == key) {
                    let (key, id) = self.crowded.swap_remove(i);
                    self.by_key.insert(key, id);
                }
            } else {
                self.crowded.retain(|(_, other)| *other != id);
            }
        }
        if let Some(key) = txn.merged
            && self.by_merge.get(&key) == Some(&id)
        {
            self.by_merge.remove(&key);
        }
        Some(txn)
    }
}

impl Txn {
    fn new(machine: Machine, owner: Owner, flow: Flow, branch: Box<str>) -> Self {
        Self {
            machine,
            owner,
            reliable: false,
            datagrams: None,
            flow,
            branch,
            sent_by: (Box::default(), 0),
            method: Method::Other(""),
            key: None,
            merged: None,
            request: None,
            last: Bytes::new(),
            to_tag: Box::default(),
            ack: Bytes::new(),
            accepted: Vec::new(),
            repeat: None,
            limit: None,
            interval_ns: 0,
        }
    }

    fn is_sent_by(&self, identity: &Identity<'_>) -> bool {
        self.sent_by.0.eq_ignore_ascii_case(identity.host) && self.sent_by.1 == identity.port
    }

    /// The request's method; `Other("")` for one without a name of its own.
    pub(super) fn method(&self) -> Method<'static> {
        self.method
    }

    /// The port of the request's sent-by, or that of its transport.
    pub(super) fn sent_by_port(&self) -> u16 {
        self.sent_by.1
    }

    /// Whether we sent the request.
    pub(super) fn is_client(&self) -> bool {
        matches!(self.machine, Machine::InviteClient(_) | Machine::Client(_))
    }

    /// Whether a server transaction still owes its final response.
    pub(super) fn is_open(&self) -> bool {
        self.request.is_some()
    }

    fn start(&mut self, core: &mut Core, now: Now, id: u64, timer: Timer, ns: u64) {
        let running = Some(core.wake(now, ns, Wake::Txn(id, timer)));
        if timer.retransmits() {
            self.interval_ns = ns;
            self.repeat = running;
        } else {
            self.limit = running;
        }
    }
}

//! Phones that watch agents: SUBSCRIBE and NOTIFY (RFC 6665) for the packages of [`presence`].
//!
//! ```text
//!   SUBSCRIBE --> 401, 403, 404, 406, 423, 489, or 200 --> Watch to the domain --> AgentState --> NOTIFY
//!                                                 each further AgentState --> NOTIFY
//!   Expires: 0, or the time is up --> NOTIFY terminated; a NOTIFY that nobody takes --> forgotten
//! ```
//! Who may: any user of the tenant's phones, with its password. The domain tells this shard of an agent as long as
//! somebody here watches.

use std::collections::BTreeSet;

use cordboard_base::{Map, TimerId, secs};
use cordboard_sip::endpoint::{Flow, Notification, SubscriptionId, TxnId};
use cordboard_sip::wire::{Message, Name as Header};

use super::core::{Core, Timer};
use crate::Name;
use crate::agent::presence::{ALLOW_EVENTS, Package};
use crate::commands::AgentStateName;
use crate::messages::ToDomain;
use crate::model::Phone;
use crate::trunk;

/// What a SUBSCRIBE without Expires gets, and the most that any gets (RFC 3856 6.4).
const EXPIRES_S: u32 = 3_600;
/// For less: 423 (RFC 6665 4.2.1.1).
const MIN_EXPIRES_S: u32 = 60;

/// An agent of a tenant.
type Who = (Name, Name);

/// One subscription.
#[derive(Debug)]
struct Watch {
    who: Who,
    /// The user that subscribed, and its realm.
    user: String,
    realm: String,
    package: Package,
    /// The Event header, with its id.
    event: String,
    /// Whom the watcher has asked for, in its own words.
    entity: String,
    until_ns: u64,
    timer: Option<TimerId>,
    /// Counts the bodies.
    version: u32,
}

/// Subscriptions of one user; one more gets 503.
const MAX_OF_USER: usize = 100;

/// All subscriptions of this shard.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_id: Map<SubscriptionId, Watch>,
    watched: Map<Who, Watched>,
}

/// An agent whom somebody watches.
#[derive(Debug, Default)]
struct Watched {
    by: BTreeSet<SubscriptionId>,
    /// As the domain said last.
    state: Option<AgentStateName>,
}

impl Watches {
    /// Running timers: they keep nobody from stopping.
    pub(super) fn timers(&self) -> usize {
        self.by_id.values().filter(|w| w.timer.is_some()).count()
    }
}

impl Core {
    /// A SUBSCRIBE outside of a dialog.
    pub(super) fn subscribe(&mut self, txn: TxnId, source: Flow, request: &Message) {
        let event = request.header(Header::Event).unwrap_or("");
        let Some(package) = Package::parse(event) else {
            return self.respond(txn, 489, &[("Allow-Events", ALLOW_EVENTS)]);
        };
        let parts = |address: Option<cordboard_sip::wire::NameAddr<'_>>| {
            let uri = address?.parsed_uri().ok()?;
            Some((uri.user_text().into_owned(), uri.host.to_owned()))
        };
        let (Some((user, host)), Some((target, _))) = (parts(request.from()), parts(request.to())) else {
            return self.respond(txn, 400, &[]);
        };
        if request.contact().is_none_or(|c| c.parsed_uri().is_err()) {
            return self.respond(txn, 400, &[]);
        }
        let model = self.model.clone();
        let Some((tenant, password)) = trunk::phone_tenant(&model, &host, &user) else {
            return self.challenge_stranger(txn, source, request, &host);
        };
        if !self.authorised(txn, request, &tenant.realm, Some(&user), password) {
            return;
        }
        let agent = tenant.agents.iter().find(|agent| {
            *agent.name == *target
                || matches!(&agent.phone, Phone::Registered { user, .. } if *user == target)
        });
        let Some(agent) = agent else { return self.respond(txn, 404, &[]) };
        let kind = package.content_type();
        let takes = |accept: &str| {
            let accept = accept.split(';').next().unwrap_or("").trim();
            accept.eq_ignore_ascii_case(kind) || matches!(accept, "*/*" | "application/*")
        };
        let mut accepts = request.headers(Header::Accept).peekable();
        // RFC 6665 3.1.3: without Accept it is the package's own type.
        if accepts.peek().is_some() && !accepts.any(takes) {
            return self.respond(txn, 406, &[("Accept", kind)]);
        }
        let Some(expires_s) = self.granted(txn, request) else { return };
        let of_user = self.watches.by_id.values().filter(|w| w.user == user && w.realm == tenant.realm);
        if of_user.count() >= MAX_OF_USER {
            return self.respond(txn, 503, &[("Retry-After", "60")]);
        }
        let accepted = self.endpoint.accept_subscription(self.now, txn, expires_s);
        self.pump();
        let Some(id) = accepted else { return };
        let who = (tenant.name.clone(), agent.name.clone());
        let watch = Watch {
            who: who.clone(),
            user,
            realm: tenant.realm.clone(),
            package,
            event: event.to_owned(),
            entity: request.to().map(|to| to.uri.to_owned()).unwrap_or_default(),
            until_ns: 0,
            timer: None,
            version: 0,
        };
        self.watches.by_id.insert(id, watch);
        if !self.watches.watched.contains_key(&who) {
            self.watches.watched.insert(who.clone(), Watched::default());
            let (tenant, agent) = who.clone();
            self.envelope(None, Vec::new(), ToDomain::Watch { tenant, agent, on: true });
        }
        if let Some(watched) = self.watches.watched.get_mut(&who) {
            watched.by.insert(id);
        }
        self.keep_watch(id, expires_s);
        self.tell_watcher(id);
    }

    /// A SUBSCRIBE in the dialog of a subscription: a refresh, or its end.
    pub(super) fn resubscribe(&mut self, id: SubscriptionId, txn: TxnId, request: &Message) {
        let Some(watch) = self.watches.by_id.get(&id) else { return self.respond(txn, 481, &[]) };
        let (user, realm, who) = (watch.user.clone(), watch.realm.clone(), watch.who.clone());
        let model = self.model.clone();
        let Some((tenant, password)) = trunk::phone_tenant(&model, &realm, &user) else {
            return self.respond(txn, 403, &[]);
        };
        if !self.authorised(txn, request, &realm, Some(&user), password) {
            return;
        }
        let Some(expires_s) = self.granted(txn, request) else { return };
        self.endpoint.renew_subscription(self.now, txn, expires_s);
        self.pump();
        if !tenant.agents.iter().any(|agent| agent.name == who.1) {
            // A reload has removed the agent: nobody would ever say anything new.
            return self.notify_watcher(id, "terminated;reason=noresource".to_owned(), None);
        }
        self.keep_watch(id, expires_s);
        self.tell_watcher(id);
    }

    /// How long a subscription may last; none when it has been answered with 423.
    fn granted(&mut self, txn: TxnId, request: &Message) -> Option<u32> {
        let expires_s = request.expires().unwrap_or(EXPIRES_S).min(EXPIRES_S);
        if (1..MIN_EXPIRES_S).contains(&expires_s) {
            self.respond(txn, 423, &[("Min-Expires", &MIN_EXPIRES_S.to_string())]);
            return None;
        }
        Some(expires_s)
    }

    fn keep_watch(&mut self, id: SubscriptionId, expires_s: u32) {
        let until_ns = self.now.after_ns(secs(u64::from(expires_s)));
        let timer = (expires_s > 0).then(|| self.timers.set(until_ns, Timer::Watch(id)));
        let Some(watch) = self.watches.by_id.get_mut(&id) else { return };
        watch.until_ns = until_ns;
        if let Some(old) = std::mem::replace(&mut watch.timer, timer) {
            self.timers.cancel(old);
        }
    }

    /// The time of a subscription is up.
    pub(super) fn watch_expired(&mut self, id: SubscriptionId) {
        if let Some(watch) = self.watches.by_id.get_mut(&id) {
            watch.timer = None;
            self.tell_watcher(id);
        }
    }

    /// The watcher takes no more news.
    pub(super) fn watch_ended(&mut self, id: SubscriptionId) {
        let Some(watch) = self.watches.by_id.remove(&id) else { return };
        if let Some(timer) = watch.timer {
            self.timers.cancel(timer);
        }
        let Some(watched) = self.watches.watched.get_mut(&watch.who) else { return };
        watched.by.remove(&id);
        if watched.by.is_empty() {
            self.watches.watched.remove(&watch.who);
            let (tenant, agent) = watch.who;
            self.envelope(None, Vec::new(), ToDomain::Watch { tenant, agent, on: false });
        }
    }

    /// The domain says how an agent is, or that there is none of that name.
    pub(super) fn agent_state(&mut self, tenant: Name, agent: Name, state: Option<AgentStateName>) {
        let who = (tenant, agent);
        let Some(watched) = self.watches.watched.get_mut(&who) else { return };
        watched.state = state;
        let watchers: Vec<SubscriptionId> = watched.by.iter().copied().collect();
        for id in watchers {
            match state {
                Some(_) => self.tell_watcher(id),
                None => self.notify_watcher(id, "terminated;reason=noresource".to_owned(), None),
            }
        }
    }

    /// NOTIFY with the state, as soon as it is known; the last one when the time is up.
    fn tell_watcher(&mut self, id: SubscriptionId) {
        let Some(watch) = self.watches.by_id.get_mut(&id) else { return };
        let Some(state) = self.watches.watched.get(&watch.who).and_then(|w| w.state) else { return };
        let left_s = watch.until_ns.saturating_sub(self.now.mono_ns).div_ceil(1_000_000_000);
        let how = match watch.timer {
            Some(_) => format!("active;expires={left_s}"),
            None => "terminated;reason=timeout".to_owned(),
        };
        let body = watch.package.body(&watch.entity, state, watch.version);
        watch.version += 1;
        let kind = watch.package.content_type().to_owned();
        self.notify_watcher(id, how, Some((kind, body)));
    }

    fn notify_watcher(&mut self, id: SubscriptionId, state: String, body: Option<(String, String)>) {
        let Some(watch) = self.watches.by_id.get(&id) else { return };
        let over = state.starts_with("terminated");
        let news = Notification { event: watch.event.clone(), state, body };
        self.endpoint.notify_subscription(self.now, id, news);
        self.pump();
        if over {
            self.watch_ended(id);
        }
    }
}

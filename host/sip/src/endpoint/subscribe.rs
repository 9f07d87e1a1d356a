//! Subscriptions that others have with us: SUBSCRIBE makes a dialog, and each NOTIFY goes in it (RFC 6665).
//!
//! ```text
//!   SUBSCRIBE --> Event::Request --> accept_subscription: 200 --> notify ... notify(over)
//!                                \-> respond: refused
//!   SUBSCRIBE in the dialog --> Event::Resubscribe --> renew_subscription: 200 --> notify
//!                                                  \-> respond: refused
//!   a NOTIFY that nobody takes: Event::SubscriptionEnded
//! ```
//!
//! Packages, their bodies, who may subscribe and for how long are the user's. One NOTIFY at a time is under way;
//! of those that wait for it the newest is sent, since each tells the whole state (RFC 6665 4.2.2).

use cordboard_base::Now;

use super::Endpoint;
use super::core::minted_slot;
use super::txns::Owner;
use super::types::{Event, Flow, Notification, RequestFailure, SubscriptionId, TxnId};
use crate::dialog::Dialog;
use crate::wire::{Message, Method, NameAddr};

/// Subscriptions at once.
const MAX_SUBSCRIPTIONS: usize = 10_000;
/// Not a slot of any leg: a subscription's tag is found by its number, and never taken for a leg's.
const SLOT_MASK: u64 = 0xffff_ffff;

/// One watcher's dialog.
#[derive(Debug)]
pub(super) struct Subscription {
    dialog: Dialog,
    tag: Box<str>,
    peer: Flow,
    /// A NOTIFY has no final response yet.
    busy: bool,
    next: Option<Notification>,
}

impl Endpoint {
    /// Accepts a SUBSCRIBE outside of a dialog: 200 with this Expires. The first NOTIFY is to follow at once.
    pub(super) fn start_subscription(
        &mut self,
        now: Now,
        txn_id: u64,
        expires_s: u32,
    ) -> Option<SubscriptionId> {
        let txn = self.txns.get(txn_id).filter(|t| t.owner == Owner::Respond)?;
        let (request, peer) = (txn.request.clone()?, txn.flow);
        if request.method() != Method::Subscribe || self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            self.respond_with(now, txn_id, 503, |b| b);
            return None;
        }
        self.next_request += 1;
        let number = self.next_request;
        let tag = self.core.mint("", number & SLOT_MASK);
        if let Some(txn) = self.txns.get_mut(txn_id) {
            txn.to_tag = tag.clone();
        }
        let dialog = Dialog::callee(&request.call_id().into(), &request, &tag);
        let subscription = Subscription { dialog, tag, peer, busy: false, next: None };
        self.subscriptions.insert(number, subscription);
        self.grant(now, txn_id, expires_s);
        Some(SubscriptionId(number))
    }

    fn grant(&mut self, now: Now, txn_id: u64, expires_s: u32) {
        // RFC 6665 4.2.1.1: the 200 has an Expires, which may be shorter than what was asked for.
        self.respond_in_dialog(now, txn_id, 200, None, |b| b.format(crate::wire::Name::Expires, expires_s));
    }

    /// A SUBSCRIBE with a To tag of ours. False when it names no subscription.
    pub(super) fn on_resubscribe(&mut self, now: Now, txn_id: u64, source: Flow, request: &Message) -> bool {
        if request.method() != Method::Subscribe {
            return false;
        }
        let Some(number) = self.find_subscription(request) else { return false };
        let Some(subscription) = self.subscriptions.get_mut(&number) else { return false };
        if !subscription.dialog.accept_cseq(request.cseq().map_or(0, |(n, _)| n)) {
            self.respond_with(now, txn_id, 500, |b| b);
            return true;
        }
        // RFC 6665 4.4.1: SUBSCRIBE is a target refresh request.
        subscription.dialog.refresh_target(request);
        if source.connection.is_some() {
            subscription.peer = source;
        }
        if let Some(txn) = self.txns.get_mut(txn_id) {
            txn.owner = Owner::Respond;
        }
        let (subscription, txn) = (SubscriptionId(number), TxnId(txn_id));
        self.core.tell(Event::Resubscribe { subscription, txn, request: request.clone() });
        true
    }

    fn find_subscription(&self, request: &Message) -> Option<u64> {
        let (to, from) = (request.to()?, request.from()?);
        let number = u64::from(minted_slot(to.tag()?)?);
        let subscription = self.subscriptions.get(&number)?;
        let fits = *subscription.tag == *to.tag()?
            && *subscription.dialog.call_id == *request.call_id()
            && *subscription.dialog.remote_tag == *NameAddr::tag(&from).unwrap_or("");
        fits.then_some(number)
    }

    /// Accepts an [`Event::Resubscribe`].
    pub(super) fn renew(&mut self, now: Now, txn_id: u64, expires_s: u32) {
        self.grant(now, txn_id, expires_s);
    }

    /// Sends a NOTIFY, or keeps it until the one before has its answer.
    pub(super) fn notify_watcher(&mut self, now: Now, number: u64, news: Notification) {
        let Some(subscription) = self.subscriptions.get_mut(&number) else { return };
        if subscription.busy {
            subscription.next = Some(news);
            return;
        }
        let over = news.state.starts_with("terminated");
        let dialog = &mut subscription.dialog;
        let flow = self.core.flow_in_dialog(subscription.peer, &dialog.path());
        let cseq = dialog.next_cseq();
        subscription.busy = true;
        let owner = if over { Owner::Nobody } else { Owner::Subscription(number) };
        let method = Method::Notify;
        self.txns.start_client(&mut self.core, now, owner, flow, method, |core, listener, branch| {
            let w = core.in_dialog(dialog, flow.listener, "NOTIFY", cseq, branch, |w| {
                w.contact(listener);
                w.foreign("Event", &news.event);
                w.foreign("Subscription-State", &news.state);
            });
            w.finish(news.body.as_ref().map(|(kind, body)| (kind.as_str(), body.as_bytes())))
        });
        if over {
            self.subscriptions.remove(&number);
        }
    }

    /// The final response to a NOTIFY, or why there is none.
    pub(super) fn on_notified(&mut self, now: Now, number: u64, response: Result<&Message, RequestFailure>) {
        // RFC 6665 4.2.2: these, and silence, end the subscription; any other failure is this NOTIFY's alone.
        let gone = match response {
            Ok(response) => {
                matches!(response.status(), 404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604)
            }
            Err(_) => true,
        };
        if gone {
            if self.subscriptions.remove(&number).is_some() {
                self.core.tell(Event::SubscriptionEnded { subscription: SubscriptionId(number) });
            }
            return;
        }
        let Some(subscription) = self.subscriptions.get_mut(&number) else { return };
        subscription.busy = false;
        if let Some(news) = subscription.next.take() {
            self.notify_watcher(now, number, news);
        }
    }
}

//! What goes into an [`Endpoint`](super::Endpoint) and what comes out of it, as plain values.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::transport::{NameId, Transport};
use crate::wire::Message;

/// How an endpoint is set up. Fixed for its life.
#[derive(Debug, Clone)]
pub struct Config {
    /// The sockets that the shell has bound; the first is used where none is named.
    pub listeners: Vec<Listener>,
    /// RFC 3261 17.1.1.1: the round-trip estimate, 500 ms.
    pub t1_ms: u64,
    /// The longest interval between retransmissions of non-INVITE requests and INVITE responses, 4,000 ms.
    pub t2_ms: u64,
    /// How long a message may live in the network, 5,000 ms.
    pub t4_ms: u64,
    /// How many transactions may live at once. Beyond it new INVITEs get 503, other requests too.
    pub max_transactions: usize,
    /// How many legs may live at once. Beyond it new INVITEs get 503 with Retry-After.
    pub max_legs: usize,
    /// Part of every Call-ID, tag and branch minted here, so that a packet can find its shard.
    pub shard: u8,
    /// The value of User-Agent and Server; left out when empty.
    pub user_agent: String,
    /// The session interval that we ask for and grant (RFC 4028), seconds; 0: no session timers.
    pub session_expires_s: u32,
    /// Requests for less get 422 (RFC 4028 9); at least 90.
    pub min_se_s: u32,
    /// Requests outside dialogs that are longer go to a UDP target by TCP, when there is a TCP listener, and
    /// by UDP if no connection can be made (RFC 3261 18.1.1); 0 for never.
    pub stream_above_bytes: usize,
    /// What the registrar above understands in the Require of a REGISTER, such as `gin` (RFC 6140).
    pub registrar_options: &'static [&'static str],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            t1_ms: 500,
            t2_ms: 4_000,
            t4_ms: 5_000,
            max_transactions: 200_000,
            max_legs: 50_000,
            shard: 0,
            user_agent: String::new(),
            session_expires_s: 180,
            min_se_s: 90,
            stream_above_bytes: 0,
            registrar_options: &[],
        }
    }
}

/// One bound socket. UDP and TCP on one port are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// The shell's name for it.
    pub id: u16,
    /// What is spoken there, and on the connections that are made in its name.
    pub transport: Transport,
    /// Its address as advertised in Via and Contact.
    pub local: SocketAddr,
}

impl Listener {
    /// A UDP socket.
    #[must_use]
    pub const fn udp(id: u16, local: SocketAddr) -> Self {
        Self { id, transport: Transport::Udp, local }
    }
}

/// A way to somebody: through which listener, to which address, and on which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// The listener, which says the transport.
    pub listener: u16,
    /// The other end.
    pub remote: SocketAddr,
    /// The shell's number of a connection, never used twice in its life; none for UDP, and for a stream that
    /// the shell is to choose or to make.
    pub connection: Option<u64>,
    /// The name that the other end of a connection of ours must have proved; none: its address (RFC 5922 4). It
    /// stays with the flow, so that no name is taken for another that has the same address.
    pub name: Option<NameId>,
}

impl Flow {
    /// Datagrams to an address; on a listener of streams, whatever connection leads there.
    #[must_use]
    pub const fn udp(listener: u16, remote: SocketAddr) -> Self {
        Self { listener, remote, connection: None, name: None }
    }
}

/// One INVITE usage: a call's side that this endpoint holds. Never used again within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LegId(pub(super) u64);

impl LegId {
    /// The identifier as a number, for tables and logs.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The identifier from [`Self::as_u64`]; one that never existed names no leg and is ignored everywhere.
    #[must_use]
    pub fn from_u64(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for LegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leg-{}.{}", self.0 & 0xffff_ffff, self.0 >> 32)
    }
}

impl fmt::Debug for LegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One received request that waits for [`respond`](super::Endpoint::respond).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId(pub(super) u64);

impl fmt::Debug for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "txn-{}.{}", self.0 & 0xffff_ffff, self.0 >> 32)
    }
}

/// One accepted transfer, to be reported on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReferId(pub(super) u64);

/// One watcher's subscription (RFC 6665), to be told news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub(super) u64);

/// What a NOTIFY tells a watcher (RFC 6665 4.2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The Event header, with the `id` of the SUBSCRIBE.
    pub event: String,
    /// The Subscription-State header; one that begins with `terminated` is the last.
    pub state: String,
    /// Content type and body.
    pub body: Option<(String, String)>,
}

/// Bytes for a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Out of which socket or connection, and where to.
    pub flow: Flow,
    /// One whole SIP message.
    pub bytes: Vec<u8>,
}

/// What the endpoint wants done.
#[derive(Debug, Clone)]
pub enum Output {
    /// Send this.
    Send(Datagram),
    /// Hear this.
    Event(Event),
}

/// What happened. The last event of a leg is one of `Rejected`, `Ended` and `Released`.
#[derive(Debug, Clone)]
pub enum Event {
    /// A new INVITE dialog; 100 Trying has been sent.
    Incoming {
        /// The new leg.
        leg: LegId,
        /// Where it came from.
        source: Flow,
        /// The INVITE.
        request: Message,
        /// The confirmed leg that it is to take the place of (RFC 3891): answer it and hang that leg up.
        replaces: Option<LegId>,
    },
    /// The other side asks us to call somebody else for it: `accept_refer`, or `respond` with a failure.
    Refer {
        /// The leg.
        leg: LegId,
        /// Names the request.
        txn: TxnId,
        /// Whom to call: the URI of Refer-To without its headers.
        target: String,
        /// The value of the Replaces header that the call is to have (RFC 3891).
        replaces: Option<String>,
        /// Referred-By, to be passed on (RFC 3892).
        referred_by: Option<String>,
        /// Nothing is to be reported (RFC 4488).
        quiet: bool,
    },
    /// A provisional response, 101 to 199, to our INVITE.
    Progress {
        /// Our leg.
        leg: LegId,
        /// 101 to 199.
        status: u16,
        /// The response.
        response: Message,
    },
    /// Our INVITE was redirected and goes to the next target (information).
    Redirected {
        /// Our leg.
        leg: LegId,
        /// The contact that is tried now.
        to: String,
    },
    /// A 2xx to our INVITE. The ACK has been sent if the INVITE had the offer; otherwise call `ack`.
    Answered {
        /// Our leg.
        leg: LegId,
        /// The response.
        response: Message,
    },
    /// Our INVITE failed for good, after credentials and redirects were tried. The leg is gone.
    Rejected {
        /// The leg that was.
        leg: LegId,
        /// The final status; 408 when nobody answered, 503 when nothing could be sent.
        status: u16,
        /// The final response, if one came.
        response: Option<Message>,
        /// Why, in words.
        reason: String,
    },
    /// The ACK to our 2xx arrived.
    Confirmed {
        /// Our leg.
        leg: LegId,
        /// The ACK, with the answer if our 2xx had the offer.
        ack: Message,
    },
    /// A re-INVITE or an UPDATE with an offer: `accept_offer` or `refuse_offer`.
    Offer {
        /// Our leg.
        leg: LegId,
        /// The request; its body is empty for a re-INVITE that asks us to offer.
        request: Message,
    },
    /// The outcome of our `reoffer`.
    OfferResult {
        /// Our leg.
        leg: LegId,
        /// The 2xx, or the final status (408 after a timeout).
        result: Result<Message, u16>,
    },
    /// Any other request: `respond`.
    Request {
        /// Names the request in `respond`.
        txn: TxnId,
        /// The leg, for requests inside a dialog.
        leg: Option<LegId>,
        /// Where it came from.
        source: Flow,
        /// The request.
        request: Message,
    },
    /// A SUBSCRIBE inside a subscription: `renew_subscription`, or `respond` with a failure.
    Resubscribe {
        /// Which.
        subscription: SubscriptionId,
        /// Names the request.
        txn: TxnId,
        /// The request.
        request: Message,
    },
    /// The watcher takes no more news: the subscription is gone.
    SubscriptionEnded {
        /// Which it was.
        subscription: SubscriptionId,
    },
    /// The outcome of `request` or `leg_request`.
    Response {
        /// The number that `request` gave.
        request: u64,
        /// The final response, whatever its status, or why there is none.
        result: Result<Message, RequestFailure>,
    },
    /// The other side or the protocol ended the leg. The leg is gone.
    Ended {
        /// The leg that was.
        leg: LegId,
        /// How.
        cause: End,
    },
    /// Our `hang_up` is complete. The leg is gone.
    Released {
        /// The leg that was.
        leg: LegId,
        /// A 2xx met our CANCEL and got its ACK and BYE.
        crossed: bool,
    },
}

/// Why a request got no final response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFailure {
    /// Nothing within 64 times T1 (Timer F).
    Timeout,
    /// No connection could be made, or it broke before anything came back.
    Unreachable,
    /// No address to send to: the target is a name that only DNS could resolve.
    NoDestination,
    /// The endpoint is at its limit of transactions.
    Full,
    /// The leg ended first.
    LegGone,
    /// The method, the target or a header holds what SIP does not allow there.
    BadValue,
}

impl RequestFailure {
    /// The status that stands for it (RFC 3261 8.1.3.1).
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Timeout => 408,
            _ => 503,
        }
    }
}

/// How a leg was ended by the other side or by the protocol.
#[derive(Debug, Clone)]
pub enum End {
    /// A BYE came and was answered.
    Bye(Message),
    /// The caller cancelled before our answer.
    Cancelled(Message),
    /// Our 2xx never got its ACK; BYE was sent (RFC 3261 13.3.1.4).
    NoAck,
    /// A reliable provisional response never got its PRACK; 504 was sent (RFC 3262 3).
    NoPrack,
    /// A request inside the dialog timed out or got 481 (RFC 3261 12.2.1.2), or nobody refreshed the session
    /// (RFC 4028 10); BYE was sent.
    NoAnswer,
}

/// The endpoint is at its limit (`max_legs` or `max_transactions`), or the target cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// `max_legs` live legs.
    Legs,
    /// `max_transactions` live transactions.
    Transactions,
    /// The target is no address and no destination was given, or the listener does not exist.
    NoDestination,
    /// A value holds CR, LF or NUL, or the target is no URI.
    BadValue,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legs => "the limit max_legs is reached",
            Self::Transactions => "the limit max_transactions is reached",
            Self::NoDestination => "no address to send to: give a destination, or a target with an address",
            Self::BadValue => "a header, an address or the target holds what SIP does not allow there",
        })
    }
}

impl std::error::Error for Full {}

/// A user's name and password for digest challenges.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

/// A call to place.
#[derive(Debug, Clone, Default)]
pub struct Invite {
    /// The listener to send from.
    pub listener: u16,
    /// The request URI.
    pub target: String,
    /// Where to send; else the target's address, by the transport that it asks for.
    pub destination: Option<SocketAddr>,
    /// The connection to `destination` to send on, for a phone that registered over it.
    pub connection: Option<u64>,
    /// The name that `destination` must prove over TLS; none: itself.
    pub name: Option<NameId>,
    /// The From, a name-addr without tag.
    pub from: String,
    /// The To, a name-addr without tag.
    pub to: String,
    /// The Call-ID; else one is minted.
    pub call_id: Option<String>,
    /// More headers, in this order.
    pub headers: Vec<(String, String)>,
    /// The offer; none asks the other side to offer.
    pub sdp: Option<String>,
    /// What to answer digest challenges with.
    pub credentials: Option<Credentials>,
    /// How many redirects to follow; 0 for none.
    pub redirects: u8,
    /// A redirect contact that says nothing, not even 100, this long is given up for the next; 0 for never.
    pub silent_target_ms: u64,
    /// The first target too: then the leg is `Rejected` with 408 and no response.
    pub silent_first: bool,
}

/// A request outside any dialog.
#[derive(Debug, Clone, Default)]
pub struct OutRequest {
    /// The listener to send from.
    pub listener: u16,
    /// The method: OPTIONS, REGISTER, MESSAGE; not INVITE, ACK or CANCEL.
    pub method: String,
    /// The request URI.
    pub target: String,
    /// Where to send; else the target's address, by the transport that it asks for.
    pub destination: Option<SocketAddr>,
    /// The connection to `destination` to send on, for a phone that registered over it.
    pub connection: Option<u64>,
    /// The name that `destination` must prove over TLS; none: itself.
    pub name: Option<NameId>,
    /// The From, a name-addr without tag.
    pub from: String,
    /// The To, a name-addr without tag.
    pub to: String,
    /// The Call-ID; else one is minted.
    pub call_id: Option<String>,
    /// The CSeq number; else 1. A REGISTER counts up within its Call-ID.
    pub cseq: Option<u32>,
    /// More headers, in this order. A Contact is not added by the endpoint.
    pub headers: Vec<(String, String)>,
    /// Content type and body.
    pub body: Option<(String, Vec<u8>)>,
    /// What to answer digest challenges with.
    pub credentials: Option<Credentials>,
}

/// A confirmed dialog as plain data: enough to send a BYE in a later life of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialogRecord {
    /// Call-ID.
    pub call_id: String,
    /// Our From or To, whole, with its tag.
    pub local: String,
    /// The other side's To or From, whole, with its tag.
    pub remote: String,
    /// The other side's Contact URI.
    pub target: String,
    /// The route set, in the order in which we send it.
    pub routes: Vec<String>,
    /// The CSeq of the last request that we sent.
    pub local_cseq: u32,
    /// The CSeq of the last request that we received, if any.
    pub remote_cseq: Option<u32>,
    /// The listener that it uses.
    pub listener: u16,
    /// Where its requests are sent.
    pub destination: SocketAddr,
}

/// What lives now, and totals since the start: a leak is a number that does not come back to zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Live legs, those included that wait for the end of their last transaction.
    pub legs: usize,
    /// Live transactions.
    pub transactions: usize,
    /// Running timers.
    pub timers: usize,
    /// Out-of-dialog requests of ours without a final response.
    pub requests: usize,
    /// Transfers that are reported on.
    pub refers: usize,
    /// Subscriptions that others have with us.
    pub subscriptions: usize,
    /// Connections that are open or asked for.
    pub flows: usize,
    /// Datagrams received, keep-alives included.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that were no SIP message, or not one that could be used.
    pub malformed: u64,
    /// Received messages that were retransmissions of what was seen before.
    pub absorbed: u64,
    /// Sends that were retransmissions.
    pub retransmitted: u64,
    /// Responses that belong to no transaction, and stray ACKs.
    pub unmatched: u64,
    /// Requests refused since a limit was reached.
    pub refused_full: u64,
    /// Transactions that timed out.
    pub timed_out: u64,
    /// Sessions kept alive by a refresh, ours or theirs (RFC 4028).
    pub refreshed: u64,
}

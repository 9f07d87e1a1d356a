//! A SIP peer that does exactly what a test writes: datagrams by hand over one socket, for crossings
//! at the exact moment and for what no phone would send. It retransmits nothing and answers nothing
//! by itself.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// A received message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The first line.
    pub start: String,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// After the empty line.
    pub body: String,
    /// Where from.
    pub from: SocketAddr,
}

impl Message {
    /// A header's first value; empty without one.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// A response's status; 0 for a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.start.strip_prefix("SIP/2.0 ").and_then(|s| s.get(..3)?.parse().ok()).unwrap_or(0)
    }

    /// A request's method; empty for a response.
    #[must_use]
    pub fn method(&self) -> &str {
        if self.status() > 0 { "" } else { self.start.split(' ').next().unwrap_or("") }
    }

    /// The URI of the first Contact.
    #[must_use]
    pub fn contact(&self) -> String {
        let value = self.header("contact");
        let inner =
            value.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(value, |(uri, _)| uri);
        inner.split(',').next().unwrap_or("").to_owned()
    }

    /// The tag of the To header.
    #[must_use]
    pub fn to_tag(&self) -> &str {
        self.header("to").split_once(";tag=").map_or("", |(_, t)| t.split(';').next().unwrap_or(""))
    }
}

/// See the module.
#[derive(Debug)]
pub struct RawUa {
    socket: UdpSocket,
    /// Its port.
    pub port: u16,
    /// All that came, in order, for messages of failures.
    pub seen: Vec<Message>,
    unread: std::collections::VecDeque<Message>,
    count: u32,
}

/// A dialog seen by its caller.
#[derive(Debug, Clone)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    /// Own side with tag.
    pub from: String,
    /// Other side, with tag when there is one.
    pub to: String,
    /// Request-URI of what follows.
    pub target: String,
    /// Where to send.
    pub remote: SocketAddr,
    /// Of the last request.
    pub cseq: u32,
    /// Of the INVITE.
    pub branch: String,
}

impl Default for RawUa {
    fn default() -> Self {
        Self::new()
    }
}

impl RawUa {
    /// On a free loopback port.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = socket.local_addr().expect("its address").port();
        Self { socket, port, seen: Vec::new(), unread: Default::default(), count: 0 }
    }

    /// Its SIP URI with a user.
    #[must_use]
    pub fn uri(&self, user: &str) -> String {
        format!("sip:{user}@127.0.0.1:{}", self.port)
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When they cannot be sent.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) {
        self.socket.send_to(bytes, to).expect("it is sent");
    }

    /// An SDP that offers or answers PCMU on a port where nobody listens.
    #[must_use]
    pub fn sdp(&self) -> String {
        "v=0\r\no=raw 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n".into()
    }

    /// A number that no other request of this process has.
    fn fresh(&mut self) -> String {
        self.count += 1;
        format!("{}-{}-{}", std::process::id(), self.port, self.count)
    }

    /// Sends an OPTIONS outside of any dialog.
    pub fn options(&mut self, to: SocketAddr) {
        let mut dialog = self.nowhere(to, "probe");
        self.request_in(&mut dialog, "OPTIONS", "", "");
    }

    /// Registers its contact as a user's with a registrar that asks for no password, and waits for the 200.
    pub fn register(&mut self, to: SocketAddr, user: &str) {
        let mut dialog = self.nowhere(to, user);
        dialog.to = format!("<sip:{user}@{to}>");
        let contact = format!("Contact: <sip:raw@127.0.0.1:{}>\r\nExpires: 300\r\n", self.port);
        self.request_in(&mut dialog, "REGISTER", &contact, "");
        self.expect_status(200, "REGISTER", Duration::from_secs(3));
    }

    fn nowhere(&mut self, to: SocketAddr, user: &str) -> Dialog {
        let unique = self.fresh();
        Dialog {
            call_id: format!("raw-{unique}"),
            from: format!("<sip:{user}@{to}>;tag=f{unique}"),
            to: format!("<sip:{to}>"),
            target: format!("sip:{to}"),
            remote: to,
            cseq: 0,
            branch: String::new(),
        }
    }

    /// Sends an INVITE with an offer.
    pub fn invite(&mut self, to: SocketAddr, number: &str, caller: &str) -> Dialog {
        let unique = self.fresh();
        let mut dialog = Dialog {
            call_id: format!("raw-{unique}"),
            from: format!("<sip:{caller}@127.0.0.1:{}>;tag=f{unique}", self.port),
            to: format!("<sip:{number}@{to}>"),
            target: format!("sip:{number}@{to}"),
            remote: to,
            cseq: 0,
            branch: String::new(),
        };
        self.invite_in(&mut dialog);
        dialog
    }

    /// Sends an INVITE of a dialog, a first one or a following one.
    pub fn invite_in(&mut self, dialog: &mut Dialog) {
        let sdp = self.sdp();
        self.request_in(
            dialog,
            "INVITE",
            &format!("Contact: <sip:raw@127.0.0.1:{}>\r\nContent-Type: application/sdp\r\n", self.port),
            &sdp,
        );
    }

    /// Sends a request of a dialog.
    pub fn request_in(&mut self, dialog: &mut Dialog, method: &str, headers: &str, body: &str) {
        dialog.cseq += 1;
        let branch = format!("z9hG4bK-raw-{}", self.fresh());
        if method == "INVITE" {
            dialog.branch = branch.clone();
        }
        let text = self.text(dialog, method, &branch, headers, body);
        self.send(dialog.remote, text.as_bytes());
    }

    fn text(&self, dialog: &Dialog, method: &str, branch: &str, headers: &str, body: &str) -> String {
        format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{};branch={branch};rport\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            dialog.target,
            self.port,
            dialog.from,
            dialog.to,
            dialog.call_id,
            dialog.cseq,
            body.len(),
        )
    }

    /// Sends the CANCEL of the dialog's INVITE.
    pub fn cancel(&self, dialog: &Dialog) {
        self.send(dialog.remote, self.text(dialog, "CANCEL", &dialog.branch, "", "").as_bytes());
    }

    /// ACKs a final response: in the transaction for an error, in the dialog for a 2xx, which is then confirmed.
    pub fn ack(&mut self, dialog: &mut Dialog, response: &Message) {
        let mut of = dialog.clone();
        of.to = response.header("to").to_owned();
        if response.status() >= 300 {
            self.send(of.remote, self.text(&of, "ACK", &of.branch, "", "").as_bytes());
            return;
        }
        of.target = response.contact();
        let branch = format!("z9hG4bK-raw-{}", self.fresh());
        self.send(of.remote, self.text(&of, "ACK", &branch, "", "").as_bytes());
        *dialog = of;
    }

    /// Answers a request.
    pub fn reply(&self, to: &Message, status: u16, reason: &str, with_sdp: bool) {
        let mut text = format!("SIP/2.0 {status} {reason}\r\n");
        for (name, value) in &to.headers {
            match name.as_str() {
                "via" => text.push_str(&format!("Via: {value}\r\n")),
                "from" => text.push_str(&format!("From: {value}\r\n")),
                "call-id" => text.push_str(&format!("Call-ID: {value}\r\n")),
                "cseq" => text.push_str(&format!("CSeq: {value}\r\n")),
                "to" if status > 100 && !value.contains(";tag=") => {
                    text.push_str(&format!("To: {value};tag=r{}\r\n", self.port))
                }
                "to" => text.push_str(&format!("To: {value}\r\n")),
                "record-route" => text.push_str(&format!("Record-Route: {value}\r\n")),
                _ => {}
            }
        }
        let body = if with_sdp { self.sdp() } else { String::new() };
        text.push_str(&format!("Contact: <sip:raw@127.0.0.1:{}>\r\n", self.port));
        if with_sdp {
            text.push_str("Content-Type: application/sdp\r\n");
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        self.send(to.from, text.as_bytes());
    }

    /// The dialog that answering an INVITE makes, seen from this side.
    #[must_use]
    pub fn dialog_of(&self, invite: &Message) -> Dialog {
        Dialog {
            call_id: invite.header("call-id").into(),
            from: format!("{};tag=r{}", invite.header("to"), self.port),
            to: invite.header("from").into(),
            target: invite.contact(),
            remote: invite.from,
            cseq: 100,
            branch: String::new(),
        }
    }

    fn read(&mut self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        self.socket.set_read_timeout(Some(left)).expect("a timeout");
        let mut bytes = vec![0; 65_536];
        let Ok((length, from)) = self.socket.recv_from(&mut bytes) else { return false };
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or("").to_owned();
        let headers = lines
            .filter_map(|l| l.split_once(':'))
            .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
            .collect();
        let message = Message { start, headers, body: body.to_owned(), from };
        self.seen.push(message.clone());
        self.unread.push_back(message);
        true
    }

    /// Waits for a message that is so; others that came before it are passed over.
    ///
    /// # Panics
    /// When it does not come.
    pub fn expect(&mut self, what: &str, within: Duration, is: impl Fn(&Message) -> bool) -> Message {
        match self.may_get(within, is) {
            Some(message) => message,
            None => panic!(
                "no {what} within {within:?}; seen: {:#?}",
                self.seen.iter().map(|m| &m.start).collect::<Vec<_>>()
            ),
        }
    }

    /// A message that is so, if one comes in time.
    pub fn may_get(&mut self, within: Duration, is: impl Fn(&Message) -> bool) -> Option<Message> {
        let until = Instant::now() + within;
        loop {
            while let Some(message) = self.unread.pop_front() {
                if is(&message) {
                    return Some(message);
                }
            }
            if !self.read(until) {
                return None;
            }
        }
    }

    /// Waits for a request of a method.
    pub fn expect_request(&mut self, method: &str, within: Duration) -> Message {
        self.expect(method, within, |m| m.method() == method)
    }

    /// Waits for a response of a status to a method.
    pub fn expect_status(&mut self, status: u16, method: &str, within: Duration) -> Message {
        self.expect(&format!("{status} to {method}"), within, |m| {
            m.status() == status && m.header("cseq").ends_with(method)
        })
    }

    /// Calls by the redirect role and follows the 302 as far as the INVITE to the centre.
    pub fn call(&mut self, redirect: SocketAddr, number: &str, caller: &str) -> Dialog {
        let mut dialog = self.invite(redirect, number, caller);
        let moved = self.expect_status(302, "INVITE", Duration::from_secs(3));
        self.ack(&mut dialog, &moved);
        self.follow(&mut dialog, &moved);
        dialog
    }

    /// Sends the INVITE to the first contact of a 302.
    ///
    /// # Panics
    /// When the contact has no address.
    pub fn follow(&mut self, dialog: &mut Dialog, moved: &Message) {
        dialog.target = moved.contact();
        let address = dialog.target.rsplit('@').next().unwrap_or("").trim_start_matches("sip:");
        dialog.remote =
            address.split(';').next().unwrap_or("").parse().expect("a contact with address and port");
        self.invite_in(dialog);
    }

    /// A call that is answered: INVITE, 200, ACK.
    pub fn call_answered(&mut self, redirect: SocketAddr, number: &str, caller: &str) -> Dialog {
        let mut dialog = self.call(redirect, number, caller);
        let ok = self.expect_status(200, "INVITE", Duration::from_secs(5));
        self.ack(&mut dialog, &ok);
        dialog
    }

    /// Hangs up, and waits for the 200.
    pub fn bye(&mut self, dialog: &mut Dialog) {
        self.request_in(dialog, "BYE", "", "");
        self.expect_status(200, "BYE", Duration::from_secs(3));
    }

    /// Waits for the other side's BYE and answers it.
    pub fn hung_up(&mut self, within: Duration) {
        let bye = self.expect_request("BYE", within);
        self.reply(&bye, 200, "OK", false);
    }

    /// How often each start line came.
    #[must_use]
    pub fn tally(&self) -> BTreeMap<String, usize> {
        let mut tally = BTreeMap::new();
        for message in &self.seen {
            *tally.entry(message.start.clone()).or_default() += 1;
        }
        tally
    }
}

//! One side of a call for SIPp, written step by step: what it sends, and what it must find in what it gets.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};

use crate::scene::{Scene, free_port};
use crate::sipp::Sipp;
use crate::{eventually, s};

/// See the module.
#[derive(Debug)]
pub struct Play {
    steps: String,
    /// The From, without its tag.
    from: String,
    cseq: u32,
    /// Of the next message or pause, as SIPp counts them.
    index: u32,
    /// Of the last INVITE.
    invite: u32,
    /// It has been called, and knows the caller as `$them`.
    called: bool,
    /// It calls, and was asked something meanwhile: the last To it saw is its own name.
    asked_back: bool,
    /// What it answers has a tag of ours already.
    tagged: bool,
}

impl Default for Play {
    fn default() -> Self {
        let from = "<sip:bob@[local_ip]:[local_port]>".to_owned();
        Self {
            steps: String::new(),
            from,
            cseq: 0,
            index: 0,
            invite: 0,
            called: false,
            asked_back: false,
            tagged: false,
        }
    }
}

const BODY: &str = "v=0\n      o=sipp 1 1 IN IP4 [local_ip]\n      s=-\n      c=IN IP4 [local_ip]\n      t=0 0\n      m=audio [media_port] RTP/AVP 0\n      a=rtpmap:0 PCMU/8000\n";

/// The Request-URI of a call to number 100, and its To.
pub const REMOTE: &str = "sip:100@[remote_ip]:[remote_port]";
/// See [`REMOTE`].
pub const TO: &str = "To: <sip:100@[remote_ip]:[remote_port]>";
/// The To of what follows in a dialog.
pub const LAST_TO: &str = "[last_To:]";
/// The Contact of a caller, for `more`.
pub const CONTACT: &str = "Contact: <sip:bob@[local_ip]:[local_port]>\n      ";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A check: the header's value matches this (POSIX extended) expression.
#[must_use]
pub fn has(header: &str, expression: &str) -> String {
    let expression = escaped(expression);
    format!(
        "<ereg regexp=\"{expression}\" search_in=\"hdr\" header=\"{header}:\" check_it=\"true\" assign_to=\"found\"/>"
    )
}

/// Keeps a header's value, or what of it matches, as `[$variable]`.
#[must_use]
pub fn keep(header: &str, expression: &str, variable: &str) -> String {
    let expression = escaped(expression);
    format!("<ereg regexp=\"{expression}\" search_in=\"hdr\" header=\"{header}:\" assign_to=\"{variable}\"/>")
}

/// A check: something in the whole message matches this expression. Of a header SIPp sees the first line alone.
#[must_use]
pub fn tells(expression: &str) -> String {
    let expression = escaped(expression);
    format!("<ereg regexp=\"{expression}\" search_in=\"msg\" check_it=\"true\" assign_to=\"found\"/>")
}

/// A check: nothing in the whole message matches this expression.
#[must_use]
pub fn lacks(expression: &str) -> String {
    let expression = escaped(expression);
    format!("<ereg regexp=\"{expression}\" search_in=\"msg\" check_it_inverse=\"true\" assign_to=\"found\"/>")
}

impl Play {
    /// Of somebody with this From.
    #[must_use]
    pub fn of(from: &str) -> Self {
        Self { from: from.to_owned(), ..Self::default() }
    }

    /// A request of its own; `more` are header lines. `uri`, `from` and `to` are whole.
    pub fn request(&mut self, method: &str, uri: &str, to: &str, more: &str, body: bool) -> &mut Self {
        // A CANCEL, and the ACK of an error, stand on the INVITE's branch (RFC 3261 9.1, 17.1.1.3).
        let of_invite = method == "CANCEL" || method == "ACK" && uri.starts_with("sip:");
        self.send(method, uri, to, more, body, of_invite)
    }

    fn send(
        &mut self,
        method: &str,
        uri: &str,
        to: &str,
        more: &str,
        body: bool,
        of_invite: bool,
    ) -> &mut Self {
        if !matches!(method, "ACK" | "CANCEL") {
            self.cseq += 1;
        }
        if method == "INVITE" {
            self.invite = self.index;
        }
        let branch = match of_invite {
            true => format!("[branch-{}]", self.index - self.invite),
            false => "[branch]".to_owned(),
        };
        self.index += 1;
        let retrans = if method == "ACK" { "" } else { " retrans=\"500\"" };
        let (kind, body) = if body { ("Content-Type: application/sdp\n      ", BODY) } else { ("", "") };
        let cseq = self.cseq;
        let (from, to) = match self.called {
            true => ("From:[$us];tag=[pid]t[call_number]".to_owned(), "To:[$them]"),
            false => (
                format!("From: {};tag=[pid]f[call_number]", self.from),
                if self.asked_back { "To:[$them]" } else { to },
            ),
        };
        self.steps.push_str(&format!(
            "  <send{retrans}><![CDATA[\n      {method} {uri} SIP/2.0\n      Via: SIP/2.0/UDP [local_ip]:[local_port];branch={branch}\n      Max-Forwards: 70\n      {from}\n      {to}\n      Call-ID: [call_id]\n      CSeq: {cseq} {method}\n      {more}{kind}Content-Length: [len]\n\n      {body}\n  ]]></send>\n"
        ));
        self
    }

    /// A request within the dialog.
    pub fn within(&mut self, method: &str, more: &str, body: bool) -> &mut Self {
        let uri = if self.called { "[$target]" } else { "[next_url]" };
        self.request(method, uri, LAST_TO, more, body)
    }

    /// Calls a number; `headers` are whole lines.
    pub fn invites(&mut self, number: &str, headers: &[&str]) -> &mut Self {
        let (uri, to) = (REMOTE.replace("100", number), TO.replace("100", number));
        let more = headers.iter().fold(CONTACT.to_owned(), |more, h| more + h + "\n      ");
        self.request("INVITE", &uri, &to, &more, true)
    }

    /// Is answered, and says so.
    pub fn answered(&mut self) -> &mut Self {
        self.gets(200, "").within("ACK", "", false)
    }

    /// Hangs up.
    pub fn hangs_up(&mut self, more: &str) -> &mut Self {
        self.within("BYE", more, false).step("<recv response=\"200\"/>")
    }

    /// Is hung up.
    pub fn hung_up(&mut self, checks: &[String]) -> &mut Self {
        self.asked("BYE", checks).respond(200, "OK", false)
    }

    /// Gets a refusal of its call to 100 that stands these checks.
    pub fn refused(&mut self, status: u32, checks: &[String]) -> &mut Self {
        self.gets_with(status, checks).request("ACK", REMOTE, LAST_TO, "", false)
    }

    /// Gets a refusal of its INVITE within the dialog.
    pub fn refused_within(&mut self, status: u32) -> &mut Self {
        self.early(status).step(&format!("<recv response=\"{status}\"/>"));
        self.send("ACK", "[next_url]", LAST_TO, "", false, true)
    }

    /// A response to the last request.
    pub fn respond(&mut self, status: u32, reason: &str, body: bool) -> &mut Self {
        self.respond_with(status, reason, "[last_CSeq:]\n      ", body)
    }

    /// As [`Self::respond`], with these headers, the CSeq among them.
    pub fn respond_with(&mut self, status: u32, reason: &str, more: &str, body: bool) -> &mut Self {
        let tag = if status == 100 || self.tagged { "" } else { ";tag=[pid]t[call_number]" };
        let head = format!(
            "[last_Via:]\n      [last_From:]\n      [last_To:]{tag}\n      [last_Call-ID:]\n      {more}"
        );
        self.response(status, reason, &head, body)
    }

    fn response(&mut self, status: u32, reason: &str, head: &str, body: bool) -> &mut Self {
        self.index += 1;
        let retrans = if status >= 300 || status >= 200 && body { " retrans=\"500\"" } else { "" };
        let (kind, body) = if body { ("Content-Type: application/sdp\n      ", BODY) } else { ("", "") };
        self.steps.push_str(&format!(
            "  <send{retrans}><![CDATA[\n      SIP/2.0 {status} {reason}\n      {head}Contact: <sip:far@[local_ip]:[local_port]>\n      {kind}Content-Length: [len]\n\n      {body}\n  ]]></send>\n"
        ));
        self
    }

    /// Any other step.
    pub fn step(&mut self, step: &str) -> &mut Self {
        self.index += u32::from(step.starts_with("<recv") || step.starts_with("<pause"));
        self.steps.push_str(&format!("  {step}\n"));
        self
    }

    /// Waits a while.
    pub fn pause(&mut self, milliseconds: u32) -> &mut Self {
        self.step(&format!("<pause milliseconds=\"{milliseconds}\"/>"))
    }

    /// Is called, by an INVITE that stands these checks.
    pub fn called(&mut self, checks: &[String]) -> &mut Self {
        self.held("INVITE", &[&[keep("Contact", "sip:[^>]*", "target")], checks].concat());
        (self.called, self.tagged) = (true, false);
        self
    }

    /// As [`Self::asked`], to be answered when other messages have come meanwhile.
    pub fn held(&mut self, method: &str, checks: &[String]) -> &mut Self {
        let kept = [("From", "them"), ("To", "us"), ("CSeq", "cseq"), ("Via", "way")];
        let mut all: Vec<String> = kept.iter().map(|(header, name)| keep(header, ".*", name)).collect();
        all.extend_from_slice(checks);
        self.asked_back = true;
        self.asked(method, &all)
    }

    /// Answers what was [held](Self::held), or the INVITE by which it was called.
    pub fn answer_held(&mut self, status: u32, reason: &str, body: bool) -> &mut Self {
        let tag = if self.called { ";tag=[pid]t[call_number]" } else { "" };
        self.response(
            status,
            reason,
            &format!("Via:[$way]\n      From:[$them]\n      To:[$us]{tag}\n      Call-ID: [call_id]\n      CSeq:[$cseq]\n      "),
            body,
        )
    }

    /// Is asked within the dialog, or by a CANCEL.
    pub fn asked(&mut self, method: &str, checks: &[String]) -> &mut Self {
        self.tagged = method != "CANCEL";
        let actions = match checks.is_empty() {
            true => String::new(),
            false => format!("<action>{}</action>", checks.concat()),
        };
        self.step(&format!("<recv request=\"{method}\">{actions}</recv>"))
    }

    /// Rings, answers, and has the ACK.
    pub fn answers(&mut self) -> &mut Self {
        self.respond(180, "Ringing", false).respond(200, "OK", true).asked("ACK", &[])
    }

    /// The 487 of the INVITE after the 200 of its CANCEL.
    pub fn terminated(&mut self) -> &mut Self {
        self.answer_held(487, "Request Terminated", false).asked("ACK", &[])
    }

    /// Responses that may come, and the one that must.
    pub fn gets(&mut self, status: u32, more: &str) -> &mut Self {
        self.early(status).step(&format!("<recv response=\"{status}\" rrs=\"true\" {more}/>"))
    }

    /// As [`Self::gets`], with checks of the one that must come.
    pub fn gets_with(&mut self, status: u32, checks: &[String]) -> &mut Self {
        let checks = checks.concat();
        self.early(status)
            .step(&format!("<recv response=\"{status}\" rrs=\"true\"><action>{checks}</action></recv>"))
    }

    fn early(&mut self, status: u32) -> &mut Self {
        for early in [100, 180, 183].into_iter().filter(|early| *early < status) {
            self.step(&format!("<recv response=\"{early}\" optional=\"true\"/>"));
        }
        self
    }

    /// Starts SIPp with it, and with whatever arguments it needs.
    ///
    /// # Panics
    /// When the scenario cannot be written.
    #[must_use]
    pub fn run(&self, scene: &Scene, name: &str, port: u16, args: &[String]) -> Sipp {
        self.run_at(scene, name, "127.0.0.1", port, args)
    }

    fn run_at(&self, scene: &Scene, name: &str, address: &str, port: u16, args: &[String]) -> Sipp {
        let mut text =
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<scenario name=\"{name}\">\n{}", self.steps);
        // SIPp takes a variable that is used but once for an error.
        let assigned = self.steps.split("assign_to=\"").skip(1).filter_map(|rest| rest.split('"').next());
        for variable in assigned.collect::<BTreeSet<_>>() {
            text.push_str(&format!("  <Reference variables=\"{variable}\"/>\n"));
        }
        text.push_str("</scenario>\n");
        let file = scene.dir().join(format!("{name}.xml"));
        std::fs::write(&file, text).expect("the scenario is written");
        let mut all = vec!["-sf".to_owned(), file.display().to_string()];
        all.extend(args.iter().cloned());
        Sipp::run_at(scene, name, address, port, &all)
    }

    /// Plays it once as a caller, from an address of this machine.
    #[must_use]
    pub fn calls(&self, scene: &Scene, name: &str, address: &str, centre: SocketAddr) -> Sipp {
        let args = ["-m", "1", "-recv_timeout", "75000", &centre.to_string()].map(str::to_owned);
        self.run_at(scene, name, address, free_port(), &args)
    }

    /// Plays it once as who is called, and waits until it listens.
    #[must_use]
    pub fn is_called(&self, scene: &Scene, name: &str, port: u16) -> Sipp {
        let args = ["-m", "1", "-recv_timeout", "75000", "127.0.0.1"].map(str::to_owned);
        let sipp = self.run(scene, name, port, &args);
        let taken = || UdpSocket::bind(("127.0.0.1", port)).is_err().then_some(());
        eventually(&format!("SIPp {name} listens"), s(5), taken);
        sipp
    }
}

//! Requests that are no calls: REGISTER of agents' phones, OPTIONS, INFO and what we do not speak.

use cordboard_base::ms;
use cordboard_sip::digest::{Algorithm, AuthorizationHeader, Credential, Verdict};
use cordboard_sip::endpoint::{Flow, LegId, TxnId};
use cordboard_sip::wire::{Message, Method, Name as Header, NameAddr};

use super::Shard;
use super::call::Side;
use super::core::{Core, Timer};
use crate::messages::{Contact, Register, ToDomain};
use crate::model::{Phone, Trunk};
use crate::redirect::LOAD;
use crate::trunk;

/// What the shard serves, for Allow (RFC 3261 20.5).
const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, REFER, REGISTER, SUBSCRIBE";
/// The expiry of a REGISTER that names none (RFC 3261 10.2.1.1).
const DEFAULT_EXPIRES_S: u32 = 3_600;
/// How long the domain may take with a REGISTER.
const REGISTER_GUARD_MS: u64 = 5_000;
/// REGISTERs at once that wait for the domain; one more gets 503.
const MAX_REGISTERS: usize = 10_000;
/// The most contacts of one REGISTER.
const MAX_CONTACTS: usize = 16;
/// What a trunk's peer may have, least and most: not long, since a restart forgets it.
const PEER_EXPIRES_S: (u32, u32) = (60, 600);

impl Shard {
    pub(super) fn request(&mut self, txn: TxnId, leg: Option<LegId>, source: Flow, request: &Message) {
        match request.method() {
            Method::Register if leg.is_none() => self.core.register(txn, source, request),
            Method::Subscribe if leg.is_none() => self.core.subscribe(txn, source, request),
            Method::Options => {
                // Only who may send calls is told how many there are.
                let load = (leg.is_none() && self.core.model.trunk_from(source.remote).is_some())
                    .then(|| format!("{}/{}", self.calls.len(), self.core.model.limits.max_calls));
                let mut headers =
                    vec![("Allow", ALLOW), ("Accept", "application/sdp, application/dtmf-relay")];
                headers.extend(load.as_deref().map(|load| (LOAD, load)));
                self.core.respond(txn, if self.core.draining && leg.is_none() { 503 } else { 200 }, &headers);
            }
            Method::Info => match leg {
                None => self.core.respond(txn, 481, &[]),
                Some(leg) => {
                    let digit = dtmf_relay(request);
                    let known = digit.is_some() || request.body().is_empty();
                    self.core.respond(
                        txn,
                        if known { 200 } else { 415 },
                        &[("Accept", "application/dtmf-relay")],
                    );
                    if let Some(digit) = digit {
                        self.with_leg(leg, |core, call| match (call.party_of_leg(leg), call.caller.media) {
                            (Some(Side::Caller), _) => core.digit(call, digit, true),
                            (Some(Side::Agent | Side::Dialled), Some(caller)) if call.taken() => {
                                core.send_digit(caller, digit);
                            }
                            _ => {}
                        });
                    }
                }
            },
            // A refresh without an offer.
            Method::Update => self.core.respond(txn, 200, &[]),
            Method::Refer => self.core.respond(txn, 603, &[]),
            _ => self.core.respond(txn, 405, &[("Allow", ALLOW)]),
        }
    }
}

/// The digit of `Signal=5` (application/dtmf-relay) or of a bare `5` (application/dtmf).
fn dtmf_relay(request: &Message) -> Option<char> {
    let kind = request.content_type()?;
    let body = std::str::from_utf8(request.body()).ok()?;
    let text = if kind.eq_ignore_ascii_case("application/dtmf-relay") {
        let signal = |line: &str| {
            let (name, value) = line.split_once('=')?;
            name.trim().eq_ignore_ascii_case("Signal").then(|| value.trim().to_owned())
        };
        body.lines().find_map(signal)?
    } else if kind.eq_ignore_ascii_case("application/dtmf") {
        body.trim().to_owned()
    } else {
        return None;
    };
    let digit = match text.as_str() {
        "10" => '*',
        "11" => '#',
        one if one.chars().count() == 1 => one.chars().next()?.to_ascii_uppercase(),
        _ => return None,
    };
    "0123456789*#ABCD".contains(digit).then_some(digit)
}

/// What a REGISTER may require (RFC 5626 6; RFC 6140 5.2, of a trunk's peer only).
pub(super) const REGISTRAR_OPTIONS: &[&str] = &["outbound", BULK];
const BULK: &str = "gin";

impl Core {
    pub(super) fn respond(&mut self, txn: TxnId, status: u16, headers: &[(&str, &str)]) {
        self.endpoint.respond(self.now, txn, status, headers, None);
        self.pump();
    }

    /// RFC 3261 10.3, up to the binding itself, which is the domain's.
    fn register(&mut self, txn: TxnId, source: Flow, request: &Message) {
        let Some((user, host)) = request.to().and_then(|to| {
            let uri = to.parsed_uri().ok()?;
            Some((uri.user_text().into_owned(), uri.host.to_owned()))
        }) else {
            return self.respond(txn, 400, &[]);
        };
        let model = self.model.clone();
        let peer = |t: &&Trunk| t.peer.as_ref().is_some_and(|p| p.user == user);
        if let Some(trunk) = model.trunks.iter().find(peer) {
            return self.register_peer(txn, source, request, trunk);
        }
        // A phone has one number.
        if request.headers(Header::Require).any(|option| option.eq_ignore_ascii_case(BULK)) {
            return self.respond(txn, 420, &[("Unsupported", BULK)]);
        }
        let Some((tenant, password)) = trunk::phone_tenant(&model, &host, &user) else {
            return self.challenge_stranger(txn, source, request, &host);
        };
        if !self.authorised(txn, request, &tenant.realm, Some(&user), password) {
            return;
        }
        if self.registers.len() >= MAX_REGISTERS {
            return self.respond(txn, 503, &[("Retry-After", "5")]);
        }
        let usual = request.expires().unwrap_or(DEFAULT_EXPIRES_S);
        let remove_all = request.headers(Header::Contact).any(|c| c == "*");
        if remove_all && (usual != 0 || request.headers(Header::Contact).count() != 1) {
            return self.respond(txn, 400, &[]);
        }
        let contacts = request
            .contacts()
            .take(MAX_CONTACTS)
            .map(|c| Contact {
                uri: c.uri.to_owned(),
                expires_s: c.expires_s().unwrap_or(usual),
                q: c.q_milli(),
                instance: c.param("+sip.instance").map(|i| i.trim_matches('"').to_owned()),
                reg_id: c.param("reg-id").and_then(|r| r.parse().ok()).unwrap_or(0),
            })
            .collect();
        let number = self.number();
        let timer = self.timers.set(self.now.after_ns(ms(REGISTER_GUARD_MS)), Timer::Register(number));
        self.registers.insert(number, (txn, timer));
        // From now on: the connection may close before the domain has answered.
        self.registered.extend(source.connection);
        let register = Register {
            request: number,
            tenant: tenant.name.clone(),
            user,
            call_id: request.call_id().to_owned(),
            cseq: request.cseq().map_or(0, |(n, _)| n),
            remove_all,
            contacts,
            flow: source,
        };
        self.envelope(None, Vec::new(), ToDomain::Register(register));
    }

    /// Somebody whom no tenant has is answered like one who exists and does not know the password, so that nobody
    /// learns who exists; the shell counts it.
    pub(super) fn challenge_stranger(&mut self, txn: TxnId, source: Flow, request: &Message, host: &str) {
        self.out.push(super::Output::Stranger { remote: source.remote });
        let model = self.model.clone();
        let named = model.tenants.iter().find(|t| t.realm.eq_ignore_ascii_case(host));
        match named.or(model.tenants.first()) {
            Some(tenant) => {
                // With the algorithms that this tenant's phones are asked with.
                let mut passwords = tenant.agents.iter().filter_map(|agent| match &agent.phone {
                    Phone::Registered { password, .. } => Some(password.as_str()),
                    Phone::Address(_) => None,
                });
                let like = passwords.next().unwrap_or("");
                _ = self.authorised(txn, request, &tenant.realm, None, like);
            }
            None => self.respond(txn, 404, &[]),
        }
    }

    /// Whether a REGISTER or SUBSCRIBE has the credentials of `user`; it is answered with 401 or 403 when it has
    /// not, as nobody has who is no user.
    pub(super) fn authorised(
        &mut self,
        txn: TxnId,
        request: &Message,
        realm: &str,
        user: Option<&str>,
        password: &str,
    ) -> bool {
        let verdict = request
            .lines(Header::Authorization)
            .filter_map(AuthorizationHeader::parse)
            .find(|h| h.realm == realm)
            .map_or(Verdict::Missing, |header| {
                let method = request.method();
                self.digest.verify(self.now, &header, realm, method.as_str(), request.request_uri(), |of| {
                    (user == Some(of)).then(|| credential(password))
                })
            });
        match verdict {
            Verdict::Ok { user: as_user } if user == Some(as_user.as_str()) => return true,
            Verdict::Ok { .. } | Verdict::Wrong => self.respond(txn, 403, &[]),
            Verdict::Missing | Verdict::Stale => {
                let stale = verdict == Verdict::Stale;
                let mut challenge = |a| self.digest.challenge(self.now, realm, a, stale);
                // Only what the stored password can be checked with.
                let offers: Vec<String> = match credential(password) {
                    Credential::Ha1 { md5: Some(_), sha256: None } => vec![challenge(Algorithm::Md5)],
                    Credential::Ha1 { md5: None, sha256: Some(_) } => vec![challenge(Algorithm::Sha256)],
                    _ => vec![challenge(Algorithm::Sha256), challenge(Algorithm::Md5)],
                };
                let headers: Vec<(&str, &str)> =
                    offers.iter().map(|o| ("WWW-Authenticate", o.as_str())).collect();
                self.respond(txn, 401, &headers);
            }
        }
        false
    }

    /// A trunk's peer registers: one contact, kept here, since a peer that finds us restarted comes again.
    fn register_peer(&mut self, txn: TxnId, source: Flow, request: &Message, trunk: &Trunk) {
        let Some(peer) = &trunk.peer else { return };
        if !self.authorised(txn, request, &peer.realm, Some(&peer.user), &peer.password) {
            return;
        }
        let usual = request.expires().unwrap_or(DEFAULT_EXPIRES_S);
        let asked = |c: &NameAddr<'_>| c.expires_s().unwrap_or(usual);
        let star = request.headers(Header::Contact).any(|c| c == "*");
        if star && (usual != 0 || request.headers(Header::Contact).count() != 1) {
            return self.respond(txn, 400, &[]);
        }
        let contact = request.contacts().filter(|c| asked(c) > 0).max_by_key(|c| c.q_milli());
        match contact {
            Some(contact) => {
                let expires_s = asked(&contact).clamp(PEER_EXPIRES_S.0, PEER_EXPIRES_S.1);
                self.bind_peer(&trunk.name, contact.uri, source, expires_s);
            }
            // Nothing but contacts that end: it leaves. No contact at all asks what is bound.
            None if star || request.contacts().next().is_some() => self.unbind_peer(&trunk.name),
            None => {}
        }
        let bound = self.trunks.bound(&trunk.name, self.now);
        let value = bound.map(|b| format!("<{}>;expires={}", b.contact, b.left_s(self.now)));
        let headers: Vec<(&str, &str)> = value.iter().map(|v| ("Contact", v.as_str())).collect();
        self.respond(txn, 200, &headers);
    }

    pub(super) fn registered(&mut self, request: u64, status: u16, contacts: &[Contact]) {
        let Some((txn, timer)) = self.registers.remove(&request) else { return };
        self.timers.cancel(timer);
        let values: Vec<String> = contacts.iter().map(contact_value).collect();
        let mut headers: Vec<(&str, &str)> = values.iter().map(|v| ("Contact", v.as_str())).collect();
        // RFC 5626 6: the phone hears that its flow is what it will be reached by.
        if contacts.iter().any(|c| c.reg_id > 0) {
            headers.push(("Require", "outbound"));
        }
        self.respond(txn, status, &headers);
    }

    /// A connection is gone: what waits on it, and the phones that it led to.
    pub(super) fn flow_closed(&mut self, flow: Flow, users: &[Flow]) {
        self.endpoint.flow_closed(self.now, flow, users);
        self.pump();
        flow.connection.map(|n| self.proved.remove(&n));
        flow.connection.inspect(|n| self.peer_cut_off(*n));
        if flow.connection.is_some_and(|n| self.registered.remove(&n)) {
            self.envelope(None, Vec::new(), ToDomain::FlowClosed(flow));
        }
    }

    /// The domain has not answered: the phone tries again later.
    pub(super) fn register_silent(&mut self, request: u64) {
        if let Some((txn, ..)) = self.registers.remove(&request) {
            self.respond(txn, 503, &[("Retry-After", "5")]);
        }
    }
}

/// A Contact of the 200 (RFC 3261 10.3 step 8, RFC 5626 6).
fn contact_value(contact: &Contact) -> String {
    let Contact { uri, expires_s, q, instance, reg_id } = contact;
    let mut value = format!("<{uri}>;expires={expires_s}");
    if *q < 1_000 {
        value.push_str(&format!(";q=0.{q:03}"));
    }
    if let Some(instance) = instance.as_ref().filter(|i| !i.contains(['"', '\\'])) {
        value.push_str(&format!(";+sip.instance=\"{instance}\""));
        if *reg_id > 0 {
            value.push_str(&format!(";reg-id={reg_id}"));
        }
    }
    value
}

/// A configured password: clear text, or HA1 with its algorithm.
fn credential(password: &str) -> Credential {
    if let Some(ha1) = password.strip_prefix("md5:") {
        Credential::Ha1 { md5: Some(ha1.to_owned()), sha256: None }
    } else if let Some(ha1) = password.strip_prefix("sha256:") {
        Credential::Ha1 { md5: None, sha256: Some(ha1.to_owned()) }
    } else {
        Credential::Password(password.to_owned())
    }
}

//! Step 5: a new call, from its INVITE to its route.

use cordboard_sip::endpoint::{Flow, LegId};
use cordboard_sip::sdp::{self, Session};
use cordboard_sip::wire::Message;

use super::call::{Call, CallKey, Native, WAKES, Wake};
use super::core::{Core, LegEntry};
use super::{Output, Shard};
use crate::center::{Party, cause};
use crate::handoff::Station;
use crate::ivr::{Script, TypedAhead};
use crate::messages::{CallNew, QueueRequest, ToDomain};
use crate::model::Fallback;
use crate::policy::Fault;
use crate::redirect::Note;
use crate::router::{self, Incoming, Plan, Route};
use crate::script::{CallInfo, ScriptId};
use crate::timeline::Step;
use crate::trunk::diversion::Diversions;
use crate::trunk::passages::{MAX_PASSAGES, Passages, Verdict};
use crate::trunk::{self, Refused};
use crate::{Attributes, Name};

/// The shell answers every question in 50 ms; a question that gets lost must not hold a call up.
const ROUTE_GUARD_MS: u64 = 200;

impl Shard {
    /// A new INVITE: refused, or a call.
    pub(super) fn arrive(&mut self, leg: LegId, source: Flow, request: &Message) {
        let core = &mut self.core;
        let model = core.model.clone();
        let offer = match offer_of(request) {
            Ok(offer) => offer,
            Err((status, headers)) => {
                core.totals.refused_media += 1;
                return core.reject(leg, status, headers);
            }
        };
        let registered = core.trunks.registered(request);
        let called = match &registered {
            // Our own user in the Request-URI says which registration; whom the caller has dialled is in the To.
            Some(line) if line.user == trunk::called(request) => trunk::addressed(request),
            _ => trunk::called(request),
        };
        let line = registered.as_ref().map(|r| &r.trunk);
        let registered = line.or_else(|| core.trunks.peer_at(source, core.now));
        let proved = source.connection.and_then(|n| core.proved.get(&n)).map_or(&[][..], |p| &**p);
        let origin = trunk::Origin { remote: source.remote, registered, proved };
        let admitted = match core.admission.admit(core.now, &model, origin, called, core.draining) {
            Ok(admitted) => admitted,
            Err(refused) => return core.refuse(leg, refused),
        };

        let entry = self.calls.vacant_entry();
        self.serial = self.serial.wrapping_add(1);
        let key = CallKey { slot: entry.key() as u32, serial: self.serial };
        core.legs.insert(leg, LegEntry { call: key, up: false, dying: false });
        let media = core.open_media(key);
        let mut caller = Party::new(media, core.random.next_u64());
        caller.leg = Some(leg);
        caller.offer = offer;
        let by = &model.trunks[admitted.trunk as usize];
        let mut who = trunk::identity::caller(request, by.trusted);
        who.number = trunk::rules::normalised(&by.caller, who.number);
        let (number, name) = who.shown();
        let diversions = Diversions::of(request, who.privacy);
        let brought = trunk::brought(request, &model);
        let tenant = &model.tenants[admitted.tenant as usize].name;
        let (passages, verdict) =
            Passages::of(request, &core.passages, tenant, &admitted.called, diversions.count());
        let interaction = cordboard_base::Id::new(core.now, &mut core.random);
        let call_id = core.endpoint.call_id(leg).cloned().unwrap_or_else(|| request.call_id().into());
        let call = entry.insert(Box::new(Call {
            key,
            interaction,
            model,
            trunk: admitted.trunk,
            tenant: admitted.tenant,
            station: Station::Trunk,
            began: core.now,
            caller,
            number: number.to_owned(),
            name: name.to_owned(),
            who,
            diversions,
            passages,
            called: admitted.called,
            call_id: call_id.clone(),
            brought,
            hops: request.max_forwards().unwrap_or(70).saturating_sub(1).min(70),
            answered: false,
            answer_wanted: false,
            delayed_offer: false,
            ask: None,
            native: Native::No,
            script: None,
            enqueues: 0,
            asked: String::new(),
            place: None,
            round: None,
            talk: None,
            dial: None,
            transfer: None,
            outcome: None,
            digits: TypedAhead::default(),
            recordings: Vec::new(),
            lines: Vec::new(),
            timers: [None; WAKES],
            said: None,
            ended: None,
            gone: false,
        }));
        core.totals.calls += 1;
        core.interactions.insert(interaction, key);
        core.call_ids.insert(call_id, key);
        core.admitted(call, request, verdict);
        if call.gone {
            self.calls.remove(key.slot as usize);
        }
    }
}

/// The status and headers that refuse a body.
type Misfit = (u16, &'static [(&'static str, &'static str)]);

/// The offer in an INVITE, if there is one.
fn offer_of(request: &Message) -> Result<Option<Box<Session>>, Misfit> {
    // The endpoint has refused what must be understood and is not; what is left may be ignored.
    let Some(sdp) = request.sdp() else { return Ok(None) };
    let offer = Session::parse(sdp).map_err(|e| (e.status(), &[] as &[_]))?;
    // Looked at now, so that a call that cannot be answered never becomes one.
    sdp::agreed(&offer).map_err(|e| (e.status(), &[] as &[_]))?;
    Ok(Some(Box::new(offer)))
}

impl Core {
    fn refuse(&mut self, leg: LegId, refused: Refused) {
        match refused {
            Refused::UnknownSource => self.totals.refused_source += 1,
            Refused::UnknownNumber => self.totals.refused_number += 1,
            Refused::Draining => self.totals.refused_draining += 1,
            Refused::TrunkFull | Refused::TrunkRate | Refused::ShardFull => self.totals.refused_limit += 1,
        }
        let status = refused.status();
        let retry_after = self.model.limits.retry_after_s.to_string();
        let headers: &[(&str, &str)] = if status == 503 { &[("Retry-After", &retry_after)] } else { &[] };
        self.reject(leg, status, headers);
    }

    /// The call exists: the domain hears of it and the router is asked, neither waits for the other.
    fn admitted(&mut self, call: &mut Call, request: &Message, verdict: Verdict) {
        if let Some(note) = self.take_note(request.call_id()) {
            self.note_lines(call, note);
        }
        self.hand_off(call, Station::Center);
        let detail = format!(
            "{} calls {}",
            if call.number.is_empty() { "(withheld)" } else { &call.number },
            call.called
        );
        let call_id = call.call_id.clone();
        let line = self.line(call, Step::NewCall, detail);
        line.call_id = Some(call_id);
        line.cseq = request.cseq().map(|(n, _)| n);
        let new = CallNew {
            tenant: call.tenant().name.clone(),
            trunk: call.trunk().name.clone(),
            caller: call.number.clone(),
            caller_name: call.name.clone(),
            called: call.called.clone(),
            call_id: request.call_id().to_owned(),
            attributes: call.diversions.attributes(),
        };
        self.tell(call, ToDomain::CallNew(new));
        if call.who.privacy.cannot_be_kept() {
            // RFC 3323 5: what is critical and cannot be done fails the request with 500.
            let text = "the caller's Privacy is critical and asks for what is not known here";
            return self.finish_with(call, 127, "host", text, 500);
        }
        let called = &call.called;
        let again = match verdict {
            Verdict::Passes => None,
            Verdict::Loops(1) => Some((482, format!("a loop: we have sent this call to {called} ourselves"))),
            Verdict::Loops(n) => {
                Some((482, format!("a loop: this call was here for {called}, {n} passages ago")))
            }
            Verdict::TooMany => Some((483, format!("this call has been here {MAX_PASSAGES} times"))),
        };
        if let Some((status, text)) = again {
            return self.finish_with(call, cause::of_status(status), "host", &text, status);
        }
        match call.tenant().router.clone() {
            Some(plugin) => {
                self.hand_off(call, Station::Router);
                let ask = self.number();
                call.ask = Some(ask);
                self.asks.insert(ask, call.key);
                self.arm(call, Wake::Route, ROUTE_GUARD_MS);
                let incoming = Box::new(Incoming {
                    tenant: call.tenant().name.clone(),
                    trunk: call.trunk().name.clone(),
                    caller: call.number.clone(),
                    caller_name: call.name.clone(),
                    called: call.called.clone(),
                    headers: trunk::passed(request, &call.trunk().pass_headers, &call.who),
                    attributes: call.diversions.attributes(),
                });
                self.out.push(Output::AskRoute { ask, plugin, interaction: call.interaction, incoming });
            }
            None => {
                let plan = router::default_plan(call.tenant());
                self.follow(call, plan);
            }
        }
    }

    /// Steps 3 and 4, told by the redirect role.
    pub(super) fn note_lines(&mut self, call: &mut Call, note: Note) {
        let call_id = call.call_id.clone();
        for (step, at, detail) in [
            (Step::InviteToRedirect, note.invite_at, "".into()),
            (Step::Redirected, note.answered_at, note.contacts.join(", ").into()),
        ] {
            let line = self.line_at(call, at, step, detail);
            line.call_id = Some(call_id.clone());
            line.cseq = Some(note.cseq);
        }
    }

    /// The router has answered, or failed to.
    pub(super) fn routed(&mut self, call: &mut Call, ask: u64, answer: Result<Route, Fault>) {
        if call.ask != Some(ask) {
            return;
        }
        call.ask = None;
        self.asks.remove(&ask);
        self.disarm(call, Wake::Route);
        let plan = match answer.and_then(|route| router::check(&call.model, call.tenant(), route)) {
            Ok(plan) => plan,
            Err(fault) => {
                self.totals.router_faults += 1;
                self.line(call, Step::After, format!("router: {fault}; the default holds"));
                router::default_plan(call.tenant())
            }
        };
        self.follow(call, plan);
    }

    /// Sends a call where its route says.
    pub(super) fn follow(&mut self, call: &mut Call, plan: Plan) {
        match plan {
            Plan::Script(plugin, attributes) => self.start_script(call, plugin, attributes),
            Plan::Workgroup(workgroup, request) => self.queue_natively(call, workgroup, request),
            Plan::Address { address, ring_timeout_ms, attributes } => {
                self.attributes(call, attributes);
                self.dial(call, address, ring_timeout_ms, false);
            }
            Plan::Redirect(contacts) => self.send_elsewhere(call, &contacts),
            Plan::Refuse { status, cause, text } => self.finish_with(call, cause, "host", &text, status),
            Plan::Fallback => self.fall_back(call),
        }
    }

    fn start_script(&mut self, call: &mut Call, plugin: Name, set: Attributes) {
        self.hand_off(call, Station::Ivr);
        self.totals.scripts += 1;
        let id = ScriptId(u64::from(self.config.number) << 56 | self.number());
        self.scripts.insert(id, call.key);
        call.script = Some(Script::new(id, plugin.clone()));
        // What the router has set goes before what the call has brought.
        let mut attributes = call.diversions.attributes();
        attributes.retain(|(name, _)| !set.iter().any(|(n, _)| n == name));
        attributes.extend(set.iter().cloned());
        let info = Box::new(CallInfo {
            interaction: call.interaction,
            tenant: call.tenant().name.clone(),
            trunk: call.trunk().name.clone(),
            caller: call.number.clone(),
            caller_name: call.name.clone(),
            called: call.called.clone(),
            attributes,
        });
        self.attributes(call, set);
        self.out.push(Output::StartScript { script: id, plugin, info });
    }

    /// The workgroup's own treatment: answered and queued at once, music when both are done.
    pub(super) fn queue_natively(&mut self, call: &mut Call, workgroup: String, request: QueueRequest) {
        call.native = Native::Queue;
        self.want_answer(call);
        if call.ended.is_none() {
            self.enqueue(call, workgroup, request);
        }
    }

    /// What a caller gets when no script can run.
    pub(super) fn fall_back(&mut self, call: &mut Call) {
        self.hand_off(call, Station::Ivr);
        match call.tenant().fallback.clone() {
            Fallback::Workgroup(workgroup) => {
                self.line(call, Step::After, format!("fallback: workgroup {workgroup}"));
                self.queue_natively(call, workgroup.to_string(), QueueRequest::default());
            }
            Fallback::Announce { prompt, cause } => self.announce(call, prompt.as_deref(), cause),
        }
    }

    /// Plays a prompt, if there is one, and ends the call.
    pub(super) fn announce(&mut self, call: &mut Call, prompt: Option<&str>, cause: u8) {
        self.line(call, Step::After, "fallback: announcement");
        let clip = prompt.and_then(|name| self.prompts.clip(&call.tenant().name, name));
        if clip.is_none() {
            return self.finish(call, cause, "host", "fallback");
        }
        call.native = Native::Announce { play: 0, cause };
        self.want_answer(call);
    }

    fn send_elsewhere(&mut self, call: &mut Call, contacts: &[String]) {
        let step = 1_000 / (contacts.len() as u32 + 1);
        let values: Vec<String> = contacts
            .iter()
            .enumerate()
            .map(|(i, c)| format!("<{c}>;q=0.{:03}", (1_000 - step * (i as u32 + 1)).min(999)))
            .collect();
        if let Some(leg) = call.caller.leg.take().filter(|_| !call.answered) {
            let headers: Vec<(&str, &str)> = values.iter().map(|v| ("Contact", v.as_str())).collect();
            self.reject(leg, 302, &headers);
        }
        self.finish_with(call, cause::of_status(200), "host", "redirected", 302);
    }
}

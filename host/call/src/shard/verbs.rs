//! Step 8 and on: what the script asks for, and what it hears.

use cordboard_base::Id;
use cordboard_media::control::{Command, PlayEnd};

use super::Output;
use super::call::{Call, Native, Place, Wake};
use super::core::Core;
use crate::Attributes;
use crate::handoff::Station;
use crate::ivr::{self, Collector, DIGIT_MS, Doing, GAP_MS, Pending};
use crate::messages::{Outcome, QueueRequest, Refusal, TicketState, ToDomain};
use crate::policy::Fault;
use crate::script::{Done, Failure, FromScript, GatherEnd, Left, ScriptEnd, ScriptId, ToScript, Verb};
use crate::timeline::Step;

impl Core {
    /// Attributes that a router or script has set.
    pub(super) fn attributes(&mut self, call: &mut Call, set: Attributes) {
        if !set.is_empty() {
            self.tell(call, ToDomain::Attributes { set });
        }
    }

    pub(super) fn script_says(&mut self, call: &mut Call, id: ScriptId, from: FromScript) {
        if call.script.as_ref().is_none_or(|s| s.id != id) {
            return;
        }
        match from {
            FromScript::Verb { verb, attributes, what } => {
                self.attributes(call, attributes);
                self.script_seen(call, None);
                if call.ended.is_some() {
                    return self.done(call, verb, Err(Failure::HungUp));
                }
                if let Some(script) = &mut call.script
                    && script.pending.is_some()
                {
                    return self.done(call, verb, Err(Failure::Other("one verb at a time".to_owned())));
                }
                self.verb(call, verb, what);
            }
            FromScript::Ended { how, attributes } => {
                self.attributes(call, attributes);
                self.script_ended(call, how);
            }
        }
    }

    /// Line 8, at the first sign of life.
    fn script_seen(&mut self, call: &mut Call, fault: Option<&str>) {
        let Some(script) = call.script.as_mut().filter(|s| !s.seen) else { return };
        script.seen = true;
        let text = match fault {
            Some(fault) => format!("{}: {fault}", script.plugin),
            None => script.plugin.to_string(),
        };
        self.line(call, Step::ScriptStarted, text);
    }

    pub(super) fn done(&mut self, call: &Call, verb: u32, result: Result<Done, Failure>) {
        if let Some(script) = &call.script {
            self.out.push(Output::Script(script.id, ToScript::Done { verb, result }));
        }
    }

    /// Completes the verb that waits.
    fn complete(&mut self, call: &mut Call, result: Result<Done, Failure>) {
        self.disarm(call, Wake::Verb);
        if let Some(pending) = call.script.as_mut().and_then(|s| s.pending.take()) {
            self.done(call, pending.verb, result);
        }
    }

    fn wait_for(&mut self, call: &mut Call, verb: u32, doing: Doing) {
        if let Some(script) = &mut call.script {
            script.pending = Some(Pending { verb, doing });
        }
    }

    fn doing<'c>(&self, call: &'c mut Call) -> Option<&'c mut Doing> {
        call.script.as_mut()?.pending.as_mut().map(|p| &mut p.doing)
    }

    /// A verb begins.
    fn verb(&mut self, call: &mut Call, verb: u32, what: Verb) {
        if call.taken() {
            let result = match what {
                Verb::Outcome { ticket } => return self.outcome(call, verb, ticket),
                Verb::HangUp { cause } => {
                    // The script is done with the caller, the agent is not.
                    if let Some(script) = &mut call.script {
                        script.hang_up = Some(cause);
                    }
                    return;
                }
                Verb::Leave { .. } | Verb::Protect { .. } => Ok(Done::Left(Left::Taken)),
                _ => Err(Failure::Taken),
            };
            return self.done(call, verb, result);
        }
        if ivr::needs_audio(&what) && !(call.answered && call.caller.ready()) {
            self.wait_for(call, verb, Doing::Answering(Box::new(what)));
            return self.want_answer(call);
        }
        self.run_verb(call, verb, what);
    }

    /// A verb that can run now.
    pub(super) fn run_verb(&mut self, call: &mut Call, verb: u32, what: Verb) {
        match what {
            Verb::Answer => self.done(call, verb, Ok(Done::Ok)),
            Verb::Play { sounds, barge_in, clear_digits } => {
                if clear_digits {
                    call.digits.clear();
                }
                if sounds.is_empty() || (barge_in && !call.digits.is_empty()) {
                    let by_digit = barge_in && !call.digits.is_empty();
                    return self.done(call, verb, Ok(Done::Played { by_digit }));
                }
                self.music_line(call, "prompts");
                let play = self.play(&mut call.caller, ivr::items(sounds), false, barge_in);
                self.wait_for(call, verb, Doing::Play { play, barge_in, by_digit: false });
            }
            Verb::Gather {
                sounds,
                min_digits,
                max_digits,
                first_timeout_ms,
                digit_timeout_ms,
                finish,
                clear_digits,
            } => {
                if clear_digits {
                    call.digits.clear();
                }
                let mut collector =
                    Collector::new(min_digits, max_digits, finish, first_timeout_ms, digit_timeout_ms);
                if let Some(end) = call.digits.feed(&mut collector) {
                    let digits = collector.digits;
                    return self.done(call, verb, Ok(Done::Gathered { digits, end }));
                }
                if collector.digits.is_empty() && !sounds.is_empty() {
                    self.music_line(call, "prompts");
                    collector.play = Some(self.play(&mut call.caller, ivr::items(sounds), false, true));
                }
                let wait = collector.wait_ms();
                self.wait_for(call, verb, Doing::Gather(collector));
                if let Some(ms) = wait {
                    self.arm(call, Wake::Verb, u64::from(ms));
                }
            }
            Verb::PlayMusic { sound, for_ms } => {
                self.music_line(call, "music");
                let play = self.play(&mut call.caller, ivr::items(vec![sound]), true, true);
                self.wait_for(call, verb, Doing::Music { play });
                self.arm(call, Wake::Verb, u64::from(for_ms));
            }
            Verb::Record { path, name, max_ms, silence_ms, beep, finish } => {
                let recording = self.number();
                // It counts from its beginning: a caller who leaves a message often ends it by hanging up.
                call.recordings.push(name.clone());
                if let Some(leg) = call.caller.media {
                    self.media(Command::Record {
                        leg,
                        recording,
                        path,
                        max_ms,
                        end_silence_ms: (silence_ms > 0).then_some(silence_ms),
                        beep,
                        finish_digits: finish.clone(),
                    });
                }
                self.wait_for(call, verb, Doing::Record { recording, name, finish });
            }
            Verb::SendDigits { digits } => {
                let ms = ivr::sending_ms(&digits);
                if let Some(leg) = call.caller.media {
                    self.media(Command::SendDigits { leg, digits, duration_ms: DIGIT_MS, gap_ms: GAP_MS });
                }
                self.wait_for(call, verb, Doing::Time);
                self.arm(call, Wake::Verb, ms);
            }
            Verb::Wait { ms } => {
                self.wait_for(call, verb, Doing::Time);
                self.arm(call, Wake::Verb, u64::from(ms));
            }
            Verb::Transfer { address, ring_timeout_ms } => {
                if call.place.is_some() {
                    let text = "the call waits in a queue: leave that place first";
                    return self.done(call, verb, Err(Failure::Other(text.to_owned())));
                }
                self.wait_for(call, verb, Doing::Transfer);
                self.dial(call, address, ring_timeout_ms, true);
            }
            Verb::Enqueue { workgroup, request } => {
                if call.place.is_some() {
                    let text = "the call already waits in a queue: leave that place first";
                    return self.done(call, verb, Err(Failure::Other(text.to_owned())));
                }
                let key = call.enqueues + 1;
                self.wait_for(call, verb, Doing::Enqueue { key });
                self.enqueue(call, workgroup, request);
            }
            Verb::Leave { ticket } => {
                let body = |request| ToDomain::Leave { request, ticket };
                self.ask_place(call, verb, ticket, true, body);
            }
            Verb::Protect { ticket, on } => {
                let body = |request| ToDomain::Protect { request, ticket, on };
                self.ask_place(call, verb, ticket, false, body);
            }
            Verb::Outcome { ticket } => self.outcome(call, verb, ticket),
            Verb::HangUp { cause } => self.finish(call, cause.clamp(1, 127), "script", ""),
        }
    }

    fn ask_place(
        &mut self,
        call: &mut Call,
        verb: u32,
        ticket: Id,
        leave: bool,
        body: impl FnOnce(u64) -> ToDomain,
    ) {
        if call.place.as_ref().is_none_or(|p| p.ticket != ticket) {
            // A place that is gone is as good as left.
            return self.done(call, verb, Ok(Done::Left(Left::Left)));
        }
        let request = self.number();
        self.wait_for(call, verb, Doing::Left { request, leave });
        self.tell(call, body(request));
    }

    fn outcome(&mut self, call: &mut Call, verb: u32, ticket: Id) {
        if let Some((of, outcome)) = &call.outcome
            && *of == ticket
            && !call.taken()
        {
            let outcome = outcome.clone();
            return self.done(call, verb, Ok(Done::Outcome(outcome)));
        }
        if call.place.as_ref().is_some_and(|p| p.ticket == ticket)
            || call.talk.as_ref().is_some_and(|t| t.ticket == ticket)
        {
            return self.wait_for(call, verb, Doing::Outcome { ticket });
        }
        self.done(call, verb, Err(Failure::Other("that place has ended without an agent".to_owned())));
    }

    /// Step 9.
    pub(super) fn enqueue(&mut self, call: &mut Call, workgroup: String, request: QueueRequest) {
        call.enqueues += 1;
        let key = call.enqueues;
        self.line(call, Step::SentToWorkgroup, workgroup.clone());
        call.asked.clone_from(&workgroup);
        self.tell(call, ToDomain::Enqueue { key, workgroup, request });
    }

    /// The domain's answer to step 9.
    pub(super) fn enqueued(
        &mut self,
        call: &mut Call,
        key: u32,
        result: Result<crate::messages::Place, Refusal>,
    ) {
        if key != call.enqueues || call.ended.is_some() || call.place.is_some() {
            return;
        }
        let waits = matches!(self.doing(call), Some(Doing::Enqueue { key: k }) if *k == key);
        match result {
            Ok(place) => {
                self.hand_off(call, Station::Queue);
                let queued = Done::Queued {
                    ticket: place.ticket,
                    direct: place.direct,
                    position: place.position,
                    wait_s: place.wait_s,
                };
                call.place = Some(Place {
                    ticket: place.ticket,
                    workgroup: place.workgroup,
                    music: place.music,
                    state: TicketState::Waiting,
                    heard: false,
                });
                if waits {
                    self.complete(call, Ok(queued));
                } else {
                    self.native_music(call);
                }
            }
            Err(refusal) if waits => self.complete(call, Ok(Done::Refused(refusal))),
            Err(refusal) => {
                self.line(call, Step::After, format!("refused by the queue: {}", refusal.reason));
                match call.tenant().fallback.clone() {
                    crate::model::Fallback::Announce { prompt, cause } => {
                        self.hand_off(call, Station::Ivr);
                        self.announce(call, prompt.as_deref(), cause);
                    }
                    // Asked once: then it is the last that was asked.
                    crate::model::Fallback::Workgroup(other) if *other != *call.asked => {
                        self.line(call, Step::After, format!("fallback: workgroup {other}"));
                        self.enqueue(call, other.to_string(), QueueRequest::default());
                    }
                    crate::model::Fallback::Workgroup(_) => self.finish(call, 41, "host", &refusal.text),
                }
            }
        }
    }

    /// A place as the domain sees it. The shard's own judgement is newer than what crosses it.
    pub(super) fn ticket(
        &mut self,
        call: &mut Call,
        ticket: Id,
        state: TicketState,
        position: u32,
        wait_s: Option<u32>,
    ) {
        let talking = call.talk.as_ref().is_some_and(|t| t.ticket == ticket);
        let Some(place) = call.place.as_mut().filter(|p| p.ticket == ticket) else { return };
        if state == TicketState::Ended {
            if talking {
                return;
            }
            call.place = None;
            self.hand_off(call, Station::Ivr);
        } else {
            if talking != (state == TicketState::Taken) {
                return;
            }
            place.state = state;
        }
        self.tell_ticket(call, ticket, state, position, wait_s);
        if state == TicketState::Ended {
            if let Some(Doing::Outcome { ticket: t }) = self.doing(call)
                && *t == ticket
            {
                self.complete(call, Err(Failure::Other("that place has ended without an agent".to_owned())));
            } else if call.native == Native::Queue && call.round.is_none() {
                self.finish(call, 41, "host", "the place in the queue has ended");
            }
        }
    }

    pub(super) fn tell_ticket(
        &mut self,
        call: &Call,
        ticket: Id,
        state: TicketState,
        position: u32,
        wait_s: Option<u32>,
    ) {
        if let Some(script) = &call.script {
            self.out.push(Output::Script(script.id, ToScript::Ticket { ticket, state, position, wait_s }));
        }
    }

    /// The domain's answer to `Leave` and `Protect`.
    pub(super) fn left(&mut self, call: &mut Call, request: u64, result: Left) {
        let Some(Doing::Left { request: r, leave }) = self.doing(call) else { return };
        if *r != request {
            return;
        }
        if *leave && result == Left::Left {
            call.place = None;
            self.hand_off(call, Station::Ivr);
        }
        self.complete(call, Ok(Done::Left(result)));
    }

    /// An agent has the call: the verb that waits ends, all but `outcome`.
    pub(super) fn taken(&mut self, call: &mut Call, ticket: Id) {
        #[cfg(feature = "seeded-bugs")]
        if self.bugs.taken_not_delivered {
            return;
        }
        self.tell_ticket(call, ticket, TicketState::Taken, 0, None);
        match self.doing(call) {
            None | Some(Doing::Outcome { .. }) => {}
            Some(Doing::Record { recording, .. }) => {
                let recording = *recording;
                if let Some(leg) = call.caller.media {
                    self.media(Command::StopRecord { leg, recording });
                }
                self.complete(call, Err(Failure::Taken));
            }
            Some(Doing::Left { .. }) => self.complete(call, Ok(Done::Left(Left::Taken))),
            Some(_) => self.complete(call, Err(Failure::Taken)),
        }
        call.digits.clear();
    }

    /// The agent has left, or vanished: `outcome` completes and verbs work again.
    pub(super) fn talk_over(&mut self, call: &mut Call, ticket: Id, outcome: Outcome) {
        if let Some(Doing::Outcome { ticket: t }) = self.doing(call)
            && *t == ticket
        {
            self.complete(call, Ok(Done::Outcome(outcome.clone())));
        }
        call.outcome = Some((ticket, outcome));
    }

    /// A dialled address did not answer, or refused.
    pub(super) fn transfer_failed(&mut self, call: &mut Call, failure: Failure) {
        if matches!(self.doing(call), Some(Doing::Transfer)) {
            self.complete(call, Err(failure));
        }
    }

    // ---- What the media plane and the clock say to a verb ----

    pub(super) fn play_ended(&mut self, call: &mut Call, ended: u64, reason: PlayEnd) {
        if let Native::Announce { play, cause } = call.native
            && play == ended
        {
            return self.finish(call, cause, "host", "fallback");
        }
        let barged = reason == PlayEnd::Barged;
        match self.doing(call) {
            Some(Doing::Play { play, by_digit, .. }) if *play == ended => {
                let by_digit = *by_digit || barged;
                self.complete(call, Ok(Done::Played { by_digit }));
            }
            Some(Doing::Music { play }) if *play == ended => {
                self.complete(call, Ok(Done::Played { by_digit: barged }));
            }
            Some(Doing::Gather(collector)) if collector.play == Some(ended) => {
                collector.play = None;
                if let Some(ms) = collector.wait_ms() {
                    self.arm(call, Wake::Verb, u64::from(ms));
                }
            }
            _ => {}
        }
    }

    /// A digit of the caller, from RTP, or from an INFO that the media plane knows nothing of.
    pub(super) fn digit(&mut self, call: &mut Call, digit: char, by_info: bool) {
        if call.ended.is_some() {
            return;
        }
        if call.taken() {
            // Relayed by the media plane; what came by INFO is sent on as RFC 4733.
            if let Some(leg) = call.other().and_then(|p| p.media).filter(|_| by_info) {
                self.send_digit(leg, digit);
            }
            return;
        }
        let stop = match self.doing(call) {
            Some(Doing::Gather(collector)) => {
                let end = collector.digit(digit);
                let (play, wait) = (collector.play.take(), u64::from(collector.digit_timeout_ms));
                if let Some(play) = play.filter(|_| by_info) {
                    self.stop(&call.caller, play);
                }
                return match end {
                    Some(end) => self.gathered(call, end),
                    None => self.arm(call, Wake::Verb, wait),
                };
            }
            Some(Doing::Record { recording, finish, .. }) if finish.contains(digit) => {
                let recording = *recording;
                if let Some(leg) = call.caller.media.filter(|_| by_info) {
                    self.media(Command::StopRecord { leg, recording });
                }
                return;
            }
            Some(Doing::Play { play, barge_in: true, by_digit }) => {
                *by_digit = true;
                Some(*play)
            }
            Some(Doing::Music { play }) => {
                let play = *play;
                call.digits.push(digit);
                if by_info {
                    self.stop(&call.caller, play);
                    self.complete(call, Ok(Done::Played { by_digit: true }));
                }
                return;
            }
            _ => None,
        };
        call.digits.push(digit);
        if let Some(play) = stop.filter(|_| by_info) {
            self.stop(&call.caller, play);
        }
    }

    pub(super) fn send_digit(&mut self, leg: cordboard_media::control::LegId, digit: char) {
        let digits = digit.to_string();
        self.media(Command::SendDigits { leg, digits, duration_ms: DIGIT_MS, gap_ms: GAP_MS });
    }

    fn gathered(&mut self, call: &mut Call, end: GatherEnd) {
        if let Some(Doing::Gather(collector)) = self.doing(call) {
            let digits = std::mem::take(&mut collector.digits);
            self.complete(call, Ok(Done::Gathered { digits, end }));
        }
    }

    pub(super) fn verb_time(&mut self, call: &mut Call) {
        match self.doing(call) {
            Some(Doing::Gather(collector)) => {
                let end = collector.timeout();
                self.gathered(call, end);
            }
            Some(Doing::Music { play }) => {
                let play = *play;
                self.stop(&call.caller, play);
                self.complete(call, Ok(Done::Played { by_digit: false }));
            }
            Some(Doing::Time) => self.complete(call, Ok(Done::Ok)),
            _ => {}
        }
    }

    pub(super) fn recorded(&mut self, call: &mut Call, ended: u64, result: Result<u32, String>) {
        let Some(Doing::Record { recording, name, .. }) = self.doing(call) else { return };
        if *recording != ended {
            return;
        }
        let name = std::mem::take(name);
        match result {
            Ok(duration_ms) => {
                self.line(call, Step::After, format!("recorded {name}"));
                self.complete(call, Ok(Done::Recorded { name, duration_ms }));
            }
            Err(reason) => {
                call.recordings.retain(|r| *r != name);
                self.complete(call, Err(Failure::Media(reason)));
            }
        }
    }

    // ---- The script's end ----

    /// ```text
    ///            how it ended         an agent has it   it waits            neither
    ///            returned             nothing           native treatment    hang up, 16
    ///            error, fault         nothing           native treatment    the tenant's fallback
    /// ```
    fn script_ended(&mut self, call: &mut Call, how: ScriptEnd) {
        let fault = match &how {
            ScriptEnd::Returned | ScriptEnd::Abandoned => None,
            ScriptEnd::Error(text) => Some(format!("ended with an error: {text}")),
            ScriptEnd::Fault(fault) => Some(fault.to_string()),
        };
        let seen = call.script.as_ref().is_some_and(|s| s.seen);
        self.script_seen(call, fault.as_deref());
        if let Some(fault) = &fault {
            self.totals.script_faults += 1;
            if seen {
                self.line(call, Step::After, format!("script: {fault}"));
            }
        }
        if matches!(how, ScriptEnd::Fault(Fault::Missing)) && call.ended.is_none() {
            self.line(
                call,
                Step::After,
                "the script is not in service: load it with `cordboard plugin load`",
            );
        }
        let transferring = matches!(self.doing(call), Some(Doing::Transfer));
        let enqueuing = matches!(self.doing(call), Some(Doing::Enqueue { .. }));
        self.disarm(call, Wake::Verb);
        let hang_up = call.script.take().and_then(|s| s.hang_up);
        if call.ended.is_some() {
            return self.close_up(call);
        }
        if call.taken() || transferring {
            // Without a script the call ends when the other party leaves.
            if hang_up.is_none() && call.place.is_some() {
                call.native = Native::Queue;
            }
            return;
        }
        if call.place.is_some() || enqueuing {
            call.native = Native::Queue;
            self.line(call, Step::After, "the workgroup's own treatment goes on, the place is kept");
            return self.want_answer(call);
        }
        match fault {
            None => self.finish(call, 16, "script", ""),
            Some(_) => self.fall_back(call),
        }
    }
}

//! What every station of a shard needs: the SIP stack, the timers, the tables that find a call,
//! and the one vector of outputs.
//!
//! Used by the shard's own modules alone. Knows calls by their key and never looks into the slab.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use cordboard_base::{Id, Map, Now, Random, Set, TimerId, Timers, ms};
use cordboard_media::control::{self, Command};
use cordboard_sip::digest;
use cordboard_sip::endpoint::{self, Endpoint, Invite, LegId, SubscriptionId, TxnId};

use super::call::{Call, CallKey, Wake};
use super::trunks::{TrunkWake, Trunks};
use super::watch::Watches;
use super::{Output, Prompts, ShardConfig, Totals};
use crate::facts::Fact;
use crate::handoff::{self, Station};
use crate::messages::{Envelope, ToDomain};
use crate::model::Model;
use crate::redirect::Note;
use crate::script::ScriptId;
use crate::timeline::{Line, Step};
use crate::trunk::{Admission, passages};

/// The most notes of the redirect role that wait for their INVITE.
const MAX_NOTES: usize = 4_096;

/// Why the shard wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// For a call.
    Call(CallKey, Wake),
    /// A REGISTER that the domain has not answered.
    Register(u64),
    /// A subscription's time is up.
    Watch(SubscriptionId),
    /// For a trunk that calls leave by.
    Trunk(u64, TrunkWake),
}

/// Who a SIP leg belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct LegEntry {
    pub(super) call: CallKey,
    /// Its dialog is in the journal.
    pub(super) up: bool,
    /// We are ending it: only `Released` is to come.
    pub(super) dying: bool,
}

/// See the module.
pub(super) struct Core {
    pub(super) config: ShardConfig,
    pub(super) model: Arc<Model>,
    pub(super) prompts: Arc<dyn Prompts>,
    pub(super) random: Random,
    pub(super) now: Now,
    pub(super) endpoint: Endpoint,
    pub(super) events: VecDeque<endpoint::Event>,
    pub(super) out: Vec<Output>,
    pub(super) timers: Timers<Timer>,
    pub(super) legs: Map<LegId, LegEntry>,
    pub(super) media: Map<control::LegId, CallKey>,
    /// Media legs that were closed and have not said so yet.
    pub(super) closing: Set<control::LegId>,
    pub(super) scripts: Map<ScriptId, CallKey>,
    pub(super) tokens: Map<Id, CallKey>,
    pub(super) interactions: Map<Id, CallKey>,
    pub(super) asks: Map<u64, CallKey>,
    pub(super) call_ids: Map<Arc<str>, CallKey>,
    pub(super) registers: Map<u64, (TxnId, TimerId)>,
    /// Probes without an answer, by their numbers.
    pub(super) probes: Map<u64, LegId>,
    /// Connections that phones have registered over.
    pub(super) registered: Set<u64>,
    /// Names that the other ends of connections have proved.
    pub(super) proved: Map<u64, Arc<[String]>>,
    pub(super) admission: Admission,
    pub(super) trunks: Trunks,
    pub(super) watches: Watches,
    /// Names that DNS was asked for.
    pub(super) names: Map<u64, super::names::Asker>,
    pub(super) digest: digest::Server,
    /// Knows calls that have been here before.
    pub(super) passages: passages::Key,
    pub(super) draining: bool,
    pub(super) totals: Totals,
    notes: Map<String, Note>,
    note_order: VecDeque<String>,
    dirty: Vec<CallKey>,
    seq: u64,
    numbers: u64,
    #[cfg(feature = "seeded-bugs")]
    pub(super) bugs: super::Bugs,
}

impl Core {
    pub(super) fn new(
        config: ShardConfig,
        model: Arc<Model>,
        prompts: Arc<dyn Prompts>,
        mut random: Random,
        now: Now,
    ) -> Self {
        let mut stack_random = [0; 32];
        stack_random.chunks_mut(8).for_each(|c| c.copy_from_slice(&random.next_u64().to_le_bytes()));
        let mut secret = [0; 32];
        secret.chunks_mut(8).for_each(|c| c.copy_from_slice(&random.next_u64().to_le_bytes()));
        let mut endpoint = Endpoint::new(config.endpoint(), Random::from_entropy(stack_random));
        endpoint.set_session_expires_s(model.limits.session_expires_s);
        let passages = config.passages.clone().unwrap_or_else(|| passages::Key::new(&secret));
        Self {
            config,
            model,
            prompts,
            random,
            now,
            endpoint,
            events: VecDeque::new(),
            out: Vec::new(),
            timers: Timers::default(),
            legs: Map::default(),
            media: Map::default(),
            closing: Set::default(),
            scripts: Map::default(),
            tokens: Map::default(),
            interactions: Map::default(),
            asks: Map::default(),
            call_ids: Map::default(),
            registers: Map::default(),
            registered: Set::default(),
            proved: Map::default(),
            probes: Map::default(),
            admission: Admission::default(),
            trunks: Trunks::default(),
            watches: Watches::default(),
            names: Map::default(),
            passages,
            digest: digest::Server::new(secret),
            draining: false,
            totals: Totals::default(),
            notes: Map::default(),
            note_order: VecDeque::new(),
            dirty: Vec::new(),
            seq: 0,
            numbers: 0,
            #[cfg(feature = "seeded-bugs")]
            bugs: super::Bugs::default(),
        }
    }

    /// A number that this shard has not used for the like before.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    // ---- The SIP stack ----

    /// Moves what the stack wants to its places, so that outputs stand in causal order.
    pub(super) fn pump(&mut self) {
        while let Some(output) = self.endpoint.poll() {
            match output {
                endpoint::Output::Send(d) => {
                    self.out.push(Output::Send { flow: d.flow, bytes: d.bytes });
                }
                endpoint::Output::Event(event) => self.events.push_back(event),
            }
        }
    }

    pub(super) fn progress(&mut self, leg: LegId, status: u16, sdp: Option<&str>) {
        self.endpoint.progress(self.now, leg, status, sdp);
        self.pump();
    }

    pub(super) fn answer(&mut self, leg: LegId, sdp: Option<&str>) {
        self.endpoint.answer(self.now, leg, sdp);
        self.pump();
    }

    /// Refuses an incoming leg, which is gone then.
    pub(super) fn reject(&mut self, leg: LegId, status: u16, headers: &[(&str, &str)]) {
        self.endpoint.reject(self.now, leg, status, headers);
        self.legs.remove(&leg);
        self.pump();
    }

    /// Ends a leg; the table keeps it until the stack says that it is gone.
    pub(super) fn hang_up(&mut self, leg: LegId, reason: &str) {
        if let Some(entry) = self.legs.get_mut(&leg) {
            entry.dying = true;
        }
        self.endpoint.hang_up(self.now, leg, Some(reason));
        self.pump();
    }

    pub(super) fn invite(&mut self, call: CallKey, invite: Invite) -> Result<LegId, endpoint::Full> {
        let leg = self.endpoint.invite(self.now, invite)?;
        self.legs.insert(leg, LegEntry { call, up: false, dying: false });
        self.pump();
        Ok(leg)
    }

    /// A leg's dialog is confirmed: written down once, so that a later life can end it.
    pub(super) fn dialog_up(&mut self, leg: LegId, interaction: Id) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        if !entry.up
            && let Some(dialog) = self.endpoint.dialog(leg)
        {
            entry.up = true;
            let dialog = Arc::new(dialog);
            self.out.push(Output::Fact(Fact::DialogUp { leg: leg.as_u64(), interaction, dialog }));
        }
    }

    /// The stack says that a leg is gone.
    pub(super) fn leg_gone(&mut self, leg: LegId) -> Option<LegEntry> {
        let entry = self.legs.remove(&leg)?;
        if entry.up {
            self.out.push(Output::Fact(Fact::DialogDown { leg: leg.as_u64() }));
        }
        Some(entry)
    }

    // ---- The media plane ----

    pub(super) fn open_media(&mut self, call: CallKey) -> control::LegId {
        let leg = control::LegId(u64::from(self.config.number) << 56 | self.number());
        self.media.insert(leg, call);
        self.media(Command::Open { leg });
        leg
    }

    pub(super) fn close_media(&mut self, leg: control::LegId) {
        #[cfg(feature = "seeded-bugs")]
        if self.bugs.media_leg_leaked && self.number().is_multiple_of(2) {
            return;
        }
        if self.media.remove(&leg).is_some() {
            self.closing.insert(leg);
            self.media(Command::Close { leg });
        }
    }

    pub(super) fn media(&mut self, command: Command) {
        self.out.push(Output::Media(command));
    }

    // ---- Timers: at most one of a kind a call ----

    pub(super) fn arm(&mut self, call: &mut Call, wake: Wake, after_ms: u64) {
        self.disarm(call, wake);
        let deadline = self.now.after_ns(ms(after_ms));
        call.timers[wake as usize] = Some(self.timers.set(deadline, Timer::Call(call.key, wake)));
    }

    pub(super) fn disarm(&mut self, call: &mut Call, wake: Wake) {
        if let Some(id) = call.timers[wake as usize].take() {
            self.timers.cancel(id);
        }
    }

    // ---- The bus and the timeline ----

    /// Tells the domain, with the lines that the call has written since its last message.
    pub(super) fn tell(&mut self, call: &mut Call, body: ToDomain) {
        let lines = std::mem::take(&mut call.lines);
        self.envelope(Some(call.interaction), lines, body);
    }

    pub(super) fn envelope(&mut self, interaction: Option<Id>, lines: Vec<Line>, body: ToDomain) {
        self.seq += 1;
        self.out.push(Output::Bus(Envelope {
            from: u16::from(self.config.number),
            epoch: self.config.epoch,
            seq: self.seq,
            interaction,
            lines,
            body,
        }));
    }

    /// Writes a line; the caller adds its evidence.
    pub(super) fn line<'c>(
        &mut self,
        call: &'c mut Call,
        step: Step,
        detail: impl Into<Cow<'static, str>>,
    ) -> &'c mut Line {
        let at = (self.now.mono_ns, self.now.wall_ms);
        self.line_at(call, at, step, detail.into())
    }

    pub(super) fn line_at<'c>(
        &mut self,
        call: &'c mut Call,
        (mono_ns, wall_ms): (u64, i64),
        step: Step,
        detail: Cow<'static, str>,
    ) -> &'c mut Line {
        if call.lines.is_empty() {
            self.dirty.push(call.key);
        }
        let line = Line {
            step,
            mono_ns,
            wall_ms,
            call_id: None,
            cseq: None,
            bus_seq: None,
            ticket: None,
            token: None,
            detail,
        };
        call.lines.push(line);
        let last = call.lines.len() - 1;
        &mut call.lines[last]
    }

    /// Writes a line with the Call-ID and CSeq of a SIP leg.
    pub(super) fn leg_line<'c>(
        &mut self,
        call: &'c mut Call,
        leg: Option<LegId>,
        step: Step,
        detail: impl Into<Cow<'static, str>>,
    ) -> &'c mut Line {
        let call_id = leg.and_then(|leg| self.endpoint.call_id(leg)).cloned();
        let cseq = leg.and_then(|leg| self.endpoint.cseq(leg));
        let line = self.line(call, step, detail);
        line.call_id = call_id;
        line.cseq = cseq;
        line
    }

    /// The calls whose lines may still have to leave in a note of their own.
    pub(super) fn take_dirty(&mut self) -> Vec<CallKey> {
        std::mem::take(&mut self.dirty)
    }

    pub(super) fn give_back_dirty(&mut self, mut dirty: Vec<CallKey>) {
        dirty.clear();
        self.dirty = dirty;
    }

    // ---- Stations ----

    /// Every change of a call's station goes through here.
    pub(super) fn hand_off(&mut self, call: &mut Call, to: Station) {
        if call.station == to {
            return;
        }
        if let Err(illegal) = handoff::hand_off(&mut call.station, to) {
            self.totals.illegal_hand_offs += 1;
            self.line(call, Step::After, illegal.to_string());
        }
    }

    // ---- Notes of the redirect role ----

    pub(super) fn forget_call_id(&mut self, call: &Call) {
        if self.call_ids.get(&call.call_id) == Some(&call.key) {
            self.call_ids.remove(&call.call_id);
        }
    }

    /// Keeps a note until its INVITE comes; the oldest go first.
    pub(super) fn keep_note(&mut self, note: Note) {
        while self.note_order.len() >= MAX_NOTES {
            if let Some(oldest) = self.note_order.pop_front() {
                self.notes.remove(&oldest);
            }
        }
        if self.notes.insert(note.call_id.clone(), note.clone()).is_none() {
            self.note_order.push_back(note.call_id);
        }
    }

    pub(super) fn take_note(&mut self, call_id: &str) -> Option<Note> {
        // Its place in the order stays until it is the oldest, and then names nothing.
        self.notes.remove(call_id)
    }
}

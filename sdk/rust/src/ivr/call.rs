//! The caller's leg and its place in a queue, as a script holds them.
//!
//! On the host these are the WIT resources; in a native test they are the double's. Nothing
//! else in the SDK knows the difference.

use super::{
    CallInfo, Digits, Failure, Gathered, Left, Outcome, PlayEnd, PlayOptions, Prompt, QueueRequest, Record,
    Recording, Refusal, Request, TicketState,
};

#[cfg(target_arch = "wasm32")]
use super::bindings::cordboard::ivr::calls::{Call as RawCall, Enqueued as RawEnqueued, Ticket as RawTicket};
#[cfg(not(target_arch = "wasm32"))]
use super::testing::{RawCall, RawEnqueued, RawTicket};

/// The caller's leg. Its verbs block until they are done.
///
/// Every verb fails with [`Failure::HungUp`] once the caller is gone and with
/// [`Failure::Taken`] while an agent has the call.
#[derive(Debug)]
pub struct Call(RawCall);

impl From<RawCall> for Call {
    fn from(raw: RawCall) -> Self {
        Call(raw)
    }
}

impl Call {
    /// Who calls whom, and by which trunk.
    pub fn info(&self) -> CallInfo {
        self.0.info()
    }

    /// An attribute of the call: the router's, the interaction's or one set here.
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.0.attribute(name)
    }

    /// Sets an attribute of the interaction: at most 64, of 4 KiB each.
    ///
    /// # Errors
    /// [`Failure::Other`] beyond the bounds.
    pub fn set_attribute(&self, name: &str, value: &str) -> Result<(), Failure> {
        self.0.set_attribute(name, value)
    }

    /// Answers the call. Answering twice is no error.
    ///
    /// # Errors
    /// See [`Call`].
    pub fn answer(&self) -> Result<(), Failure> {
        self.0.answer()
    }

    /// Plays prompts one after the other to their end. An unanswered call is answered first.
    ///
    /// # Errors
    /// [`Failure::Media`] when a prompt cannot be had; see [`Call`].
    pub fn play(&self, prompts: impl Into<Vec<Prompt>>) -> Result<PlayEnd, Failure> {
        self.play_with(prompts, PlayOptions { barge_in: false, clear_digits: false })
    }

    /// Plays prompts until their end or the first digit, which is kept for [`Call::gather`].
    ///
    /// # Errors
    /// As [`Call::play`].
    pub fn play_until_digit(&self, prompts: impl Into<Vec<Prompt>>) -> Result<PlayEnd, Failure> {
        self.play_with(prompts, PlayOptions { barge_in: true, clear_digits: false })
    }

    /// Plays prompts with every choice in the script's hand.
    ///
    /// # Errors
    /// As [`Call::play`].
    pub fn play_with(
        &self,
        prompts: impl Into<Vec<Prompt>>,
        options: PlayOptions,
    ) -> Result<PlayEnd, Failure> {
        self.0.play(&prompts.into(), options)
    }

    /// Plays prompts that the first digit stops, then waits for digits.
    ///
    /// # Errors
    /// As [`Call::play`]. Silence is no failure: [`Gathered::end`] says how it ended.
    pub fn gather(&self, prompts: impl Into<Vec<Prompt>>, digits: Digits) -> Result<Gathered, Failure> {
        self.0.gather(&prompts.into(), &digits.into())
    }

    /// Plays prompts and waits for one digit: `None` when none came in time.
    ///
    /// # Errors
    /// As [`Call::play`].
    pub fn menu(&self, prompts: impl Into<Vec<Prompt>>, within_s: u32) -> Result<Option<char>, Failure> {
        let typed = self.gather(prompts, Digits::exactly(1).first_within_s(within_s))?;
        Ok(typed.digits.chars().next())
    }

    /// The next digit that was typed already, without waiting.
    ///
    /// # Errors
    /// See [`Call`].
    pub fn typed_ahead(&self) -> Result<Option<char>, Failure> {
        self.menu([], 0)
    }

    /// Loops music for a time, or until a digit (kept for [`Call::gather`]).
    ///
    /// # Errors
    /// [`Failure::Taken`] the moment an agent answers; as [`Call::play`].
    pub fn play_music(&self, music: &str, for_s: u32) -> Result<PlayEnd, Failure> {
        self.0.play_music(music, for_s.saturating_mul(1_000))
    }

    /// Records the caller.
    ///
    /// # Errors
    /// [`Failure::Media`] when nothing can be stored; see [`Call`].
    pub fn record(&self, record: Record) -> Result<Recording, Failure> {
        self.0.record(&record.into())
    }

    /// Sends DTMF to the caller's side (RFC 4733).
    ///
    /// # Errors
    /// See [`Call`].
    pub fn send_digits(&self, digits: &str) -> Result<(), Failure> {
        self.0.send_digits(digits)
    }

    /// Hands the call to a SIP address. When it works the call is no longer the script's.
    ///
    /// # Errors
    /// [`Failure::Timeout`] when nobody answers: the script goes on.
    pub fn transfer(&self, address: &str, ring_timeout_s: u16) -> Result<(), Failure> {
        self.0.transfer(address, ring_timeout_s)
    }

    /// Puts the call into a workgroup's queue. The script goes on running.
    ///
    /// # Errors
    /// See [`Call`]. A refusal is no failure: it is an answer.
    pub fn enqueue(&self, workgroup: &str, request: Request) -> Result<Enqueued, Failure> {
        let request: QueueRequest = request.into();
        Ok(match self.0.enqueue(workgroup, &request)? {
            RawEnqueued::Queued(ticket) => Enqueued::Queued(Ticket(ticket)),
            RawEnqueued::Direct(ticket) => Enqueued::Direct(Ticket(ticket)),
            RawEnqueued::Refused(refusal) => Enqueued::Refused(refusal),
        })
    }

    /// Waits without doing anything.
    ///
    /// # Errors
    /// See [`Call`].
    pub fn wait(&self, ms: u32) -> Result<(), Failure> {
        self.0.wait(ms)
    }

    /// Ends the call with a Q.850 cause; 16 is normal clearing.
    pub fn hang_up(&self, cause: u8) {
        self.0.hang_up(cause);
    }
}

/// What a workgroup said to a call that wants in.
#[derive(Debug)]
pub enum Enqueued {
    /// It waits in the queue.
    Queued(Ticket),
    /// The interaction manager sent it to one named agent.
    Direct(Ticket),
    /// No place, and why.
    Refused(Refusal),
}

/// A place in a queue. Dropping it does not leave the queue: [`Ticket::leave`] does.
#[derive(Debug)]
pub struct Ticket(RawTicket);

impl Ticket {
    /// Its identifier, as the timeline shows it.
    pub fn id(&self) -> String {
        self.0.id()
    }

    /// Where the entry stands.
    pub fn state(&self) -> TicketState {
        self.0.state()
    }

    /// 1 for the head of the queue; `None` when it is not waiting.
    pub fn position(&self) -> Option<u32> {
        Some(self.0.position()).filter(|&position| position > 0)
    }

    /// The estimate of the remaining wait in seconds, `None` while it is unknown.
    pub fn wait_s(&self) -> Option<u32> {
        self.0.wait_s()
    }

    /// Gives the place up. [`Left::Left`]: the call is the script's alone; otherwise it is too
    /// late, and the script goes on as if waiting.
    ///
    /// # Errors
    /// See [`Call`].
    pub fn leave(&self) -> Result<Left, Failure> {
        self.0.leave()
    }

    /// From here to [`Ticket::unprotect`] no agent is offered the call and its place is kept.
    /// [`Left::Left`] means that it holds; otherwise it is too late.
    ///
    /// # Errors
    /// See [`Call`].
    pub fn protect(&self) -> Result<Left, Failure> {
        self.0.protect(true)
    }

    /// Agents may be offered the call again.
    ///
    /// # Errors
    /// See [`Call`].
    pub fn unprotect(&self) -> Result<(), Failure> {
        self.0.protect(false).map(drop)
    }

    /// After [`Failure::Taken`]: waits until the agent has left.
    ///
    /// # Errors
    /// [`Failure::HungUp`] when the caller ended the conversation.
    pub fn outcome(&self) -> Result<Outcome, Failure> {
        self.0.outcome()
    }
}

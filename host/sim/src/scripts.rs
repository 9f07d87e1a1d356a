//! Scripts as models: what an IVR component does, in virtual time, with every misbehaviour.

use std::collections::BTreeMap;
use std::sync::Arc;

use cordboard_base::{Id, Random, ms};
use cordboard_call::messages::QueueRequest;
use cordboard_call::policy::Fault;
use cordboard_call::script::{Done, Failure, FromScript, Left, ScriptEnd, ScriptId, Sound, ToScript, Verb};
use cordboard_media::clip::Clip;

/// Where a script stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Answer,
    Greeting,
    Menu,
    Enqueue,
    Waiting,
    Leave,
    Voicemail,
    Outcome,
    Survey,
    Refused,
}

#[derive(Debug)]
struct Script {
    at: At,
    verb: u32,
    ticket: Option<Id>,
    hung_up: bool,
}

/// All running scripts.
#[derive(Debug)]
pub struct Scripts {
    running: BTreeMap<ScriptId, Script>,
    workgroups: Vec<String>,
    clip: Arc<Clip>,
    /// Verbs that were answered with `taken`, so that a run can show that it happened.
    pub taken: u64,
    /// Scripts that ended in a fault.
    pub faults: u64,
}

/// What a script says after so many nanoseconds.
pub type Later = (u64, ScriptId, FromScript);

impl Scripts {
    /// No script yet; the scripts will queue into these workgroups.
    #[must_use]
    pub fn new(workgroups: Vec<String>) -> Self {
        let clip = Arc::new(Clip::from_samples(&[0; 8 * 1_500]));
        Self { running: BTreeMap::new(), workgroups, clip, taken: 0, faults: 0 }
    }

    /// How many run: none when all calls are over.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether the script that holds this place still runs and does not know that an agent has its call.
    #[must_use]
    pub fn waits_unaware(&self, ticket: Id) -> bool {
        self.running.values().any(|script| {
            script.ticket == Some(ticket)
                && !script.hung_up
                && matches!(script.at, At::Waiting | At::Enqueue | At::Leave)
        })
    }

    /// Starts one.
    pub fn start(&mut self, id: ScriptId, random: &mut Random) -> Option<Later> {
        self.running.insert(id, Script { at: At::Answer, verb: 0, ticket: None, hung_up: false });
        if random.below(100) == 0 {
            return self.end(id, ScriptEnd::Fault(Fault::Trap("seeded".to_owned())), random);
        }
        self.go(id, At::Answer, random)
    }

    /// A message for one. Nothing is heard of a script that has ended.
    pub fn hear(&mut self, id: ScriptId, message: ToScript, random: &mut Random) -> Option<Later> {
        let script = self.running.get_mut(&id)?;
        match message {
            ToScript::Ticket { .. } => None,
            ToScript::HungUp => {
                // The grace time: most end at once, some need to be dropped.
                let abandoned = random.below(20) == 0;
                script.hung_up = true;
                let (after, how) = if abandoned {
                    (ms(2_000), ScriptEnd::Abandoned)
                } else {
                    (random.below(ms(50)), ScriptEnd::Returned)
                };
                self.running.remove(&id);
                Some((after, id, FromScript::Ended { how, attributes: Vec::new() }))
            }
            ToScript::Done { verb, .. } if verb != script.verb => None,
            ToScript::Done { result, .. } => {
                let at = script.at;
                self.step(id, at, result, random)
            }
        }
    }

    fn step(
        &mut self,
        id: ScriptId,
        at: At,
        result: Result<Done, Failure>,
        random: &mut Random,
    ) -> Option<Later> {
        match (at, result) {
            (_, Err(Failure::HungUp)) => None, // `HungUp` itself follows
            (_, Err(Failure::Taken)) => {
                self.taken += 1;
                self.go(id, At::Outcome, random)
            }
            (At::Answer, Ok(_)) => self.go(id, At::Greeting, random),
            (At::Greeting, Ok(_)) => self.go(id, At::Menu, random),
            (At::Menu, Ok(_)) => self.go(id, At::Enqueue, random),
            (At::Enqueue, Ok(Done::Queued { ticket, .. })) => {
                self.running.get_mut(&id)?.ticket = Some(ticket);
                match random.below(40) {
                    0 => self.end(id, ScriptEnd::Fault(Fault::Timeout), random),
                    1 => self.end(id, ScriptEnd::Returned, random),
                    2 => self.end(id, ScriptEnd::Error("seeded".to_owned()), random),
                    _ => self.go(id, At::Waiting, random),
                }
            }
            (At::Enqueue, Ok(_)) => self.go(id, At::Refused, random),
            (At::Waiting, Ok(_)) if random.below(30) == 0 => self.go(id, At::Leave, random),
            (At::Waiting, Ok(_)) => self.go(id, At::Waiting, random),
            (At::Leave, Ok(Done::Left(Left::Left))) => self.go(id, At::Voicemail, random),
            (At::Leave, Ok(Done::Left(Left::Offered))) => self.go(id, At::Waiting, random),
            (At::Leave, Ok(Done::Left(Left::Taken))) => self.go(id, At::Outcome, random),
            (At::Outcome, Ok(Done::Outcome(outcome))) if outcome.end == "returned" => {
                self.go(id, At::Waiting, random)
            }
            (At::Outcome, Ok(_)) => self.go(id, At::Survey, random),
            (At::Survey | At::Voicemail | At::Refused, _) => self.end(id, ScriptEnd::Returned, random),
            (_, Err(failure)) => self.end(id, ScriptEnd::Error(format!("{failure:?}")), random),
            (_, Ok(done)) => self.end(id, ScriptEnd::Error(format!("unexpected {done:?}")), random),
        }
    }

    fn go(&mut self, id: ScriptId, at: At, random: &mut Random) -> Option<Later> {
        let sound = Sound::Clip { name: "clip".to_owned(), clip: self.clip.clone() };
        let gather = |max_digits| Verb::Gather {
            sounds: vec![sound.clone()],
            min_digits: 1,
            max_digits,
            first_timeout_ms: 2_000,
            digit_timeout_ms: 1_000,
            finish: Some('#'),
            clear_digits: false,
        };
        let workgroup = self.workgroups[random.below(self.workgroups.len() as u64) as usize].clone();
        let script = self.running.get_mut(&id)?;
        script.at = at;
        script.verb += 1;
        let what = match at {
            At::Answer => Verb::Answer,
            At::Greeting | At::Refused => {
                Verb::Play { sounds: vec![sound], barge_in: true, clear_digits: false }
            }
            At::Menu => gather(1),
            At::Survey => gather(2),
            At::Enqueue => {
                let request = QueueRequest { priority: random.below(3) as u8, ..QueueRequest::default() };
                Verb::Enqueue { workgroup, request }
            }
            At::Waiting => match random.below(3) {
                0 => Verb::Play { sounds: vec![sound], barge_in: false, clear_digits: false },
                1 => Verb::Wait { ms: 700 },
                _ => Verb::PlayMusic { sound, for_ms: 5_000 },
            },
            At::Leave => Verb::Leave { ticket: script.ticket? },
            At::Outcome => Verb::Outcome { ticket: script.ticket? },
            At::Voicemail => Verb::Record {
                path: "voicemail.wav".into(),
                name: "voicemail".to_owned(),
                max_ms: 3_000,
                silence_ms: 0,
                beep: true,
                finish: "#".to_owned(),
            },
        };
        let after = 10_000 + random.below(ms(3));
        Some((after, id, FromScript::Verb { verb: script.verb, attributes: Vec::new(), what }))
    }

    fn end(&mut self, id: ScriptId, how: ScriptEnd, random: &mut Random) -> Option<Later> {
        self.running.remove(&id)?;
        self.faults += u64::from(!matches!(how, ScriptEnd::Returned));
        Some((10_000 + random.below(ms(3)), id, FromScript::Ended { how, attributes: Vec::new() }))
    }
}

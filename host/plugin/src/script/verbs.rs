//! The resource `call`: each verb is checked, its prompts are resolved, and it goes to the shard.

use cordboard_call::messages::QueueRequest;
use cordboard_call::script::{Done, GatherEnd, Verb};
use wasmtime::component::Resource;

use super::{CallHandle, State, TicketHandle, misplaced, other, wit};
use crate::guest::Guest;

/// What a verb gives the guest: its result, or a trap.
type Verbed<T> = wasmtime::Result<Result<T, wit::Failure>>;
type Call = Resource<CallHandle>;

const DIGITS: &str = "0123456789*#ABCDabcd";
/// The longest that a verb may be asked to last: a day.
const LONGEST_MS: u32 = 86_400_000;

impl wit::Host for Guest<State> {}

impl Guest<State> {
    async fn done(&mut self, verb: Verb) -> Result<(), wit::Failure> {
        match self.world.verb(verb).await? {
            Done::Ok => Ok(()),
            done => Err(misplaced(&done)),
        }
    }

    async fn played(&mut self, verb: Verb) -> Result<wit::PlayEnd, wit::Failure> {
        match self.world.verb(verb).await? {
            Done::Played { by_digit: true } => Ok(wit::PlayEnd::Digit),
            Done::Played { by_digit: false } => Ok(wit::PlayEnd::Finished),
            done => Err(misplaced(&done)),
        }
    }

    async fn try_play(
        &mut self,
        prompts: Vec<wit::Prompt>,
        options: wit::PlayOptions,
    ) -> Result<wit::PlayEnd, wit::Failure> {
        let sounds = self.world.sounds(prompts, self.context.limits.prompts).await?;
        let verb = Verb::Play { sounds, barge_in: options.barge_in, clear_digits: options.clear_digits };
        self.played(verb).await
    }

    async fn try_gather(
        &mut self,
        prompts: Vec<wit::Prompt>,
        options: wit::GatherOptions,
    ) -> Result<wit::Gathered, wit::Failure> {
        let (min, max) = (options.min_digits, options.max_digits);
        if min < 1 || max < min || max > 32 {
            return Err(other(format!(
                "gather wants 1 <= min-digits <= max-digits <= 32, and got {min} and {max}"
            )));
        }
        let mut finish = options.finish.chars();
        let finish = match (finish.next(), finish.next()) {
            (None, _) => None,
            (Some(digit), None) if DIGITS.contains(digit) => Some(digit.to_ascii_uppercase()),
            _ => return Err(other(format!("gather: `{}` is not one digit", options.finish))),
        };
        let sounds = self.world.sounds(prompts, self.context.limits.prompts).await?;
        let verb = Verb::Gather {
            sounds,
            min_digits: min,
            max_digits: max,
            first_timeout_ms: options.first_timeout_ms.min(LONGEST_MS),
            digit_timeout_ms: options.digit_timeout_ms.min(LONGEST_MS),
            finish,
            clear_digits: options.clear_digits,
        };
        match self.world.verb(verb).await? {
            Done::Gathered { digits, end } => {
                let end = match end {
                    GatherEnd::Complete => wit::GatherEnd::Complete,
                    GatherEnd::FinishDigit => wit::GatherEnd::FinishDigit,
                    GatherEnd::Timeout => wit::GatherEnd::Timeout,
                };
                Ok(wit::Gathered { digits, end })
            }
            done => Err(misplaced(&done)),
        }
    }

    async fn try_record(&mut self, options: wit::RecordOptions) -> Result<wit::Recording, wit::Failure> {
        let label = options.label;
        if label.is_empty()
            || label.len() > 32
            || !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        {
            return Err(other(format!(
                "record: the label `{label}` is not 1 to 32 letters, digits and dashes"
            )));
        }
        if !options.finish.chars().all(|digit| DIGITS.contains(digit)) {
            return Err(other(format!("record: `{}` holds more than digits", options.finish)));
        }
        let state = &mut self.world;
        state.recordings += 1;
        let name = format!("{}-{label}-{}.wav", state.info.interaction, state.recordings);
        let folder = state.around.recordings.join(&*state.info.tenant);
        if let Err(e) = std::fs::create_dir_all(&folder) {
            return Err(wit::Failure::Media(format!("the folder {} cannot be made: {e}", folder.display())));
        }
        let verb = Verb::Record {
            path: folder.join(&name),
            name,
            max_ms: options.max_ms.clamp(1, LONGEST_MS),
            silence_ms: options.silence_ms,
            beep: options.beep,
            finish: options.finish.to_ascii_uppercase(),
        };
        match state.verb(verb).await? {
            Done::Recorded { name, duration_ms } => Ok(wit::Recording { name, duration_ms }),
            done => Err(misplaced(&done)),
        }
    }

    async fn try_enqueue(
        &mut self,
        workgroup: String,
        request: wit::QueueRequest,
    ) -> Result<wit::Enqueued, wit::Failure> {
        let limits = self.context.limits.clone();
        if self.world.tickets.len() >= limits.tickets {
            return Err(other(format!("more enqueues than the limit `tickets`, {}", limits.tickets)));
        }
        if request.priority > 100 || request.skills.len() > 32 || request.attributes.len() > limits.attributes
        {
            return Err(other(
                "enqueue wants a priority of 0 to 100, and at most 32 skills and 64 attributes",
            ));
        }
        let request = QueueRequest {
            skills: request.skills,
            priority: request.priority,
            preferred_agent: request.preferred_agent,
            attributes: request.attributes.into_iter().map(|a| (a.name, a.value)).collect(),
        };
        match self.world.verb(Verb::Enqueue { workgroup, request }).await? {
            Done::Queued { ticket, direct, .. } => {
                self.world.tickets.push(ticket);
                let handle = Resource::<TicketHandle>::new_own((self.world.tickets.len() - 1) as u32);
                Ok(if direct { wit::Enqueued::Direct(handle) } else { wit::Enqueued::Queued(handle) })
            }
            Done::Refused(refusal) => {
                Ok(wit::Enqueued::Refused(wit::Refusal { reason: refusal.reason, text: refusal.text }))
            }
            done => Err(misplaced(&done)),
        }
    }

    fn set(&mut self, name: String, value: String) -> Result<(), wit::Failure> {
        let limits = &self.context.limits;
        if name.is_empty() || name.len() + value.len() > limits.attribute_bytes {
            return Err(other(format!(
                "an attribute has a name, and with its value at most {} bytes (the limit `attribute_bytes`)",
                limits.attribute_bytes
            )));
        }
        let held = &mut self.world.info.attributes;
        match held.iter().position(|(held, _)| *held == name) {
            Some(at) => held[at].1.clone_from(&value),
            None if held.len() >= limits.attributes => {
                return Err(other(format!(
                    "more attributes than the limit `attributes`, {}",
                    limits.attributes
                )));
            }
            None => held.push((name.clone(), value.clone())),
        }
        // Only the last value of a name has to travel.
        self.world.unsent.retain(|(unsent, _)| *unsent != name);
        self.world.unsent.push((name, value));
        Ok(())
    }
}

impl wit::HostCall for Guest<State> {
    fn info(&mut self, _: Call) -> wasmtime::Result<wit::CallInfo> {
        self.host_call()?;
        let info = &self.world.info;
        Ok(wit::CallInfo {
            interaction: info.interaction.to_string(),
            tenant: info.tenant.to_string(),
            trunk: info.trunk.to_string(),
            caller: info.caller.clone(),
            caller_name: info.caller_name.clone(),
            called: info.called.clone(),
            attributes: info
                .attributes
                .iter()
                .map(|(name, value)| wit::Attribute { name: name.clone(), value: value.clone() })
                .collect(),
        })
    }

    fn attribute(&mut self, _: Call, name: String) -> wasmtime::Result<Option<String>> {
        self.host_call()?;
        Ok(self.world.info.attributes.iter().find(|(held, _)| *held == name).map(|(_, value)| value.clone()))
    }

    fn set_attribute(&mut self, _: Call, name: String, value: String) -> Verbed<()> {
        self.host_call()?;
        Ok(self.set(name, value))
    }

    async fn answer(&mut self, _: Call) -> Verbed<()> {
        self.host_call()?;
        Ok(self.done(Verb::Answer).await)
    }

    async fn play(
        &mut self,
        _: Call,
        prompts: Vec<wit::Prompt>,
        options: wit::PlayOptions,
    ) -> Verbed<wit::PlayEnd> {
        self.host_call()?;
        Ok(self.try_play(prompts, options).await)
    }

    async fn gather(
        &mut self,
        _: Call,
        prompts: Vec<wit::Prompt>,
        options: wit::GatherOptions,
    ) -> Verbed<wit::Gathered> {
        self.host_call()?;
        Ok(self.try_gather(prompts, options).await)
    }

    async fn play_music(&mut self, _: Call, music: String, for_ms: u32) -> Verbed<wit::PlayEnd> {
        self.host_call()?;
        let sound = match self.world.sounds(vec![wit::Prompt::Audio(music)], 1).await {
            Ok(mut sounds) => sounds.remove(0),
            Err(failure) => return Ok(Err(failure)),
        };
        Ok(self.played(Verb::PlayMusic { sound, for_ms: for_ms.min(LONGEST_MS) }).await)
    }

    async fn record(&mut self, _: Call, options: wit::RecordOptions) -> Verbed<wit::Recording> {
        self.host_call()?;
        Ok(self.try_record(options).await)
    }

    async fn send_digits(&mut self, _: Call, digits: String) -> Verbed<()> {
        self.host_call()?;
        if digits.len() > 64 || !digits.chars().all(|digit| DIGITS.contains(digit)) {
            return Ok(Err(other("send-digits wants at most 64 of 0 to 9, *, #, A to D")));
        }
        Ok(self.done(Verb::SendDigits { digits: digits.to_ascii_uppercase() }).await)
    }

    async fn transfer(&mut self, _: Call, address: String, ring_timeout_s: u16) -> Verbed<()> {
        self.host_call()?;
        if !crate::routers::is_sip_uri(&address) || !(1..=180).contains(&ring_timeout_s) {
            return Ok(Err(other("transfer wants a SIP URI and a ring time of 1 to 180 seconds")));
        }
        Ok(self.done(Verb::Transfer { address, ring_timeout_ms: u64::from(ring_timeout_s) * 1_000 }).await)
    }

    async fn enqueue(
        &mut self,
        _: Call,
        workgroup: String,
        request: wit::QueueRequest,
    ) -> Verbed<wit::Enqueued> {
        self.host_call()?;
        Ok(self.try_enqueue(workgroup, request).await)
    }

    async fn wait(&mut self, _: Call, ms: u32) -> Verbed<()> {
        self.host_call()?;
        Ok(self.done(Verb::Wait { ms: ms.min(LONGEST_MS) }).await)
    }

    async fn hang_up(&mut self, _: Call, cause: u8) -> wasmtime::Result<()> {
        self.host_call()?;
        self.world.hang_up(if (1..=127).contains(&cause) { cause } else { 16 });
        Ok(())
    }

    fn drop(&mut self, _: Call) -> wasmtime::Result<()> {
        Ok(())
    }
}

//! Random calls from a seed: whatever happens in whatever order, every call ends, each token has one
//! outcome, each verb one completion, and nothing is left.

use cordboard_base::{Id, Random};
use cordboard_call::messages::{CallCommand, OfferResult, TalkEnd, ToShard};
use cordboard_call::policy::Fault;
use cordboard_call::script::{ScriptEnd, ToScript, Verb};
use cordboard_call::shard::{Input, Totals};
use cordboard_media::control::{Event, PlayEnd};

use crate::steps::{music, play, sound};
use crate::world::{World, agent_at};

/// One call of a random life, in a world that may have been tampered with.
fn live(seed: u64, tamper: impl Fn(&mut World)) -> Totals {
    let mut r = Random::seeded(seed);
    let mut w = World::new();
    tamper(&mut w);
    if r.below(3) == 0 {
        let (mut lossy, one_in) = (Random::seeded(seed + 1), 3 + r.below(8));
        let cell = std::cell::RefCell::new(move || lossy.below(one_in) == 0);
        w.lose = Some(Box::new(move |_, _, _| (cell.borrow_mut())()));
    }
    w.dial("+4930", r.below(4) > 0);
    w.pass(r.below(3) * 300);
    let mut tokens: Vec<Id> = Vec::new();
    let mut verbs: Vec<u32> = Vec::new();
    let mut scripted = true;
    let mut hang_ups = 0;
    if r.below(4) > 0 && !w.started.is_empty() {
        verbs.push(w.verb(Verb::Answer));
        w.pass(1_000);
        verbs.push(w.verb(Verb::Enqueue { workgroup: "support".to_owned(), request: Default::default() }));
    }
    for _ in 0..r.below(40) {
        match r.below(22) {
            0..=4 if scripted && !w.started.is_empty() => {
                let verb = match r.below(12) {
                    0 => Verb::Answer,
                    1 => play(),
                    2 => music(5_000),
                    3 => Verb::Wait { ms: 500 },
                    4..=6 => Verb::Enqueue { workgroup: "support".to_owned(), request: Default::default() },
                    7 => Verb::Outcome { ticket: Id(w.ids.saturating_sub(r.below(6) as u128)) },
                    8 => Verb::Transfer {
                        address: format!("sip:x@{}", agent_at(1 + r.below(2) as usize)),
                        ring_timeout_ms: 3_000,
                    },
                    9 => Verb::Gather {
                        sounds: vec![sound()],
                        min_digits: 1,
                        max_digits: 2,
                        first_timeout_ms: 900,
                        digit_timeout_ms: 500,
                        finish: Some('#'),
                        clear_digits: false,
                    },
                    10 => Verb::Record {
                        path: "x".into(),
                        name: "x".to_owned(),
                        max_ms: 1_000,
                        silence_ms: 0,
                        beep: false,
                        finish: "#".to_owned(),
                    },
                    _ => Verb::HangUp { cause: 16 },
                };
                verbs.push(w.verb(verb));
            }
            5..=8 if !w.started.is_empty() => {
                let ticket = w.heard.iter().rev().find_map(|(_, to)| match to {
                    ToScript::Done {
                        result: Ok(cordboard_call::script::Done::Queued { ticket, .. }),
                        ..
                    } => Some(*ticket),
                    _ => None,
                });
                let agents: &[usize] = [&[1][..], &[2], &[1, 2]][r.below(3) as usize];
                if ticket.is_some() || r.below(5) == 0 {
                    tokens.extend(w.offer(ticket.unwrap_or(Id(7)), agents));
                }
            }
            9..=13 => {
                let n = 1 + r.below(2) as usize;
                if w.agents[n - 1].ringing().is_some() {
                    match r.below(6) {
                        0 => w.refuse(n, [486, 603, 404, 480][r.below(4) as usize]),
                        1 => w.ring(n),
                        2 => {
                            hang_ups += 1;
                            w.agent_hangs_up(n);
                        }
                        3 => w.accept_unrun(n),
                        _ => w.accept(n),
                    }
                }
            }
            14 => {
                if let Some(token) = tokens.get(r.below(tokens.len().max(1) as u64) as usize) {
                    w.tell(ToShard::Revoke { token: *token });
                }
            }
            15 => w.pass(r.below(25_000)),
            16 => w.pass(r.below(500)),
            17 => {
                let legs: Vec<_> = w.media.open.iter().copied().collect();
                if let Some(leg) = legs.get(r.below(4) as usize) {
                    let event = match r.below(3) {
                        0 => Event::Silent { leg: *leg },
                        _ => Event::Digit {
                            leg: *leg,
                            digit: ['1', '#', '*'][r.below(3) as usize],
                            duration_ms: 80,
                        },
                    };
                    w.input(Input::Media(event));
                    w.run();
                }
            }
            18 if w.media.opened.first().is_some_and(|leg| w.media.playing.contains_key(leg)) => {
                w.play_ends(if r.below(2) == 0 { PlayEnd::Finished } else { PlayEnd::Barged });
            }
            19 if scripted && !w.started.is_empty() && r.below(3) == 0 => {
                scripted = false;
                let how =
                    [ScriptEnd::Returned, ScriptEnd::Fault(Fault::Timeout)][r.below(2) as usize].clone();
                w.script_ends(how);
            }
            20 if r.below(4) == 0 => {
                let command = [CallCommand::Clear { cause: 16 }, CallCommand::Hold, CallCommand::Retrieve];
                if !w.started.is_empty() {
                    w.tell(ToShard::Command(command[r.below(3) as usize].clone()));
                }
            }
            21 if r.below(5) == 0 => w.hang_up(),
            _ => {}
        }
    }
    w.pass(2_000);
    w.lose = None;
    w.hang_up();
    w.pass(40_000);
    if w.media.opened.is_empty() {
        // The INVITE never came through.
        return Totals::default();
    }
    w.over();
    let left = w.talk_ends().into_iter().filter(|how| *how == TalkEnd::AgentLeft).count();
    assert!(left <= hang_ups, "seed {seed}: an agent is said to have left who did not");
    for token in tokens {
        let settled = w.settled(token);
        assert_eq!(settled.len(), 1, "seed {seed}: {token} {settled:?}");
        let accepted = settled[0] == OfferResult::Accepted;
        let talked = w.told.iter().filter(|(_, m)| matches!(m, cordboard_call::messages::ToDomain::TalkEnded { token: t, .. } if *t == token)).count();
        assert_eq!(
            talked,
            usize::from(accepted),
            "seed {seed}: a conversation ends once, and only if it began"
        );
    }
    for verb in verbs {
        let _ = w.result(verb);
    }
    w.shard.counts().totals
}

#[test]
fn a_thousand_random_lives_end_well() {
    let lives = std::env::var("CORDBOARD_LIVES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let mut sum = Totals::default();
    for seed in 0..lives {
        match std::panic::catch_unwind(|| live(seed, |_| {})) {
            Ok(totals) => {
                sum.offers_accepted += totals.offers_accepted;
                sum.offers_no_answer += totals.offers_no_answer;
                sum.offers_other += totals.offers_other;
                sum.crossed += totals.crossed;
                sum.agents_vanished += totals.agents_vanished;
                sum.script_faults += totals.script_faults;
            }
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{sum:#?}");
    // Lives that never go anywhere prove nothing.
    for reached in [
        sum.offers_accepted / 10,
        sum.offers_no_answer,
        sum.offers_other / 10,
        sum.crossed,
        sum.agents_vanished,
        sum.script_faults,
    ] {
        assert!(reached > 0, "{sum:#?}");
    }
}

#[cfg(feature = "seeded-bugs")]
#[test]
fn each_seeded_bug_is_found_by_random_lives() {
    use cordboard_call::shard::Bugs;
    let none = Bugs::default();
    let bugs = [
        ("cancel_crossing_ignored", Bugs { cancel_crossing_ignored: true, ..none }),
        ("ring_timer_leaked", Bugs { ring_timer_leaked: true, ..none }),
        ("settled_twice", Bugs { settled_twice: true, ..none }),
        ("settled_never_on_caller_hang_up", Bugs { settled_never_on_caller_hang_up: true, ..none }),
        ("media_leg_leaked", Bugs { media_leg_leaked: true, ..none }),
        ("call_ended_twice", Bugs { call_ended_twice: true, ..none }),
    ];
    for (name, bugs) in bugs {
        let found = (0..2_000)
            .find(|seed| std::panic::catch_unwind(|| live(*seed, |w| w.shard.seed_bugs(bugs))).is_err());
        println!("{name} is found by seed {found:?}");
        assert!(found.is_some(), "{name} is not found");
    }
}

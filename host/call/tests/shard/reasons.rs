//! Why one leg has ended, told to the other: Reason (RFC 3326) in BYE, CANCEL and final responses.

use cordboard_call::router::Route;
use cordboard_sip::endpoint::{End, Event};
use cordboard_sip::wire::{Message, Name};

use crate::identity::{bridge, trunk, with};
use crate::world::{Phone, World};

/// The BYE or CANCEL that the phone got last.
fn ended(phone: &Phone) -> Message {
    let request = phone.events.iter().rev().find_map(|e| match e {
        Event::Ended { cause: End::Bye(request) | End::Cancelled(request), .. } => Some(request.clone()),
        _ => None,
    });
    request.expect("a BYE or a CANCEL")
}

fn reasons(message: &Message) -> Vec<&str> {
    message.headers(Name::Reason).collect()
}

const NO_CIRCUIT: &str = "Q.850;cause=34;text=\"no circuit\", SIP;cause=503";

fn hang_up_with(w: &mut World, reason: &str) {
    let (now, leg) = (w.now, w.leg.expect("a call"));
    w.caller.sip.hang_up(now, leg, Some(reason));
    w.run();
}

fn bridged() -> World {
    let mut w = World::with(with(vec![trunk("out", 1, Default::default())]));
    w.dial("+4930", true);
    bridge(&mut w, "trunk:out");
    w
}

#[test]
fn the_reason_of_a_bye_reaches_the_other_leg() {
    let mut w = bridged();
    w.accept(1);
    hang_up_with(&mut w, NO_CIRCUIT);
    assert_eq!(reasons(&ended(&w.agents[0])), ["Q.850;cause=34;text=\"no circuit\"", "SIP;cause=503"]);
    assert_eq!(w.over().cause, 34, "and the record");
    // The other way.
    let mut w = bridged();
    w.accept(1);
    let (now, leg) = (w.now, w.agents[0].ringing().unwrap());
    w.agents[0].sip.hang_up(now, leg, Some(NO_CIRCUIT));
    w.run();
    assert_eq!(reasons(&ended(&w.caller)), ["Q.850;cause=34;text=\"no circuit\"", "SIP;cause=503"]);
    assert_eq!(w.over().cause, 34);
    // Without one we say what we know.
    let mut w = bridged();
    w.accept(1);
    w.hang_up();
    assert_eq!(reasons(&ended(&w.agents[0])), ["Q.850;cause=16;text=\"hung up\""]);
    w.over();
}

#[test]
fn the_reason_of_a_cancel_reaches_the_phones_that_ring() {
    let elsewhere = "SIP;cause=200;text=\"Call completed elsewhere\"";
    let mut w = World::with(with(vec![]));
    w.dial("+4930", true);
    w.route(Ok(Route::Bridge {
        address: format!("sip:desk@{}", crate::world::agent_at(2)),
        ring_timeout_ms: 9_000,
        attributes: vec![],
    }));
    w.ring(2);
    hang_up_with(&mut w, elsewhere);
    assert_eq!(reasons(&ended(&w.agents[1])).last(), Some(&elsewhere), "a dialled phone");
    assert_eq!(w.over().status, 487);
    let mut w = World::new();
    let ticket = w.queued();
    w.offer(ticket, &[1, 2]);
    w.ring(1);
    w.ring(2);
    hang_up_with(&mut w, elsewhere);
    for n in [0, 1] {
        assert_eq!(reasons(&ended(&w.agents[n])).last(), Some(&elsewhere), "an agent's phone");
    }
    w.over();
}

#[test]
fn the_phones_that_lose_a_round_hear_that_another_has_the_call() {
    let elsewhere = "SIP;cause=200;text=\"Call completed elsewhere\"";
    let mut w = World::new();
    let ticket = w.queued();
    w.offer(ticket, &[1, 2]);
    w.ring(1);
    w.ring(2);
    w.accept(1);
    assert_eq!(reasons(&ended(&w.agents[1])), [elsewhere]);
    w.hang_up();
    w.over();
    // One whose answer crosses our CANCEL hears it by the BYE.
    let mut w = World::new();
    let ticket = w.queued();
    w.offer(ticket, &[1, 2]);
    w.ring(1);
    w.ring(2);
    w.accept_unrun(1);
    w.accept_unrun(2);
    w.run();
    let loser = usize::from(w.agents[1].ended() > 0);
    assert_eq!((w.shard.counts().totals.crossed, w.agents[loser].ended()), (1, 1));
    assert_eq!(reasons(&ended(&w.agents[loser])), [elsewhere]);
    w.hang_up();
    w.over();
}

#[test]
fn the_cause_of_a_refusal_reaches_the_caller() {
    let mut w = bridged();
    let (now, leg) = (w.now, w.agents[0].ringing().unwrap());
    w.agents[0].sip.reject(now, leg, 404, &[("Reason", "Q.850;cause=22;text=\"changed\"")]);
    w.run();
    let (status, response) = w.caller.refused().unwrap();
    assert_eq!((status, reasons(&response.unwrap())), (404, vec!["Q.850;cause=22;text=\"changed\""]));
    assert_eq!(w.over().cause, 22);
    // A caller who was answered already gets it by BYE, with the status.
    let mut w = World::new();
    let (_, _) = w.talking();
    let (now, leg) = (w.now, w.agents[0].ringing().unwrap());
    let target = format!("<sip:bob@{}>", crate::world::agent_at(2));
    w.agents[0].sip.refer(now, leg, &target, None).unwrap();
    w.run();
    w.agent_hangs_up(1);
    w.script_ends(cordboard_call::script::ScriptEnd::Returned);
    w.refuse(2, 486);
    let bye = ended(&w.caller);
    assert_eq!(reasons(&bye).last(), Some(&"SIP;cause=486;text=\"Busy Here\""));
    assert!(reasons(&bye)[0].starts_with("Q.850;cause=17"));
    w.over();
}

#[test]
fn of_several_destinations_the_last_one_s_reason_counts() {
    let mut w = World::with(with(vec![
        trunk("first", 1, Default::default()),
        trunk("second", 2, Default::default()),
    ]));
    w.dial("+4930", true);
    bridge(&mut w, "trunk:first,second");
    let now = w.now;
    for (n, reason) in [(0, "Q.850;cause=34"), (1, "Q.850;cause=38")] {
        let leg = w.agents[n].ringing().unwrap();
        w.agents[n].sip.reject(now, leg, 503, &[("Reason", reason)]);
        w.run();
    }
    let (status, response) = w.caller.refused().unwrap();
    assert_eq!((status, reasons(&response.unwrap())), (503, vec!["Q.850;cause=38"]));
    w.over();
}

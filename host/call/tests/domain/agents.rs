//! Agents: states, what waits for the end of a call, misses, wrap-up.

use cordboard_call::commands::{AgentStateName as State, Command, Reply};
use cordboard_call::facts::Fact;
use cordboard_call::messages::*;

use crate::harness::*;

fn state(state: State, reason: &str) -> (State, String) {
    (state, reason.to_owned())
}

#[test]
fn an_agent_walks_through_the_states_of_a_call() {
    let mut w = World::new(small());
    assert_eq!(w.state("alice"), state(State::LoggedOut, ""));
    w.log_in("alice");
    assert_eq!(w.state("alice"), state(State::Ready, ""));
    let (id, _) = w.queued("support");
    let at = w.offer();
    assert_eq!(w.state("alice").0, State::Reserved);
    assert_eq!(w.agent("alice").interaction, Some(id));
    w.settle(&at, OfferResult::Accepted);
    assert_eq!(w.state("alice").0, State::Busy);
    w.talk_ended(&at, TalkEnd::AgentLeft, 2_000);
    assert_eq!(w.state("alice").0, State::WorkingAfterCall);
    w.pass_ms(4_999);
    assert_eq!(w.state("alice").0, State::WorkingAfterCall);
    w.pass_ms(1);
    assert_eq!(w.state("alice").0, State::Ready);
    assert_eq!(w.agent("alice").calls, 1);
}

#[test]
fn wrap_up_can_be_cut_short_and_no_call_comes_during_it() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    w.queued("support");
    w.talk_ended(&at, TalkEnd::CallerGone, 2_000);
    w.pass_ms(2_000);
    assert!(w.offers().is_empty());
    assert_eq!(w.set_ready("alice", true, ""), Reply::Done);
    assert_eq!(w.offers().len(), 1);
    assert_eq!(w.domain.counts().timers.agents, 0, "the wrap-up timer is stopped");
}

#[test]
fn unanswered_offers_bring_back_off_then_not_ready() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::NoAnswer);
    assert_eq!(w.state("alice"), state(State::Ready, "back-off"));
    w.pass_ms(9_999);
    assert!(w.offers().is_empty(), "left alone");
    w.pass_ms(1);
    let at = w.offer();
    w.settle(&at, OfferResult::NoAnswer);
    assert_eq!(w.state("alice"), state(State::NotReady, "ring-no-answer"));
    w.pass_ms(600_000);
    assert!(w.offers().is_empty());
    w.set_ready("alice", true, "");
    assert_eq!(w.agent("alice").misses, 0);
    let at = w.offer();
    w.settle(&at, OfferResult::NoAnswer);
    w.pass_ms(10_000);
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    assert_eq!(w.agent("alice").misses, 0, "an answer ends the row");
}

#[test]
fn a_busy_phone_backs_off_without_a_miss_and_a_decline_is_one() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.queued("support");
    for _ in 0..5 {
        let at = w.offer();
        w.settle(&at, OfferResult::Busy);
        assert_eq!(w.state("alice"), state(State::Ready, "back-off"));
        w.pass_ms(10_000);
    }
    let at = w.offer();
    w.settle(&at, OfferResult::Declined { status: 603 });
    w.pass_ms(10_000);
    let at = w.offer();
    w.settle(&at, OfferResult::Declined { status: 603 });
    assert_eq!(w.state("alice"), state(State::NotReady, "declined"));
}

#[test]
fn a_phone_that_is_not_there_makes_its_agent_not_ready() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Unreachable { status: 408 });
    assert_eq!(w.state("alice"), state(State::NotReady, "phone-unreachable"));
}

#[test]
fn what_is_not_the_agent_s_fault_keeps_the_place_among_the_idle() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.pass_ms(1_000);
    w.log_in("bob");
    w.pass_ms(1_000);
    for _ in 0..3 {
        let (id, _) = w.queued("support");
        let at = w.offer();
        assert_eq!(at.2, "alice", "idle for longest");
        w.settle(&at, OfferResult::CallerGone);
        w.end(id);
    }
}

#[test]
fn a_log_out_while_ringing_is_a_revoke_that_the_shard_resolves() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.queued("support");
    let at = w.offer();
    w.log_out("alice");
    assert!(matches!(w.sent.last().map(|e| &e.body), Some(ToShard::Revoke { token }) if *token == at.3));
    assert_eq!(w.state("alice").0, State::Reserved, "the shard is the judge");
    w.settle(&at, OfferResult::Revoked);
    assert_eq!(w.state("alice").0, State::LoggedOut);
    assert_eq!(w.queue("support").waiting, 1);

    w.log_in("alice");
    let at = w.offer();
    w.log_out("alice");
    w.settle(&at, OfferResult::Accepted);
    assert_eq!(w.state("alice").0, State::Busy, "too late to withdraw");
    w.talk_ended(&at, TalkEnd::AgentLeft, 1_000);
    assert_eq!(w.state("alice").0, State::LoggedOut, "the log-out follows the call");
}

#[test]
fn not_ready_during_a_call_waits_until_it_is_over_and_can_be_taken_back() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    w.set_ready("alice", false, "lunch");
    assert_eq!(w.state("alice").0, State::Busy);
    w.talk_ended(&at, TalkEnd::AgentLeft, 1_000);
    assert_eq!(w.state("alice").0, State::WorkingAfterCall);
    w.pass_ms(5_000);
    assert_eq!(w.state("alice"), state(State::NotReady, "lunch"));
    w.set_ready("alice", true, "");
    w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    w.set_ready("alice", false, "lunch");
    w.set_ready("alice", true, "");
    w.talk_ended(&at, TalkEnd::AgentLeft, 1_000);
    w.pass_ms(5_000);
    assert_eq!(w.state("alice").0, State::Ready);
}

#[test]
fn what_cannot_be_done_is_said_with_a_status() {
    let mut w = World::new(small());
    let reply = w.set_ready("alice", true, "");
    assert!(
        matches!(&reply, Reply::Error { status: 409, text } if text.contains("log in first")),
        "{reply:?}"
    );
    let (tenant, agent) = ("acme".to_owned(), "zoe".to_owned());
    assert!(matches!(w.command(Command::LogOut { tenant, agent }), Reply::Error { status: 404, .. }));
    let (tenant, agent) = ("zed".to_owned(), "alice".to_owned());
    assert!(matches!(w.command(Command::LogOut { tenant, agent }), Reply::Error { status: 404, .. }));
    w.log_out("alice");
}

#[test]
fn the_journal_hears_the_state_at_rest_and_only_when_it_changes() {
    let mut w = World::new(small());
    w.log_in("alice");
    let states = |w: &World| w.facts.iter().filter(|f| matches!(f, Fact::AgentState { .. })).count();
    assert_eq!(states(&w), 1);
    w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    w.talk_ended(&at, TalkEnd::AgentLeft, 1);
    w.pass_ms(5_000);
    assert_eq!(states(&w), 1, "a call leaves no trace in the agent's durable state");
    w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    w.log_out("alice");
    assert!(
        matches!(w.facts.last(), Some(Fact::AgentState { state: State::LoggedOut, .. })),
        "durable at once"
    );
}

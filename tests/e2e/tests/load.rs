//! SIPp as trunk and agents: many calls through the whole flow, with real phones in the same crowd.

use cordboard_e2e::capture::Capture;
use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::scene::Scene;
use cordboard_e2e::setup::{Agent, Setup};
use cordboard_e2e::sipp::Sipp;
use cordboard_e2e::webhook::Webhook;
use cordboard_e2e::{ms, s};

use crate::endings::redirect_of;
use crate::flow::{answers, steps_in_order};

/// The crowd's calls.
const CALLS: u32 = 1_000;
/// Of them a second.
const PER_S: u32 = 50;

/// Agents of SIPp's, who speak English only, so that the sample's French callers get phones with ears.
pub(crate) fn crowd(setup: &mut Setup, agents: &Sipp, count: usize) {
    for n in 0..count {
        let address = Some(format!("sip:agent{n}@127.0.0.1:{}", agents.port));
        setup.agents.push(Agent {
            name: format!("agent{n}"),
            address,
            skills: vec!["en".into()],
            ready: true,
        });
    }
}

#[test]
fn a_thousand_calls_at_fifty_a_second_go_through_the_whole_flow() {
    let scene = Scene::new("load");
    let hook = Webhook::start();
    let agents = Sipp::agents(&scene, 250);
    let mut setup = Setup { rtp_ports: 6_000, ..Setup::default() };
    setup
        .set("ivr-support", "menu", "true")
        .set("ivr-support", "announce_every_s", "30")
        .webhook(&hook.url());
    // Few: a little less than the crowd needs.
    crowd(&mut setup, &agents, 12);
    setup.agents.push(Agent {
        name: "french".into(),
        address: None,
        skills: vec!["fr".into()],
        ready: false,
    });
    let centre = Centre::start(&scene, &setup);
    let capture = Capture::start(&scene, &[centre.ports.redirect, centre.ports.centre], centre.ports.rtp);
    let mut french = Phone::agent(&centre, "french", answers());
    centre.agent("french", "login");
    let mut caller = Phone::caller("4930111");
    let crowd = Sipp::callers(&scene, "crowd", redirect_of(&centre), "100", CALLS, PER_S, &[]);
    std::thread::sleep(s(2));
    const SAMPLE: usize = 4;
    for n in 1..=SAMPLE {
        let (here, there) = (format!("c{n}"), format!("french-{n}"));
        caller.call(&centre, &here, "100", 1_000, &[700]);
        caller.confirmed(&here);
        caller.press(&here, "2");
        caller.hears_tone(&here, 700);
        french.hears_tone(&there, 1_000);
        std::thread::sleep(ms(500));
        french.hang_up(&there);
        assert_eq!(french.ended(&there)["status"], 200);
        assert_eq!(caller.ended(&here)["status"], 200);
    }
    crowd.all_well(u64::from(CALLS), s(120));
    let records = centre.records(CALLS as usize + SAMPLE);
    let mut waited = 0;
    for record in &records {
        let results: Vec<_> =
            record["offers"].as_array().into_iter().flatten().map(|o| o["result"].clone()).collect();
        assert_eq!(results, ["accepted"], "{record}");
        assert_eq!(record["end"]["cause"], 16, "{record}");
        // A caller waits when no agent was free at once: longer than the offer itself takes.
        waited += usize::from(record["waited_ms"].as_u64().unwrap_or(0) > 100);
    }
    for record in records.iter().step_by(50) {
        steps_in_order(record);
    }
    let share = waited * 100 / records.len();
    println!("{} calls, {share} % of them waited", records.len());
    assert!(share > 30, "only {share} % waited: too many agents to prove anything");
    let ended = || {
        hook.events().iter().filter(|e| e["type"].as_str().is_some_and(|t| t.ends_with("call.ended"))).count()
    };
    cordboard_e2e::eventually("the webhook has heard of every end", s(20), || {
        (ended() == records.len()).then_some(())
    });
    capture.nothing_malformed(15 * CALLS as usize, 1_000);
    centre.finish();
    drop(agents);
}

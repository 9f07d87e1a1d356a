//! Each seeded bug is found by these tests: a suite that cannot fail proves nothing.

use cordboard_call::script::{Failure, Verb};
use cordboard_call::shard::Bugs;

use crate::steps::music;
use crate::world::World;

fn world(bugs: Bugs) -> World {
    let mut w = World::new();
    w.shard.seed_bugs(bugs);
    w
}

fn rings_out(mut w: World) {
    let ticket = w.queued();
    w.offer(ticket, &[1]);
    w.ring(1);
    w.pass(20_000);
    w.hang_up();
    w.over();
}

fn talks(mut w: World) {
    let ticket = w.queued();
    let verb = w.verb(music(60_000));
    let token = w.offer(ticket, &[1])[0];
    w.accept(1);
    assert_eq!(w.result(verb), Some(Err(Failure::Taken)));
    w.pass(30_000);
    assert_eq!(w.settled(token).len(), 1);
    assert_eq!(w.media.joined.len(), 1, "they still talk");
    w.hang_up();
    w.over();
}

fn caller_leaves_while_it_rings(mut w: World) {
    let ticket = w.queued();
    let token = w.offer(ticket, &[1])[0];
    w.hang_up();
    assert_eq!(w.settled(token).len(), 1);
    w.over();
}

#[test]
fn without_bugs_all_three_ways_are_sound() {
    rings_out(world(Bugs::default()));
    talks(world(Bugs::default()));
    caller_leaves_while_it_rings(world(Bugs::default()));
    let _ = Verb::Answer;
}

macro_rules! found {
    ($($bug:ident by $way:ident;)*) => {$(
        #[test]
        #[should_panic]
        fn $bug() {
            $way(world(Bugs { $bug: true, ..Bugs::default() }));
        }
    )*};
}

found! {
    cancel_crossing_ignored by rings_out;
    ring_timer_leaked by talks;
    settled_twice by talks;
    settled_never_on_caller_hang_up by caller_leaves_while_it_rings;
    media_leg_leaked by talks;
    taken_not_delivered by talks;
    call_ended_twice by talks;
}

//! What reading a message allocates. How long it takes is a figure of `cargo xtask bench wire`.

use std::hint::black_box;

use cordboard_sip::wire::{Builder, Message, Name};

mod cost;

use cost::{allocations, invite};

#[test]
fn indexing_an_invite_allocates_at_most_twice_and_reading_it_never() {
    let bytes = invite();
    let (parsing, message) = allocations(|| Message::parse(bytes).unwrap());
    assert!(parsing <= 2, "{parsing}");
    let (reading, _) = allocations(|| {
        message.check().unwrap();
        let via = message.top_via().unwrap();
        let contact = message.contact().unwrap().parsed_uri().unwrap().socket_addr();
        let copy = message.clone();
        black_box((
            via.branch,
            contact,
            message.to().unwrap().tag(),
            message.cseq(),
            message.headers(Name::Allow).count(),
            copy,
        ));
    });
    assert_eq!(reading, 0);
    let (answering, _) = allocations(|| {
        black_box(
            Builder::response_to(&message, Some("198.51.100.1:5060".parse().unwrap()), 180, "")
                .to_tag("x")
                .finish(),
        )
    });
    assert!(answering <= 4, "{answering}");
}

//! What the kernel alone costs: two datagrams received and one sent for each INVITE, ACK. Answers with
//! a made-up 302 that holds no more than the load looks at. Run as a process of its own by
//! [`super`]: `redirect-floor PORT [batched]`.

use std::net::UdpSocket;

use super::batch::{self, Received};
use super::load::{ANSWER_OCTETS, branch_of};

pub(crate) fn run(arguments: &[String]) {
    let port = arguments.first().and_then(|p| p.parse().ok()).expect("a port");
    let socket = batch::socket(port);
    if arguments.get(1).is_some_and(|a| a == "batched") { batched(&socket) } else { plain(&socket) }
}

fn plain(socket: &UdpSocket) {
    let mut bytes = [0; 2_048];
    let mut answer = Vec::with_capacity(ANSWER_OCTETS);
    loop {
        let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
        if render(&bytes[..length], &mut answer) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn batched(socket: &UdpSocket) {
    let mut received = Received::new();
    loop {
        let mut answers = Vec::with_capacity(batch::MOST);
        for i in 0..received.receive(socket, true) {
            let mut answer = Vec::with_capacity(ANSWER_OCTETS);
            if render(received.bytes(i), &mut answer) {
                answers.push((*received.from(i), answer));
            }
        }
        if !answers.is_empty() {
            batch::send_each(socket, &answers);
        }
    }
}

/// As long as a real answer to this load is.
fn render(request: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(branch) = request.starts_with(b"INVITE").then(|| branch_of(request)).flatten() else {
        return false;
    };
    out.clear();
    out.extend_from_slice(b"SIP/2.0 302 Moved Temporarily\r\nVia: SIP/2.0/UDP x;branch=");
    out.extend_from_slice(branch);
    out.extend_from_slice(b"\r\nTo: <sip:100@x>;tag=floor\r\nX: ");
    out.resize(ANSWER_OCTETS - 4, b'x');
    out.extend_from_slice(b"\r\n\r\n");
    true
}

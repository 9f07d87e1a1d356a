//! Since when a WebSocket's peer owes the rest of a message: reads the heads of frames (RFC 6455 5.2) as they come, and
//! nothing else of them.
//!
//! Used by a connection's channel once it is a WebSocket. What the frames mean, and whether they are allowed, is
//! tungstenite's; it does not tell about halves.

/// The longest head: two octets, a length of eight, a mask of four.
const HEAD: usize = 14;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// As much of the frame's head as has come; whole while the payload comes.
    head: [u8; HEAD],
    come: usize,
    payload_left: u64,
    /// Fragments of a message have come, and not the last.
    fragmented: bool,
    began_ns: Option<u64>,
}

impl Frames {
    /// When the first octet of a message or control frame came whose last has not come yet.
    pub(super) fn unfinished_since_ns(&self) -> Option<u64> {
        self.began_ns
    }

    pub(super) fn push(&mut self, now_ns: u64, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if self.payload_left > 0 {
                let taken = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = &bytes[taken..];
                self.payload_left -= taken as u64;
                if self.payload_left == 0 {
                    self.end_frame();
                }
                continue;
            }
            self.began_ns.get_or_insert(now_ns);
            self.head[self.come] = *first;
            self.come += 1;
            bytes = &bytes[1..];
            if self.come == self.head_len() {
                self.payload_left = self.payload_len();
                if self.payload_left == 0 {
                    self.end_frame();
                }
            }
        }
    }

    /// Of the extended length, in octets.
    fn extended(&self) -> usize {
        match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn head_len(&self) -> usize {
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        // Before the second octet has come nobody knows.
        if self.come < 2 { 2 } else { 2 + self.extended() + mask }
    }

    fn payload_len(&self) -> u64 {
        match self.extended() {
            0 => (self.head[1] & 0x7f).into(),
            more => self.head[2..2 + more].iter().fold(0, |length, octet| length << 8 | u64::from(*octet)),
        }
    }

    fn end_frame(&mut self) {
        let (last, control) = (self.head[0] & 0x80 != 0, self.head[0] & 0x08 != 0);
        self.come = 0;
        // Control frames may come between the fragments of a message (RFC 6455 5.4).
        if !control {
            self.fragmented = !last;
        }
        if !self.fragmented {
            self.began_ns = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame as a client sends it.
    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload {
            0..126 => bytes.push(0x80 | payload as u8),
            126..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.resize(bytes.len() + payload, 0xff);
        bytes
    }

    #[test]
    fn a_message_is_unfinished_from_its_first_octet_to_its_last_however_it_is_cut() {
        let (text, more, last, ping) = (0x01, 0x00, 0x80, 0x89);
        for payload in [0, 1, 125, 126, 300, 65_535, 65_536, 70_000] {
            let whole = frame(0x80 | text, payload);
            for step in [1, 3, whole.len()] {
                let mut frames = Frames::default();
                for (n, part) in whole.chunks(step).enumerate() {
                    frames.push(n as u64, part);
                    let over = (n + 1) * step >= whole.len();
                    assert_eq!(frames.unfinished_since_ns(), (!over).then_some(0), "{payload} {step} {n}");
                }
            }
        }
        let mut frames = Frames::default();
        let began = |frames: &mut Frames, now_ns, bytes: &[u8]| {
            frames.push(now_ns, bytes);
            frames.unfinished_since_ns()
        };
        // Whole messages, and the beginning of the next in the same segment.
        let mut segment = [frame(0x80 | text, 200), frame(ping, 4), frame(0x80 | text, 9)].concat();
        let rest = segment.split_off(segment.len() - 3);
        assert_eq!(began(&mut frames, 5, &segment), Some(5));
        assert_eq!(began(&mut frames, 6, &rest), None);
        // Fragments with a ping between them are one message, and half a ping is unfinished, too.
        assert_eq!(began(&mut frames, 7, &frame(text, 10)), Some(7));
        assert_eq!(began(&mut frames, 8, &frame(ping, 0)), Some(7));
        assert_eq!(began(&mut frames, 9, &frame(more, 10)), Some(7));
        assert_eq!(began(&mut frames, 10, &frame(last, 0)), None);
        assert_eq!(began(&mut frames, 11, &[ping]), Some(11));
    }
}

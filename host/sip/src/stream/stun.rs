//! STUN binding on a SIP port: how a phone behind a NAT keeps its UDP flow open and learns its address
//! (RFC 5626 4.4.2 and 8, RFC 8489).
//!
//! Called by the owner of the UDP sockets before anything is taken for SIP: the first byte of STUN is 0
//! to 3, which begins no SIP message. Binding alone, without credentials, as RFC 5626 8 has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;
/// Larger ones are none that a keep-alive would send (RFC 8489 6.1 wants them below the path's MTU).
const MAX_STUN: usize = 1_280;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const MAPPED_ADDRESS: u16 = 0x0001;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;
/// Must be understood by whoever knows RFC 8489, and mean nothing where nobody authenticates: USERNAME,
/// MESSAGE-INTEGRITY, REALM, NONCE, MESSAGE-INTEGRITY-SHA256, PASSWORD-ALGORITHM, USERHASH.
const NEEDLESS: [u16; 7] = [0x0006, 0x0008, 0x0014, 0x0015, 0x001c, 0x001d, 0x001e];
/// What the CRC of a fingerprint is combined with (RFC 8489 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// The 96 bits that tie an answer to its request.
pub type TransactionId = [u8; 12];

/// Whether a datagram is STUN and cannot be SIP (RFC 8489 5): two zero bits, the cookie, a length that fits.
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER
        && datagram.len() <= MAX_STUN
        && datagram[0] < 4
        && datagram[4..8] == COOKIE
        && usize::from(be16(datagram, 2)) == datagram.len() - HEADER
        && datagram.len().is_multiple_of(4)
}

/// The answer to a binding request that came from `source`; `None` for what needs none: indications,
/// answers, other methods, a wrong fingerprint, what is not STUN.
#[must_use]
pub fn answer(datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    if !is_stun(datagram) || be16(datagram, 0) != BINDING_REQUEST {
        return None;
    }
    let mut unknown = Vec::new();
    let mut fingerprint = false;
    for (kind, value, at) in attributes(datagram)? {
        if kind == FINGERPRINT {
            fingerprint = value.len() == 4 && be32(value, 0) == fingerprint_of(&datagram[..at]);
            if !fingerprint {
                return None;
            }
        } else if kind < 0x8000 && !NEEDLESS.contains(&kind) {
            unknown.extend_from_slice(&kind.to_be_bytes());
        }
    }
    let id: TransactionId = datagram[8..HEADER].try_into().ok()?;
    let mut out = if unknown.is_empty() {
        let mut out = head(BINDING_SUCCESS, id);
        attribute(&mut out, XOR_MAPPED_ADDRESS, &xored(source, id));
        out
    } else {
        let mut out = head(BINDING_ERROR, id);
        attribute(&mut out, ERROR_CODE, b"\0\0\x04\x14Unknown Attribute");
        attribute(&mut out, UNKNOWN_ATTRIBUTES, &unknown);
        out
    };
    if fingerprint {
        seal(&mut out);
    }
    Some(out)
}

/// A binding request, to keep a flow of ours open; ask again with the same identifier when it gets lost.
#[must_use]
pub fn request(id: TransactionId) -> Vec<u8> {
    head(BINDING_REQUEST, id)
}

/// Where the other side sees us, from the answer to the request with this identifier; `None` when it is
/// no success, or of another request.
#[must_use]
pub fn mapped_address(datagram: &[u8], id: TransactionId) -> Option<SocketAddr> {
    if !is_stun(datagram) || be16(datagram, 0) != BINDING_SUCCESS || datagram[8..HEADER] != id {
        return None;
    }
    let mut plain = None;
    for (kind, value, _) in attributes(datagram)? {
        match kind {
            XOR_MAPPED_ADDRESS => {
                let mut value = value.to_vec();
                mask(&mut value, id);
                return address(&value);
            }
            MAPPED_ADDRESS => plain = address(value),
            _ => {}
        }
    }
    plain
}

/// Type, value and position of each attribute; `None` when one is longer than the message.
fn attributes(message: &[u8]) -> Option<Vec<(u16, &[u8], usize)>> {
    let mut all = Vec::new();
    let mut at = HEADER;
    while at < message.len() {
        let length = usize::from(be16(message, at + 2));
        let value = message.get(at + 4..at + 4 + length)?;
        all.push((be16(message, at), value, at));
        at += 4 + length.next_multiple_of(4);
    }
    Some(all)
}

fn head(kind: u16, id: TransactionId) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&COOKIE);
    out.extend_from_slice(&id);
    out
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    set_length(out);
}

fn set_length(out: &mut [u8]) {
    let length = (out.len() - HEADER) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
}

/// The fingerprint counts itself into the length that it covers (RFC 8489 14.7).
fn seal(out: &mut Vec<u8>) {
    let at = out.len();
    attribute(out, FINGERPRINT, &[0; 4]);
    let crc = fingerprint_of(&out[..at]);
    out[at + 4..].copy_from_slice(&crc.to_be_bytes());
}

fn fingerprint_of(message: &[u8]) -> u32 {
    crc32(message) ^ FINGERPRINT_XOR
}

/// Family, port and address, combined with the cookie and the identifier (RFC 8489 14.2).
fn xored(source: SocketAddr, id: TransactionId) -> Vec<u8> {
    let mut value = vec![0, if source.is_ipv4() { 1 } else { 2 }];
    value.extend_from_slice(&source.port().to_be_bytes());
    match source.ip() {
        IpAddr::V4(ip) => value.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => value.extend_from_slice(&ip.octets()),
    }
    mask(&mut value, id);
    value
}

fn mask(value: &mut [u8], id: TransactionId) {
    for (byte, key) in value.iter_mut().skip(2).zip(&COOKIE[..2]) {
        *byte ^= key;
    }
    for (byte, key) in value.iter_mut().skip(4).zip(COOKIE.iter().chain(&id)) {
        *byte ^= key;
    }
}

fn address(value: &[u8]) -> Option<SocketAddr> {
    let ip: IpAddr = match (value.get(1)?, value.get(4..)?) {
        (1, ip) => Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).into(),
        (2, ip) => Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, be16(value, 2)))
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// CRC-32 of ITU V.42.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 2.1: the request of the test vectors, with USERNAME, PRIORITY, MESSAGE-INTEGRITY and so on.
    const SAMPLE_REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\x00\x06\x00\x09evtj:h6vY\x20\x20\x20\x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\x80\x28\x00\x04\xe5\x7a\x3b\xcf";
    /// RFC 5769 2.2: the answer over IPv4, which maps 192.0.2.1:32853.
    const SAMPLE_ANSWER: &[u8] = b"\x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\x80\x22\x00\x0btest vector\x20\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\x80\x28\x00\x04\xc0\x7d\x4c\x96";
    /// RFC 5769 2.3: the answer over IPv6.
    const SAMPLE_ANSWER_6: &[u8] = b"\x01\x01\x00\x48\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\x80\x22\x00\x0btest vector\x20\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9\x00\x08\x00\x14\xa3\x82\x95\x4e\x4b\xe6\x7b\xf1\x17\x84\xc9\x7c\x82\x92\xc2\x75\xbf\xe3\xed\x41\x80\x28\x00\x04\xc8\xfb\x0b\x4c";
    const SAMPLE_ID: TransactionId = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

    fn source() -> SocketAddr {
        "192.0.2.1:32853".parse().unwrap()
    }

    #[test]
    fn the_vectors_of_rfc_5769_are_read() {
        assert_eq!(mapped_address(SAMPLE_ANSWER, SAMPLE_ID), Some(source()));
        let six = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        assert_eq!(mapped_address(SAMPLE_ANSWER_6, SAMPLE_ID), Some(six));
        assert_eq!(mapped_address(SAMPLE_ANSWER, [0; 12]), None);
        // And written: the mapped address and the fingerprint of the samples are ours too.
        assert_eq!(xored(source(), SAMPLE_ID), SAMPLE_ANSWER[40..48][..8].to_vec());
        assert_eq!(xored(six, SAMPLE_ID), SAMPLE_ANSWER_6[40..60].to_vec());
        for sample in [SAMPLE_REQUEST, SAMPLE_ANSWER, SAMPLE_ANSWER_6] {
            let at = sample.len() - 8;
            assert_eq!(fingerprint_of(&sample[..at]), be32(sample, at + 4));
        }
    }

    #[test]
    fn a_binding_request_gets_its_address() {
        for source in [source(), "[2001:db8::7]:5061".parse().unwrap()] {
            let answered = answer(&request([7; 12]), source).unwrap();
            assert_eq!(mapped_address(&answered, [7; 12]), Some(source));
        }
        let mut with_fingerprint = request([7; 12]);
        seal(&mut with_fingerprint);
        let answered = answer(&with_fingerprint, source()).unwrap();
        let at = answered.len() - 8;
        assert_eq!(be32(&answered, at + 4), fingerprint_of(&answered[..at]));
        assert_eq!(mapped_address(&answered, [7; 12]), Some(source()));
    }

    #[test]
    fn what_must_be_understood_and_is_not_is_named() {
        // PRIORITY belongs to ICE, which nobody speaks here.
        let answered = answer(SAMPLE_REQUEST, source()).unwrap();
        assert_eq!(be16(&answered, 0), BINDING_ERROR);
        let all = attributes(&answered).unwrap();
        assert_eq!(all[0].1, b"\0\0\x04\x14Unknown Attribute");
        assert_eq!(all[1].1, &[0x00, 0x24]);
    }

    #[test]
    fn nothing_else_is_answered() {
        let good = request([1; 12]);
        let mut wrong = SAMPLE_REQUEST.to_vec();
        *wrong.last_mut().unwrap() ^= 1;
        let mut indication = good.clone();
        indication[1] = 0x11;
        let mut long = good.clone();
        attribute(&mut long, 0x8022, b"abcd");
        long[HEADER + 3] = 200;
        for datagram in
            [&wrong[..], &indication, &good[..19], b"OPTIONS sip:x SIP/2.0\r\n", &[], SAMPLE_ANSWER, &long]
        {
            assert_eq!(answer(datagram, source()), None);
        }
    }
}

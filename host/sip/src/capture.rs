//! What was sent and received, as files and packets that other programs read: pcap for Wireshark, HEPv3
//! for a Homer.
//!
//! Called by whoever shows calls to people. Sockets carry no headers, so the IP, UDP and TCP headers
//! here are made up from addresses and ports; their checksums are right. Nothing is kept but the TCP
//! positions of a [`Pcap`].

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use cordboard_base::Map;

use crate::transport::Transport;

/// One message, or one RTP packet, on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When, microseconds since the Unix epoch.
    pub at_unix_us: u64,
    /// How. What was inside TLS or a WebSocket is written as plain TCP, readable and without either's framing.
    pub transport: Transport,
    /// The sender.
    pub from: SocketAddr,
    /// The receiver.
    pub to: SocketAddr,
    /// The message.
    pub payload: &'a [u8],
}

/// What a payload is, by the numbers of HEPv3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Content {
    /// SIP.
    Sip = 1,
    /// RTP.
    Rtp = 4,
    /// RTCP.
    Rtcp = 5,
}

/// The most TCP bytes that one made-up segment carries, so that IPv4's and IPv6's lengths hold them.
const MAX_SEGMENT: usize = 16_384;
const MAX_UDP: usize = 65_507;

/// A packet of HEPv3 for one message; `None` when it does not fit into a datagram of 65,507 bytes.
/// `correlation` ties both legs of a call together; `agent` is this node's number at the Homer; `key` its
/// password there, empty for none.
#[must_use]
pub fn hep3(
    packet: &Packet<'_>,
    content: Content,
    agent: u32,
    key: &str,
    correlation: &str,
) -> Option<Vec<u8>> {
    let (from, to) = same_family(packet.from, packet.to);
    let mut out = Vec::with_capacity(160 + packet.payload.len() + correlation.len());
    out.extend_from_slice(b"HEP3\0\0");
    chunk(&mut out, 1, &[if from.is_ipv4() { 2 } else { 10 }])?;
    chunk(&mut out, 2, &[protocol(packet.transport)])?;
    for (address, v4, v6) in [(from, 3, 5), (to, 4, 6)] {
        match address.ip() {
            IpAddr::V4(ip) => chunk(&mut out, v4, &ip.octets())?,
            IpAddr::V6(ip) => chunk(&mut out, v6, &ip.octets())?,
        }
    }
    chunk(&mut out, 7, &from.port().to_be_bytes())?;
    chunk(&mut out, 8, &to.port().to_be_bytes())?;
    chunk(&mut out, 9, &seconds(packet).to_be_bytes())?;
    chunk(&mut out, 10, &micros(packet).to_be_bytes())?;
    chunk(&mut out, 11, &[content as u8])?;
    chunk(&mut out, 12, &agent.to_be_bytes())?;
    if !key.is_empty() {
        chunk(&mut out, 14, key.as_bytes())?;
    }
    if !correlation.is_empty() {
        chunk(&mut out, 17, correlation.as_bytes())?;
    }
    chunk(&mut out, 15, packet.payload)?;
    let length = u16::try_from(out.len()).ok().filter(|n| usize::from(*n) <= MAX_UDP)?;
    out[4..6].copy_from_slice(&length.to_be_bytes());
    Some(out)
}

/// Vendor 0 (generic), type, length with these six bytes, value.
fn chunk(out: &mut Vec<u8>, kind: u16, value: &[u8]) -> Option<()> {
    let length = u16::try_from(value.len() + 6).ok()?;
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
    Some(())
}

/// A pcap file being written, packet by packet. TCP positions count on from packet to packet, so that a
/// reader puts the streams together.
#[derive(Debug, Default)]
pub struct Pcap {
    /// The next sequence number of each direction.
    sent: Map<(SocketAddr, SocketAddr), u32>,
    identification: u16,
}

impl Pcap {
    /// What a file begins with: microseconds, big-endian, LINKTYPE_RAW (packets begin with IP).
    pub const HEADER: [u8; 24] =
        [0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 101];

    /// Appends a packet, or several where a TCP payload needs them. A UDP payload of more than 65,507
    /// bytes, which nobody can have sent, is cut there.
    pub fn write(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>) {
        let (from, to) = same_family(packet.from, packet.to);
        if protocol(packet.transport) == UDP {
            let payload = &packet.payload[..packet.payload.len().min(MAX_UDP)];
            let mut segment = Vec::with_capacity(8 + payload.len());
            segment.extend_from_slice(&from.port().to_be_bytes());
            segment.extend_from_slice(&to.port().to_be_bytes());
            segment.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
            segment.extend_from_slice(&[0, 0]);
            segment.extend_from_slice(payload);
            let sum = match transport_sum(from.ip(), to.ip(), UDP, &segment) {
                // 0 would say that there is no checksum (RFC 768).
                0 => 0xffff,
                sum => sum,
            };
            segment[6..8].copy_from_slice(&sum.to_be_bytes());
            self.record(packet, from, to, UDP, &segment, out);
            return;
        }
        for payload in packet.payload.chunks(MAX_SEGMENT) {
            let acknowledged = *self.sent.entry((to, from)).or_insert(1);
            let sequence = self.sent.entry((from, to)).or_insert(1);
            let mut segment = Vec::with_capacity(20 + payload.len());
            segment.extend_from_slice(&from.port().to_be_bytes());
            segment.extend_from_slice(&to.port().to_be_bytes());
            segment.extend_from_slice(&sequence.to_be_bytes());
            segment.extend_from_slice(&acknowledged.to_be_bytes());
            // Five words of header, PSH and ACK, the largest window, checksum, no urgent data.
            segment.extend_from_slice(&[0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
            segment.extend_from_slice(payload);
            *sequence = sequence.wrapping_add(payload.len() as u32);
            let sum = transport_sum(from.ip(), to.ip(), TCP, &segment);
            segment[16..18].copy_from_slice(&sum.to_be_bytes());
            self.record(packet, from, to, TCP, &segment, out);
        }
    }

    fn record(
        &mut self,
        packet: &Packet<'_>,
        from: SocketAddr,
        to: SocketAddr,
        protocol: u8,
        segment: &[u8],
        out: &mut Vec<u8>,
    ) {
        let mut head = Vec::with_capacity(40);
        match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                self.identification = self.identification.wrapping_add(1);
                head.extend_from_slice(&[0x45, 0]);
                head.extend_from_slice(&((20 + segment.len()) as u16).to_be_bytes());
                head.extend_from_slice(&self.identification.to_be_bytes());
                // Not fragmented, 64 hops.
                head.extend_from_slice(&[0, 0, 64, protocol, 0, 0]);
                head.extend_from_slice(&from.octets());
                head.extend_from_slice(&to.octets());
                let sum = folded(added(0, &head));
                head[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (from, to) => {
                head.extend_from_slice(&[0x60, 0, 0, 0]);
                head.extend_from_slice(&(segment.len() as u16).to_be_bytes());
                head.extend_from_slice(&[protocol, 64]);
                head.extend_from_slice(&as_v6(from).octets());
                head.extend_from_slice(&as_v6(to).octets());
            }
        }
        let length = (head.len() + segment.len()) as u32;
        for word in [seconds(packet), micros(packet), length, length] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&head);
        out.extend_from_slice(segment);
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;

const fn protocol(transport: Transport) -> u8 {
    if transport.is_reliable() { TCP } else { UDP }
}

const fn seconds(packet: &Packet<'_>) -> u32 {
    (packet.at_unix_us / 1_000_000) as u32
}

const fn micros(packet: &Packet<'_>) -> u32 {
    (packet.at_unix_us % 1_000_000) as u32
}

/// Both as IPv4 if they are, even where a dual-stack socket writes them as IPv6; else both as IPv6.
fn same_family(from: SocketAddr, to: SocketAddr) -> (SocketAddr, SocketAddr) {
    let (a, b) = (from.ip().to_canonical(), to.ip().to_canonical());
    let (a, b) = if a.is_ipv4() == b.is_ipv4() { (a, b) } else { (as_v6(a).into(), as_v6(b).into()) };
    (SocketAddr::new(a, from.port()), SocketAddr::new(b, to.port()))
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The checksum over the pseudo-header and a segment whose own checksum is 0 (RFC 768, RFC 9293, RFC 8200 8.1).
fn transport_sum(from: IpAddr, to: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let mut sum = u64::from(protocol) + segment.len() as u64;
    for ip in [from, to] {
        sum = match ip {
            IpAddr::V4(v4) => added(sum, &v4.octets()),
            IpAddr::V6(v6) => added(sum, &v6.octets()),
        };
    }
    folded(added(sum, segment))
}

/// Adds 16-bit words, an odd last byte as the upper half of one.
fn added(sum: u64, bytes: &[u8]) -> u64 {
    let (words, odd) = bytes.as_chunks::<2>();
    let sum = words.iter().fold(sum, |sum, word| sum + u64::from(u16::from_be_bytes(*word)));
    sum + odd.first().map_or(0, |byte| u64::from(*byte) << 8)
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet<'a>(transport: Transport, from: &str, to: &str, payload: &'a [u8]) -> Packet<'a> {
        let at_unix_us = 1_700_000_000_123_456;
        Packet { at_unix_us, transport, from: from.parse().unwrap(), to: to.parse().unwrap(), payload }
    }

    fn be32(bytes: &[u8]) -> usize {
        u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize
    }

    /// Time, IP header and segment of each record.
    fn records(mut file: &[u8]) -> Vec<(usize, usize, Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        while !file.is_empty() {
            let (kept, whole) = (be32(&file[8..]), be32(&file[12..]));
            assert_eq!(kept, whole);
            let ip = &file[16..16 + whole];
            let head = if ip[0] == 0x45 { 20 } else { 40 };
            all.push((be32(file), be32(&file[4..]), ip[..head].to_vec(), ip[head..].to_vec()));
            file = &file[16 + whole..];
        }
        all
    }

    #[test]
    fn a_header_of_the_field_has_the_checksum_that_it_had() {
        // The example that RFC 1071's readers use: 45 00 00 73 ... with checksum b861.
        let head = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0x00, 0x01, 0xc0,
            0xa8, 0x00, 0xc7,
        ];
        assert_eq!(folded(added(0, &head)), 0xb861);
    }

    #[test]
    fn udp_of_both_families_and_odd_lengths_sums_to_nothing() {
        let pairs = [
            ("192.0.2.1:5060", "192.0.2.2:5070", 0x45),
            ("[::ffff:192.0.2.1]:5060", "192.0.2.2:5070", 0x45),
            ("[2001:db8::1]:5060", "[2001:db8::2]:5070", 0x60),
            ("192.0.2.1:5060", "[2001:db8::2]:5070", 0x60),
        ];
        for (from, to, first) in pairs {
            for payload in [&b""[..], b"x", b"xy", &[0xff; 1_001], &[0; 65_600]] {
                let mut out = Vec::new();
                Pcap::default().write(&packet(Transport::Udp, from, to, payload), &mut out);
                let all = records(&out);
                let (s, us, ip, segment) = &all[0];
                assert_eq!((all.len(), *s, *us, ip[0]), (1, 1_700_000_000, 123_456, first));
                assert_eq!(segment.len(), 8 + payload.len().min(MAX_UDP));
                let (from, to) = same_family(from.parse().unwrap(), to.parse().unwrap());
                assert_eq!(transport_sum(from.ip(), to.ip(), UDP, segment), 0, "the whole sums to ones");
                assert!(ip[0] == 0x60 || folded(added(0, ip)) == 0);
            }
        }
    }

    #[test]
    fn a_stream_counts_on_in_both_directions() {
        let (a, b) = ("192.0.2.1:5060", "192.0.2.2:40000");
        let (mut pcap, mut out) = (Pcap::default(), Vec::new());
        let long = vec![b'x'; MAX_SEGMENT + 10];
        pcap.write(&packet(Transport::Tcp, a, b, b"12345"), &mut out);
        pcap.write(&packet(Transport::Tls, b, a, &long), &mut out);
        pcap.write(&packet(Transport::Ws, a, b, b"678"), &mut out);
        let seen: Vec<_> =
            records(&out).iter().map(|(_, _, _, s)| (be32(&s[4..]), be32(&s[8..]), s.len() - 20)).collect();
        let after = 1 + MAX_SEGMENT;
        assert_eq!(seen, [(1, 1, 5), (1, 6, MAX_SEGMENT), (after, 6, 10), (6, after + 10, 3)]);
        for (_, _, _, segment) in records(&out) {
            let (a, b) = (a.parse::<SocketAddr>().unwrap().ip(), b.parse::<SocketAddr>().unwrap().ip());
            assert_eq!(transport_sum(a, b, TCP, &segment), 0);
        }
    }

    #[test]
    fn hep_has_its_chunks_and_refuses_what_does_not_fit() {
        let one = packet(Transport::Udp, "192.0.2.1:5060", "192.0.2.2:5070", b"OPTIONS");
        let hep = hep3(&one, Content::Sip, 7, "secret", "call-1").unwrap();
        assert_eq!((&hep[..4], usize::from(u16::from_be_bytes([hep[4], hep[5]]))), (&b"HEP3"[..], hep.len()));
        let mut chunks: Vec<(u8, Vec<u8>)> = Vec::new();
        let mut rest = &hep[6..];
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[4], rest[5]]));
            chunks.push((rest[3], rest[6..length].to_vec()));
            rest = &rest[length..];
        }
        let chunk = |kind| chunks.iter().find(|(k, _)| *k == kind).map(|(_, value)| value.as_slice());
        assert_eq!((chunk(1), chunk(2), chunk(11)), (Some(&[2][..]), Some(&[17][..]), Some(&[1][..])));
        assert_eq!((chunk(3), chunk(4)), (Some(&[192, 0, 2, 1][..]), Some(&[192, 0, 2, 2][..])));
        assert_eq!((chunk(7), chunk(8)), (Some(&[19, 196][..]), Some(&[19, 206][..])));
        assert_eq!(chunk(9).map(be32), Some(1_700_000_000));
        assert_eq!((chunk(10).map(be32), chunk(12).map(be32)), (Some(123_456), Some(7)));
        assert_eq!(
            (chunk(14), chunk(17), chunk(15)),
            (Some(&b"secret"[..]), Some(&b"call-1"[..]), Some(&b"OPTIONS"[..]))
        );
        let six = packet(Transport::Wss, "[2001:db8::1]:443", "[2001:db8::2]:5070", b"");
        let hep = hep3(&six, Content::Sip, 7, "", "").unwrap();
        assert_eq!((hep[12], hep[19]), (10, 6));
        let large = [b'x'; 65_500];
        assert_eq!(
            hep3(&packet(Transport::Tcp, "192.0.2.1:1", "192.0.2.2:2", &large), Content::Sip, 7, "", ""),
            None
        );
    }
}

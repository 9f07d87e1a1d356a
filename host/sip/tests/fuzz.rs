//! The fuzz targets on a stable toolchain: their corpora replayed, and mutated a little from a fixed seed.
//!
//! `FUZZ_SECONDS=600 cargo test --release -p cordboard-sip --test fuzz -- --ignored` mutates for so long, all
//! targets together or the one that `FUZZ_TARGET` names; what broke a promise is in files that the failure
//! names. The suite of the machines does so for 20 seconds.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use cordboard_base::Random;

#[allow(unreachable_pub, dead_code, reason = "shared with the fuzz crate and wire_rsip.rs")]
#[path = "../fuzz/src/second_opinion.rs"]
mod second_opinion;
#[allow(unreachable_pub, reason = "shared with the fuzz crate")]
#[path = "../fuzz/src/targets.rs"]
mod targets;

/// What mutations splice in: the words and signs that grammars turn on.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n ",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b": ",
    b";",
    b",",
    b"=",
    b"\"",
    b"\\\"",
    b"<",
    b">",
    b"@",
    b"%",
    b"%00",
    b"[::1]",
    b"[",
    b"]",
    b"SIP/2.0",
    b"sip:",
    b"sips:",
    b"tel:",
    b"INVITE ",
    b"ACK ",
    b"REGISTER ",
    b"l: ",
    b"Content-Length: ",
    b"4294967296",
    b"2147483648",
    b"65536",
    b"-1",
    b"0",
    b"Via: SIP/2.0/UDP h;branch=z9hG4bK",
    b"v: ",
    b"i: x",
    b"f: <sip:a@b>;tag=1",
    b"t: <sip:a@b>",
    b"CSeq: 1 INVITE",
    b"Contact: *",
    b";lr",
    b";tag=",
    b"?",
    b"&",
    b"v=0\r\n",
    b"m=audio 1 RTP/AVP 0\r\n",
    b"c=IN IP6 ::1\r\n",
    b"a=rtpmap:0 PCMU/8000\r\n",
    b"--b\r\n",
    b"--b--",
    b"Content-Type: multipart/mixed;boundary=b\r\n",
    b"Digest ",
    b"nonce=",
    b"qop=\"auth,auth-int\"",
    b"NONCE",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\0",
    b"\x21\x12\xa4\x42",
    b"\x00\x01\x00\x00",
];

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
}

/// One input from others: bytes changed, cut out, doubled, spliced with another's or with a word.
fn mutated(seeds: &[(PathBuf, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut any = |n: usize| random.below(n.max(1) as u64) as usize;
    let mut bytes = seeds[any(seeds.len())].1.clone();
    for _ in 0..1 + any(6) {
        let at = any(bytes.len() + 1);
        let end = (at + any(24)).min(bytes.len());
        match any(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << any(8),
            1 if at < bytes.len() => bytes[at] = any(256) as u8,
            2 => {
                bytes.drain(at..end);
            }
            3 => {
                let copy = bytes[at..end].to_vec();
                let to = any(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            4 => {
                let other = &seeds[any(seeds.len())].1;
                let from = any(other.len() + 1);
                let to = (from + any(200)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => {
                let word = WORDS[any(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    bytes.truncate(4_096);
    bytes
}

#[test]
fn every_file_of_the_corpora_keeps_its_targets_promise() {
    for (name, target) in targets::ALL {
        let files = corpus(name);
        assert!(files.len() >= 3, "{name} has a corpus");
        for (path, bytes) in files {
            let kept = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
            assert!(kept.is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn a_thousand_mutations_of_each_corpus_break_no_promise() {
    for (name, target) in targets::ALL {
        let (seeds, mut random) = (corpus(name), Random::seeded(2026));
        for i in 0..1_000 {
            let bytes = mutated(&seeds, &mut random);
            let kept = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
            assert!(kept.is_ok(), "{name}, mutation {i}: {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
#[ignore = "runs for FUZZ_SECONDS"]
#[allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it runs for as long as a person says"
)]
fn mutations_for_as_long_as_asked() {
    let seconds: u64 = std::env::var("FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(10);
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let only = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let wanted = targets::ALL.iter().filter(|(name, _)| only.is_empty() || *name == only);
    let share = std::time::Duration::from_secs(seconds) / wanted.clone().count().max(1) as u32;
    let mut broken = Vec::new();
    for (name, target) in wanted {
        let mut seeds = corpus(name);
        let begin = std::time::Instant::now();
        let mut random = Random::seeded(seed);
        let mut count = 0_u64;
        while begin.elapsed() < share {
            let bytes = mutated(&seeds, &mut random);
            count += 1;
            if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
                let path = std::env::temp_dir().join(format!("fuzz-{name}-{count}"));
                fs::write(&path, &bytes).expect("a file");
                broken.push(path);
                if broken.len() >= 20 {
                    break;
                }
            } else if count.is_multiple_of(64) && bytes.len() < 1_500 {
                // Drift: some mutations become seeds, the oldest drifters make room.
                seeds.push((PathBuf::new(), bytes));
                if seeds.len() > 400 {
                    seeds.remove(seeds.len() / 2);
                }
            }
        }
        println!("{name}: {count} inputs");
        assert!(count > 0, "{name}: so many seconds are too few");
    }
    assert!(broken.is_empty(), "FUZZ_SEED={seed}: {broken:?}");
}

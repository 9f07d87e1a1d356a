//! Answering a challenge.

use std::fmt::Write as _;

use cordboard_base::Random;

use super::{Algorithm, Challenge, Counted};

/// One user's side of digest towards one peer: remembers how often it used the last nonce.
#[derive(Debug, Clone, Default)]
pub struct Client {
    nonce: String,
    count: u32,
}

impl Client {
    /// The value of Authorization (or Proxy-Authorization) for `challenges`, the values of
    /// WWW-Authenticate (or Proxy-Authenticate): SHA-256 is chosen over MD5, `auth` over `auth-int`
    /// (RFC 7616 3.7, RFC 8760 2.4). Each call with the same nonce counts one up (RFC 7616 3.4).
    ///
    /// `None` when no challenge is digest with an algorithm and a quality of protection that we know.
    #[allow(clippy::too_many_arguments, reason = "they are what the response covers")]
    pub fn answer(
        &mut self,
        challenges: &[&str],
        method: &str,
        uri: &str,
        user: &str,
        password: &str,
        body: &[u8],
        random: &mut Random,
    ) -> Option<String> {
        // The first of the strongest algorithm: order is the server's preference.
        let (challenge, algorithm, qop) = challenges
            .iter()
            .filter_map(|c| usable(c))
            .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
        if self.nonce == challenge.nonce {
            self.count += 1;
        } else {
            challenge.nonce.clone_into(&mut self.nonce);
            self.count = 1;
        }
        let user = escaped(user);
        // Eight digits, hexadecimal: the tenth request is 0000000a (RFC 7616 3.4).
        let (nc, cnonce) = (format!("{:08x}", self.count), random.token());
        // The realm is hashed as it stands between the quotes, escapes and all.
        let ha1 = algorithm.ha1(&user, challenge.realm, password);
        let counted = qop.map(|qop| Counted { nc: &nc, cnonce: &cnonce, qop });
        let response = algorithm.response(&ha1, challenge.nonce, counted, method, uri, body);
        let mut value = format!(
            "Digest username=\"{user}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\"",
            challenge.realm, challenge.nonce
        );
        if challenge.algorithm.is_some() {
            let _ = write!(value, ", algorithm={}", algorithm.as_str());
        }
        if let Some(qop) = qop {
            let _ = write!(value, ", qop={qop}, nc={nc}, cnonce=\"{cnonce}\"");
        }
        if let Some(opaque) = challenge.opaque {
            let _ = write!(value, ", opaque=\"{opaque}\"");
        }
        Some(value)
    }
}

/// A challenge that we can answer, and with which quality of protection (`auth` before `auth-int`).
fn usable(value: &str) -> Option<(Challenge<'_>, Algorithm, Option<&'static str>)> {
    let challenge = Challenge::parse(value)?;
    let algorithm = Algorithm::parse(challenge.algorithm)?;
    let Some(offered) = challenge.qop else { return Some((challenge, algorithm, None)) };
    let qop = ["auth", "auth-int"]
        .into_iter()
        .find(|q| offered.split(',').any(|o| o.trim().eq_ignore_ascii_case(q)))?;
    Some((challenge, algorithm, Some(qop)))
}

fn escaped(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains(['"', '\\']) {
        text.replace('\\', "\\\\").replace('"', "\\\"").into()
    } else {
        text.into()
    }
}

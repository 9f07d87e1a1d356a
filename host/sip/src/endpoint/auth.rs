//! Answers digest challenges of servers and proxies (RFC 3261 22.2, 22.3).

use bytes::Bytes;
use cordboard_base::Random;

use super::compose;
use super::leg::Auth;
use crate::digest::Challenge;
use crate::wire::{Message, Name};

/// How often in a row a server may call our nonce stale.
const MAX_STALE: u8 = 3;

/// The header that answers a 401 or 407; `None` when it cannot be answered.
///
/// 22.2: a request that was refused with credentials is not tried again with the same ones, unless the
/// server says that only the nonce was stale (RFC 7616 3.3).
pub(super) fn answer(
    random: &mut Random,
    auth: &mut Auth,
    response: &Message,
    request: &Bytes,
) -> Option<(&'static str, String)> {
    let (asked, name) = match response.status() {
        401 => (Name::WwwAuthenticate, "Authorization"),
        407 => (Name::ProxyAuthenticate, "Proxy-Authorization"),
        _ => return None,
    };
    let challenges: Vec<&str> = response.lines(asked).collect();
    if compose::find(request, name).is_none() {
        auth.stale = 0;
    } else {
        let stale = challenges.iter().filter_map(|c| Challenge::parse(c)).any(|c| c.stale);
        if !stale || auth.stale >= MAX_STALE {
            return None;
        }
        auth.stale += 1;
    }
    let (method, uri, body) = compose::start_line(request)?;
    let (user, password) = (&auth.credentials.user, &auth.credentials.password);
    let value = auth.client.answer(&challenges, method, uri, user, password, body, random)?;
    compose::is_clean(&value).then_some((name, value))
}

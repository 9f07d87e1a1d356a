//! Bearer tokens (RFC 6750): compared by their SHA-256, in constant time.

use axum::extract::Request;
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};

use super::{Problem, State};

/// Lets a request through when its token may do what it asks.
pub(super) async fn check(
    axum::extract::State(shared): State,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let config = shared.config();
    if config.api.tokens.is_empty() {
        return Err(Problem::new(401, "the configuration has no [[api.tokens]], so nobody may use the API"));
    }
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| Problem::new(401, "a bearer token is needed: `Authorization: Bearer TOKEN`"))?;
    let hash: [u8; 32] = Sha256::digest(given).into();
    // Every token is compared to its end, so that time tells nothing.
    let mut found = None;
    for token in &config.api.tokens {
        let differs = token.sha256.iter().zip(hash).fold(0, |differs, (a, b)| differs | (a ^ b));
        if differs == 0 {
            found = Some(token);
        }
    }
    let token = found.ok_or_else(|| Problem::new(401, "the token is not one of this centre's"))?;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !reads && !token.write {
        return Err(Problem::new(
            403,
            format!("the token `{}` may read, and this changes something", token.name),
        ));
    }
    if !reads {
        tracing::info!(who = %token.name, method = %request.method(), path = %request.uri().path(), "admin API");
    }
    Ok(next.run(request).await)
}

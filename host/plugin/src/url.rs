//! A strict reader of absolute `http` URLs, for the check of grants.
//!
//! What it accepts has one reading: no user info, no whitespace or backslash, no percent signs in
//! the host, so that the host that is checked is the host that is connected to.

/// The parts of an absolute `http` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// In small letters; an IPv6 address in brackets.
    pub host: String,
    /// 80 when the URL names none.
    pub port: u16,
    /// Path and query, beginning with `/`; no fragment.
    pub path: String,
}

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '\\') {
            return Err(format!("a URL must not hold {bad:?}"));
        }
        let (scheme, rest) = text.split_once("://").ok_or("an absolute URL begins with `http://`")?;
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(format!("only `http` is served, not `{scheme}`"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        if authority.contains('@') {
            return Err("user info in a URL is not served: use a header".into());
        }
        let tail = tail.split('#').next().unwrap_or_default();
        let path = if tail.starts_with('/') { tail.to_owned() } else { format!("/{tail}") };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().ok().filter(|p| *p > 0).ok_or_else(|| format!("`{port}` is not a port"))?)
            }
            _ => (authority, 80),
        };
        let host = host.to_ascii_lowercase();
        let good = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.len() <= 253
                    && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            }
        };
        if !good {
            return Err(format!("`{host}` is not a host"));
        }
        Ok(Self { host, port, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_has_one_reading() {
        let url = Url::parse("HTTP://Crm.Example.com:8080/a?b=c#d").expect("fits");
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("crm.example.com", 8080, "/a?b=c"));
        assert_eq!(Url::parse("http://[::1]/").expect("fits").host, "[::1]");
        assert_eq!(Url::parse("http://x?q").expect("fits").path, "/?q");
    }

    #[test]
    fn refuses_what_might_be_read_twice() {
        for bad in [
            "https://x/",
            "http://user@x/",
            "http://good.example\\@evil.example/",
            "http://x:0/",
            "http://x:99999/",
            "http:// x/",
            "http://%65vil/",
            "http:///x",
            "//x/",
            "http://x\r\nHost: y/",
            "http://[::1/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }
}

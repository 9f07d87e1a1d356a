//! The API's client: one request at a time, errors in the API's own words.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::Reach;

pub(super) struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    api: String,
    token: String,
}

/// How long a centre may take to answer; a component takes seconds to compile.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn encode(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

impl Client {
    pub(super) fn new(reach: &Reach) -> Result<Self> {
        let token = match (&reach.token, &reach.token_file) {
            (Some(token), _) => token.trim().to_owned(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .with_context(|| format!("--token-file {}", file.display()))?
                .trim()
                .to_owned(),
            (None, None) => {
                bail!("a token is needed: --token, --token-file, or CORDBOARD_TOKEN in the environment")
            }
        };
        let pool = Pool::builder(TokioExecutor::new()).build(HttpConnector::new());
        Ok(Self { pool, api: reach.api.trim_end_matches('/').to_owned(), token })
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        query: &[(&'static str, String)],
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Response<Incoming>> {
        let mut url = format!("{}{}", self.api, path);
        for (i, (key, value)) in query.iter().enumerate() {
            url.push_str(&format!("{}{key}={}", if i == 0 { '?' } else { '&' }, encode(value)));
        }
        let mut request = Request::builder()
            .method(method)
            .uri(&url)
            .header("authorization", format!("Bearer {}", self.token));
        if let Some((kind, _)) = &body {
            request = request.header("content-type", *kind);
        }
        let request = request.body(Full::new(Bytes::from(body.map(|(_, b)| b).unwrap_or_default())))?;
        let answered = tokio::time::timeout(PATIENCE, self.pool.request(request)).await;
        let response = answered
            .map_err(|_| anyhow!("{} did not answer within {} s", self.api, PATIENCE.as_secs()))?
            .with_context(|| {
                format!("no centre answers at {} (--api or CORDBOARD_API says where)", self.api)
            })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let detail =
            serde_json::from_slice::<Value>(&body).ok().and_then(|v| Some(v["detail"].as_str()?.to_owned()));
        bail!("{}", detail.unwrap_or_else(|| status.to_string()))
    }

    async fn json(
        &self,
        method: &str,
        path: &str,
        query: &[(&'static str, String)],
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Value> {
        let body = self.send(method, path, query, body).await?.into_body().collect().await?.to_bytes();
        serde_json::from_slice(&body).context("the centre's answer is not JSON")
    }

    /// The body as it is.
    pub(super) async fn bytes(&self, path: &str) -> Result<Bytes> {
        Ok(self.send("GET", path, &[], None).await?.into_body().collect().await?.to_bytes())
    }

    pub(super) async fn get(&self, path: &str, query: &[(&'static str, String)]) -> Result<Value> {
        self.json("GET", path, query, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(|b| ("application/json", b.to_string().into_bytes()));
        self.json("POST", path, &[], body).await
    }

    pub(super) async fn put(&self, path: &str, component: Vec<u8>) -> Result<Value> {
        self.json("PUT", path, &[], Some(("application/wasm", component))).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value> {
        self.json("DELETE", path, &[], None).await
    }

    /// Copies the body to standard output as it comes.
    pub(super) async fn copy(&self, path: &str, query: &[(&'static str, String)]) -> Result<()> {
        let mut body = self.send("GET", path, query, None).await?.into_body();
        let mut out = std::io::stdout().lock();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.context("the export was cut off: it is not whole")?.into_data() {
                out.write_all(&data)?;
            }
        }
        out.flush()?;
        Ok(())
    }

    /// Calls `each` with the name and data of each server-sent event until the stream ends.
    pub(super) async fn stream(
        &self,
        path: &str,
        mut each: impl FnMut(&str, &Value) -> Result<()>,
    ) -> Result<()> {
        let mut body = self.send("GET", path, &[], None).await?.into_body();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            text.extend_from_slice(&data);
            while let Some(end) = text.windows(2).position(|w| w == b"\n\n") {
                let block: Vec<u8> = text.drain(..end + 2).collect();
                let block = String::from_utf8_lossy(&block);
                let field =
                    |name: &str| block.lines().find_map(|l| Some(l.strip_prefix(name)?.trim().to_owned()));
                if let (Some(event), Some(data)) = (field("event:"), field("data:")) {
                    each(&event, &serde_json::from_str(&data).unwrap_or(Value::Null))?;
                    if event == "closed" {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

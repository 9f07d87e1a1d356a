//! The HTTP client of the plugins: pooled, bounded, follows no redirection (the target would escape
//! the grant). Every request was checked against the plugin's grant before it comes here.

use std::time::Duration;

use bytes::Bytes;
use cordboard_plugin::{Http, HttpAnswer, HttpError, HttpRequest, HttpResponse};
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Bytes of a response's body; more is an error.
const MAX_BODY: usize = 1 << 20;

/// A client on a runtime with sockets.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    runtime: tokio::runtime::Handle,
}

impl HttpClient {
    /// On a runtime with sockets.
    #[must_use]
    pub fn new(runtime: tokio::runtime::Handle) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(10)));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(16)
            .build(connector);
        Self { client, runtime }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Why nothing came back.
    pub async fn exchange(
        &self,
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: Vec<u8>,
        time: Duration,
    ) -> Result<HttpResponse, HttpError> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request =
            request.body(Full::new(Bytes::from(body))).map_err(|e| HttpError::Invalid(e.to_string()))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| HttpError::Connect(why(&e)))?;
            let status = response.status().as_u16();
            let headers = response
                .headers()
                .iter()
                .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
                .collect();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            let body =
                body.map_err(|e| HttpError::Connect(format!("reading the answer: {e}")))?.to_bytes().to_vec();
            Ok(HttpResponse { status, headers, body })
        };
        tokio::time::timeout(time, exchange).await.unwrap_or(Err(HttpError::Timeout))
    }
}

/// An error with its causes: `client error (Connect): connection refused`.
fn why(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Http for HttpClient {
    fn send(&self, request: HttpRequest) -> HttpAnswer {
        let me = self.clone();
        let url = format!("http://{}:{}{}", request.url.host, request.url.port, request.url.path);
        let time = Duration::from_millis(request.timeout_ms.into());
        let task = self.runtime.spawn(async move {
            me.exchange(&request.method, &url, &request.headers, request.body, time).await
        });
        Box::pin(async move {
            task.await.unwrap_or_else(|_| Err(HttpError::Connect("the centre is stopping".into())))
        })
    }
}

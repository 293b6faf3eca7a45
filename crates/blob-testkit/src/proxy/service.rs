//! Forwarding: one request in, one request out, one answer back.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, LINK, LOCATION, RANGE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::ProxyOptions;
use super::count::{Live, Log, Origin, Way};
use super::fault::{Action, Faults, bend, made_up};
use super::gate::{Gate, Urls};
use super::pipe::{Body, BoxError, Pipe, full};
use super::shape::Line;

/// Headers that concern one connection and are not passed on.
const HOP_BY_HOP: [HeaderName; 5] = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// Headers in which a server may name itself with an absolute URL.
const SELF_NAMING: [HeaderName; 3] = [LOCATION, LINK, WWW_AUTHENTICATE];

pub(super) struct Service {
    upstream: String,
    urls: Urls,
    client: Client<HttpConnector, Body>,
    faults: Faults,
    gate: Gate,
    log: Log,
    pub(super) line: Line,
}

impl Service {
    pub(super) fn new(
        upstream: SocketAddr,
        main: SocketAddr,
        second: SocketAddr,
        options: ProxyOptions,
        log: Log,
    ) -> Self {
        Self {
            upstream: format!("http://{upstream}"),
            urls: Urls { main: format!("http://{main}"), second: format!("http://{second}") },
            client: Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(HttpConnector::new()),
            faults: options.faults,
            gate: options.gate,
            log,
            line: Line::new(options.shape),
        }
    }

    /// An error closes the client's connection without an answer.
    async fn answer(self: Arc<Self>, origin: Origin, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let (mut parts, body) = request.into_parts();
        let live = self.log.record(origin, &parts);
        self.line.round_trip().await;
        let fault = self.faults.next(&parts);
        match &fault {
            Some(Action::Hold(latch)) => latch.opened().await,
            Some(Action::Delay(time)) => tokio::time::sleep(*time).await,
            _ => {}
        }
        if let Some(Action::Answer { status, headers, body }) = &fault {
            return Ok(own(&live, made_up(*status, headers, body.clone())));
        }
        if let Some(response) = self.gate.answer(origin, &parts, &self.urls) {
            return Ok(own(&live, response));
        }
        if let Err(error) = self.redirect_upstream(&mut parts, fault.as_ref()) {
            return Ok(own(&live, bad_gateway(&error)));
        }
        let cut = match fault {
            Some(Action::CutUpload(at)) => Some(Action::Cut(at)),
            _ => None,
        };
        let (up_live, up_service) = (Arc::clone(&live), Arc::clone(&self));
        let up = Pipe { body, way: Way::Up, live: up_live, service: up_service, fault: cut.clone(), sent: 0 };
        let sent = Arc::clone(&live);
        let reached = |cut: &Option<Action>| matches!(cut, Some(Action::Cut(at)) if sent.bytes(Way::Up) >= *at);
        match self.client.request(Request::from_parts(parts, up.into_body())).await {
            Ok(_) | Err(_) if reached(&cut) => Err("the upload was cut by the fault script".into()),
            Ok(response) => Ok(self.pass_back(response, live, fault)),
            Err(error) => Ok(own(&live, bad_gateway(&error.into()))),
        }
    }

    /// Points the request at the upstream and takes off what must not reach it.
    fn redirect_upstream(&self, parts: &mut http::request::Parts, fault: Option<&Action>) -> Result<(), BoxError> {
        let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        parts.uri = format!("{}{target}", self.upstream).parse::<Uri>()?;
        parts.headers.remove(HOST);
        strip_hop_by_hop(&mut parts.headers);
        if self.gate.token.is_some() {
            parts.headers.remove(AUTHORIZATION);
        }
        if fault == Some(&Action::IgnoreRange) {
            parts.headers.remove(RANGE);
        }
        Ok(())
    }

    fn pass_back(
        self: Arc<Self>,
        response: Response<Incoming>,
        live: Arc<Live>,
        fault: Option<Action>,
    ) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        live.answered(parts.status);
        strip_hop_by_hop(&mut parts.headers);
        for name in SELF_NAMING {
            rewrite(&mut parts.headers, &name, |value| value.replace(&self.upstream, &self.urls.main));
        }
        bend(&mut parts, fault.as_ref());
        let down = Pipe { body, way: Way::Down, live, service: self, fault, sent: 0 };
        Response::from_parts(parts, down.into_body())
    }
}

fn own(live: &Live, response: Response<Bytes>) -> Response<Body> {
    live.answered(response.status());
    live.add(Way::Down, response.body().len() as u64);
    response.map(full)
}

fn bad_gateway(error: &BoxError) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("the upstream did not answer: {error}\n")));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

fn rewrite(headers: &mut HeaderMap, name: &HeaderName, change: impl Fn(&str) -> String) {
    let values: Vec<HeaderValue> = headers.get_all(name).iter().cloned().collect();
    headers.remove(name);
    for value in values {
        let changed = value.to_str().ok().and_then(|text| HeaderValue::try_from(change(text)).ok());
        headers.append(name, changed.unwrap_or(value));
    }
}

/// Serves every connection of `listener` until the future is dropped.
pub(super) async fn accept(listener: TcpListener, origin: Origin, service: Arc<Service>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: waiting lets other connections close.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        // A failure only costs latency on small answers.
        let _ = stream.set_nodelay(true);
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            service.line.round_trip().await;
            let answer = hyper::service::service_fn(move |request| {
                let service = Arc::clone(&service);
                service.answer(origin, request)
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            // Ends in an error when a client goes away or a fault cuts the line; both are part of the test.
            let _ = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

//! The services over HTTP on loopback.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::login::{self, Provider};
use super::{Fault, Person, State, ca};

/// The largest request: bundles are smaller.
const MAX_REQUEST: usize = 8 << 20;

type Shared = Arc<Mutex<State>>;
type Started = (SocketAddr, oneshot::Sender<()>, JoinHandle<()>);

/// Serves on a free port, in a thread of its own.
pub(super) fn serve(state: Shared) -> io::Result<Started> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("blob-testkit-sigstore".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = accept(listener, state) => {}
                _ = stopped => {}
            }
        });
    })?;
    Ok((addr, stop, thread))
}

async fn accept(listener: TcpListener, state: Shared) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            // A client that goes away is none of our business.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(state: Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_REQUEST).collect().await.map(http_body_util::Collected::to_bytes);
    let body = body.unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let fault = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.push(format!("{} {path}", parts.method));
        state.fault
    };
    Ok(match fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Status(status)) => reply(status, "application/json", r#"{"code":1,"message":"made to fail"}"#),
        Some(Fault::Huge) => reply(201, "application/json", vec![b' '; 64 << 20]),
        Some(Fault::Junk) => reply(201, "text/html", "<html>hello</html>"),
        _ => {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            route(&mut state, &parts, &path, &body)
        }
    })
}

fn route(state: &mut State, parts: &http::request::Parts, path: &str, body: &[u8]) -> Response<Full<Bytes>> {
    let fault = state.fault;
    match (&parts.method, path) {
        (&Method::POST, "/api/v2/signingCert") => {
            let bearer =
                parts.headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            json_reply(ca::answer(state, body, bearer))
        }
        (&Method::POST, "/api/v1/log/entries") => {
            let answer = state.v1.answer(body, fault);
            let exists = matches!(answer, Err((409, _)));
            let mut reply = json_reply(answer);
            if let Some(place) = state.v1.place(body).filter(|_| exists) {
                reply.headers_mut().insert("location", place.parse().expect("a path is a header"));
            }
            reply
        }
        (&Method::GET, entry) if entry.starts_with("/api/v1/log/entries/") => {
            let name = entry.rsplit('/').next().unwrap_or_default();
            json_reply(state.v1.entry(name).ok_or((404, "there is no such entry")))
        }
        (&Method::POST, "/api/v2/log/entries") => json_reply(state.v2.answer(body, fault)),
        (&Method::POST, "/api/v1/timestamp") => {
            let tsa = if fault == Some(Fault::ForeignStamp) { &state.foreign_tsa } else { &state.tsa };
            match tsa.answer(body, fault) {
                Some(stamp) => reply(201, "application/timestamp-reply", stamp),
                None => reply(400, "text/plain", "not a request"),
            }
        }
        (&Method::POST, "/second/timestamp") => match state.second_tsa.answer(body, fault) {
            Some(stamp) => reply(201, "application/timestamp-reply", stamp),
            None => reply(400, "text/plain", "not a request"),
        },
        (&Method::GET, "/token") => token(parts),
        (method, below) if below.starts_with(login::PATH) => {
            log_in(state, method, parts, &below[login::PATH.len()..], body)
        }
        _ => reply(404, "application/json", r#"{"code":404,"message":"no such service"}"#),
    }
}

/// What the issuer answers to programs and browsers.
fn log_in(
    state: &mut State,
    method: &Method,
    parts: &http::request::Parts,
    path: &str,
    body: &[u8],
) -> Response<Full<Bytes>> {
    let host = parts.headers.get("host").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (issuer, fault) = (format!("http://{host}{}", login::PATH), state.fault);
    match (method, path) {
        (&Method::GET, "/.well-known/openid-configuration") => json_reply(Ok(Provider::discovery(&issuer, fault))),
        (&Method::GET, "/auth") => {
            let place = state.people.authorize(parts.uri.query().unwrap_or_default(), fault);
            match place {
                Ok(place) if place.starts_with("http:") => {
                    let mut found = reply(302, "text/html", "");
                    found.headers_mut().insert("location", place.parse().expect("an address is a header"));
                    found
                }
                other => json_reply(other.map(Value::from)),
            }
        }
        (&Method::POST, "/token") => json_reply(state.people.token(&issuer, body, fault)),
        _ => reply(404, "application/json", r#"{"code":404,"message":"no such page"}"#),
    }
}

/// What GitHub answers in a workflow that may have a token.
fn token(parts: &http::request::Parts) -> Response<Full<Bytes>> {
    let audience = parts.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "audience=sigstore"));
    let bearer = parts.headers.get("authorization").is_some_and(|value| value == "Bearer request-token");
    if !audience || !bearer {
        return reply(401, "application/json", r#"{"message":"not for you"}"#);
    }
    let token = Person::github("acme/app", "release.yml", "refs/heads/main").token();
    json_reply(Ok(json!({"value": token})))
}

fn json_reply(answer: Result<Value, (u16, &'static str)>) -> Response<Full<Bytes>> {
    match answer {
        Ok(value) => reply(201, "application/json", value.to_string()),
        Err((status, message)) => {
            reply(status, "application/json", json!({"code": status, "message": message}).to_string())
        }
    }
}

fn reply(status: u16, content_type: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", content_type);
    response.body(Full::new(body.into())).expect("the parts are valid")
}

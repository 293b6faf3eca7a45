//! A server that does what its script says, over HTTP/1.1 and HTTP/2, in the clear or over TLS.

use std::convert::Infallible;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use url::Url;

/// The path under which the body of a request is read before it is answered; elsewhere it is left alone.
pub(crate) const UPLOAD: &str = "/upload";

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The asked range, end-exclusive.
    pub(crate) fn range(&self) -> Option<Range<usize>> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some(first.parse().unwrap()..last.parse::<usize>().unwrap() + 1)
    }
}

/// One step of a body.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send(Bytes),
    /// Nothing comes for a while.
    Pause(Duration),
    /// The connection breaks.
    Cut,
    /// Nothing comes any more.
    Stall,
}

/// An answer to give.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) steps: Vec<Step>,
    /// Waits this long before the headers.
    pub(crate) delay: Duration,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), steps: Vec::new(), delay: Duration::ZERO }
    }

    pub(crate) fn body(mut self, bytes: Bytes) -> Self {
        self.steps.push(Step::Send(bytes));
        self
    }

    /// Sets a header, in the place of one that is there.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self
    }

    /// Sends only the first `keep` bytes, and then does what `then` says.
    pub(crate) fn after(mut self, keep: usize, then: Step) -> Self {
        let whole: Vec<u8> = self.sent().concat();
        self.steps = vec![Step::Send(Bytes::copy_from_slice(&whole[..keep.min(whole.len())])), then];
        self
    }

    fn sent(&self) -> Vec<Bytes> {
        let bytes = |step: &Step| if let Step::Send(bytes) = step { Some(bytes.clone()) } else { None };
        self.steps.iter().filter_map(bytes).collect()
    }
}

/// What an honest server answers for `content`.
pub(crate) fn honest(content: &Bytes, seen: &Seen) -> Reply {
    let total = content.len();
    let reply = match seen.range() {
        None => Reply::status(200).header("content-length", total.to_string()).body(content.clone()),
        Some(range) if range.start >= total => Reply::status(416).header("content-range", format!("bytes */{total}")),
        Some(range) => {
            let end = range.end.min(total);
            Reply::status(206)
                .header("content-range", format!("bytes {}-{}/{total}", range.start, end - 1))
                .header("content-length", (end - range.start).to_string())
                .body(content.slice(range.start..end))
        }
    };
    reply.header("etag", "\"v1\"")
}

/// What a server without ranges answers.
pub(crate) fn whole(content: &Bytes) -> Reply {
    Reply::status(200)
        .header("content-length", content.len().to_string())
        .header("etag", "\"v1\"")
        .body(content.clone())
}

type Script = dyn Fn(usize, &Seen) -> Reply + Send + Sync;

/// A running server; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: Url,
    state: Arc<State>,
}

struct State {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    sent: AtomicU64,
    connections: AtomicUsize,
    /// Bodies that were given up before their end.
    abandoned: tokio::sync::Semaphore,
}

impl Server {
    /// Serves plain HTTP; the script gets the number of the request, from 0, and the request.
    pub(crate) async fn start(script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(script, None).await
    }

    /// Serves HTTPS as `localhost`.
    pub(crate) async fn start_tls(
        tls: TlsAcceptor,
        script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(script, Some(tls)).await
    }

    async fn listen(script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (scheme, host) = if tls.is_some() { ("https", "localhost") } else { ("http", "127.0.0.1") };
        let port = listener.local_addr().unwrap().port();
        let url = format!("{scheme}://{host}:{port}/file").parse().unwrap();
        let state = Arc::new(State {
            script: Box::new(script),
            seen: Mutex::default(),
            sent: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            abandoned: tokio::sync::Semaphore::new(0),
        });
        tokio::spawn(accept(listener, tls, Arc::clone(&state)));
        Self { url, state }
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Bytes of bodies handed to connections.
    pub(crate) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Waits until a body was given up.
    pub(crate) async fn abandoned(&self) {
        self.state.abandoned.acquire().await.unwrap().forget();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        state.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            match tls {
                None => serve(stream, state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn serve<S>(stream: S, state: Arc<State>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| answer(request, Arc::clone(&state)));
    let builder = Builder::new(TokioExecutor::new());
    // Broken connections are what the tests are about.
    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Scripted>, Infallible> {
    if request.method() == http::Method::CONNECT {
        return Ok(connect(request, &state));
    }
    let seen = Seen { uri: request.uri().clone(), headers: request.headers().clone() };
    let number = {
        let mut all = state.seen.lock().unwrap();
        all.push(seen.clone());
        all.len() - 1
    };
    let reply = (state.script)(number, &seen);
    if seen.uri.path() == UPLOAD {
        let body = request.into_body().collect().await;
        assert!(body.is_ok(), "the body of an upload arrives whole");
    }
    tokio::time::sleep(reply.delay).await;
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let body = Scripted { steps: reply.steps.into_iter().collect(), state: Some(state), yields: 0, timer: None };
    Ok(response.body(body).unwrap())
}

/// Acts as a proxy: the tunnel leads to loopback at the asked port, whatever the name.
fn connect(request: Request<Incoming>, state: &Arc<State>) -> Response<Scripted> {
    let seen = Seen { uri: request.uri().clone(), headers: request.headers().clone() };
    state.seen.lock().unwrap().push(seen);
    let port = request.uri().port_u16().unwrap();
    tokio::spawn(async move {
        let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut near = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    Response::new(Scripted { steps: std::collections::VecDeque::new(), state: None, yields: 0, timer: None })
}

struct Scripted {
    steps: std::collections::VecDeque<Step>,
    state: Option<Arc<State>>,
    yields: u32,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl http_body::Body for Scripted {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        match self.steps.front() {
            None => Poll::Ready(None),
            Some(Step::Stall) => Poll::Pending,
            Some(Step::Pause(time)) => {
                let time = *time;
                let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
                ready!(timer.as_mut().poll(cx));
                self.timer = None;
                self.steps.pop_front();
                // An empty frame, so that the next step is asked for.
                Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
            }
            // Lets the connection flush first, so that what was sent before the cut arrives.
            Some(Step::Cut) if self.yields < 3 => {
                self.yields += 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Cut) => Poll::Ready(Some(Err(std::io::Error::other("cut")))),
            Some(Step::Send(bytes)) => {
                // In pieces, so that streams have more than one chunk.
                let mut bytes = bytes.clone();
                let piece = bytes.split_to(bytes.len().min(16 << 10));
                self.steps.pop_front();
                if !bytes.is_empty() {
                    self.steps.push_front(Step::Send(bytes));
                }
                if let Some(state) = &self.state {
                    state.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if let (Some(state), false) = (&self.state, self.steps.is_empty()) {
            state.abandoned.add_permits(1);
        }
    }
}

//! A server that does what its script says, over HTTP/1.1 and HTTP/2, in the clear or over TLS.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::{Reply, Seen, Step};

/// The path under which the body of a request is read before it is answered; elsewhere it is left alone.
pub const UPLOAD: &str = "/upload";

/// Pieces in which bodies are sent, in bytes: streams have more than one of them.
const PIECE: usize = 16 << 10;

/// What was sent before it has this long to leave, where a connection is about to end.
const LINGER: Duration = Duration::from_millis(50);

type Script = dyn Fn(usize, &Seen) -> Reply + Send + Sync;

/// A running server; it ends with the test's runtime. Answers have the headers that their script gives them, and no others:
/// a body without a length comes in chunks. It is a proxy, too: tunnels lead to loopback, whatever the name.
#[derive(Clone, Debug)]
pub struct Server {
    /// A resource on it, `/file`; the host is `localhost` over TLS, where certificates have names.
    pub url: Url,
    state: Arc<State>,
}

struct State {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    sent: AtomicU64,
    connections: AtomicUsize,
    /// Bodies that were given up before their end.
    abandoned: Semaphore,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl Server {
    /// Serves plain HTTP; the script gets the number of the request, from 0, and the request.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Box::new(script), None).await
    }

    /// Serves HTTPS as `localhost`.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start_tls(tls: TlsAcceptor, script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Box::new(script), Some(tls)).await
    }

    async fn listen(script: Box<Script>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let (scheme, host) = if tls.is_some() { ("https", "localhost") } else { ("http", "127.0.0.1") };
        let url = format!("{scheme}://{host}:{port}/file").parse().expect("a URL of valid parts");
        let state = Arc::new(State {
            script,
            seen: Mutex::default(),
            sent: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            abandoned: Semaphore::new(0),
        });
        tokio::spawn(accept(listener, tls, Arc::clone(&state)));
        Self { url, state }
    }

    /// How many requests came.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state.requests().len()
    }

    /// The requests so far, in the order in which they came.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.state.requests().clone()
    }

    /// Bytes of bodies handed to connections.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// How many connections were opened.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Waits until a body was given up.
    ///
    /// # Panics
    /// Never: the count is not closed.
    pub async fn abandoned(&self) {
        self.state.abandoned.acquire().await.expect("nobody closes it").forget();
    }
}

impl State {
    fn requests(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a connection is told to end.
#[derive(Debug, Default)]
struct Ends {
    goes_away: Notify,
    hangs_up: Notify,
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
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ends = Arc::new(Ends::default());
    let told = Arc::clone(&ends);
    let service = service_fn(move |request: Request<Incoming>| answer(request, Arc::clone(&state), Arc::clone(&told)));
    let builder = Builder::new(TokioExecutor::new());
    let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    // Broken connections are what the tests are about, so how one ends is of no interest.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = ends.hangs_up.notified() => return,
        () = ends.goes_away.notified() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
    ends: Arc<Ends>,
) -> Result<Response<Scripted>, Infallible> {
    if request.method() == http::Method::CONNECT {
        return Ok(connect(request, &state));
    }
    let (parts, body) = request.into_parts();
    let seen = Seen::of(&parts, Vec::new());
    let number = {
        let mut all = state.requests();
        all.push(seen.clone());
        all.len() - 1
    };
    let reply = (state.script)(number, &seen);
    if seen.path == UPLOAD {
        let body = body.collect().await;
        assert!(body.is_ok(), "the body of an upload arrives whole");
    }
    tokio::time::sleep(reply.delay).await;
    let response = reply.head(());
    let steps = reply.steps.into();
    Ok(response.map(|()| Scripted { steps, state: Some(state), ends, yields: 0, timer: None }))
}

/// Acts as a proxy: the tunnel leads to loopback at the asked port, whatever the name.
fn connect(request: Request<Incoming>, state: &Arc<State>) -> Response<Scripted> {
    let port = request.uri().port_u16();
    let (parts, body) = request.into_parts();
    state.requests().push(Seen::of(&parts, Vec::new()));
    let nothing = Scripted { steps: VecDeque::new(), state: None, ends: Arc::default(), yields: 0, timer: None };
    let mut response = Response::new(nothing);
    let Some(port) = port else {
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        return response;
    };
    tokio::spawn(async move {
        let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
        let Ok(near) = hyper::upgrade::on(Request::from_parts(parts, body)).await else { return };
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(near), &mut far).await;
    });
    response
}

/// A body that follows its script.
struct Scripted {
    steps: VecDeque<Step>,
    state: Option<Arc<State>>,
    ends: Arc<Ends>,
    yields: u32,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Scripted {
    /// Waits, and is done with the step then; an empty frame, so that the next one is asked for.
    fn wait(&mut self, time: Duration, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        ready!(timer.as_mut().poll(cx));
        self.timer = None;
        self.steps.pop_front();
        Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
    }
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
                self.wait(time, cx)
            }
            Some(step @ (Step::GoAway | Step::HangUp)) => {
                let goes = matches!(step, Step::GoAway);
                // What came before it leaves first.
                let waited = ready!(self.wait(LINGER, cx));
                if goes {
                    self.ends.goes_away.notify_one();
                    // What comes behind it comes when that was said.
                    self.steps.push_front(Step::Pause(LINGER));
                } else {
                    self.ends.hangs_up.notify_one();
                    self.steps = [Step::Stall].into();
                }
                Poll::Ready(waited)
            }
            // Lets the connection flush first, so that what was sent before the cut arrives.
            Some(Step::Cut) if self.yields < 3 => {
                self.yields += 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Cut) => Poll::Ready(Some(Err(std::io::Error::other("cut")))),
            Some(Step::Send(bytes)) => {
                let mut bytes = bytes.clone();
                let piece = bytes.split_to(bytes.len().min(PIECE));
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

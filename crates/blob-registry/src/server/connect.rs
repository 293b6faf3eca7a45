//! Connections: accepted within limits, through TLS where it is asked for, ended in order. What is answered on them is up
//! to a [`Service`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::ServerLimits;
use super::log::Logged;
use super::metrics::Connected;
use super::pulse::{Beat, Pulse};
use super::stall::{Opening, Taking};
#[cfg(feature = "tls")]
use super::tls::{self, Tls};

/// How long shutdown waits for requests that are being answered.
const GRACE: Duration = Duration::from_secs(10);

/// What answers requests.
pub(super) trait Service: Send + Sync + 'static {
    /// What it takes from its clients.
    fn limits(&self) -> &ServerLimits;

    /// Answers a request of `peer`. The answer is followed, with its beat, until it is out.
    fn answer(
        &self,
        peer: SocketAddr,
        request: Request<Incoming>,
        beat: Beat,
    ) -> impl Future<Output = Response<Logged>> + Send;
}

/// What connections go through before they carry HTTP.
#[derive(Clone)]
pub(super) struct Doors {
    #[cfg(feature = "tls")]
    tls: Option<Arc<Tls>>,
}

impl Doors {
    #[cfg(feature = "tls")]
    pub(super) fn new(tls: Option<Tls>) -> Self {
        Self { tls: tls.map(Arc::new) }
    }

    #[cfg(not(feature = "tls"))]
    pub(super) fn new() -> Self {
        Self {}
    }

    /// Reads changed certificates again, for as long as it is polled.
    async fn watch(&self) -> std::convert::Infallible {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            loop {
                tokio::time::sleep(tls::LOOK).await;
                let tls = Arc::clone(tls);
                // It logs what it does; a thread that could not be had tries again the next time.
                let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
            }
        }
        std::future::pending().await
    }
}

/// Accepts connections until it is told to stop. The connections are tasks of a set that dies with this future.
pub(super) async fn accept<S: Service>(
    listener: TcpListener,
    app: Arc<S>,
    doors: Doors,
    mut stopped: watch::Receiver<()>,
) {
    let places = Arc::new(Semaphore::new(app.limits().max_connections.max(1)));
    let mut connections = tokio::task::JoinSet::new();
    let watching = doors.watch();
    tokio::pin!(watching);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            // An error means that the handle is gone: stop as well.
            _ = stopped.changed() => break,
            never = &mut watching => match never {},
        };
        match accepted {
            (Ok(place), Ok((stream, peer))) => {
                let connection = Connection {
                    peer,
                    app: Arc::clone(&app),
                    stopped: stopped.clone(),
                    place,
                    counted: Connected::new(),
                };
                connections.spawn(connection.open(stream, doors.clone()));
            }
            (_, Err(error)) => {
                // Out of descriptors, or a client that went away: neither must end the server or spin it.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (Err(_), _) => break,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        tracing::warn!("requests did not finish in time and were cut off");
    }
    connections.shutdown().await;
}

/// A connection that was accepted.
struct Connection<S> {
    peer: SocketAddr,
    app: Arc<S>,
    stopped: watch::Receiver<()>,
    /// One of those that the limit counts.
    place: OwnedSemaphorePermit,
    counted: Connected,
}

impl<S: Service> Connection<S> {
    async fn open(self, stream: TcpStream, doors: Doors) {
        // Small answers must not wait for more; failure costs speed alone.
        let _ = stream.set_nodelay(true);
        let idle = self.app.limits().idle_timeout;
        #[cfg(feature = "tls")]
        if let Some(tls) = &doors.tls {
            let patience = self.app.limits().header_timeout;
            match tokio::time::timeout(patience, handshake(stream, tls, idle)).await {
                Ok(Ok(stream)) => self.serve(stream).await,
                Ok(Err(error)) => tracing::debug!(%error, peer = %self.peer, "a TLS handshake failed"),
                Err(_) => tracing::debug!(peer = %self.peer, "a TLS handshake took too long"),
            }
            return;
        }
        #[cfg(not(feature = "tls"))]
        drop(doors);
        self.serve(Taking::new(stream, idle)).await;
    }

    /// Serves HTTP.
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let Self { peer, app, mut stopped, place, counted } = self;
        let limits = app.limits().clone();
        let io = TokioIo::new(Opening::new(stream, limits.header_timeout));
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
        let mut http2 = builder.http2();
        http2.timer(TokioTimer::new()).max_concurrent_streams(64).max_header_list_size(64 << 10);
        http2.keep_alive_interval(limits.header_timeout).keep_alive_timeout(limits.header_timeout);
        let pulse = Pulse::new();
        let beats = pulse.clone();
        let service = service_fn(move |request| {
            let (app, beat) = (Arc::clone(&app), beats.begin());
            async move { Ok::<_, std::convert::Infallible>(app.answer(peer, request, beat).await) }
        });
        let graceful = GracefulShutdown::new();
        let connection = graceful.watch(builder.serve_connection(io, service).into_owned());
        tokio::pin!(connection);
        let enough = async {
            tokio::select! {
                // An error means that the handle is gone.
                _ = stopped.changed() => {}
                () = pulse.quiet(limits.header_timeout) => {}
            }
        };
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = pulse.stalled(limits.idle_timeout) => Err("the client does not take its answers".into()),
            () = enough => {
                // Tells the client, and lets finish what has begun.
                let finished = async { tokio::select! { ended = &mut connection => ended, () = last_of(graceful) => Ok(()) } };
                let late = |_| Err("it did not finish in time".into());
                tokio::time::timeout(limits.idle_timeout, finished).await.unwrap_or_else(late)
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended badly");
        }
        drop((place, counted));
    }
}

/// Asks a connection to end; it is polled by somebody else, who sees it end.
async fn last_of(graceful: GracefulShutdown) {
    graceful.shutdown().await;
    std::future::pending::<()>().await;
}

#[cfg(feature = "tls")]
async fn handshake(
    stream: TcpStream,
    tls: &Tls,
    idle: Duration,
) -> std::io::Result<tokio_rustls::server::TlsStream<Taking<TcpStream>>> {
    use tokio::io::AsyncWriteExt as _;

    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        // A request without TLS: a client that is told so needs no debugging.
        let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
                       Content-Length: 53\r\n\r\nthis server speaks HTTPS; the request came over HTTP\n";
        let mut stream = stream;
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the client speaks HTTP without TLS"));
    }
    tls.acceptor().accept(Taking::new(stream, idle)).await
}

//! HTTP/1.1 by hand.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Reply, Seen, Step};

/// More than any test sends as the head of a request, in bytes.
const MAX_HEAD: usize = 1 << 20;

type Handler = dyn Fn(&Seen) -> Option<Reply> + Send + Sync;
type Limit = dyn Fn(&Seen) -> Option<usize> + Send + Sync;

/// A running server: one closure from requests to answers. It ends when dropped.
///
/// Answers that say no length get theirs, apart from [bare](Reply::bare) ones. HTTP/1.1 alone, and no TLS.
#[derive(Debug)]
pub struct Script {
    /// Where it listens, on loopback.
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Script {
    /// Starts a server that answers as `handler` says.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::cutting(|_| None, move |seen| Some(handler(seen))).await
    }

    /// A server that answers some requests without asking for their bodies: those for which `early` has an answer.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn early(
        early: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::run(Arc::new(early), Arc::new(|_: &Seen| None), Arc::new(move |seen: &Seen| Some(handler(seen)))).await
    }

    /// A server that reads only as much of a request's body as `limit` says, and then closes the connection. `handler`
    /// sees what was read; when it gives `None`, the connection is closed as well.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn cutting(
        limit: impl Fn(&Seen) -> Option<usize> + Send + Sync + 'static,
        handler: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::run(Arc::new(|_: &Seen| None), Arc::new(limit), Arc::new(handler)).await
    }

    async fn run(early: Arc<Handler>, limit: Arc<Limit>, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let behaviour = (Arc::clone(&early), Arc::clone(&limit), Arc::clone(&handler));
                tokio::spawn(serve(stream, behaviour, Arc::clone(&log)));
            }
        });
        Self { addr, seen, task }
    }

    /// The requests so far, in the order in which they came.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests of this method went to paths with this part.
    #[must_use]
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.is(method, part)).count()
    }

    /// Method and path of every request, the query left out.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Behaviour = (Arc<Handler>, Arc<Limit>, Arc<Handler>);

async fn serve(stream: TcpStream, (early, limit, handler): Behaviour, log: Arc<Mutex<Vec<Seen>>>) {
    let mut stream = BufReader::new(stream);
    let note = |seen: &Seen| log.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
    while let Some(mut seen) = read_head(&mut stream).await {
        let length = seen.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0_usize);
        let most = limit(&seen);
        let wanted = most.map_or(length, |most| most.min(length));
        if let Some(reply) = early(&seen) {
            note(&seen);
            // What was not asked for may come all the same, so the connection is of no more use.
            write_reply(&mut stream, reply, false).await;
            return;
        }
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        if seen.header("expect").is_some() && (stream.write_all(go_on).await.is_err() || stream.flush().await.is_err())
        {
            return;
        }
        seen.body = vec![0; wanted];
        if stream.read_exact(&mut seen.body).await.is_err() {
            return;
        }
        note(&seen);
        let reply = handler(&seen);
        if most.is_some() {
            return;
        }
        let Some(reply) = reply else { return };
        let head = seen.method == "HEAD";
        if !write_reply(&mut stream, reply, head).await {
            return;
        }
    }
}

/// The head of the next request; `None` at the end of the connection, and for what is no request.
async fn read_head(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
        if head.len() > MAX_HEAD {
            return None;
        }
    }
    let text = String::from_utf8(head).ok()?;
    let mut lines = text.trim_end().split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, uri) = (first.next()?, first.next()?.parse::<Uri>().ok()?);
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.trim()).ok()?);
    }
    Some(Seen::new(method, uri, headers, Vec::new()))
}

/// Writes an answer; whether the connection can go on.
async fn write_reply(stream: &mut BufReader<TcpStream>, reply: Reply, head: bool) -> bool {
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    let mut text = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (name, value) in &reply.headers {
        text = text + name + ": " + value + "\r\n";
    }
    if reply.bare {
        text.push_str("Connection: close\r\n");
    } else if !reply.says_length() && reply.status != 204 {
        text = text + "Content-Length: " + &reply.whole().len().to_string() + "\r\n";
    }
    text.push_str("\r\n");
    if stream.write_all(text.as_bytes()).await.is_err() {
        return false;
    }
    let steps = if head { Vec::new() } else { reply.steps };
    for step in steps {
        let sent = match step {
            Step::Send(bytes) => stream.write_all(&bytes).await,
            Step::Pause(time) => {
                let flushed = stream.flush().await;
                tokio::time::sleep(time).await;
                flushed
            }
            Step::Cut | Step::HangUp => {
                // What came before it arrives.
                let _ = stream.flush().await;
                return false;
            }
            Step::Stall => {
                let _ = stream.flush().await;
                // Until the other side has enough of it.
                let mut more = [0];
                while stream.read(&mut more).await.is_ok_and(|count| count > 0) {}
                return false;
            }
            Step::GoAway => Ok(()),
        };
        if sent.is_err() {
            return false;
        }
    }
    stream.flush().await.is_ok() && !reply.bare
}

//! A server that does exactly what a test says: one closure from requests to answers, which may be lies.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// A request that came another way.
    pub(crate) fn of(parts: &http::request::Parts, body: Vec<u8>) -> Self {
        let value = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        Self {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers.iter().map(|(name, text)| (name.to_string(), value(text))).collect(),
            body,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }

    /// The range asked for, if one was: start and end, end-exclusive.
    pub(crate) fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().unwrap(), last.parse::<usize>().unwrap() + 1))
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    bare: bool,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut: None, bare: false }
    }

    pub(crate) fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.headers.push((name.to_owned(), format!("{value}")));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("Content-Type", "application/json").body(body)
    }

    /// Closes the connection after this many bytes of the body.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    /// Says no `Content-Length`; the end of the connection ends the body.
    pub(crate) fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// The same, to be sent another way.
    pub(crate) fn into_response(self) -> http::Response<http_body_util::Full<bytes::Bytes>> {
        let mut response = http::Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response.body(http_body_util::Full::new(self.body.into())).unwrap()
    }

    /// What an honest server answers to a request for `content`.
    pub(crate) fn content(seen: &Seen, content: &[u8]) -> Self {
        match seen.range() {
            Some((start, end)) if end <= content.len() => Self::new(206)
                .header("Content-Range", format!("bytes {start}-{}/{}", end - 1, content.len()))
                .body(&content[start..end]),
            Some(_) => Self::new(416),
            None => Self::new(200).body(content),
        }
    }
}

type Handler = dyn Fn(&Seen) -> Option<Reply> + Send + Sync;
type Limit = dyn Fn(&Seen) -> Option<usize> + Send + Sync;

/// A running server; it ends when dropped.
pub(crate) struct Script {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Script {
    pub(crate) async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::cutting(|_| None, move |seen| Some(handler(seen))).await
    }

    /// A server that answers some requests without asking for their bodies: those for which `early` has an answer.
    pub(crate) async fn early(
        early: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::run(Arc::new(early), Arc::new(|_: &Seen| None), Arc::new(move |seen: &Seen| Some(handler(seen)))).await
    }

    /// A server that reads only as much of a request's body as `limit` says, and then closes the connection. `handler`
    /// sees what was read; when it gives `None`, the connection is closed as well.
    pub(crate) async fn cutting(
        limit: impl Fn(&Seen) -> Option<usize> + Send + Sync + 'static,
        handler: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::run(Arc::new(|_: &Seen| None), Arc::new(limit), Arc::new(handler)).await
    }

    async fn run(early: Arc<Handler>, limit: Arc<Limit>, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (early, limit, handler) = (Arc::clone(&early), Arc::clone(&limit), Arc::clone(&handler));
                tokio::spawn(serve(stream, (early, limit, handler), Arc::clone(&log)));
            }
        });
        Self { addr, seen, task }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests of this method went to paths with this part.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.is(method, part)).count()
    }

    /// Method and path of every request, the query left out.
    pub(crate) fn log(&self) -> Vec<String> {
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
    while let Some(mut seen) = read_head(&mut stream).await {
        let length = seen.header("content-length").map_or(0, |text| text.parse::<usize>().unwrap());
        let most = limit(&seen);
        let wanted = most.map_or(length, |most| most.min(length));
        seen.body = vec![0; wanted];
        if let Some(reply) = early(&seen) {
            seen.body.clear();
            log.lock().unwrap().push(seen.clone());
            // What was not asked for may come all the same, so the connection is of no more use.
            write_reply(&mut stream, reply, false).await;
            return;
        }
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        if seen.header("expect").is_some() && (stream.write_all(go_on).await.is_err() || stream.flush().await.is_err())
        {
            return;
        }
        if stream.read_exact(&mut seen.body).await.is_err() {
            return;
        }
        log.lock().unwrap().push(seen.clone());
        let reply = handler(&seen);
        if most.is_some() {
            return;
        }
        let Some(reply) = reply else { return };
        let head = seen.method == "HEAD";
        let open = write_reply(&mut stream, reply, head).await;
        if !open {
            return;
        }
    }
}

async fn read_head(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).unwrap();
    let mut lines = text.trim_end().split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let method = first.next().unwrap().to_owned();
    let target = first.next().unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Some(Seen { method, path: path.to_owned(), query: query.to_owned(), headers, body: Vec::new() })
}

/// Writes an answer; whether the connection can go on.
async fn write_reply(stream: &mut BufReader<TcpStream>, reply: Reply, head: bool) -> bool {
    let mut text = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (name, value) in &reply.headers {
        text = text + name + ": " + value + "\r\n";
    }
    let says_length = reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if reply.bare {
        text.push_str("Connection: close\r\n");
    } else if !says_length && reply.status != 204 {
        text = text + "Content-Length: " + &reply.body.len().to_string() + "\r\n";
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    if !head {
        bytes.extend_from_slice(&reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())]);
    }
    stream.write_all(&bytes).await.is_ok() && stream.flush().await.is_ok() && reply.cut.is_none() && !reply.bare
}

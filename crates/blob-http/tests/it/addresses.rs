//! Names with several addresses, of which one does not answer.

use std::io::Write as _;
use std::net::Ipv6Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use blob_http::{HttpSource, RetryPolicy, Transport};
use blob_testkit::hostile::Server;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::server::honest;
use crate::{content, options, read, source_options};

const CHILD: &str = "BLOB_HTTP_CHILD_OF_ADDRESSES";

/// An address that takes no connection and does not refuse one either: a listener whose queue is full.
async fn black_hole(port: u16) -> Option<(TcpListener, Vec<TcpStream>)> {
    let socket = TcpSocket::new_v6().ok()?;
    socket.bind((Ipv6Addr::LOCALHOST, port).into()).ok()?;
    let (listener, mut queued) = (socket.listen(0).ok()?, Vec::new());
    for _ in 0..100 {
        let connecting = TcpStream::connect((Ipv6Addr::LOCALHOST, port));
        match tokio::time::timeout(Duration::from_secs(1), connecting).await {
            Ok(Ok(stream)) => queued.push(stream),
            Ok(Err(_)) => return None,
            Err(_) => return Some((listener, queued)),
        }
    }
    None
}

/// Runs this program again where `blob.test` is both `::1` and `127.0.0.1`; `None` where that cannot be had.
async fn among_both(url: String) -> Option<bool> {
    let hosts = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(hosts.path(), "::1 blob.test\n127.0.0.1 blob.test\n127.0.0.1 localhost\n").unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]).arg(r#"mount --bind "$1" /etc/hosts || exit 77; shift; exec "$@""#).arg("sh");
    command.arg(hosts.path()).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "addresses::child_that_reads"]).env(CHILD, url).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    drop(hosts);
    let output = output.ok()?;
    let refused = String::from_utf8_lossy(&output.stderr).contains("unshare");
    if output.status.code() == Some(77) || refused { None } else { Some(output.status.success()) }
}

/// IPv6 that swallows packets, and IPv6 where nobody listens: IPv4 is tried before anybody gives up.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_swallows_packets_is_gone_around() {
    let bytes = content(10_000);
    let server = Server::start(move |_, seen| honest(&bytes, seen)).await;
    let port = server.url.port().unwrap();
    let url = format!("http://blob.test:{port}/file");
    let Some(refused) = among_both(url.clone()).await else {
        _ = writeln!(
            std::io::stderr(),
            "NOT RUN: a name with two addresses takes a mount namespace, which cannot be had here"
        );
        return;
    };
    assert!(refused, "an address where nobody listens");
    let Some(_hole) = black_hole(port).await else {
        _ = writeln!(std::io::stderr(), "NOT RUN: ::1 cannot be made to swallow connections here");
        return;
    };
    let before = server.requests();
    assert_eq!(among_both(url).await, Some(true), "an address that swallows packets");
    assert!(server.requests() > before);
}

/// Runs in a process of its own, with names of its own.
#[tokio::test]
async fn child_that_reads() {
    let Ok(url) = std::env::var(CHILD) else { return };
    let transport = Transport::new(options()).unwrap();
    let options = source_options().with_retry(RetryPolicy::never());
    let source = HttpSource::open(transport, url.parse().unwrap(), options).await.unwrap();
    assert_eq!(read(&source, 10, 9000).await.unwrap(), content(10_000).slice(10..9000));
}

//! Proxies: forwarding, tunnels, from options and from the environment.

use std::process::Command;

use blob_http::{HttpError, HttpSource, Proxy, Transport, TransportOptions};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::server::honest;
use crate::tls::Authority;
use crate::{content, options, read, source_options};
use blob_testkit::hostile::{Reply, Server};

/// Set for the copy of this program that looks at its environment, to the URL that it shall open.
const CHILD: &str = "BLOB_HTTP_TEST_PROXIED_URL";

fn via(proxy: &Server, credentials: &str) -> Proxy {
    let mut url = proxy.url.clone();
    if let Some((name, password)) = credentials.split_once(':') {
        url.set_username(name).unwrap();
        url.set_password(Some(password)).unwrap();
    }
    Proxy::explicit(url)
}

#[tokio::test]
async fn plain_requests_are_forwarded() {
    let bytes = content(1000);
    let proxy = {
        let bytes = bytes.clone();
        Server::start(move |_, seen| honest(&bytes, seen)).await
    };
    let transport = Transport::new(options().with_proxy(via(&proxy, "name:pass"))).unwrap();
    let url = "http://blob.test/file".parse().unwrap();
    let source = HttpSource::open(transport, url, source_options()).await.unwrap();
    assert_eq!(read(&source, 100, 200).await.unwrap(), bytes.slice(100..200));
    for seen in proxy.seen() {
        assert_eq!(seen.uri.to_string(), "http://blob.test/file");
        assert_eq!(seen.header("host"), Some("blob.test"));
        assert_eq!(seen.header("proxy-authorization"), Some("Basic bmFtZTpwYXNz"));
    }
}

#[tokio::test]
async fn secure_requests_go_through_a_tunnel() {
    let authority = Authority::new();
    let bytes = content(1000);
    let script = {
        let bytes = bytes.clone();
        move |_: usize, seen: &_| honest(&bytes, seen)
    };
    let server = Server::start_tls(authority.acceptor("blob.test", true, None), script).await;
    let proxy = Server::start(|_, _| Reply::new(500)).await;
    let options = options().with_extra_root(authority.root()).with_proxy(via(&proxy, "name:pass"));
    let port = server.url.port().unwrap();
    let url = format!("https://blob.test:{port}/file").parse().unwrap();
    let source = HttpSource::open(Transport::new(options).unwrap(), url, source_options()).await.unwrap();
    assert_eq!(read(&source, 100, 200).await.unwrap(), bytes.slice(100..200));
    assert_eq!((proxy.requests(), server.requests()), (1, 2));
    assert_eq!(proxy.seen()[0].uri.to_string(), format!("blob.test:{port}"));
    assert_eq!(proxy.seen()[0].header("proxy-authorization"), Some("Basic bmFtZTpwYXNz"));
    assert!(server.seen().iter().all(|seen| seen.header("proxy-authorization").is_none()));
}

/// One SOCKS 5 conversation: takes any name, connects to loopback at the asked port, and gives the name.
async fn socks(listener: TcpListener) -> String {
    let (mut near, _) = listener.accept().await.unwrap();
    let mut greeting = [0; 2];
    near.read_exact(&mut greeting).await.unwrap();
    near.read_exact(&mut vec![0; greeting[1].into()]).await.unwrap();
    near.write_all(&[5, 0]).await.unwrap();
    let mut head = [0; 5];
    near.read_exact(&mut head).await.unwrap();
    assert_eq!(head[..4], [5, 1, 0, 3], "connect to a name");
    let mut name = vec![0; head[4].into()];
    near.read_exact(&mut name).await.unwrap();
    let port = near.read_u16().await.unwrap();
    let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    near.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
    String::from_utf8(name).unwrap()
}

#[tokio::test]
async fn socks_proxies_resolve_names() {
    let bytes = content(1000);
    let server = {
        let bytes = bytes.clone();
        Server::start(move |_, seen| honest(&bytes, seen)).await
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::explicit(format!("socks5h://{}", listener.local_addr().unwrap()));
    let transport = Transport::new(options().with_proxy(proxy)).unwrap();
    let url = format!("http://blob.test:{}/file", server.url.port().unwrap()).parse().unwrap();
    let (source, name) = tokio::join!(HttpSource::open(transport, url, source_options()), socks(listener));
    assert_eq!(name, "blob.test");
    assert_eq!(read(&source.unwrap(), 100, 200).await.unwrap(), bytes.slice(100..200));
    assert_eq!(server.seen()[1].uri.to_string(), "/file");
}

#[tokio::test]
async fn exceptions_and_dead_proxies() {
    let server = Server::start(|_, seen| honest(&content(10), seen)).await;
    let dead =
        |no_proxy: &str| Proxy::Explicit { url: "http://127.0.0.1:1".to_owned().into(), no_proxy: no_proxy.to_owned() };
    let open = |proxy| {
        let transport = Transport::new(options().with_proxy(proxy)).unwrap();
        HttpSource::open(transport, server.url.clone(), source_options())
    };
    let error = open(dead("")).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }), "{error:?}");
    assert!(open(dead("127.0.0.0/8")).await.is_ok());
}

#[tokio::test]
async fn the_environment_is_heeded() {
    let proxy = Server::start(|_, seen| honest(&content(10), seen)).await;
    let child = |variables: &[(&str, &str)]| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command.args(["--exact", "proxy::child_of_the_environment_test"]).env(CHILD, "http://blob.test/file");
        command.envs(variables.iter().copied());
        tokio::task::spawn_blocking(move || command.output().unwrap().status.success())
    };
    assert!(child(&[("HTTP_PROXY", proxy.url.as_str())]).await.unwrap());
    assert_eq!(proxy.requests(), 1);
    assert!(child(&[("all_proxy", proxy.url.as_str())]).await.unwrap());
    assert_eq!(proxy.requests(), 2);
    let excepted = [("HTTP_PROXY", proxy.url.as_str()), ("NO_PROXY", "example.test, blob.test")];
    assert!(!child(&excepted).await.unwrap(), "a name that nobody knows cannot be reached directly");
    assert_eq!(proxy.requests(), 2);
}

/// Runs in a process of its own, since the environment of this one is shared by all tests.
#[tokio::test]
async fn child_of_the_environment_test() {
    let Ok(url) = std::env::var(CHILD) else { return };
    let transport = Transport::new(TransportOptions::default()).unwrap();
    let options = source_options().with_retry(blob_http::RetryPolicy::never());
    HttpSource::open(transport, url.parse().unwrap(), options).await.unwrap();
}

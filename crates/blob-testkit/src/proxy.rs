//! An HTTP/1.1 reverse proxy on loopback, in front of one upstream address.
//!
//! Bodies are streamed, never collected. Every request is written to a log ([`count`]); the line can be made slow
//! ([`shape`]), answers can be damaged ([`fault`]), and the proxy can ask for a token or send readers of blobs to a second
//! origin ([`gate`]). It is no general proxy: no TLS, no HTTP/2, no upgrades.

pub mod count;
pub mod fault;
pub mod gate;
mod pipe;
mod service;
pub mod shape;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use count::{Origin, Recorded, Summary};
pub use fault::{Action, Faults, Latch, Rule};
pub use gate::Gate;
pub use shape::Shape;

use count::Log;
use service::Service;

/// What a proxy does beside forwarding. The default forwards and counts, nothing else.
#[derive(Debug, Default)]
pub struct ProxyOptions {
    /// Round-trip time and bandwidth of the line to the client.
    pub shape: Shape,
    /// Which answers are damaged, and how.
    pub faults: Faults,
    /// Whether a token is asked for and blobs are redirected.
    pub gate: Gate,
}

/// Starts proxies; see [`Proxy::start`].
#[derive(Debug)]
pub struct Proxy;

impl Proxy {
    /// Starts a proxy on a free loopback port in front of `upstream`, on a thread of its own.
    ///
    /// It answers as soon as this returns. It needs no runtime of the caller's, so synchronous tests can use it.
    ///
    /// # Errors
    /// When no port can be bound or the thread's runtime cannot be built.
    pub fn start(upstream: SocketAddr, options: ProxyOptions) -> io::Result<ProxyHandle> {
        let main = bind()?;
        let second = bind()?;
        let addr = main.local_addr()?;
        let second_addr = second.local_addr()?;
        let log = Log::default();
        let service = Arc::new(Service::new(upstream, addr, second_addr, options, log.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("blob-testkit-proxy".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = service::accept(main, Origin::Main, Arc::clone(&service)) => {}
                    () = service::accept(second, Origin::Second, service) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(ProxyHandle { addr, second_addr, log, stop: Some(stop), thread: Some(thread) })
    }
}

fn bind() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A running proxy. Dropping it stops it and closes every connection.
#[derive(Debug)]
pub struct ProxyHandle {
    addr: SocketAddr,
    second_addr: SocketAddr,
    log: Log,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ProxyHandle {
    /// Where the proxy listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the second origin listens, to which blobs are redirected when [`Gate::redirect_blobs`] is set.
    #[must_use]
    pub fn second_addr(&self) -> SocketAddr {
        self.second_addr
    }

    /// The requests so far, in the order in which they arrived.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.log.snapshot()
    }

    /// The requests so far; the log begins anew.
    #[must_use]
    pub fn take(&self) -> Vec<Recorded> {
        self.log.take()
    }

    /// Number of requests and bytes so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary::of(&self.log.snapshot())
    }

    /// Stops the proxy: closes its ports and every open connection.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for ProxyHandle {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended already; then nobody listens and there is nothing to stop.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;

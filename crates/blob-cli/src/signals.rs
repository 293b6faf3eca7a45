//! The signals that ask a command to end, or how far it is.

use crate::error::{Failure, Kind};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To end: [`Kind::Interrupted`] or [`Kind::Terminated`].
    End(Kind),
    /// To say how far it is, and to go on.
    Progress,
}

/// Has whoever asks how far a command is not end it before it [listens](Signals::listen); there is nothing to say yet.
pub(crate) fn survive_questions() {
    #[cfg(unix)]
    {
        // Where that cannot be had, the signal does what it does by itself.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGUSR1, std::sync::Arc::default());
    }
}

/// Listens from the moment it is made, so no signal behind that ends the process unasked.
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    progress: tokio::signal::unix::Signal,
    /// Ctrl-T, where terminals know it.
    #[cfg(unix)]
    info: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    /// Begins to listen. Must be called within a runtime.
    #[cfg(unix)]
    pub(crate) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|error| Failure::io("listening to signals", &error));
        #[cfg(any(target_os = "macos", target_os = "freebsd", target_os = "netbsd", target_os = "openbsd"))]
        let info = Some(listen(SignalKind::info())?);
        #[cfg(not(any(target_os = "macos", target_os = "freebsd", target_os = "netbsd", target_os = "openbsd")))]
        let info = None;
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            progress: listen(SignalKind::user_defined1())?,
            info,
        })
    }

    /// Waits for a signal.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) -> Asked {
        let info = async {
            match &mut self.info {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End(Kind::Interrupted),
            _ = self.terminate.recv() => Asked::End(Kind::Terminated),
            _ = self.progress.recv() => Asked::Progress,
            _ = info => Asked::Progress,
        }
    }

    /// Begins to listen, when the first signal is waited for.
    #[cfg(not(unix))]
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self {})
    }

    /// Waits for Ctrl-C.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) -> Asked {
        // Where it cannot be listened to, nobody ever interrupts.
        match tokio::signal::ctrl_c().await {
            Ok(()) => Asked::End(Kind::Interrupted),
            Err(_) => std::future::pending().await,
        }
    }
}

//! Whether a registry lets us in.

use http::{Method, StatusCode};

use super::RegistryClient;
use super::answer::protocol;
use super::call::Call;
use super::scope::Scope;
use crate::error::{Object, RegistryError};
use crate::reference::Repository;

/// What a registry made of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// It asked who we are, and let us in.
    Admitted,
    /// It lets everyone in without asking, so that credentials could not be tried.
    Open,
}

impl RegistryClient {
    /// Asks the registry for nothing but to be let in: a `GET` of `/v2/`, with what its challenge demands.
    ///
    /// # Errors
    /// [`ErrorCode::Unauthorized`](crate::ErrorCode::Unauthorized) or [`ErrorCode::Denied`](crate::ErrorCode::Denied) if
    /// the credentials are refused or there are none; [`RegistryError::Protocol`] if the host is no registry; what the
    /// network gives.
    pub async fn authenticate(&self) -> Result<Admission, RegistryError> {
        let core = &self.core;
        let mut url = core.origin.clone();
        url.set_path("/v2/");
        let none = Repository::new("none").expect("because it is a word");
        let action = format!("logging in to {}", core.host);
        let mut call = Call::new(Method::GET, url, &none, action, Object::Repository).with_scope(Scope::default());
        call.repository = None;
        let answer = core.send(&call).await?;
        match answer.status {
            status if status.is_success() && answer.hidden.is_empty() => Ok(Admission::Open),
            status if status.is_success() => Ok(Admission::Admitted),
            StatusCode::NOT_FOUND => Err(protocol(&call.action, "this is no OCI registry: it has no /v2/")),
            _ => Err(answer.refuse(&call).await),
        }
    }
}

//! Disk work beside async callers.

use blob_core::CacheError;
use tokio::runtime::Handle;

/// Runs `work` on tokio's threads for blocking work; without a runtime, where nobody else can be held up, right here.
/// Dropping the future abandons the result, not the work, which is therefore short or harmless.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    let Ok(runtime) = Handle::try_current() else { return work() };
    match runtime.spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let action = "waiting for disk work of the cache".to_owned();
            Err(CacheError::Backend { action, source: Box::new(error) })
        }
    }
}

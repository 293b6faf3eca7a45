//! Blocking work beside an async caller, without a runtime: a small shared pool of threads of our own.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use futures_channel::oneshot;

/// Threads that wait for disk reads: more than cores, since they sleep in the kernel.
const THREADS: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Pool {
    jobs: Mutex<std::collections::VecDeque<Job>>,
    wake: Condvar,
}

/// Runs `work` on a pool thread and waits for it. Dropping the future abandons the result, not the work, which must
/// therefore be short.
pub(crate) async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = oneshot::channel();
    let job: Job = Box::new(move || {
        // The receiver is gone when the caller was cancelled: nobody wants the result then.
        let _ = sender.send(work());
    });
    let pool = pool();
    pool.jobs.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
    pool.wake.notify_one();
    receiver.await.expect("a job of the pool sends its result, unless it panics")
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<&'static Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let pool: &'static Pool = Box::leak(Box::default());
        for number in 0..THREADS {
            std::thread::Builder::new()
                .name(format!("blob-io-{number}"))
                .spawn(move || run(pool))
                .expect("the process may start a handful of threads");
        }
        pool
    })
}

fn run(pool: &Pool) {
    loop {
        let mut jobs = pool.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = loop {
            match jobs.pop_front() {
                Some(job) => break job,
                None => jobs = pool.wake.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(jobs);
        // A panicking job drops its sender, which its caller reports; the thread lives on for the others.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    }
}

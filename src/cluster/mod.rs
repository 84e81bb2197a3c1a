//! Is it up? What only the nodes themselves can say.

pub mod discovery;
pub mod etcd;
pub(crate) mod login;
pub(crate) mod readiness;
pub mod ssh;

use std::thread;

/// Asks all of them at the same time; a node that does not answer keeps no other waiting.
fn on_each<E: Sync, R: Send>(all: &[E], ask: impl Fn(&E) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let ask = &ask;
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(move || ask(one))).collect();
        threads.into_iter().map(|thread| thread.join().expect("asking does not panic")).collect()
    })
}

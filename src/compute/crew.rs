//! The threads that share a gradient step.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::family::stay_on_this_thread;

/// Threads for data parallelism, each the only thread of its own rayon pool.
///
/// burn's `flex` backend splits large operations over the rayon pool of the calling thread. One thread a pool keeps
/// every operation on one thread, so that results do not depend on how many threads a machine has; the parallelism
/// comes from shards of the batch, whose number is part of the recipe.
pub struct Crew {
    pools: Vec<ThreadPool>,
}

impl Crew {
    /// A crew of `threads` threads (at least one).
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let pool = |_| {
            let builder = ThreadPoolBuilder::new().num_threads(1).start_handler(|_| stay_on_this_thread());
            builder.build().expect("the system can start a thread")
        };
        Self { pools: (0..threads.max(1)).map(pool).collect() }
    }

    /// Runs `f` on the crew's first thread, so that the tensor operations in it stay on one thread.
    pub fn install<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.pools[0].install(f)
    }

    /// Applies `f` to every item, each taken by the first thread that is free; results come back in the items' order.
    pub fn map<I: Sync, T: Send>(&self, items: &[I], f: impl Fn(&I) -> T + Sync) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let i = next.fetch_add(1, Ordering::Relaxed)
                && let Some(item) = items.get(i)
            {
                done.push((i, f(item)));
            }
            done
        };
        let mut results = std::thread::scope(|scope| {
            let helpers = self.pools.iter().skip(1).take(items.len().saturating_sub(1));
            let helpers: Vec<_> = helpers.map(|pool| scope.spawn(|| pool.install(work))).collect();
            let mut results = work();
            for helper in helpers {
                results.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            results
        });
        results.sort_unstable_by_key(|(i, _)| *i);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crew_keeps_the_order_of_its_items_whatever_its_size() {
        let items: Vec<usize> = (0..17).collect();
        for threads in [1, 2, 5] {
            let crew = Crew::new(threads);
            assert_eq!(crew.install(|| crew.map(&items, |i| i * i)), items.iter().map(|i| i * i).collect::<Vec<_>>());
        }
    }
}

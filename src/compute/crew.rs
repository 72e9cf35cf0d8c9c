//! The threads that share a gradient step.

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

    /// Applies `f` to every item, spread over the threads in turn; results come back in the items' order.
    pub fn map<I: Sync, T: Send>(&self, items: &[I], f: impl Fn(&I) -> T + Sync) -> Vec<T> {
        let f = &f;
        let mut results: Vec<Option<T>> = items.iter().map(|_| None).collect();
        let threads = self.pools.len();
        std::thread::scope(|scope| {
            let mut lanes: Vec<Vec<(&I, &mut Option<T>)>> = (0..threads).map(|_| Vec::new()).collect();
            for (i, pair) in items.iter().zip(&mut results).enumerate() {
                lanes[i % threads].push(pair);
            }
            let work = |lane: Vec<(&I, &mut Option<T>)>| {
                for (item, slot) in lane {
                    *slot = Some(f(item));
                }
            };
            let mut lanes = lanes.into_iter();
            let own = lanes.next();
            for (lane, pool) in lanes.zip(&self.pools[1..]) {
                if !lane.is_empty() {
                    scope.spawn(move || pool.install(|| work(lane)));
                }
            }
            if let Some(lane) = own {
                work(lane);
            }
        });
        results.into_iter().map(|slot| slot.expect("every lane finished its items")).collect()
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

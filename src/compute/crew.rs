//! The threads that share the work of a stage, and the devices they work on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use burn::tensor::Device;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::Precision;
use super::family::stay_on_this_thread;

/// Replicas for data parallelism: threads, each the only thread of its own rayon pool and at home on one device.
///
/// burn's `flex` backend splits large operations over the rayon pool of the calling thread. One thread a pool keeps
/// every operation on one thread, so that results do not depend on how many threads a machine has; the parallelism
/// comes from shards of the batch, whose number is part of the recipe.
pub struct Crew {
    pools: Vec<ThreadPool>,
    /// Where thread `i` works: on device `i` modulo their number. None: wherever its tensors are.
    devices: Vec<Device>,
    recomputes: bool,
    precision: Precision,
    /// As many threads in one pool, made when they are needed.
    together: OnceLock<ThreadPool>,
}

impl Crew {
    /// A crew of `threads` threads (at least one) on whatever device their tensors are.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self::on(Vec::new(), threads)
    }

    /// A crew of `threads` threads, at least one for each of `devices`.
    #[must_use]
    pub fn on(devices: Vec<Device>, threads: usize) -> Self {
        let pool = |_| {
            let builder = ThreadPoolBuilder::new().num_threads(1).start_handler(|_| stay_on_this_thread());
            builder.build().expect("the system can start a thread")
        };
        Self {
            pools: (0..threads.max(devices.len()).max(1)).map(pool).collect(),
            devices,
            recomputes: false,
            precision: Precision::default(),
            together: OnceLock::new(),
        }
    }

    /// The same crew; if `recomputes`, gradients are taken with less memory and more work.
    #[must_use]
    pub fn recomputing(self, recomputes: bool) -> Self {
        Self { recomputes, ..self }
    }

    /// The same crew, whose replicas compute in `precision`.
    #[must_use]
    pub fn computing_in(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Whether backward passes compute layers again, instead of keeping what the forward pass made in them.
    #[must_use]
    pub const fn recomputes(&self) -> bool {
        self.recomputes
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pools.len()
    }

    /// What its replicas compute in.
    #[must_use]
    pub const fn precision(&self) -> Precision {
        self.precision
    }

    /// How many devices they work on.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.devices.len().max(1)
    }

    /// Runs `f` on the crew's first thread, so that the tensor operations in it stay on one thread.
    pub fn install<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.pools[0].install(f)
    }

    /// Runs `f` in a pool of all threads: what it does one after another, of which products of few rows and large matrices are
    /// shared among them.
    pub fn together<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let pool = || {
            let builder = ThreadPoolBuilder::new().num_threads(self.threads());
            builder.build().expect("the system can start threads")
        };
        self.together.get_or_init(pool).install(f)
    }

    /// Applies `f` to every item, each taken by the first thread that is free; results come back in the items' order.
    pub fn map<I: Send, T: Send>(&self, items: impl IntoIterator<Item = I>, f: impl Fn(I) -> T + Sync) -> Vec<T> {
        self.map_on(items, |_| (), |(), item| f(item))
    }

    /// The same with something that every device needs for itself: `replicate` makes it, once a device.
    pub fn map_on<R: Sync + Send, I: Send, T: Send>(
        &self,
        items: impl IntoIterator<Item = I>,
        replicate: impl Fn(Place) -> R,
        f: impl Fn(&R, I) -> T + Sync,
    ) -> Vec<T> {
        let items: Vec<Mutex<Option<I>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        let threads = self.pools.len().min(items.len());
        let place = |device| Place { device, precision: self.precision };
        let replicas: Vec<R> = match &self.devices[..] {
            [] | [_] => vec![replicate(place(None))],
            devices => devices.iter().take(threads.max(1)).map(|device| replicate(place(Some(device)))).collect(),
        };
        let results: Vec<Mutex<Option<T>>> = items.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        let work = |thread: usize| {
            let replica = &replicas[thread % replicas.len()];
            while let i = next.fetch_add(1, Ordering::Relaxed)
                && let Some(item) = items.get(i)
            {
                let item =
                    item.lock().unwrap_or_else(PoisonError::into_inner).take().expect("nobody else has its number");
                let result = f(replica, item);
                *results[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            }
        };
        spread(&self.pools[1..threads.max(1)], 1, &work);
        let finished = |result: Mutex<Option<T>>| result.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().map(|result| finished(result).expect("every item was taken")).collect()
    }
}

/// Where a replica works, and how.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// None where there is one device only: where models are at home.
    pub device: Option<&'a Device>,
    /// The numbers that it computes in.
    pub precision: Precision,
}

/// Has `work` done by the thread that calls and by those of `pools`, which count from `first`; a panic of one goes on
/// here when all have ended.
fn spread(pools: &[ThreadPool], first: usize, work: &(impl Fn(usize) + Sync)) {
    match pools {
        [] => work(0),
        [pool, others @ ..] => pool.in_place_scope(|scope| {
            scope.spawn(move |_| work(first));
            spread(others, first + 1, work);
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crew_keeps_the_order_of_its_items_whatever_its_size() {
        for threads in [1, 2, 5] {
            let crew = Crew::new(threads);
            assert_eq!(crew.install(|| crew.map(0..17, |i| i * i)), (0..17).map(|i| i * i).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_device_gets_a_replica_of_its_own_and_threads_go_round() {
        let devices = || vec![Device::flex(), Device::flex(), Device::flex()];
        assert_eq!(Crew::on(devices(), 1).threads(), 3);
        let made = AtomicUsize::new(0);
        let replicate = |place: Place| {
            assert!(place.device.is_some());
            made.fetch_add(1, Ordering::Relaxed)
        };
        let crew = Crew::on(devices(), 6);
        let used = crew.map_on(0..600, replicate, |&replica, _| {
            std::thread::yield_now();
            replica
        });
        assert_eq!(made.load(Ordering::Relaxed), 3);
        assert!(used.iter().all(|&replica| replica < 3));
        // One device: nothing to copy.
        Crew::on(vec![Device::flex()], 2).map_on(0..2, |place| assert!(place.device.is_none()), |(), _| ());
    }
}

//! How much memory this process has needed, and how much while something went on.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The highest memory use of this process so far, in bytes, where the system tells.
#[must_use]
pub fn peak_memory_bytes() -> Option<u64> {
    let mark = high_water();
    Some(mark?.max(WATCHED.fetch_max(mark?, Ordering::Relaxed)))
}

/// The highest that was read before the system's mark was taken back.
static WATCHED: AtomicU64 = AtomicU64::new(0);

/// The peaks of all watches that are kept.
static WATCHES: Mutex<Vec<Arc<AtomicU64>>> = Mutex::new(Vec::new());

/// What Linux calls the process's high-water mark of resident memory.
fn high_water() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Watches the memory of the whole process, whatever else goes on in it, from its making on.
#[derive(Debug)]
pub struct MemoryWatch {
    peak: Arc<AtomicU64>,
}

impl MemoryWatch {
    /// Begins to watch.
    #[must_use]
    pub fn start() -> Self {
        let mut watches = WATCHES.lock().unwrap_or_else(PoisonError::into_inner);
        collect(&watches);
        // Takes the mark back to what is in use now; where that cannot be done, the peak is that of the process.
        let _ = fs::write("/proc/self/clear_refs", "5");
        let peak = Arc::new(AtomicU64::new(0));
        watches.push(Arc::clone(&peak));
        Self { peak }
    }

    /// The highest use since, in bytes, where the system tells.
    #[must_use]
    pub fn peak_bytes(&self) -> Option<u64> {
        collect(&WATCHES.lock().unwrap_or_else(PoisonError::into_inner));
        Some(self.peak.load(Ordering::Relaxed)).filter(|&peak| peak > 0)
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        WATCHES.lock().unwrap_or_else(PoisonError::into_inner).retain(|peak| !Arc::ptr_eq(peak, &self.peak));
    }
}

/// Tells every watch of the mark.
fn collect(watches: &[Arc<AtomicU64>]) {
    let Some(mark) = high_water() else { return };
    WATCHED.fetch_max(mark, Ordering::Relaxed);
    for peak in watches {
        peak.fetch_max(mark, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_sees_what_came_after_it_although_others_begin() {
        const BYTES: usize = 96 << 20;
        let Some(before) = peak_memory_bytes() else { return };
        let outer = MemoryWatch::start();
        drop(std::hint::black_box(vec![1_u8; BYTES]));
        let inner = MemoryWatch::start();
        let (outer, inner) = (outer.peak_bytes().unwrap(), inner.peak_bytes().unwrap());
        assert!(outer >= BYTES as u64, "{outer}");
        assert!(inner <= outer, "{inner} of {outer}");
        assert!(peak_memory_bytes().unwrap() >= outer.max(before));
    }
}

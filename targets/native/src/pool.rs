//! A small thread pool for steps that take microseconds.
//!
//! A job lies on the stack of the thread that calls [`Pool::for_each_tile`](kinglet::Workers::for_each_tile). One atomic
//! word, the *gate*, says who may look at it:
//!
//! ```text
//! gate = generation << 32 | OPEN | number of threads inside
//! ```
//!
//! The caller publishes the job, opens the gate and works through tiles like everybody else. A thread enters by adding one
//! to an open gate and leaves by taking it off again. When no tile is left the caller closes the gate, so that a thread
//! that wakes late stays outside, and waits until those inside have left; only then does the job end. Hence nobody waits
//! for a parked thread to wake up, and nobody reads a job that is gone.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::Error;

/// How long a thread without work spins before it parks: longer than the pause between two steps of a run, shorter than
/// anybody would notice in a battery.
const SPIN: Duration = Duration::from_micros(50);
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const GENERATION: u64 = 1 << 32;

/// One call of `for_each_tile`.
struct Job<'a> {
    tile: &'a (dyn Fn(usize) + Sync),
    tiles: usize,
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job<'_> {
    /// Takes tiles until none is left. A panic in one ends the job early and is kept for the caller.
    fn work(&self) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let i = self.next.fetch_add(1, Ordering::Relaxed);
                if i >= self.tiles {
                    return;
                }
                (self.tile)(i);
            }
        }));
        if let Err(payload) = result {
            self.next.fetch_max(self.tiles, Ordering::Relaxed);
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
        }
    }
}

/// What the threads share.
struct Shared {
    gate: AtomicU64,
    /// The job behind the gate; read only by threads inside.
    job: AtomicPtr<Job<'static>>,
    stop: AtomicBool,
    /// Which threads are parked, or about to park.
    parked: Box<[AtomicBool]>,
}

impl Shared {
    /// Whether there is a job to enter that is not the one of generation `done`.
    fn has_work(&self, done: u64) -> bool {
        let gate = self.gate.load(Ordering::SeqCst);
        (gate & OPEN != 0 && gate / GENERATION != done) || self.stop.load(Ordering::SeqCst)
    }

    /// Enters the open gate and works on the job behind it; returns its generation, if the gate was open in time.
    fn take_part(&self) -> Option<u64> {
        let enter = |gate: u64| (gate & OPEN != 0).then_some(gate + 1);
        let gate = self.gate.fetch_update(Ordering::Acquire, Ordering::Relaxed, enter).ok()?;
        // SAFETY: the pointer was stored before the gate opened, and the caller of `for_each_tile` keeps the job alive until
        // it has closed the gate and seen this thread leave it.
        unsafe { &*self.job.load(Ordering::Relaxed) }.work();
        self.gate.fetch_sub(1, Ordering::Release);
        Some(gate / GENERATION)
    }

    fn serve(&self, me: usize) {
        let mut done = 0;
        while !self.stop.load(Ordering::Acquire) {
            if self.wait(me, done) {
                done = self.take_part().unwrap_or(done);
            }
        }
    }

    /// Spins, then parks, until there may be work; false if it was woken for nothing.
    fn wait(&self, me: usize, done: u64) -> bool {
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                if self.has_work(done) {
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN {
                break;
            }
        }
        // The caller opens the gate, then looks at the flag; this thread sets the flag, then looks at the gate. In the one
        // order of sequentially consistent operations one of the two sees the other.
        self.parked[me].store(true, Ordering::SeqCst);
        if !self.has_work(done) {
            thread::park();
        }
        self.parked[me].store(false, Ordering::SeqCst);
        self.has_work(done)
    }
}

/// Threads that run the tiles of a step. The thread that calls is one of them.
///
/// `for_each_tile` allocates nothing. A tile that panics lets the others finish or skips them, and the panic goes on in
/// the caller; the pool stays usable. A call from within a tile, or while another thread's call is under way, runs its
/// tiles on the calling thread alone.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    handles: Box<[Thread]>,
    /// Held by the call that is under way.
    busy: AtomicBool,
}

impl Pool {
    /// A pool of `threads` threads in all, the calling one included; 0 counts as 1.
    ///
    /// # Errors
    /// [`Error::Threads`] if the system refuses to start them.
    pub fn new(threads: usize) -> Result<Pool, Error> {
        let extra = threads.saturating_sub(1);
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(GENERATION),
            job: AtomicPtr::new(std::ptr::null_mut()),
            stop: AtomicBool::new(false),
            parked: (0..extra).map(|_| AtomicBool::new(false)).collect(),
        });
        let mut pool = Pool { shared, threads: Vec::new(), handles: Box::new([]), busy: AtomicBool::new(false) };
        for me in 0..extra {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new().name(format!("kinglet-{}", me + 1)).spawn(move || shared.serve(me));
            // On an error the pool is dropped, which ends the threads that did start.
            pool.threads.push(thread.map_err(|source| Error::Threads { threads, source })?);
        }
        pool.handles = pool.threads.iter().map(|t| t.thread().clone()).collect();
        Ok(pool)
    }

    fn wake(&self, most: usize) {
        for (parked, thread) in self.shared.parked.iter().zip(&self.handles).take(most) {
            if parked.swap(false, Ordering::SeqCst) {
                thread.unpark();
            }
        }
    }

    fn run(&self, n: usize, tile: &(dyn Fn(usize) + Sync)) {
        let job = Job { tile, tiles: n, next: AtomicUsize::new(0), panic: Mutex::new(None) };
        let gate = &self.shared.gate;
        self.shared.job.store(std::ptr::from_ref(&job).cast_mut().cast(), Ordering::Relaxed);
        // Nobody is inside a closed gate, so adding does not lose an entry.
        gate.fetch_add(GENERATION + OPEN, Ordering::SeqCst);
        self.wake(n - 1);
        job.work();
        gate.fetch_and(!OPEN, Ordering::Relaxed);
        let mut spins = 0u32;
        while gate.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            // With more threads than cores the one inside may need this core.
            if spins.is_multiple_of(1024) { thread::yield_now() } else { std::hint::spin_loop() }
        }
        let panic = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.busy.store(false, Ordering::Release);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

// SAFETY: the atomic counter hands out each number below `n` once, and the caller waits until all helpers have left the job.
unsafe impl kinglet::Workers for Pool {
    fn count(&self) -> usize {
        self.threads.len() + 1
    }

    fn for_each_tile(&self, n: usize, tile: &(dyn Fn(usize) + Sync)) {
        let alone = n < 2 || self.threads.is_empty();
        if alone || self.busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            (0..n).for_each(tile);
        } else {
            self.run(n, tile);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A worker catches the panics of tiles, so it has none of its own to report.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &(self.threads.len() + 1)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinglet::Workers;

    /// How often a race is given the chance to show. Miri tries other orders of threads by itself, and is slow.
    const ROUNDS: usize = if cfg!(miri) { 3 } else { 200 };

    #[test]
    fn every_tile_runs_exactly_once() {
        let counts: &[usize] = if cfg!(miri) { &[0, 2, 3] } else { &[0, 1, 2, 3, 8] };
        for &threads in counts {
            let pool = Pool::new(threads).unwrap();
            assert_eq!(pool.count(), threads.max(1));
            for n in [0, 1, 2, 3, 7, 100] {
                for _ in 0..ROUNDS {
                    let counts: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                    pool.for_each_tile(n, &|i| {
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{threads} threads, {n} tiles");
                }
            }
        }
    }

    #[test]
    fn parked_threads_wake_up_again() {
        let pool = Pool::new(3).unwrap();
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(2));
            let seen = Mutex::new(std::collections::HashSet::new());
            pool.for_each_tile(3, &|_| {
                seen.lock().unwrap().insert(thread::current().id());
                thread::sleep(Duration::from_millis(5));
            });
            assert!(seen.lock().unwrap().len() > 1, "only the caller worked");
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3).unwrap();
        for bad in [0, 5, 9] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.for_each_tile(10, &|i| {
                    if i == bad {
                        resume_unwind(Box::new("tile"));
                    }
                })
            }));
            assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"tile"));
            let sum = AtomicUsize::new(0);
            pool.for_each_tile(10, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        }
    }

    #[test]
    fn calls_from_tiles_and_from_several_threads_do_not_deadlock() {
        let pool = Pool::new(3).unwrap();
        let sum = AtomicUsize::new(0);
        thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    for _ in 0..ROUNDS {
                        pool.for_each_tile(4, &|_| {
                            pool.for_each_tile(4, &|j| {
                                sum.fetch_add(j, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 3 * ROUNDS * 4 * 6);
    }
}

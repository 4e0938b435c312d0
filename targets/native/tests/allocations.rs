//! The pool allocates nothing once it is made. A program of its own, because the count is of the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kinglet::Workers;
use kinglet_native::Pool;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn handing_out_tiles_allocates_nothing() {
    let pool = Pool::new(3).unwrap();
    let done = AtomicUsize::new(0);
    let tile = |_: usize| {
        done.fetch_add(1, Ordering::Relaxed);
    };
    // Threads set up what the standard library keeps for each of them when they first park.
    for _ in 0..10 {
        pool.for_each_tile(3, &tile);
        std::thread::sleep(Duration::from_millis(2));
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for i in 0..2000 {
        pool.for_each_tile(3, &tile);
        if i % 100 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before);
    assert_eq!(done.into_inner(), 2010 * 3);
}

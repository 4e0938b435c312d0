//! Samples from an interrupt to the main loop.

use core::sync::atomic::{AtomicU32, Ordering};

use heapless::spsc::{Consumer, Producer};

/// A queue of `N` − 1 samples, which lies where both sides reach it: a `static`.
pub struct Queue<const N: usize> {
    samples: heapless::spsc::Queue<i16, N>,
    lost: AtomicU32,
}

impl<const N: usize> Queue<N> {
    /// An empty one.
    pub const fn new() -> Self {
        Queue { samples: heapless::spsc::Queue::new(), lost: AtomicU32::new(0) }
    }

    /// Its two sides.
    pub fn split(&mut self) -> (Capture<'_>, Samples<'_>) {
        let Queue { samples, lost } = self;
        let (producer, consumer) = samples.split();
        (Capture { producer, lost }, Samples { consumer, lost, said: 0 })
    }
}

impl<const N: usize> Default for Queue<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The side of the interrupt.
pub struct Capture<'q> {
    producer: Producer<'q, i16>,
    lost: &'q AtomicU32,
}

impl Capture<'_> {
    /// Takes samples: one from a timer's interrupt, or the half of a DMA buffer that is full. Those that there is no room for are lost, and counted.
    pub fn push(&mut self, samples: &[i16]) {
        let lost = samples.iter().filter(|&&sample| self.producer.enqueue(sample).is_err()).count();
        if lost > 0 {
            // Nobody else writes it: a core without compare-and-swap can do this, too.
            self.lost.store(self.lost.load(Ordering::Relaxed).wrapping_add(lost as u32), Ordering::Relaxed);
        }
    }
}

/// The side of the main loop.
pub struct Samples<'q> {
    consumer: Consumer<'q, i16>,
    lost: &'q AtomicU32,
    /// Lost samples that were told of.
    said: u32,
}

impl Samples<'_> {
    /// Moves what is there into `to`, as far as it has room; how many samples that were.
    pub fn take(&mut self, to: &mut [i16]) -> usize {
        let mut taken = 0;
        while let Some(to) = to.get_mut(taken)
            && let Some(sample) = self.consumer.dequeue()
        {
            *to = sample;
            taken += 1;
        }
        taken
    }

    /// Samples that were lost since this was asked last.
    pub fn lost(&mut self) -> u32 {
        let all = self.lost.load(Ordering::Relaxed);
        let new = all.wrapping_sub(self.said);
        self.said = all;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_in_order_and_what_is_lost_is_counted() {
        let mut queue = Queue::<5>::new();
        let (mut capture, mut samples) = queue.split();
        let mut to = [0; 3];
        capture.push(&[1, 2, 3]);
        assert_eq!((samples.take(&mut to), to, samples.lost()), (3, [1, 2, 3], 0));
        capture.push(&[4, 5, 6, 7, 8, 9]);
        assert_eq!((samples.lost(), samples.lost()), (2, 0));
        assert_eq!((samples.take(&mut to), to), (3, [4, 5, 6]));
        assert_eq!((samples.take(&mut to), to), (1, [7, 5, 6]));
        assert_eq!(samples.take(&mut to), 0);
    }
}

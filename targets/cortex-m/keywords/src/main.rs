//! The program for the emulated board: a recording plays, at its own pace, and what is heard is printed.
#![no_std]
#![no_main]

use core::cell::RefCell;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use cortex_m_rt::{entry, exception};
use critical_section::Mutex;
#[cfg(feature = "rtt")]
use defmt_rtt as _;
#[cfg(feature = "semihosting")]
use defmt_semihosting as _;
use kinglet::observe::Counter;
use kinglet_cortex_m::BestOf;
use kinglet_keywords::capture::{Capture, Queue};
use kinglet_keywords::model::{CONFIG, keywords};
use kinglet_keywords::{App, Buffers, Event, Spotter, Times};
use kinglet_mps2::CLOCK_HZ;
use kinglet_mps2::console::{exit, print};
use kinglet_mps2::led::Led;
use kinglet_mps2::recording::{INTERRUPT, Recording};
use kinglet_mps2::timer::{self, Delay};

/// Samples of an interrupt: 10 ms, as from the half of a DMA buffer.
const HALF: usize = 160;

/// Samples that the queue holds while the model runs: 256 ms.
const WAITING: usize = 4096;

/// What the interrupt needs.
static MICROPHONE: Mutex<RefCell<Option<(Recording, Capture<'static>)>>> = Mutex::new(RefCell::new(None));

/// Whether the recording is at its end.
static ENDED: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy)]
struct Microphone;

// SAFETY: the board has that interrupt.
unsafe impl InterruptNumber for Microphone {
    fn number(self) -> u16 {
        INTERRUPT
    }
}

/// The timer's interrupt. (Without a table of the board's interrupts they all come here.)
#[exception]
unsafe fn DefaultHandler(_: i16) {
    critical_section::with(|cs| {
        if let Some((recording, capture)) = MICROPHONE.borrow_ref_mut(cs).as_mut() {
            match recording.take() {
                Some(samples) => capture.push(samples),
                None => ENDED.store(true, Ordering::Release),
            }
        }
    });
}

#[entry]
fn main() -> ! {
    static mut QUEUE: Queue<WAITING> = Queue::new();
    static mut BUFFERS: Buffers = Buffers::new();
    // SAFETY: this is the board, and the linker keeps the program out of that memory.
    let Some(recording) = (unsafe { Recording::loaded(HALF) }) else {
        print(format_args!("no recording is loaded\n"));
        exit(false)
    };
    let (capture, mut samples) = QUEUE.split();
    let kernels = BestOf::<{ keywords::OPS }>::default();
    let spotter = match Spotter::new(BUFFERS, &kernels) {
        Ok(spotter) => spotter,
        Err(error) => {
            print(format_args!("there is no spotter: {error:?}\n"));
            exit(false)
        }
    };
    timer::start();
    let mut app = App::new(spotter, Led, Delay, Counter::new(u32::MAX, timer::count));
    recording.play(CONFIG.sample_rate);
    critical_section::with(|cs| MICROPHONE.replace(cs, Some((recording, capture))));
    // SAFETY: what the interrupt needs is there.
    unsafe { NVIC::unmask(Microphone) };
    loop {
        let before = app.times().samples;
        let result = app.step(&mut samples, |event| match event {
            Event::Word(word) => {
                print(format_args!("word {} {:.2} at {} ms\n", word.label, word.probability, word.at_ms))
            }
            Event::Lost(lost) => print(format_args!("lost {lost} samples\n")),
        });
        if let Err(error) = result {
            print(format_args!("failed: {error:?}\n"));
            exit(false)
        }
        if ENDED.load(Ordering::Acquire) && app.times().samples == before {
            break;
        }
    }
    report(app.times());
    exit(true)
}

/// Says what the work took, in microseconds of this board's time for a second of sound.
fn report(times: Times) {
    let seconds = times.samples as f32 / CONFIG.sample_rate as f32;
    let us = |ticks: u64| ticks as f32 * 1e6 / CLOCK_HZ as f32;
    print(format_args!(
        "sound {seconds:.2} s work {:.0} us/s front end {:.0} us/s model {:.0} us/s longest run {:.0} us\n",
        us(times.all) / seconds,
        us(times.all - times.model) / seconds,
        us(times.model) / seconds,
        us(times.longest_run)
    ));
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    print(format_args!("panicked: {info}\n"));
    exit(false)
}

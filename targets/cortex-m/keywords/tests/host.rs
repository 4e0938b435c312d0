//! The application on a host, with mocked drivers.

use core::cell::Cell;

use embedded_hal_mock::eh1::delay::NoopDelay;
use embedded_hal_mock::eh1::digital::{Mock as Pin, State, Transaction};
use kinglet::{Clock, Reference};
use kinglet_keywords::capture::Queue;
use kinglet_keywords::{App, Buffers, Detection, Event, Spotter};

/// A clock that goes on by 1 whenever it is asked.
struct Asked(Cell<u64>);

impl Clock for Asked {
    fn ticks(&self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
}

/// A recording of the repository.
fn sound(name: &str) -> Vec<i16> {
    let path = format!("{}/../../../models/keywords/samples/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    let mut wav = hound::WavReader::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(wav.spec().sample_rate, 16_000);
    wav.samples::<i16>().map(|s| s.expect("a whole file")).collect()
}

/// Three words with pauses between them.
fn stream() -> Vec<i16> {
    let pause = vec![0; 16_000];
    ["yes_flite-slt", "stop_espeak-m3-noisy", "forward_festival-slt-noisy"]
        .iter()
        .flat_map(|name| [pause.clone(), sound(name)].concat())
        .chain(pause.clone())
        .collect()
}

fn spotter(buffers: &mut Buffers) -> Spotter<'_, Reference> {
    Spotter::new(buffers, &Reference).expect("it is made for it")
}

fn words(samples: &[i16], piece: usize) -> Vec<Detection> {
    let mut buffers = Box::new(Buffers::new());
    let mut spotter = spotter(&mut buffers);
    let mut found = Vec::new();
    for piece in samples.chunks(piece) {
        spotter.push(piece, &Asked(Cell::new(0)), |d| found.push(d)).expect("it runs");
    }
    found
}

#[test]
fn words_in_a_stream_are_heard_once_each() {
    let found = words(&stream(), 160);
    let said = |d: &Detection| format!("word {} {:.2} at {} ms\n", d.label, d.probability, d.at_ms);
    // The emulated board prints the very same (tests/firmware/run).
    assert_eq!(found.iter().map(said).collect::<String>(), include_str!("words.txt"));
    // However the samples come.
    assert_eq!(words(&stream(), 1), found);
    assert_eq!(words(&stream(), 7_777), found);
}

#[test]
fn nothing_is_heard_in_silence_and_noise() {
    assert_eq!(words(&vec![0; 80_000], 160), []);
    let mut state = 1u32;
    let noise: Vec<i16> = (0..80_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 16) as i16) >> 4
        })
        .collect();
    assert_eq!(words(&noise, 160), []);
    assert_eq!(words(&[i16::MIN, i16::MAX].repeat(20_000), 160), []);
}

#[test]
fn a_word_lights_the_led_for_half_a_second() {
    let pin = [State::High, State::Low].map(Transaction::set);
    let mut buffers = Box::new(Buffers::new());
    let mut app = App::new(spotter(&mut buffers), Pin::new(&pin), NoopDelay, Asked(Cell::new(0)));
    let mut queue = Queue::<512>::new();
    let (mut capture, mut samples) = queue.split();
    let mut events = Vec::new();
    let stream = &stream()[..48_000];
    for piece in stream.chunks(160) {
        capture.push(piece);
        app.step(&mut samples, |e| events.push(e)).expect("it runs");
    }
    // Nothing has come: it waits.
    app.step(&mut samples, |e| events.push(e)).expect("it runs");
    assert!(matches!(events[..], [Event::Word(Detection { label: "yes", .. })]), "{events:?}");
    let times = app.times();
    assert_eq!(times.samples, 48_000);
    assert!(times.all > times.model && times.model > 0 && times.longest_run == 1, "{times:?}");
    app.release().0.done();
}

#[test]
fn what_is_lost_is_said() {
    let mut buffers = Box::new(Buffers::new());
    let mut app = App::new(spotter(&mut buffers), Pin::new(&[]), NoopDelay, Asked(Cell::new(0)));
    let mut queue = Queue::<257>::new();
    let (mut capture, mut samples) = queue.split();
    capture.push(&[0; 300]);
    let mut events = Vec::new();
    for _ in 0..3 {
        app.step(&mut samples, |e| events.push(e)).expect("it runs");
    }
    assert_eq!((&events[..], app.times().samples), (&[Event::Lost(44)][..], 256));
    app.release().0.done();
}

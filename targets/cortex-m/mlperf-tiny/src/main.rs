//! The firmware for the board mps2-an386: the model that the build script has compiled, behind the first serial port.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use embedded_io::Read;
use kinglet::observe::Counter;
use kinglet::{Arena, Error, Kernels, Session};
use kinglet_cortex_m::BestOf;
use kinglet_mlperf_tiny::{Clock, Failure, Monitor, Network, Quantization, Quantized, Task};
use kinglet_mps2::console;
use kinglet_mps2::uart::{self, Uart};
use kinglet_mps2::{CLOCK_HZ, timer};

include!(concat!(env!("OUT_DIR"), "/model.rs"));
include!(concat!(env!("OUT_DIR"), "/task.rs"));

const BITS_PER_SECOND: u32 = 115_200;

const _: () = assert!(model::SLOW == 0, "the plan wants no slow memory");

/// The board's clock.
struct Board<C>(C);

impl<C: kinglet::Clock> Clock for Board<C> {
    fn microseconds(&mut self) -> u64 {
        self.0.ticks() / u64::from(CLOCK_HZ / 1_000_000)
    }
}

/// The model.
struct Model<'a, K: Kernels>(Session<'a, K>);

fn failure(error: Error) -> Failure {
    Failure::Runtime(error.code())
}

/// What a tensor of the plan stands for.
fn quantization(tensor: Option<kinglet::Tensor>) -> Quantization {
    let (scale, zero_point) = tensor.and_then(|t| t.quantization()).unwrap_or((1.0, 0));
    Quantization { scale, zero_point }
}

impl<K: Kernels> Network for Model<'_, K> {
    fn input(&mut self) -> Result<&mut [u8], Failure> {
        self.0.input_bytes_mut(0).map_err(failure)
    }
    fn input_quantization(&self) -> Quantization {
        let model = self.0.model();
        quantization(model.input_tensor(0).map(|i| model.tensor(i)))
    }
    fn run(&mut self) -> Result<(), Failure> {
        self.0.run().map_err(failure)
    }
    fn output(&self) -> Result<&[u8], Failure> {
        self.0.output_bytes(0).map_err(failure)
    }
    fn output_quantization(&self) -> Quantization {
        let model = self.0.model();
        quantization(model.output_tensor(0).map(|i| model.tensor(i)))
    }
}

#[entry]
fn main() -> ! {
    static mut ARENA: Arena<{ model::ARENA }> = Arena::new();
    static mut BYTES: [u8; TASK.bytes()] = [0; TASK.bytes()];
    static mut QUANTIZED: [u8; TASK.quantized()] = [0; TASK.quantized()];

    let kernels = BestOf::<{ model::OPS }>::default();
    let session = model::session(&mut ARENA.0, &kernels).map_err(failure);
    let benchmark = session.and_then(|session| Quantized::new(TASK, Model(session), BYTES, QUANTIZED));
    let Ok(benchmark) = benchmark else {
        console::print(format_args!("the model is not the benchmark's\n"));
        console::exit(false)
    };
    let mut port = Uart::open(BITS_PER_SECOND);
    timer::start();
    let mut monitor = Monitor::new(Board(Counter::new(u32::MAX, timer::count)), benchmark);
    // The port's only error is a lost byte of what comes in.
    let _ = monitor.start(&mut port);
    loop {
        let mut byte = [0];
        match port.read(&mut byte) {
            Ok(_) => {
                let _ = monitor.receive(byte[0], &mut port);
            }
            Err(uart::Error::Overrun) => monitor.lose(),
        }
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    console::print(format_args!("panicked\n"));
    console::exit(false)
}

//! What a monitor measures.

pub use crate::data::Quantization;
use crate::data::{floats, mean_square, offset};
use crate::error::Failure;
use crate::task::Task;

/// A benchmark as the protocol sees it.
pub trait Benchmark {
    /// What the runner calls it, as `kws01`.
    fn model(&self) -> &'static str;

    /// The bytes of an input as the runner sends them, in place. Runs leave them as they are.
    fn input(&mut self) -> &mut [u8];

    /// What is done once for an input, before its runs.
    ///
    /// # Errors
    /// As [`Benchmark::run`].
    fn prepare(&mut self) -> Result<(), Failure>;

    /// One run on the input.
    ///
    /// # Errors
    /// The network does not run, or is not of the benchmark's shape.
    fn run(&mut self) -> Result<(), Failure>;

    /// Result `i` of the last run; `None` after the last one.
    ///
    /// # Errors
    /// As [`Benchmark::run`].
    fn result(&self, i: usize) -> Result<Option<f32>, Failure>;
}

/// A network with one input and one output of signed bytes.
pub trait Network {
    /// Its input, to be written before every run.
    ///
    /// # Errors
    /// There is none.
    fn input(&mut self) -> Result<&mut [u8], Failure>;

    /// What its input stands for.
    fn input_quantization(&self) -> Quantization;

    /// Runs.
    ///
    /// # Errors
    /// The runtime's.
    fn run(&mut self) -> Result<(), Failure>;

    /// Its output, after a run.
    ///
    /// # Errors
    /// There is none.
    fn output(&self) -> Result<&[u8], Failure>;

    /// What its output stands for.
    fn output_quantization(&self) -> Quantization;
}

/// A task of MLPerf Tiny on a network of bytes.
///
/// The network's input lies in memory that its run uses again, so that it is written before every run: the time of a run has this copy
/// in it.
#[derive(Debug)]
pub struct Quantized<'b, N> {
    task: Task,
    network: N,
    bytes: &'b mut [u8],
    quantized: &'b mut [u8],
}

impl<'b, N: Network> Quantized<'b, N> {
    /// With buffers of [`Task::bytes`] and of [`Task::quantized`] bytes.
    ///
    /// # Errors
    /// [`Failure::Shape`] if a buffer, the network's input or its output has another size.
    pub fn new(
        task: Task,
        mut network: N,
        bytes: &'b mut [u8],
        quantized: &'b mut [u8],
    ) -> Result<Quantized<'b, N>, Failure> {
        let got = (bytes.len(), quantized.len(), network.input()?.len(), network.output()?.len());
        if got != (task.bytes(), task.quantized(), task.inputs(), task.outputs()) {
            return Err(Failure::Shape);
        }
        Ok(Quantized { task, network, bytes, quantized })
    }
}

impl<N: Network> Benchmark for Quantized<'_, N> {
    fn model(&self) -> &'static str {
        self.task.model()
    }

    fn input(&mut self) -> &mut [u8] {
        self.bytes
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        let of = self.network.input_quantization();
        if self.task == Task::Ad {
            self.quantized.iter_mut().zip(floats(self.bytes)).for_each(|(to, v)| *to = of.quantize(v) as u8);
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), Failure> {
        let input = self.network.input()?;
        match self.task {
            Task::Ic | Task::Vww => offset(self.bytes, input),
            Task::Kws => copy(self.bytes, input)?,
            Task::Ad => copy(self.quantized, input)?,
        }
        self.network.run()
    }

    fn result(&self, i: usize) -> Result<Option<f32>, Failure> {
        let (outputs, of) = (self.network.output()?, self.network.output_quantization());
        Ok(match self.task {
            Task::Ad => (i == 0).then(|| mean_square(outputs, of, self.bytes)),
            _ => outputs.get(i).map(|&q| of.dequantize(q as i8)),
        })
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> Result<(), Failure> {
    if from.len() != to.len() {
        return Err(Failure::Shape);
    }
    to.copy_from_slice(from);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// A network whose output is what its input began with. A run destroys its input.
    struct Echo {
        input: Vec<u8>,
        output: Vec<u8>,
    }

    impl Network for Echo {
        fn input(&mut self) -> Result<&mut [u8], Failure> {
            Ok(&mut self.input)
        }
        fn input_quantization(&self) -> Quantization {
            Quantization { scale: 0.5, zero_point: 3 }
        }
        fn run(&mut self) -> Result<(), Failure> {
            let n = self.output.len();
            self.output.copy_from_slice(&self.input[..n]);
            self.input.fill(0x55);
            Ok(())
        }
        fn output(&self) -> Result<&[u8], Failure> {
            Ok(&self.output)
        }
        fn output_quantization(&self) -> Quantization {
            Quantization { scale: 1.0 / 256.0, zero_point: -128 }
        }
    }

    /// The results of two runs on an input that begins so.
    fn results(task: Task, begins: &[u8]) -> Vec<f32> {
        let network = Echo { input: vec![0; task.inputs()], output: vec![0; task.outputs()] };
        let (mut bytes, mut quantized) = (vec![0; task.bytes()], vec![0; task.quantized()]);
        let mut benchmark = Quantized::new(task, network, &mut bytes, &mut quantized).expect("all fits");
        benchmark.input()[..begins.len()].copy_from_slice(begins);
        benchmark.prepare().expect("nothing fails");
        benchmark.run().expect("nothing fails");
        benchmark.run().expect("nothing fails");
        (0..).map_while(|i| benchmark.result(i).expect("nothing fails")).collect()
    }

    #[test]
    fn each_task_reads_its_data() {
        let kws = results(Task::Kws, &[0x80, 0, 0x7f]);
        assert_eq!((kws.len(), &kws[..3]), (12, &[0.0, 0.5, 255.0 / 256.0][..]));
        let ic = results(Task::Ic, &[0, 128, 255]);
        assert_eq!((ic.len(), &ic[..3]), (10, &[0.0, 0.5, 255.0 / 256.0][..]));
        assert_eq!(results(Task::Vww, &[0, 64]), [0.0, 0.25]);
        // 1.0 is 5, which the output takes for 133/256; 0 is 3, for 131/256.
        let first: f32 = 133.0 / 256.0 - 1.0;
        let other: f32 = 131.0 / 256.0;
        let expected = (first * first + 639.0 * other * other) / 640.0;
        let ad = results(Task::Ad, &1f32.to_le_bytes());
        assert!(ad.len() == 1 && (ad[0] - expected).abs() < 1e-5, "{ad:?} {expected}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let network = || Echo { input: vec![0; 490], output: vec![0; 12] };
        let (mut bytes, mut quantized) = ([0; 490], [0; 0]);
        assert!(Quantized::new(Task::Kws, network(), &mut bytes, &mut quantized).is_ok());
        let refused = Quantized::new(Task::Kws, network(), &mut bytes[1..], &mut quantized).err();
        assert_eq!(refused, Some(Failure::Shape));
        assert!(Quantized::new(Task::Ic, network(), &mut [0; 3072], &mut quantized).is_err());
    }
}

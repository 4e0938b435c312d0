//! Kinglet, as `kinglet bench` runs an ONNX file: compiled in memory, with the best kernels of this CPU.

use std::time::{Duration, Instant};

use kinglet_compiler::Options;
use kinglet_native::OwnedSession;

use crate::Racer;
use crate::job::{Data, Input, Job, Result};

pub struct Kinglet {
    session: OwnedSession,
    inputs: Vec<Input>,
}

impl Kinglet {
    pub fn new(job: &Job) -> Result<Self> {
        let options = Options::default();
        let graph = kinglet_compiler::import_file(&job.model, &options)?;
        let compiled = kinglet_compiler::compile(graph, &options)?;
        let session = OwnedSession::from_bytes(&compiled.kgl, job.threads)?;
        Ok(Kinglet { session, inputs: job.inputs.clone() })
    }
}

impl Racer for Kinglet {
    fn run(&mut self) -> Result<Duration> {
        // The arena may have had other tensors where an input was: they are written before each run.
        for input in &self.inputs {
            match &input.data {
                Data::F32(v) => self.session.input_named_mut::<f32>(&input.name)?.copy_from_slice(v),
                Data::I8(v) => self.session.input_named_mut::<i8>(&input.name)?.copy_from_slice(v),
            }
        }
        let start = Instant::now();
        self.session.run()?;
        Ok(start.elapsed())
    }

    fn outputs(&self) -> Result<Vec<Vec<f32>>> {
        let count = self.session.model().output_count();
        let reals = |i| match self.session.output::<f32>(i) {
            Ok(v) => Ok(v.to_vec()),
            Err(_) => Ok(self.session.output::<i8>(i)?.iter().map(|v| f32::from(*v)).collect()),
        };
        (0..count).map(reals).collect()
    }
}

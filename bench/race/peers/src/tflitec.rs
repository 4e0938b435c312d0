//! TensorFlow Lite's C library by way of tflitec, without XNNPACK: the interpreter's own kernels.

use std::time::{Duration, Instant};

use tflitec::interpreter::{Interpreter, Options};
use tflitec::model::Model;
use tflitec::tensor::DataType;

use crate::Racer;
use crate::job::{Data, Input, Job, Result};

pub struct TfLite {
    interpreter: Interpreter<'static>,
    inputs: Vec<Input>,
}

impl TfLite {
    pub fn new(job: &Job) -> Result<Self> {
        let path = job.model.to_str().ok_or("a path in UTF-8")?;
        // The interpreter borrows it, and both live as long as the worker.
        let model: &'static Model<'static> = Box::leak(Box::new(Model::new(path)?));
        let interpreter = Interpreter::new(model, Some(Options { thread_count: job.threads as i32 }))?;
        interpreter.allocate_tensors()?;
        Ok(TfLite { interpreter, inputs: job.inputs.clone() })
    }
}

impl Racer for TfLite {
    fn run(&mut self) -> Result<Duration> {
        for (i, input) in self.inputs.iter().enumerate() {
            match &input.data {
                Data::F32(v) => self.interpreter.copy(v, i)?,
                Data::I8(v) => self.interpreter.copy(v, i)?,
            }
        }
        let start = Instant::now();
        self.interpreter.invoke()?;
        Ok(start.elapsed())
    }

    fn outputs(&self) -> Result<Vec<Vec<f32>>> {
        let reals = |i| {
            let tensor = self.interpreter.output(i)?;
            Ok(match tensor.data_type() {
                DataType::Float32 => tensor.data::<f32>().to_vec(),
                _ => tensor.data::<i8>().iter().map(|v| f32::from(*v)).collect(),
            })
        };
        (0..self.interpreter.output_tensor_count()).map(reals).collect()
    }
}

//! tract.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::InferenceFact;

use crate::Racer;
use crate::job::{Data, Job, Result};

pub struct Tract {
    model: Arc<TypedRunnableModel>,
    inputs: TVec<TValue>,
    outputs: TVec<TValue>,
}

impl Tract {
    pub fn new(job: &Job) -> Result<Self> {
        if job.threads > 1 {
            set_default_executor(Executor::multithread(job.threads));
        }
        let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
        let mut model = onnx.model_for_path(&job.model)?;
        let mut inputs = TVec::new();
        for (i, input) in job.inputs.iter().enumerate() {
            let value = match &input.data {
                Data::F32(v) => Tensor::from_shape(&input.shape, v)?,
                Data::I8(v) => Tensor::from_shape(&input.shape, v)?,
            };
            model.set_input_fact(i, InferenceFact::dt_shape(value.datum_type(), value.shape()))?;
            inputs.push(value.into_tvalue());
        }
        Ok(Tract { model: model.into_optimized()?.into_runnable()?, inputs, outputs: TVec::new() })
    }
}

impl Racer for Tract {
    fn run(&mut self) -> Result<Duration> {
        let inputs = self.inputs.clone();
        let start = Instant::now();
        self.outputs = self.model.run(inputs)?;
        Ok(start.elapsed())
    }

    fn outputs(&self) -> Result<Vec<Vec<f32>>> {
        let reals = |value: &TValue| {
            let (zero_point, scale) = value.datum_type().zp_scale();
            let mut reals: Vec<f32> = value.cast_to::<f32>()?.to_plain_array_view::<f32>()?.iter().copied().collect();
            if value.datum_type().is_quantized() {
                // Back to the integers, which the other peers give.
                reals.iter_mut().for_each(|v| *v = (*v / scale).round() + zero_point as f32);
            }
            Ok(reals)
        };
        self.outputs.iter().map(reals).collect()
    }
}

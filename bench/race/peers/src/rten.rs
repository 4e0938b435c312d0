//! rten.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rten::{Model, NodeId, RunOptions, ThreadPool, Value, ValueOrView, ValueView};
use rten_tensor::AsView;

use crate::Racer;
use crate::job::{Data, Input, Job, Result};

pub struct Rten {
    model: Model,
    options: RunOptions,
    inputs: Vec<(NodeId, Input)>,
    outputs: Vec<Value>,
}

impl Rten {
    pub fn new(job: &Job) -> Result<Self> {
        let mut options = rten::ModelOptions::with_all_ops();
        // Packs constant weights when the model is loaded, as the others do.
        options.prepack_weights(true);
        let model = options.load_file(&job.model)?;
        let inputs = job.inputs.iter().map(|i| Ok((model.node_id(&i.name)?, i.clone()))).collect::<Result<_>>()?;
        let pool = Arc::new(ThreadPool::with_num_threads(job.threads));
        let options = RunOptions::default().with_thread_pool(Some(pool));
        Ok(Rten { model, options, inputs, outputs: Vec::new() })
    }
}

impl Racer for Rten {
    fn run(&mut self) -> Result<Duration> {
        let view = |(id, input): &'_ (NodeId, Input)| -> Result<(NodeId, Value)> {
            Ok((
                *id,
                match &input.data {
                    Data::F32(v) => Value::from_shape(&input.shape, v.clone())?,
                    Data::I8(v) => Value::from_shape(&input.shape, v.clone())?,
                },
            ))
        };
        let values = self.inputs.iter().map(view).collect::<Result<Vec<_>>>()?;
        let views = values.iter().map(|(id, v)| (*id, ValueOrView::View(ValueView::from(v)))).collect();
        let start = Instant::now();
        self.outputs = self.model.run(views, self.model.output_ids(), Some(self.options.clone()))?;
        Ok(start.elapsed())
    }

    fn outputs(&self) -> Result<Vec<Vec<f32>>> {
        let reals = |value: &Value| match value {
            Value::FloatTensor(t) => Ok(t.to_vec()),
            Value::Int8Tensor(t) => Ok(t.to_vec().into_iter().map(f32::from).collect()),
            _ => Err("an output of a type that is not known".into()),
        };
        self.outputs.iter().map(reals).collect()
    }
}

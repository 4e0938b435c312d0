//! Random draws. A plan gives the same result every time, so that draws come in as inputs, if the caller says so.

use kinglet::DType;

use super::shape::shape_attribute;
use crate::graph::Tensor;
use crate::import::{Context, Failure, dtype_from_onnx, fits};

/// `RandomNormal`, `RandomUniform` and their forms that take the shape of a tensor.
pub fn draw(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (shape, like) = if c.op_type().ends_with("Like") {
        let x = c.input(0)?;
        (c.shape(x), Some(c.dtype(x)))
    } else {
        (shape_attribute(c)?, None)
    };
    if shape.contains(&0) || !fits(&shape) {
        return Err(Failure::malformed(format!("a draw of shape {shape:?} has no elements, or too many")));
    }
    let dtype = if c.has("dtype") { dtype_from_onnx(c.int("dtype", 1) as i32) } else { like.or(Some(DType::F32)) };
    if dtype != Some(DType::F32) {
        return Err(Failure::unsupported("a random draw of another type than f32", "draw in f32, and cast"));
    }
    if !c.importer.options.draws_as_inputs {
        return Err(Failure::unsupported(
            "a run must give the same result every time",
            "pass --draws-as-inputs, which makes each random draw an input of the model",
        ));
    }
    if c.in_body() {
        return Err(Failure::unsupported("a random draw in the body of a loop", "draw before the loop"));
    }
    let mut name = c.output_name(0);
    // In a loop that is written out each trip draws anew.
    let inputs = &c.importer.frame.graph.inputs;
    let again = |t: &str| t.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let drawn = inputs.iter().filter(|&&t| again(&c.tensor_info(t).name)).count();
    if drawn > 0 {
        name = format!("{name}.{drawn}");
    }
    let graph = &mut c.importer.frame.graph;
    let t = graph.add_tensor(Tensor { name, dtype: DType::F32, shape, quant: None, value: None });
    graph.inputs.push(t);
    c.output(0, t);
    Ok(())
}

//! tract, an independent implementation of ONNX, as a second opinion.
//!
//! The graph is only typed, not optimised: once optimised, tract runs quantised convolutions in f32, and answers the same
//! everywhere on quantised models that end in Softmax.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use kinglet::DType;
use kinglet_compiler::InputInfo;
use kinglet_compiler::array::{Array, Numbers};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::InferenceFact;

use crate::inputs::Arrays;

/// Runs the graph in tract; the outputs are reals whatever their type.
pub fn run(path: &Path, declared: &[InputInfo], arrays: &Arrays) -> Result<Vec<Array>, String> {
    // Some graphs make tract panic instead of failing.
    catch_unwind(AssertUnwindSafe(|| try_run(path, declared, arrays).map_err(|e| format!("{e:#}"))))
        .unwrap_or_else(|_| Err("it panicked".into()))
}

fn try_run(path: &Path, declared: &[InputInfo], arrays: &Arrays) -> TractResult<Vec<Array>> {
    // What the file says of values in between may hold symbols that the given inputs bind.
    let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    let mut model = onnx.model_for_path(path)?;
    let names: Vec<String> = model.input_outlets()?.iter().map(|o| model.node(o.node).name.clone()).collect();
    let mut values = TVec::new();
    for (i, name) in names.iter().enumerate() {
        let known = declared.iter().any(|d| d.name == *name);
        let array = arrays.get(name).filter(|_| known);
        let value = tensor(array.ok_or_else(|| TractError::msg(format!("no array for the input `{name}`")))?)?;
        model.set_input_fact(i, InferenceFact::dt_shape(value.datum_type(), value.shape()))?;
        values.push(value.into_tvalue());
    }
    let outputs = model.into_typed()?.into_runnable()?.run(values)?;
    outputs.iter().map(|v| array(v)).collect()
}

fn tensor(array: &Array) -> TractResult<Tensor> {
    let ty = match array.dtype {
        DType::F32 | DType::F16 => f32::datum_type(),
        DType::I8 => i8::datum_type(),
        DType::U8 => u8::datum_type(),
        DType::I16 => i16::datum_type(),
        DType::U16 => u16::datum_type(),
        DType::I32 => i32::datum_type(),
        DType::I64 => i64::datum_type(),
        DType::Bool => {
            let bools: Vec<bool> = array.ints().iter().map(|&v| v != 0).collect();
            return Tensor::from_shape(&array.shape, &bools);
        }
    };
    let wide = match array.numbers() {
        Numbers::F(v) => Tensor::from_shape(&array.shape, &v)?,
        Numbers::I(v) => Tensor::from_shape(&array.shape, &v)?,
    };
    Ok(wide.cast_to_dt(ty)?.into_owned())
}

fn array(tensor: &Tensor) -> TractResult<Array> {
    let reals = tensor.cast_to::<f64>()?;
    let mut reals: Vec<f64> = reals.to_plain_array_view::<f64>()?.iter().copied().collect();
    if tensor.datum_type().is_quantized() {
        // Back to the integers: what they stand for is said by the graph, not by tract.
        let (zero_point, scale) = tensor.datum_type().zp_scale();
        reals.iter_mut().for_each(|v| *v = (*v / f64::from(scale)).round() + f64::from(zero_point));
    }
    Ok(Array::f32(tensor.shape(), reals))
}

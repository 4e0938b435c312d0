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
    let mut model = tract_onnx::onnx().model_for_path(path)?;
    let names: Vec<String> = model.input_outlets()?.iter().map(|o| model.node(o.node).name.clone()).collect();
    let mut values = TVec::new();
    for (i, name) in names.iter().enumerate() {
        let known = declared.iter().any(|d| d.name == *name);
        let array = arrays.get(name).filter(|_| known);
        let value = tensor(array.ok_or_else(|| format_err!("no array for the input `{name}`"))?)?;
        model.set_input_fact(i, InferenceFact::dt_shape(value.datum_type(), value.shape()))?;
        values.push(value.into_tvalue());
    }
    let outputs = model.into_typed()?.into_runnable()?.run(values)?;
    outputs.iter().map(|v| array(v)).collect()
}

fn tensor(array: &Array) -> TractResult<Tensor> {
    let ty = match array.dtype {
        DType::F32 => f32::datum_type(),
        DType::I8 => i8::datum_type(),
        DType::U8 => u8::datum_type(),
        DType::I16 => i16::datum_type(),
        DType::U16 => u16::datum_type(),
        DType::I32 => i32::datum_type(),
        DType::I64 => i64::datum_type(),
        DType::Bool => bool::datum_type(),
    };
    // SAFETY: the bytes are as many as the shape asks for and valid values of the type; bools are 0 or 1.
    unsafe { Tensor::from_raw_dt(ty, &array.shape, &array.to_bytes()) }
}

fn array(tensor: &Tensor) -> TractResult<Array> {
    let plain = tensor.cast_to_dt(tensor.datum_type().unquantized())?;
    let reals = plain.cast_to::<f64>()?;
    Ok(Array {
        dtype: DType::F32,
        shape: tensor.shape().to_vec(),
        data: Numbers::F(reals.to_plain_array_view::<f64>()?.iter().copied().collect()),
    })
}

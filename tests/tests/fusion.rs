//! What exporters write out in many nodes becomes few steps, and the steps compute what the nodes say.

use std::collections::BTreeMap;

use kinglet_compiler::array::Array;
use kinglet_compiler::{Compiled, Options, compile, eval, import};
use kinglet_onnx::DataType;
use kinglet_tests::small_onnx::{Builder, Value, floats, ints, reals};
use kinglet_tests::{Random, difference, run};

/// Compiles the model, compares a run with the evaluation of the graph as imported, and returns the plan.
fn compiled(model: &mut Builder) -> Compiled {
    let bytes = model.build().to_bytes();
    let graph = import(&bytes, None, &Options::default()).expect("imports");
    let mut random = Random::new(3);
    let inputs: Vec<Array> =
        graph.inputs.iter().map(|&t| random.array(graph.tensors[t].dtype, &graph.tensors[t].shape)).collect();
    let want = eval::run(&graph, &inputs).expect("evaluates");
    let named = graph.inputs.iter().zip(&inputs).map(|(&t, v)| (graph.tensors[t].name.clone(), v.clone())).collect();
    let names = graph.output_names.clone();
    let compiled = compile(graph, &Options::default()).expect("compiles");
    let got = run(&compiled.kgl, &named);
    for (name, want) in names.iter().zip(&want) {
        let (worst, magnitude) = difference(&got[name], want);
        assert!(worst <= 1e-5 * magnitude.max(1.0), "`{name}`: {worst} of {magnitude}");
    }
    compiled
}

fn kinds(c: &Compiled) -> Vec<&str> {
    c.report.steps.iter().map(|s| s.kind.as_str()).collect()
}

#[test]
fn a_written_out_gelu_is_one_step_with_all_its_nodes() {
    let mut m = Builder::default();
    m.input("x", DataType::Float, &[4, 8]);
    m.constant(reals("root", &[std::f32::consts::SQRT_2]))
        .constant(reals("one", &[1.0]))
        .constant(reals("half", &[0.5]));
    m.node("Div", "x root", "d", &[]).node("Erf", "d", "e", &[]).node("Add", "e one", "a", &[]);
    m.node("Mul", "x a", "m", &[]).node("Mul", "m half", "y", &[]).outputs("y");
    let c = compiled(&mut m);
    assert_eq!(kinds(&c), ["Unary"]);
    assert_eq!(c.report.steps[0].source_nodes.len(), 5);
}

#[test]
fn a_written_out_layer_norm_is_one_step_with_scale_and_bias() {
    let mut m = Builder::default();
    m.input("x", DataType::Float, &[2, 5, 16]);
    m.constant(reals("two", &[2.0])).constant(reals("eps", &[1e-5]));
    m.constant(floats("scale", &[16])).constant(floats("bias", &[16]));
    m.constant(ints("axes", DataType::Int64, &[1], &[-1]));
    m.node("ReduceMean", "x axes", "mean", &[]).node("Sub", "x mean", "d", &[]).node("Pow", "d two", "s", &[]);
    m.node("ReduceMean", "s axes", "v", &[]).node("Add", "v eps", "ve", &[]).node("Sqrt", "ve", "r", &[]);
    m.node("Div", "d r", "n", &[]).node("Mul", "n scale", "ns", &[]).node("Add", "ns bias", "y", &[]).outputs("y");
    let c = compiled(&mut m);
    assert_eq!(kinds(&c), ["Norm"]);
    assert_eq!(c.report.steps[0].source_nodes.len(), 9);
}

/// Equal elements far from zero: written out, their rounded mean would be taken for a deviation.
#[test]
fn written_out_layer_norms_with_an_inverse_root_are_one_step() {
    for inverse in ["Reciprocal", "Pow", "Div"] {
        let mut m = Builder::default();
        m.input("x", DataType::Float, &[2, 5, 16]);
        m.constant(reals("two", &[2.0])).constant(reals("eps", &[1e-5])).constant(floats("scale", &[16]));
        m.constant(reals("one", &[1.0])).constant(reals("half", &[-0.5]));
        m.constant(ints("axes", DataType::Int64, &[1], &[-1]));
        m.node("ReduceMean", "x axes", "mean", &[]).node("Sub", "x mean", "d", &[]).node("Mul", "d d", "s", &[]);
        m.node("ReduceMean", "s axes", "v", &[]).node("Add", "v eps", "ve", &[]);
        match inverse {
            "Pow" => m.node("Pow", "ve half", "i", &[]),
            "Div" => m.node("Sqrt", "ve", "r", &[]).node("Div", "one r", "i", &[]),
            _ => m.node("Sqrt", "ve", "r", &[]).node("Reciprocal", "r", "i", &[]),
        };
        // Nothing tells a factor from the other.
        m.node("Mul", if inverse == "Div" { "i d" } else { "d i" }, "n", &[]);
        m.node("Mul", "n scale", "y", &[]).outputs("y");
        let c = compiled(&mut m);
        assert_eq!(kinds(&c), ["Norm"], "{inverse}");
        assert!(c.report.steps[0].source_nodes.len() >= 8, "{inverse}");
    }
}

/// A scale that f32 does not hold together with the weights stays behind the convolution.
#[test]
fn huge_scales_are_not_folded_into_weights() {
    let largest = |scale: f32, weight: f32| {
        let mut m = Builder::default();
        m.input("x", DataType::Float, &[1, 2, 5, 5]);
        let mut w = floats("w", &[2, 2, 3, 3]);
        w.float_data.iter_mut().for_each(|v| *v *= weight);
        m.constant(w).constant(reals("s", &[scale, scale])).constant(reals("zeros", &[0.0, 0.0]));
        m.constant(reals("ones", &[1.0, 1.0])).constant(reals("small", &[1e-30]));
        m.node("Mul", "x small", "xs", &[]).node("Conv", "xs w", "c", &[]);
        m.node("BatchNormalization", "c s zeros zeros ones", "b", &[]).node("Mul", "b small", "y", &[]).outputs("y");
        let compiled = compiled(&mut m);
        let input = Array::f32(&[1, 2, 5, 5], (0..50).map(f64::from).collect());
        let y = run(&compiled.kgl, &BTreeMap::from([("x".to_string(), input)]))["y"].reals().into_owned();
        y.into_iter().map(f64::abs).reduce(f64::max).expect("there are elements")
    };
    // Sums of about 100, times 1e-30·1e30 and 1e30·1e-30.
    let huge = largest(1e30, 1e30);
    assert!((1.0..1e4).contains(&huge), "{huge}");
}

#[test]
fn a_written_out_rms_norm_is_one_step() {
    let mut m = Builder::default();
    m.input("x", DataType::Float, &[6, 16]).constant(reals("two", &[2.0])).constant(reals("eps", &[1e-5]));
    m.constant(ints("axes", DataType::Int64, &[1], &[-1])).constant(floats("scale", &[16]));
    m.node("Pow", "x two", "s", &[]).node("ReduceMean", "s axes", "v", &[]).node("Add", "v eps", "ve", &[]);
    m.node("Sqrt", "ve", "r", &[]).node("Div", "x r", "n", &[]).node("Mul", "n scale", "y", &[]).outputs("y");
    assert_eq!(kinds(&compiled(&mut m)), ["Norm"]);
}

#[test]
fn a_group_norm_dressed_as_an_instance_norm_stays_between_channels_last_convolutions() {
    let mut m = Builder::default();
    m.input("x", DataType::Float, &[1, 3, 6, 6]);
    m.constant(floats("w", &[8, 3, 3, 3])).constant(floats("w2", &[4, 8, 1, 1]));
    m.constant(reals("one", &[1.0])).constant(reals("zero", &[0.0]));
    m.constant(ints("flat", DataType::Int64, &[3], &[0, 1, -1])).constant(ints(
        "back",
        DataType::Int64,
        &[4],
        &[1, 8, 6, 6],
    ));
    m.constant(floats("scale", &[8, 1, 1])).constant(floats("bias", &[8, 1, 1]));
    m.constant(ints("unit", DataType::Int64, &[1], &[1]));
    m.node("Reshape", "one unit", "s1", &[]).node("Reshape", "zero unit", "b1", &[]);
    m.node("Conv", "x w", "c", &[("pads", Value::Is(&[1, 1, 1, 1]))]);
    m.node("Reshape", "c flat", "f", &[]).node("InstanceNormalization", "f s1 b1", "i", &[]);
    m.node("Reshape", "i back", "g", &[]).node("Mul", "g scale", "gs", &[]).node("Add", "gs bias", "gb", &[]);
    m.node("Conv", "gb w2", "y", &[]).outputs("y");
    // One copy brings the input to channels last, one the output back. The norm sums row by row, and then normalises.
    assert_eq!(kinds(&compiled(&mut m)), ["Copy", "ConvF32", "Fold", "Norm", "ConvF32", "Copy"]);
}

#[test]
fn batch_norm_bias_activation_and_residual_disappear_into_convolutions() {
    let mut m = Builder::default();
    m.input("x", DataType::Float, &[1, 6, 6, 4]);
    m.constant(floats("w", &[4, 4, 3, 3])).constant(floats("w2", &[4, 4, 1, 1])).constant(floats("w3", &[5, 4, 1, 1]));
    let positive = |name: &str| reals(name, &[0.5, 1.0, 1.5, 2.0]);
    m.constant(positive("scale"))
        .constant(floats("shift", &[4]))
        .constant(floats("mean", &[4]))
        .constant(positive("var"));
    m.node("Transpose", "x", "t", &[("perm", Value::Is(&[0, 3, 1, 2]))]);
    m.node("Conv", "t w", "c", &[("pads", Value::Is(&[1, 1, 1, 1]))]);
    m.node("BatchNormalization", "c scale shift mean var", "b", &[]).node("Relu", "b", "r", &[]);
    m.node("Conv", "r w2", "c2", &[]).node("Add", "t c2", "sum", &[]);
    // This one has no convolution before it, but one without padding behind it.
    m.node("BatchNormalization", "sum scale shift mean var", "b2", &[]).node("Conv", "b2 w3", "c3", &[]);
    m.node("HardSwish", "c3", "h", &[]).node("Transpose", "h", "y", &[("perm", Value::Is(&[0, 2, 3, 1]))]).outputs("y");
    assert_eq!(kinds(&compiled(&mut m)), ["ConvF32", "ConvF32", "ConvF32"]);
}

#[test]
fn a_chain_of_functions_of_one_quantised_tensor_is_one_table() {
    let mut m = Builder::default();
    m.input("x", DataType::Int8, &[4, 8]).constant(reals("s", &[0.05])).constant(reals("t", &[0.02]));
    m.constant(ints("z", DataType::Int8, &[], &[-3])).constant(reals("c", &[1.7]));
    m.node("DequantizeLinear", "x s z", "a", &[]).node("Mul", "a c", "b", &[]).node("Tanh", "b", "d", &[]);
    m.node("QuantizeLinear", "d t z", "q", &[]).node("DequantizeLinear", "q t z", "e", &[]);
    m.node("Sigmoid", "e", "f", &[])
        .node("Mul", "e f", "g", &[])
        .node("QuantizeLinear", "g t z", "y", &[])
        .outputs("y");
    let c = compiled(&mut m);
    assert_eq!(kinds(&c), ["Lut"]);
    assert_eq!((c.report.integer_steps, c.report.float_steps.len()), (1, 0));
}

#[test]
fn shape_arithmetic_leaves_no_step() {
    let mut m = Builder::default();
    m.input("x", DataType::Float, &[2, 3, 4]).constant(ints("i", DataType::Int64, &[1], &[0]));
    m.constant(ints("rest", DataType::Int64, &[1], &[-1]));
    m.node("Shape", "x", "shape", &[]).node("Gather", "shape i", "n", &[("axis", Value::I(0))]);
    m.node("Concat", "n rest", "to", &[("axis", Value::I(0))]).node("Reshape", "x to", "flat", &[]);
    m.node("Identity", "flat", "same", &[]).node("Relu", "same", "y", &[]).outputs("y");
    assert_eq!(kinds(&compiled(&mut m)), ["Unary"]);
}

//! What a node of an operator must not have, by operator set, and operator sets that nobody knows: each is refused with the
//! node, what is wrong with it, and the way out. ONNX Runtime refuses the same nodes.

use kinglet_compiler::ops::{NEWEST_OPSET, OWN_DOMAIN};
use kinglet_compiler::{Options, import};
use kinglet_onnx::{DataType, ModelProto, OperatorSetIdProto};
use kinglet_tests::small_onnx::{Builder, Value, floats, ints};

/// Inputs `x` and `y [2, 3]` f32, `n [3]` i64, `i [3]` i32, `b [3]` bool, and a constant `c [3]`.
fn builder() -> Builder {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[2, 3]).input("y", DataType::Float, &[2, 3]);
    b.input("n", DataType::Int64, &[3]).input("i", DataType::Int32, &[3]).input("b", DataType::Bool, &[3]);
    b.constant(floats("c", &[3])).constant(ints("one", DataType::Int64, &[1], &[1]));
    b
}

/// The model with another version of an operator set.
fn with_opset(mut model: ModelProto, domain: &str, version: i64) -> ModelProto {
    model.opset_import.retain(|o| o.domain != domain);
    model.opset_import.push(OperatorSetIdProto { domain: domain.into(), version });
    model
}

/// Why the model is refused; `None` if it is not.
fn refusal(model: &ModelProto) -> Option<String> {
    import(&model.to_bytes(), None, &Options::default()).err().map(|e| e.to_string())
}

/// A model of one node in operator set `opset`.
fn one(opset: i64, op: &str, inputs: &str, outputs: &str, attributes: &[(&str, Value<'_>)]) -> ModelProto {
    let mut b = builder();
    b.node(op, inputs, outputs, attributes).outputs("z");
    with_opset(b.build(), "", opset)
}

#[test]
fn what_an_operator_does_not_have_is_refused() {
    let flag = Value::I(1);
    let cases: Vec<(ModelProto, &[&str])> = vec![
        (one(13, "Relu", "x", "z", &[("relu6", flag.clone())]), &["Relu `z`", "`relu6`", "it has: none"]),
        (one(13, "Softmax", "x", "z", &[("axes", flag.clone())]), &["`axes`", "it has: axis"]),
        (one(13, "Relu", "x y", "z", &[]), &["2 inputs", "at most 1", "`y`"]),
        (one(13, "Clip", "x c c c", "z", &[]), &["4 inputs", "at most 3"]),
        (one(10, "Clip", "x c", "z", &[]), &["2 inputs", "operator set 10 has at most 1"]),
        (one(13, "Relu", "x", "z w", &[]), &["2 outputs", "at most 1"]),
        (one(13, "ReduceSum", "x", "z", &[("axes", Value::Is(&[1]))]), &["operator set 13 knows no attribute `axes`"]),
        (one(12, "ReduceSum", "x one", "z", &[]), &["2 inputs, where operator set 12"]),
        (one(6, "AveragePool", "x", "z", &[("count_include_pad", flag.clone())]), &["`count_include_pad`"]),
        (one(7, "Add", "x y", "z", &[("broadcast", flag.clone())]), &["operator set 7 knows no attribute `broadcast`"]),
        (one(13, "Add", "x n", "z", &[]), &["`x` is f32 and input `n` is i64", "cast one of them"]),
        (one(13, "Where", "b x n", "z", &[]), &["`x` is f32 and input `n` is i64"]),
        (one(13, "Where", "n x y", "z", &[]), &["`n` is i64, where it wants bool"]),
        (one(13, "Max", "x y i", "z", &[]), &["`x` is f32 and input `i` is i32"]),
        (one(13, "And", "b n", "z", &[]), &["`n` is i64, where it wants bool"]),
        (one(13, "MatMul", "x i", "z", &[]), &["`x` is f32 and input `i` is i32"]),
        (one(13, "Concat", "n i", "z", &[("axis", Value::I(0))]), &["`n` is i64 and input `i` is i32"]),
        (one(13, "Gather", "x y", "z", &[]), &["`y` is f32, where it wants index"]),
        (one(13, "Reshape", "x i", "z", &[]), &["`i` is i32, where it wants int64"]),
        (one(11, "Pow", "x n", "z", &[]), &["base of f32", "exponent of i64"]),
        (one(13, "Concat", "x y", "z", &[]), &["it has no axis"]),
        (one(13, "Gelu", "x", "z", &[]), &["known from operator set 20 on", "imports 13"]),
        (one(5, "Tile", "x n n", "z", &[]), &["known from operator set 6 on"]),
        (one(6, "Add", "x c", "z", &[]), &["shapes [2, 3] and [3]", "`broadcast`"]),
        (one(6, "Add", "x c", "z", &[("broadcast", flag.clone()), ("axis", Value::I(0))]), &["is no part of shape"]),
        (one(6, "Sum", "x c", "z", &[]), &["before operator set 8"]),
        (one(6, "Gemm", "x one c", "z", &[]), &["`x` is f32 and input `one` is i64"]),
        (one(6, "Dropout", "x", "z", &[]), &["training mode"]),
        (one(6, "BatchNormalization", "x c c c c", "z", &[]), &["training mode"]),
        (one(13, "Split", "x", "z w", &[("axis", Value::I(1))]), &["an axis of 3 in 2 equal parts"]),
        (
            one(18, "Split", "x", "z w", &[("axis", flag.clone()), ("num_outputs", Value::I(3))]),
            &["num_outputs is 3, of 2"],
        ),
        (one(20, "ai.kinglet.SelectiveScan", "x", "z", &[("softplus", flag)]), &["knows no attribute `softplus`"]),
    ];
    for (model, parts) in cases {
        let node = &model.graph.as_ref().expect("a graph").node[0];
        let reason = refusal(&model).unwrap_or_else(|| panic!("{node:?} is taken"));
        for part in parts.iter().chain([&&node.op_type[..]]) {
            assert!(reason.contains(part), "`{part}` is not in: {reason}");
        }
    }
}

#[test]
fn the_type_of_an_attribute_is_the_operators() {
    let mut model = one(13, "Softmax", "x", "z", &[("axis", Value::F(1.0))]);
    model.graph.as_mut().expect("a graph").node[0].attribute[0].r#type = 1;
    let reason = refusal(&model).expect("refused");
    assert!(reason.contains("`axis` is not an integer"), "{reason}");
    model.graph.as_mut().expect("a graph").node[0].attribute[0].r#type = 2;
    assert_eq!(refusal(&model), None);
}

#[test]
fn operator_sets_that_do_not_exist_yet_are_refused() {
    let relu = |domain: &str, version| with_opset(one(13, "Relu", "x", "z", &[]), domain, version);
    for (domain, named, known) in
        [("", "ai.onnx", NEWEST_OPSET), ("com.microsoft", "com.microsoft", 1), (OWN_DOMAIN, OWN_DOMAIN, 1)]
    {
        assert_eq!(refusal(&relu(domain, known)), None, "{domain}");
        for version in [known + 1, 99, -1] {
            let reason = refusal(&relu(domain, version)).unwrap_or_else(|| panic!("{domain} {version} is taken"));
            let parts = [format!("operator set {version} of {named}"), format!("1 to {known}")];
            assert!(parts.iter().all(|p| reason.contains(p)), "{reason}");
        }
    }
    // Nothing is known of other domains, and of no node of theirs.
    assert_eq!(refusal(&relu("org.example", 99)), None);
}

#[test]
fn an_operator_of_a_domain_that_is_not_imported_is_refused() {
    let mut model = one(13, "ai.kinglet.SelectiveScan", "x", "z", &[]);
    model.opset_import.retain(|o| o.domain != OWN_DOMAIN);
    let reason = refusal(&model).expect("refused");
    assert!(reason.contains("imports no operator set of `ai.kinglet`"), "{reason}");
}

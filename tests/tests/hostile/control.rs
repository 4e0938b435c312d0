//! Control flow that contradicts itself, or describes far more than it holds.

use kinglet_onnx::{DataType, ModelProto};
use kinglet_tests::hostile::model::Outcome;
use kinglet_tests::small_onnx::{Builder, Value, floats, ints, reals};

/// A file, and how it must end; `None` if it may end in any way but a bad one.
pub type Expected = (String, ModelProto, Option<Outcome>);

const LIMITS: [i64; 12] = [0, 1, 2, -1, i64::MIN, 64, 1000, 1025, 1 << 20, (1 << 20) + 1, 1_000_000_000, i64::MAX];

pub(super) fn scalar(name: &str, v: i64) -> kinglet_onnx::TensorProto {
    ints(name, DataType::Int64, &[], &[v])
}

/// A model with inputs `x [4, 3]`, `h [3]`, a condition `c` and a few constants, to which `add` adds nodes that give `y`.
pub(super) fn model(add: impl FnOnce(&mut Builder)) -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[4, 3]).input("h", DataType::Float, &[3]).input("c", DataType::Bool, &[]);
    b.constant(scalar("three", 3)).constant(scalar("zero", 0)).constant(reals("half", &[0.5]));
    add(&mut b);
    b.outputs("y").build()
}

/// A body with the given formal inputs and outputs, to which `add` adds nodes.
pub(super) fn body(formals: &str, outputs: &str, add: impl FnOnce(&mut Builder)) -> Value<'static> {
    let mut b = Builder::default();
    b.formals(formals);
    add(&mut b);
    b.outputs(outputs).body()
}

pub(super) fn nothing(_: &mut Builder) {}

/// A body that carries one value, halved.
fn halving() -> Value<'static> {
    body("i t v", "t w", |b| nothing(b.node("Mul", "v half", "w", &[])))
}

/// What is wrong with the parts of a node: all of it is refused.
pub fn malformed() -> Vec<Expected> {
    let mut out = Vec::new();
    let mut add = |name: &str, model: ModelProto| out.push((name.to_string(), model, Some(Outcome::Refused)));
    for (op, inputs, graph) in [("Loop", "three _ h", "body"), ("Scan", "h x", "body"), ("If", "c", "then_branch")] {
        add(&format!("{op} without its graph"), model(|b| nothing(b.node(op, inputs, "y", &[]))));
        let number = [(graph, Value::I(1)), ("num_scan_inputs", Value::I(1))];
        add(&format!("{op} with a number for its graph"), model(|b| nothing(b.node(op, inputs, "y", &number))));
    }
    for formals in ["", "i", "i t", "i t v u"] {
        let graph = [("body", body(formals, "three three", nothing))];
        add(
            &format!("Loop of one value with a body of `{formals}`"),
            model(|b| nothing(b.node("Loop", "three _ h", "y", &graph))),
        );
    }
    for outputs in ["", "t", "q w", "t q", "t w q"] {
        let graph = [("body", body("i t v", outputs, |b| nothing(b.node("Mul", "v half", "w", &[]))))];
        add(
            &format!("Loop whose body gives `{outputs}`"),
            model(|b| nothing(b.node("Loop", "three _ h", "y", &graph))),
        );
    }
    for (name, inputs) in
        [("no inputs", ""), ("a missing value", "three _ _"), ("a value nobody computes", "three _ q")]
    {
        add(&format!("Loop with {name}"), model(|b| nothing(b.node("Loop", inputs, "y", &[("body", halving())]))));
    }
    for (limit, condition) in
        [("h", "_"), ("empty", "_"), ("x", "_"), ("three", "c"), ("three", "empty"), ("s", "_"), ("three", "s")]
    {
        let node = |b: &mut Builder| {
            b.constant(ints("empty", DataType::Int64, &[0], &[])).node("SequenceConstruct", "h h", "s", &[]);
            nothing(b.node("Loop", &format!("{limit} {condition} h"), "y", &[("body", halving())]));
        };
        let expected = match (limit, condition) {
            // Data may decide that there is no trip.
            (_, "c") => Some(Outcome::Ran),
            _ if condition == "empty" || limit == "empty" => None,
            _ => Some(Outcome::Refused),
        };
        out.push((format!("Loop with the limit `{limit}` and the condition `{condition}`"), model(node), expected));
    }
    let mut add = |name: &str, model: ModelProto| out.push((name.to_string(), model, Some(Outcome::Refused)));
    for count in [-1, 0, 3, 100, i64::MIN, i64::MAX] {
        let graph = [("num_scan_inputs", Value::I(count)), ("body", body("v u", "v u", nothing))];
        add(&format!("Scan of {count} inputs"), model(|b| nothing(b.node("Scan", "h x", "y z", &graph))));
    }
    for axis in [2, -3, i64::MAX, i64::MIN] {
        for name in ["scan_input_axes", "scan_output_axes"] {
            let graph = [
                ("num_scan_inputs", Value::I(1)),
                (name, Value::Is(&[axis])),
                ("body", body("v u", "w w", |b| nothing(b.node("Add", "v u", "w", &[])))),
            ];
            add(&format!("Scan with {name} {axis}"), model(|b| nothing(b.node("Scan", "h x", "z y", &graph))));
        }
    }
    let graph = || [("num_scan_inputs", Value::I(2)), ("body", body("v u", "v u", nothing))];
    add("Scan of inputs of other lengths", model(|b| nothing(b.node("Scan", "x h", "y z", &graph()))));
    add("Scan of a scalar", model(|b| nothing(b.node("Scan", "x half", "y z", &graph()))));
    add(
        "Scan of a sequence",
        model(|b| {
            b.node("SequenceConstruct", "h h", "s", &[]);
            nothing(b.node("Scan", "x s", "y z", &graph()));
        }),
    );
    add(
        "Scan that carries a sequence",
        model(|b| {
            b.node("SequenceConstruct", "h h", "s", &[]);
            let graph = [("num_scan_inputs", Value::I(1)), ("body", body("v u", "v u", nothing))];
            nothing(b.node("Scan", "s x", "z y", &graph));
        }),
    );
    for (name, then, other) in [
        ("formal inputs", body("v", "v", nothing), body("v", "v", nothing)),
        ("nothing", body("", "", nothing), body("", "", nothing)),
        ("what nobody computes", body("", "q", nothing), body("", "q", nothing)),
        ("other shapes", body("", "h", nothing), body("", "x", nothing)),
        ("other types", body("", "half", nothing), body("", "three", nothing)),
        (
            "a sequence",
            body("", "a", |b| nothing(b.node("SequenceConstruct", "h", "a", &[]))),
            body("", "b", |b| nothing(b.node("SequenceConstruct", "h", "b", &[]))),
        ),
    ] {
        let graphs = [("then_branch", then), ("else_branch", other)];
        add(&format!("If with branches of {name}"), model(|b| nothing(b.node("If", "c", "y", &graphs))));
    }
    let graphs = || [("then_branch", body("", "h", nothing)), ("else_branch", body("", "half", nothing))];
    for (name, condition) in [("vector", "m"), ("sequence", "s"), ("empty", "e"), ("constant vector", "k")] {
        let same = [("then_branch", body("", "h", nothing)), ("else_branch", body("", "h", nothing))];
        add(
            &format!("If decided by a {name}"),
            model(|b| {
                b.input("m", DataType::Bool, &[2]).node("SequenceConstruct", "h", "s", &[]);
                b.constant(ints("e", DataType::Bool, &[0], &[])).constant(ints("k", DataType::Bool, &[2], &[1, 1]));
                nothing(b.node("If", condition, "y", &same));
            }),
        );
    }
    add(
        "If with more outputs than its branches",
        model(|b| {
            b.constant(ints("k", DataType::Bool, &[], &[1]));
            nothing(b.node("If", "k", "z y", &graphs()));
        }),
    );
    out
}

/// Names: of the graph around, given anew, used out of their scope, in a circle.
pub fn names() -> Vec<Expected> {
    let mut out = Vec::new();
    let mut add =
        |name: &str, expected: Option<Outcome>, model: ModelProto| out.push((name.to_string(), model, expected));
    let refused = Some(Outcome::Refused);
    add(
        "a body that reads what nobody computes",
        refused,
        model(|b| {
            let graph = [("body", body("i t v", "t w", |b| nothing(b.node("Add", "v q", "w", &[]))))];
            nothing(b.node("Loop", "three _ h", "y", &graph));
        }),
    );
    add(
        "a graph that reads a name of a body",
        refused,
        model(|b| {
            nothing(b.node("Loop", "three _ h", "z", &[("body", halving())]).node("Neg", "w", "y", &[]));
        }),
    );
    add(
        "a body that reads its own node's output",
        refused,
        model(|b| {
            let graph = [("body", body("i t v", "t w", |b| nothing(b.node("Add", "v y", "w", &[]))))];
            nothing(b.node("Loop", "three _ h", "y", &graph));
        }),
    );
    add(
        "two loops that read each other",
        refused,
        model(|b| {
            for (k, (a, z)) in [("y", "z"), ("z", "y")].into_iter().enumerate() {
                let w = format!("w{k}");
                let graph = body(&format!("i{k} t{k} v{k}"), &format!("t{k} {w}"), |b| {
                    nothing(b.node("Add", &format!("v{k} {z}"), &w, &[]));
                });
                b.node("Loop", "three _ h", a, &[("body", graph)]);
            }
        }),
    );
    add(
        "a body that computes a name twice",
        refused,
        model(|b| {
            let graph =
                [("body", body("i t v", "t w", |b| nothing(b.node("Neg", "v", "w", &[]).node("Abs", "v", "w", &[]))))];
            nothing(b.node("Loop", "three _ h", "y", &graph));
        }),
    );
    // Names of the graph around that a body gives a meaning of its own: ONNX forbids them; the inner meaning holds.
    for (name, graph) in [
        ("formal input", body("i t h", "t w", |b| nothing(b.node("Mul", "h half", "w", &[])))),
        ("result", body("i t v", "t x", |b| nothing(b.node("Mul", "v half", "x", &[])))),
        (
            "constant",
            body("i t v", "t w", |b| nothing(b.constant(reals("half", &[2.0])).node("Mul", "v half", "w", &[]))),
        ),
        ("counter", body("x t v", "t w", |b| nothing(b.node("Mul", "v half", "w", &[])))),
    ] {
        let ran = Some(Outcome::Ran);
        add(
            &format!("a {name} with a name of the graph around"),
            ran,
            model(|b| {
                nothing(b.node("Loop", "three _ h", "z", &[("body", graph)]).node("Add", "z x", "y", &[]));
            }),
        );
    }
    add(
        "formal inputs with one name",
        None,
        model(|b| {
            nothing(b.node("Loop", "three _ h h", "y z", &[("body", body("i t v v", "t v v", nothing))]));
        }),
    );
    add(
        "a body without nodes",
        Some(Outcome::Ran),
        model(|b| {
            nothing(b.node("Loop", "three _ h", "y", &[("body", body("i t v", "t v", nothing))]));
        }),
    );
    out
}

/// Small files that describe very many trips, nodes or items.
pub fn bombs() -> Vec<Expected> {
    let mut out = Vec::new();
    let grow = |op: &'static str| {
        body("i t v", "t w", move |b| {
            nothing(match op {
                "double" => b.node("Concat", "v v", "w", &[("axis", Value::I(0))]),
                _ => b.constant(ints("r", DataType::Int64, &[1], &[1000])).node("Tile", "v r", "w", &[]),
            })
        })
    };
    for limit in LIMITS {
        let refused = (limit > 1 << 20).then_some(Outcome::Refused);
        let mut add = |name: &str, refused: Option<Outcome>, graph: Value<'static>, outputs: &str| {
            out.push((
                format!("{name}, {limit} trips"),
                model(|b| {
                    nothing(b.constant(scalar("n", limit)).node("Loop", "n _ h", outputs, &[("body", graph)]));
                }),
                refused,
            ));
        };
        add("a loop that halves", refused, halving(), "y");
        add(
            "a loop that stacks",
            refused,
            body("i t v", "t v w", |b| nothing(b.node("Mul", "v half", "w", &[]))),
            "y z",
        );
        add("a loop that counts", refused, body("i t v", "t v i", nothing), "y z");
        add("a loop that doubles", (limit > 40).then_some(Outcome::Refused), grow("double"), "y");
        add("a loop that tiles", (limit > 40).then_some(Outcome::Refused), grow("tile"), "y");
        add(
            "a loop with an unknown operator",
            None,
            body("i t v", "t w", |b| nothing(b.node("Hardmax", "v", "w", &[]))),
            "y",
        );
        let deciding = body("i t v", "g v", |b| {
            b.node("ReduceSum", "v", "s", &[]).node("Less", "s half", "g", &[]);
        });
        add("a loop that decides", None, deciding, "y");
        add("a loop of constants", refused, body("i t v", "t v", nothing), "y");
        let appending = |b: &mut Builder| {
            let graph = body("i t v s", "t v r", |b| nothing(b.node("SequenceInsert", "s v", "r", &[])));
            b.constant(scalar("n", limit)).node("SequenceEmpty", "", "e", &[]);
            b.node("Loop", "n _ h e", "z s", &[("body", graph)]);
            nothing(b.node("ConcatFromSequence", "s", "y", &[("axis", Value::I(0))]));
        };
        out.push((format!("a loop that appends, {limit} trips"), model(appending), refused));
    }
    // Constants of a body that is written out are read once.
    for node in [false, true] {
        let graph = body("i t v", "g w", |b| {
            let large = floats("k", &[1 << 18]);
            if node {
                b.node("Constant", "", "k", &[("value", Value::T(Box::new(large)))]);
            } else {
                b.constant(large);
            }
            b.constant(scalar("far", 1 << 40)).node("Less", "i far", "g", &[]);
            b.node("Gather", "k i", "e", &[]).node("Mul", "v e", "w", &[]);
        });
        let model = model(|b| nothing(b.constant(scalar("n", 1000)).node("Loop", "n _ h", "y", &[("body", graph)])));
        out.push((format!("a large constant in a body, as a node: {node}"), model, Some(Outcome::Ran)));
    }
    // What is all constant folds, unless that takes too long.
    for nodes in [1, 20, 200] {
        out.push((
            format!("a loop of {nodes} constant nodes"),
            model(|b| {
                let graph = body("i t v0", &format!("t v{nodes}"), |b| {
                    (0..nodes).for_each(|k| nothing(b.node("Mul", &format!("v{k} half"), &format!("v{}", k + 1), &[])));
                });
                b.constant(scalar("n", 1 << 20)).node("Loop", "n _ half", "z", &[("body", graph)]);
                nothing(b.node("Add", "z h", "y", &[]));
            }),
            None,
        ));
    }
    for trips in [1, 2, 65, 1000, 1 << 20, 1_000_000_000] {
        for depth in [2, 3, 4, 8, 16, 30, 60] {
            for (kind, shape) in [("halving", true), ("doubling", false)] {
                out.push((
                    format!("{kind} loops of {trips} trips, {depth} deep"),
                    nested_loops(trips, depth, shape),
                    None,
                ));
            }
            if trips == 1 {
                out.push((format!("branches {depth} deep"), nested_branches(depth), None));
            }
        }
    }
    for (name, inputs, extent) in
        [("no lengths", "w", 1 << 26), ("a length of 1", "w one", 1 << 26), ("a length of 3", "w three", 1 << 20)]
    {
        for axis in [0, 1] {
            out.push((
                format!("SplitToSequence of {extent}, {name}, axis {axis}"),
                model(|b| {
                    let dims = if axis == 0 { [extent, 1] } else { [1, extent] };
                    b.constant(scalar("one", 1)).input("w", DataType::Float, &dims);
                    b.node("SplitToSequence", inputs, "s", &[("axis", Value::I(axis))]);
                    nothing(b.node("SequenceAt", "s zero", "y", &[]));
                }),
                Some(Outcome::Refused),
            ));
        }
    }
    out.push((
        "SplitToSequence into very many nothings".into(),
        model(|b| {
            b.constant(ints("to", DataType::Int64, &[1], &[1 << 24])).constant(ints(
                "none",
                DataType::Int64,
                &[1],
                &[0],
            ));
            b.constant(ints("four", DataType::Int64, &[1], &[4]));
            b.node("Expand", "none to", "nothings", &[]).node(
                "Concat",
                "nothings four",
                "parts",
                &[("axis", Value::I(0))],
            );
            nothing(b.node("SplitToSequence", "x parts", "s", &[]).node("SequenceAt", "s zero", "y", &[]));
        }),
        Some(Outcome::Refused),
    ));
    out.push((
        "a sequence of very many items".into(),
        model(|b| {
            b.node("SequenceConstruct", "h", "s0", &[]);
            let n = 30_000;
            (0..n).for_each(|i| nothing(b.node("SequenceInsert", &format!("s{i} h"), &format!("s{}", i + 1), &[])));
            nothing(b.node("SequenceAt", &format!("s{n} zero"), "y", &[]));
        }),
        Some(Outcome::Refused),
    ));
    out
}

/// Loops in loops.
fn nested_loops(trips: i64, depth: usize, halves: bool) -> ModelProto {
    let mut inner: Option<Value<'static>> = None;
    for level in (0..depth).rev() {
        let (formals, outputs) = (format!("i{level} t{level} v{level}"), format!("t{level} w{level}"));
        let (v, w) = (format!("v{level}"), format!("w{level}"));
        inner = Some(body(&formals, &outputs, |b| match inner.take() {
            Some(graph) => nothing(b.node("Loop", &format!("n _ {v}"), &w, &[("body", graph)])),
            None if halves => nothing(b.node("Mul", &format!("{v} half"), &w, &[])),
            None => nothing(b.node("Concat", &format!("{v} {v}"), &w, &[("axis", Value::I(0))])),
        }));
    }
    let graph = inner.expect("at least one level");
    model(|b| nothing(b.constant(scalar("n", trips)).node("Loop", "n _ h", "y", &[("body", graph)])))
}

/// Branches in branches.
fn nested_branches(depth: usize) -> ModelProto {
    let mut inner: Option<Value<'static>> = None;
    for level in (0..depth).rev() {
        let (then, other) = (format!("a{level}"), format!("b{level}"));
        let yes = body("", &then, |b| match inner.take() {
            Some(graph) => {
                let no = body("", &format!("n{level}"), |b| nothing(b.node("Abs", "h", &format!("n{level}"), &[])));
                nothing(b.node("If", "c", &then, &[("then_branch", graph), ("else_branch", no)]));
            }
            None => nothing(b.node("Neg", "h", &then, &[])),
        });
        // A graph whose only node decides between the level below and a plain result.
        inner = Some(body("", &other, |b| {
            let no = body("", &format!("m{level}"), |b| nothing(b.node("Relu", "h", &format!("m{level}"), &[])));
            nothing(b.node("If", "c", &other, &[("then_branch", yes), ("else_branch", no)]));
        }));
    }
    let graph = inner.expect("at least one level");
    let no = body("", "last", |b| nothing(b.node("Exp", "h", "last", &[])));
    model(|b| nothing(b.node("If", "c", "y", &[("then_branch", graph), ("else_branch", no)])))
}

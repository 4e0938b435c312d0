//! Control flow, sequences and recurrences that contradict themselves, or describe far more than they hold.

use kinglet_onnx::{DataType, ModelProto};
use kinglet_tests::small_onnx::{Builder, Value, floats, ints, reals};

use super::Outcome;

/// A file, and how it must end; `None` if it may end in any way but a bad one.
pub type Expected = (String, ModelProto, Option<Outcome>);

const LIMITS: [i64; 12] = [0, 1, 2, -1, i64::MIN, 64, 1000, 1025, 1 << 20, (1 << 20) + 1, 1_000_000_000, i64::MAX];

fn scalar(name: &str, v: i64) -> kinglet_onnx::TensorProto {
    ints(name, DataType::Int64, &[], &[v])
}

/// A model with inputs `x [4, 3]`, `h [3]`, a condition `c` and a few constants, to which `add` adds nodes that give `y`.
fn model(add: impl FnOnce(&mut Builder)) -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[4, 3]).input("h", DataType::Float, &[3]).input("c", DataType::Bool, &[]);
    b.constant(scalar("three", 3)).constant(scalar("zero", 0)).constant(reals("half", &[0.5]));
    add(&mut b);
    b.outputs("y").build()
}

/// A body with the given formal inputs and outputs, to which `add` adds nodes.
fn body(formals: &str, outputs: &str, add: impl FnOnce(&mut Builder)) -> Value<'static> {
    let mut b = Builder::default();
    b.formals(formals);
    add(&mut b);
    b.outputs(outputs).body()
}

fn nothing(_: &mut Builder) {}

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
        // A condition without elements has none that is false.
        let expected = if condition == "empty" || limit == "empty" { None } else { Some(Outcome::Refused) };
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

/// Sequences where tensors are wanted and the other way round, positions that are not there.
pub fn sequences() -> Vec<Expected> {
    let mut out = Vec::new();
    let with = |f: &dyn Fn(&mut Builder)| {
        model(|b| {
            b.node("SequenceConstruct", "h h", "s", &[]).node("SequenceEmpty", "", "e", &[]);
            b.node("SequenceConstruct", "x h half", "mixed", &[]).node("SequenceConstruct", "three h", "types", &[]);
            f(b);
        })
    };
    for op in
        ["Relu", "Add", "Concat", "Reshape", "Identity", "MatMul", "Shape", "Cast", "Gather", "SplitToSequence", "If"]
    {
        out.push((
            format!("{op} of a sequence"),
            with(&|b| nothing(b.node(op, "s s", "y", &[]))),
            Some(Outcome::Refused),
        ));
    }
    for op in ["SequenceAt", "SequenceInsert", "SequenceErase", "SequenceLength", "ConcatFromSequence"] {
        for inputs in ["h zero", "h", "", "_ zero", "s s", "s h", "s q"] {
            if op == "SequenceInsert" && inputs == "s h" {
                continue;
            }
            let expected =
                if op == "SequenceLength" || op == "ConcatFromSequence" { None } else { Some(Outcome::Refused) };
            out.push((format!("{op} of `{inputs}`"), with(&|b| nothing(b.node(op, inputs, "y", &[]))), expected));
        }
    }
    for at in [2, -3, 7, i64::MAX, i64::MIN] {
        for op in ["SequenceAt", "SequenceErase"] {
            let node = |b: &mut Builder| {
                let outputs = if op == "SequenceAt" { "y" } else { "r" };
                nothing(b.constant(scalar("at", at)).node(op, "s at", outputs, &[]).node(
                    "SequenceAt",
                    "s zero",
                    "z",
                    &[],
                ));
            };
            out.push((format!("{op} at {at}"), with(&node), Some(Outcome::Refused)));
        }
    }
    for (sequence, new_axis) in [("e", 0), ("e", 1), ("mixed", 0), ("mixed", 1), ("types", 0), ("types", 1), ("s", 0)] {
        for axis in [0, 1, 2, -1, -2, -3, i64::MAX, i64::MIN] {
            let attributes = [("axis", Value::I(axis)), ("new_axis", Value::I(new_axis))];
            // Vectors can be joined, along their only axis.
            let fits = sequence == "s" && (axis == 0 || axis == -1);
            let expected = Some(if fits { Outcome::Ran } else { Outcome::Refused });
            let name = format!("ConcatFromSequence of `{sequence}` along {axis}, new_axis {new_axis}");
            out.push((name, with(&|b| nothing(b.node("ConcatFromSequence", sequence, "y", &attributes))), expected));
        }
    }
    for lengths in [
        &[0][..],
        &[-1],
        &[2, 1],
        &[5],
        &[i64::MAX, 5],
        &[i64::MIN],
        &[0, 0, 4],
        &[4, 0],
        &[1 << 62, 1 << 62, 1 << 62, 1 << 62, 4],
    ] {
        let node = |b: &mut Builder| {
            b.constant(ints("parts", DataType::Int64, &[lengths.len() as i64], lengths));
            nothing(b.node("SplitToSequence", "x parts", "p", &[]).node("SequenceAt", "p zero", "y", &[]));
        };
        out.push((format!("SplitToSequence into {lengths:?}"), with(&node), None));
        if let [each] = lengths {
            let node = |b: &mut Builder| {
                nothing(b.constant(scalar("each", *each)).node("SplitToSequence", "x each", "p", &[]).node(
                    "SequenceAt",
                    "p zero",
                    "y",
                    &[],
                ));
            };
            out.push((format!("SplitToSequence by {each}"), with(&node), None));
        }
    }
    // Bodies that do with a sequence what no tensor of the plan can do.
    for (name, graph, sequence) in [
        ("length", body("i t v s", "t v s l", |b| nothing(b.node("SequenceLength", "s", "l", &[]))), "e"),
        ("item", body("i t v s", "t a s", |b| nothing(b.node("SequenceAt", "s zero", "a", &[]))), "e"),
        ("erase", body("i t v s", "t v r", |b| nothing(b.node("SequenceErase", "s", "r", &[]))), "s"),
        ("tensor for it", body("i t v s", "t v v", nothing), "e"),
        ("sequence for a tensor", body("i t v s", "t s s", nothing), "e"),
        (
            "two items",
            body("i t v s", "t v r2", |b| {
                nothing(b.node("SequenceInsert", "s v", "r", &[]).node("SequenceInsert", "r v", "r2", &[]))
            }),
            "e",
        ),
        ("stacked", body("i t v s", "t v s s", nothing), "e"),
        (
            "items of other shapes",
            body("i t v s", "t v2 r", |b| {
                nothing(b.node("Concat", "v v", "v2", &[("axis", Value::I(0))]).node(
                    "SequenceInsert",
                    "s v2",
                    "r",
                    &[],
                ))
            }),
            "e",
        ),
    ] {
        for trips in ["zero", "one", "three", "many"] {
            let graph = graph.clone();
            let node = |b: &mut Builder| {
                b.constant(scalar("one", 1)).constant(scalar("many", 5000));
                b.node("Loop", &format!("{trips} _ h {sequence}"), "y s2 s3", &[("body", graph.clone())]);
            };
            out.push((format!("a body with a sequence, {name}, {trips} trips"), with(&node), None));
        }
    }
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

/// Nodes of the domain `ai.kinglet` with an input of another shape or type, or without it.
pub fn recurrences() -> Vec<Expected> {
    let mut out = Vec::new();
    let scan: [(&str, &[i64]); 8] = [
        ("x", &[2, 5, 3]),
        ("delta", &[2, 5, 3]),
        ("a", &[3, 4]),
        ("b", &[2, 5, 4]),
        ("c", &[2, 5, 4]),
        ("d", &[3]),
        ("z", &[2, 5, 3]),
        ("h", &[2, 3, 4]),
    ];
    let memory: [(&str, &[i64]); 4] = [("u", &[2, 5, 3]), ("A", &[9, 9]), ("B", &[9]), ("m", &[2, 27])];
    for (op, operands, constants) in
        [("SelectiveScan", &scan[..], &["a", "d"][..]), ("LegendreMemory", &memory, &["A", "B"])]
    {
        let node = |change: &dyn Fn(usize) -> (Vec<i64>, DataType, bool, bool)| {
            let mut b = Builder::default();
            let mut names = Vec::new();
            for (i, (name, _)) in operands.iter().enumerate() {
                let (dims, data_type, constant, absent) = change(i);
                names.push(if absent { "_" } else { name });
                let n: i64 = dims.iter().product();
                match (constant, data_type) {
                    (true, DataType::Float) => nothing(b.constant(floats(name, &dims))),
                    (true, _) => nothing(b.constant(ints(name, data_type, &dims, &vec![1; n as usize]))),
                    _ => nothing(b.input(name, data_type, &dims)),
                }
            }
            b.node(&format!("ai.kinglet.{op}"), &names.join(" "), "y last", &[]).outputs("y last").build()
        };
        let plain = |i: usize| (operands[i].1.to_vec(), DataType::Float, constants.contains(&operands[i].0), false);
        out.push((op.to_string(), node(&plain), Some(Outcome::Ran)));
        for (k, (name, dims)) in operands.iter().enumerate() {
            let mut others = vec![vec![], [dims, &[1][..]].concat(), [&[1], *dims].concat(), dims[1..].to_vec()];
            for axis in 0..dims.len() {
                // Nothing else says how many frames a memory goes through.
                if (op, k, axis) == ("LegendreMemory", 0, 1) {
                    continue;
                }
                for extent in [0, 1, dims[axis] + 1] {
                    let mut other = dims.to_vec();
                    other[axis] = extent;
                    others.push(other);
                }
            }
            for other in others {
                let changed = |i: usize| {
                    let (dims, t, constant, absent) = plain(i);
                    // A constant may have no elements.
                    if i == k {
                        (other.clone(), t, constant || other.contains(&0), absent)
                    } else {
                        (dims, t, constant, absent)
                    }
                };
                out.push((format!("{op} with {name} {other:?}"), node(&changed), Some(Outcome::Refused)));
            }
            for data_type in [DataType::Int64, DataType::Int8, DataType::Bool, DataType::Int32] {
                let changed = |i: usize| if i == k { (plain(i).0, data_type, plain(i).2, false) } else { plain(i) };
                out.push((format!("{op} with {name} of {data_type:?}"), node(&changed), Some(Outcome::Refused)));
            }
            let optional = (op == "SelectiveScan" && k >= 5) || (op == "LegendreMemory" && k == 3);
            let absent = |i: usize| (plain(i).0, plain(i).1, plain(i).2, i == k);
            let expected = Some(if optional { Outcome::Ran } else { Outcome::Refused });
            out.push((format!("{op} without {name}"), node(&absent), expected));
            if constants.contains(name) {
                let computed = |i: usize| (plain(i).0, plain(i).1, plain(i).2 && i != k, false);
                let expected = Some(if op == "SelectiveScan" { Outcome::Ran } else { Outcome::Refused });
                out.push((format!("{op} with a computed {name}"), node(&computed), expected));
            }
        }
        out.push((
            format!("{op} without inputs"),
            {
                let mut b = Builder::default();
                b.node(&format!("ai.kinglet.{op}"), "", "y", &[]).outputs("y").build()
            },
            Some(Outcome::Refused),
        ));
    }
    // States and orders beyond what the kernels hold, in files that hold no constant of that size.
    for extent in [256, 257, 512, 513, 1 << 15, 1 << 40] {
        let mut b = Builder::default();
        for (name, dims) in [("x", [1, 2, 1]), ("delta", [1, 2, 1]), ("b", [1, 2, extent]), ("c", [1, 2, extent])] {
            b.input(name, DataType::Float, &dims);
        }
        b.input("a", DataType::Float, &[1, extent]);
        b.node("ai.kinglet.SelectiveScan", "x delta a b c", "y", &[]).outputs("y");
        let expected = Some(if extent <= 256 { Outcome::Ran } else { Outcome::Refused });
        out.push((format!("SelectiveScan with a state of {extent}"), b.build(), expected));
        let mut b = Builder::default();
        b.input("u", DataType::Float, &[1, 2, 1]).constant(reals("one", &[0.5]));
        b.constant(ints("square", DataType::Int64, &[2], &[extent; 2])).constant(ints(
            "line",
            DataType::Int64,
            &[1],
            &[extent],
        ));
        b.node("Expand", "one square", "A", &[]).node("Expand", "one line", "B", &[]);
        b.node("ai.kinglet.LegendreMemory", "u A B", "y", &[]).outputs("y");
        let expected = Some(if extent <= 512 { Outcome::Ran } else { Outcome::Refused });
        out.push((format!("LegendreMemory of order {extent}"), b.build(), expected));
    }
    let mut b = Builder::default();
    b.input("u", DataType::Float, &[1, 1 << 28, 1]).constant(floats("A", &[8, 8])).constant(floats("B", &[8]));
    b.node("ai.kinglet.LegendreMemory", "u A B", "y", &[]).outputs("y");
    out.push(("LegendreMemory over very many frames".into(), b.build(), Some(Outcome::Refused)));
    out
}

//! Sequences and recurrences out of place, out of shape, of other types.

use kinglet_onnx::DataType;
use kinglet_tests::hostile::model::Outcome;
use kinglet_tests::small_onnx::{Builder, Value, floats, ints, reals};

use super::control::{Expected, body, model, nothing, scalar};

/// Sequences where tensors are wanted and the other way round, positions that are not there.
pub fn sequences() -> Vec<Expected> {
    let mut out = Vec::new();
    let with = |f: &dyn Fn(&mut Builder)| {
        model(|b| {
            b.node("SequenceConstruct", "h h", "s", &[]).node("SequenceEmpty", "", "e", &[]);
            b.node("SequenceConstruct", "x h half", "mixed", &[]);
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
    let types = with(&|b| nothing(b.node("SequenceConstruct", "three h", "types", &[])));
    out.push(("SequenceConstruct of two types".into(), types, Some(Outcome::Refused)));
    for (sequence, new_axis) in [("e", 0), ("e", 1), ("mixed", 0), ("mixed", 1), ("s", 0)] {
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

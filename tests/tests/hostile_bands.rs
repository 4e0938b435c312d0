//! Plans that lie about their bands, about how tensors move from slice to slice, and about second outputs: each is refused
//! with a typed error, or runs within its own memory.

use kinglet::format::words::Record;
use kinglet::format::{BandRecord, MAX_SLICES, Region, Section, TensorRecord};
use kinglet::{DType, Error, Fault, Model, StepKind};
use kinglet_onnx::{DataType, ModelProto};
use kinglet_tests::hostile::cases;
use kinglet_tests::hostile::lie::{ARENA_BYTES, Lie, STATE_BYTES};
use kinglet_tests::hostile::plan::{seal, section, sections, set, word};
use kinglet_tests::hostile::run::survives;
use kinglet_tests::small_onnx::{Builder, Value, floats, ints};
use kinglet_tests::{Aligned, Random};

/// Two scans, one behind the other: a band each, of five slices and of four.
fn two_bands() -> ModelProto {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[5, 2, 4]).input("z", DataType::Float, &[4, 2, 4]).input(
        "k",
        DataType::Float,
        &[2, 4],
    );
    b.constant(floats("w", &[5, 2, 4])).constant(floats("h", &[2, 4]));
    for (name, inputs, count) in [("a", "h x w", 2), ("b", "a z", 1)] {
        let mut body = Builder::default();
        let scaled = if count == 2 { format!("{name}_u") } else { "k".into() };
        body.formals(&format!("{name}_h {name}_v")).formals(if count == 2 { &scaled } else { "" });
        let n = |s: &str| format!("{name}_{s}");
        body.node("Mul", &format!("{} {scaled}", n("v")), &n("p"), &[]);
        body.node("Add", &format!("{} {}", n("h"), n("p")), &n("s"), &[]).node("Tanh", &n("s"), &n("n"), &[]);
        body.node("Mul", &format!("{} k", n("n")), &n("y"), &[]).outputs(&format!("{} {}", n("n"), n("y")));
        let attributes = [("num_scan_inputs", Value::I(count)), ("body", body.body())];
        b.node("Scan", inputs, &format!("{name} {name}s"), &attributes).outputs(&format!("{name} {name}s"));
    }
    b.build()
}

/// A selective scan alone, which is a step with two outputs.
fn selective_scan() -> ModelProto {
    let mut b = Builder::default();
    for (name, dims) in [("x", [2, 5, 3]), ("delta", [2, 5, 3]), ("b", [2, 5, 4]), ("c", [2, 5, 4]), ("h", [2, 3, 4])] {
        b.input(name, DataType::Float, &dims);
    }
    b.constant(floats("a", &[3, 4])).node("ai.kinglet.SelectiveScan", "x delta a b c _ _ h", "y hn", &[]);
    b.outputs("y hn").build()
}

fn refused_step(result: Result<(), Error>, fault: Fault) {
    assert!(matches!(result, Err(Error::Step { fault: f, .. }) if f == fault), "{result:?} instead of {fault:?}");
}

#[test]
fn the_plans_are_as_expected() {
    let lie = Lie::new(&two_bands());
    assert_eq!(lie.bands(), 2);
    assert_eq!((lie.band(0).slices, lie.band(1).slices), (5, 4));
    for region in [Region::Arena, Region::Weights] {
        lie.find(|t, output| t.advance == 32 && t.region == region && !output);
    }
    lie.find(|t, output| t.advance == 32 && output);
    lie.find(|t, output| t.advance == 0 && output);
    assert_eq!(lie.load(), Ok(()));
    let lie = Lie::new(&selective_scan());
    let scan = lie.step(lie.steps() - 1);
    assert_eq!((scan.kind, scan.outputs), (StepKind::SelectiveScan as u32, 2));
    assert_eq!(lie.load(), Ok(()));
}

#[test]
fn bands_that_are_none() {
    let of = |i: usize, change: &dyn Fn(&mut BandRecord)| Lie::new(&two_bands()).change_band(i, change).load();
    let steps = Lie::new(&two_bands()).steps() as u32;
    let first = Lie::new(&two_bands()).band(0);
    let second = Lie::new(&two_bands()).band(1);
    for (i, what, change) in [
        (0, "no slices", &(|b: &mut BandRecord| b.slices = 0) as &dyn Fn(&mut BandRecord)),
        (0, "too many slices", &|b| b.slices = MAX_SLICES + 1),
        (0, "very many slices", &|b| b.slices = u32::MAX),
        (0, "no steps", &|b| b.steps = 0),
        (1, "steps beyond the end", &|b| b.steps = steps - b.first_step + 1),
        (1, "very many steps", &|b| b.steps = u32::MAX),
        (1, "a start beyond the end", &|b| b.first_step = steps),
        (1, "a start that wraps around", &|b| b.first_step = u32::MAX),
        (1, "a start within the band before", &|b| b.first_step = first.first_step + first.steps - 1),
        (1, "the band before once more", &|b| *b = first),
        (1, "a start at the first step", &|b| (b.first_step, b.steps) = (0, 1)),
    ] {
        assert_eq!(of(i, change), Err(Error::Band { band: i as u32 }), "{what}");
    }
    // The first band reaches into the second.
    let reach = |b: &mut BandRecord| b.steps = second.first_step + 1 - first.first_step;
    assert_eq!(of(0, &reach), Err(Error::Band { band: 1 }));
}

/// The work of a plan as it is loaded.
fn work(mut lie: Lie) -> u64 {
    let layout = sections(&lie.file);
    seal(&mut lie.file, &layout);
    Model::load(Aligned::copy(&lie.file).as_ref()).expect("valid").work()
}

/// A small file may ask for very many slices: who runs it can know before, whatever the file reports.
#[test]
fn the_work_of_slices_is_known_at_load() {
    let still = || {
        let mut lie = Lie::new(&two_bands());
        for i in 0..lie.tensors().len() {
            lie = lie.change_tensor(i, |t| t.advance = 0);
        }
        lie
    };
    let steps = u64::from(still().band(0).steps);
    let few = work(still());
    let many = work(still().change_band(0, |b| b.slices = MAX_SLICES));
    assert!(many - few > u64::from(MAX_SLICES - 5) * steps * 256, "{few} became {many}");
    let silent = |lie: Lie| (0..lie.steps()).fold(lie, |lie, i| lie.change_step(i, |s| s.macs = [0; 2]));
    assert_eq!(work(silent(still())), few);
}

/// Bands that are other runs of steps than the compiler made are nonsense, and harmless.
#[test]
fn bands_of_other_steps_stay_inside() {
    let plain = Lie::new(&two_bands());
    let (steps, second) = (plain.steps() as u32, plain.band(1));
    let mut loaded = 0;
    for first in 0..second.first_step {
        for count in 1..=second.first_step - first {
            for slices in [1, 2, 5, 6, 1000] {
                let lie = Lie::new(&two_bands())
                    .change_band(0, |b| *b = BandRecord { first_step: first, steps: count, slices });
                match lie.load() {
                    Ok(()) => loaded += 1,
                    // Slices that the tensors do not have.
                    result => refused_step(result, if slices > 5 { Fault::Region } else { Fault::Overlap }),
                }
            }
        }
    }
    assert!(loaded > 20, "only {loaded} of these load");
    assert!(steps > second.first_step);
}

#[test]
fn tensors_that_leave_their_region_in_the_last_slice() {
    // The arena holds little more than the tensors themselves: many slices of 32 bytes lead out of it.
    for (region, output) in [(Region::Arena, false), (Region::Weights, false), (Region::Arena, true)] {
        let plain = Lie::new(&two_bands());
        let (t, ..) = plain.find(|t, o| t.region == region && o == output && t.advance == 32);
        let record = plain.tensors()[t];
        let room = if region == Region::Weights {
            section(&plain.file, Section::Weights).1 as i64
        } else {
            i64::from(word(&plain.file, ARENA_BYTES))
        };
        // The largest step from slice to slice with which the last of five is still there.
        let most = (room - i64::from(record.offset) - i64::from(record.bytes)) / 4 / 4 * 4;
        let of = |advance: i64| Lie::new(&two_bands()).change_tensor(t, |t| t.advance = advance as i32).load();
        refused_step(of(most + 4), Fault::Region);
        refused_step(of(i64::from(i32::MAX) / 4 * 4), Fault::Region);
        assert!(!matches!(of(most), Err(Error::Step { fault: Fault::Region, .. })), "{region:?} {output} {most}");
        let least = i64::from(record.offset) / 4 / 4 * 4;
        refused_step(of(-least - 4), Fault::Region);
        refused_step(of(i64::from(i32::MIN)), Fault::Region);
        assert!(!matches!(of(-least), Err(Error::Step { fault: Fault::Region, .. })), "{region:?} {output} {least}");
    }
}

#[test]
fn slices_backwards_are_as_good_as_forwards() {
    let plain = Lie::new(&two_bands());
    let (t, ..) = plain.find(|t, output| t.advance == 32 && t.region == Region::Arena && !output);
    let lie = Lie::new(&two_bands()).change_tensor(t, |t| {
        (t.offset, t.advance) = (t.offset + 4 * 32, -32);
    });
    assert_eq!(lie.load(), Ok(()));
}

#[test]
fn tensors_that_move_by_parts_of_elements() {
    for advance in [1, 2, 3, -1, 33, -30, i32::MAX, i32::MIN + 1] {
        for output in [false, true] {
            let plain = Lie::new(&two_bands());
            let (t, ..) = plain.find(|t, o| t.advance == 32 && o == output);
            let result = Lie::new(&two_bands()).change_tensor(t, |t| t.advance = advance).load();
            assert_eq!(result, Err(Error::Tensor { tensor: t as u32 }), "{advance}");
        }
    }
}

/// A plan whose arena begins with 4096 bytes of state, to which `t` moves.
fn with_state(t: usize) -> Lie {
    let mut lie = Lie::new(&two_bands()).roomy();
    set(&mut lie.file, STATE_BYTES, 4096);
    lie.change_tensor(t, |t| (t.region, t.offset) = (Region::State, 0))
}

#[test]
fn state_is_left_by_nothing_and_entered_by_nothing_else() {
    let plain = Lie::new(&two_bands());
    // What the band carries, and a slice it writes.
    let (carried, ..) = plain.find(|t, output| t.advance == 0 && output);
    let (slice, ..) = plain.find(|t, output| t.advance == 32 && output);
    assert_eq!(with_state(carried).load(), Ok(()));
    assert_eq!(with_state(slice).load(), Ok(()));
    let at = |offset: u32, advance: i32| {
        with_state(slice).change_tensor(slice, |t| (t.offset, t.advance) = (offset, advance)).load()
    };
    // The last of five slices begins at the last 32 bytes of the state, or 16 behind that.
    assert_eq!(at(4096 - 5 * 32, 32), Ok(()));
    refused_step(at(4096 - 5 * 32 + 16, 32), Fault::Region);
    refused_step(at(64, -32), Fault::Region);
    assert_eq!(at(128, -32), Ok(()));
    refused_step(at(0, 4096), Fault::Region);
    // A tensor of the arena moves into the state.
    let back = with_state(carried).change_tensor(slice, |t| (t.offset, t.advance) = (4096 + 64, -32)).load();
    refused_step(back, Fault::Region);
    let lie = with_state(carried).change_tensor(carried, |t| t.offset = 4096);
    assert_eq!(lie.load(), Err(Error::Tensor { tensor: carried as u32 }));
}

#[test]
fn results_over_operands_of_other_slices() {
    let plain = Lie::new(&two_bands()).roomy();
    let tensors = plain.tensors();
    // A product of two tensors whose result moves: in some slice it is written over an operand that stays.
    let (y, step, k) = plain.find(|t, output| t.advance == 32 && output);
    let x = (0..k).map(|k| plain.operand(step, k)).find(|&x| tensors[x].advance == 0).expect("an operand that stays");
    let at = tensors[x].offset;
    for (slice, advance) in [(0, 32), (0, -32), (1, 32), (4, 32), (4, -32), (2, 64), (4, -160)] {
        let over = |offset: u32| {
            let lie = Lie::new(&two_bands()).roomy();
            lie.change_tensor(y, |t| (t.offset, t.advance) = (offset, advance)).load()
        };
        let start = at.wrapping_sub((slice * advance) as u32);
        refused_step(over(start), Fault::Overlap);
        refused_step(over(start.wrapping_add(16)), Fault::Overlap);
    }
}

#[test]
fn second_outputs() {
    let roomy = || Lie::new(&selective_scan()).roomy();
    let plain = roomy();
    let scan = plain.steps() - 1;
    let inputs = plain.step(scan).inputs as usize;
    let (y, h) = (plain.operand(scan, inputs), plain.operand(scan, inputs + 1));
    let (x, first) = (plain.operand(scan, 0), plain.operand(scan, 7));
    let record = |t: usize| plain.tensors()[t];

    for outputs in [0, 1, 3, 17, u32::MAX] {
        let result = roomy().change_step(scan, |s| s.outputs = outputs).load();
        refused_step(result, Fault::Operands);
    }
    // One tensor, overlapping tensors, one behind the other.
    let over = |t: usize, offset: u32| roomy().change_tensor(t, |t| t.offset = offset).load();
    let mut same = roomy();
    same.set_operand(scan, inputs + 1, y);
    // y has more elements than the state.
    refused_step(same.load(), Fault::Shape);
    refused_step(over(h, record(y).offset), Fault::Overlap);
    refused_step(over(h, record(y).offset + 16), Fault::Overlap);
    refused_step(over(y, record(h).offset), Fault::Overlap);
    // Over an operand: the state may take the place of the state it goes on from, and nothing else any place.
    refused_step(over(h, record(x).offset), Fault::Overlap);
    refused_step(over(y, record(x).offset), Fault::Overlap);
    refused_step(over(y, record(first).offset), Fault::Overlap);
    assert_eq!(over(h, record(first).offset), Ok(()));
    refused_step(over(h, record(first).offset - 16), Fault::Overlap);
    // A state of another type, in the weights, or of another size.
    let of = |change: &dyn Fn(&mut TensorRecord)| roomy().change_tensor(h, change).load();
    refused_step(of(&|t| t.dtype = DType::I32), Fault::DType);
    let result = of(&|t| (t.region, t.offset) = (Region::Weights, 0));
    assert!(matches!(result, Err(Error::Step { fault: Fault::Region, .. } | Error::Tensor { .. })), "{result:?}");
    let smaller = |t: &mut TensorRecord| {
        (t.bytes, t.capacity, t.rows, t.rank) = (t.bytes - t.row_bytes, t.capacity - 1, t.rows - 1, 1);
        t.dims = [t.bytes / 4, 0, 0, 0, 0, 0, 0, 0];
    };
    refused_step(of(&smaller), Fault::Shape);
    // One output too many for a kind that has one.
    let mut b = Builder::default();
    let softmax = b.input("x", DataType::Float, &[2, 3]).node("Softmax", "x", "y", &[]).outputs("y").build();
    refused_step(Lie::new(&softmax).change_step(0, |s| (s.inputs, s.outputs) = (0, 2)).load(), Fault::Operands);
}

/// Parameters of the recurrences beyond what the kernels hold, and sizes that contradict each other.
#[test]
fn parameters_of_recurrences() {
    let params = |model: &ModelProto| {
        let lie = Lie::new(model);
        let kinds = [StepKind::SelectiveScan as u32, StepKind::LegendreMemory as u32];
        let step = (0..lie.steps()).find(|&i| kinds.contains(&lie.step(i).kind)).expect("a recurrence");
        section(&lie.file, Section::Params).0 / 4 + lie.step(step).params as usize
    };
    let mut b = Builder::default();
    b.input("u", DataType::Float, &[2, 5, 3]).constant(floats("A", &[9, 9])).constant(floats("B", &[9]));
    let memory = b.node("ai.kinglet.LegendreMemory", "u A B", "y", &[]).outputs("y").build();
    for (model, words) in [(selective_scan(), 5), (memory, 4)] {
        let at = params(&model);
        for word_of in 0..words {
            let old = word(&Lie::new(&model).file, at + word_of);
            for new in [0, 1, old + 1, old * 2, 256, 257, 512, 513, 1 << 16, 1 << 31, u32::MAX] {
                if new == old || (word_of == 4 && new < 2) {
                    continue;
                }
                let mut lie = Lie::new(&model);
                set(&mut lie.file, at + word_of, new);
                let result = lie.load();
                let step = matches!(result, Err(Error::Step { fault: Fault::Params | Fault::Shape | Fault::Rows, .. }));
                assert!(step, "word {word_of} {old} became {new}: {result:?}");
            }
        }
    }
}

/// Places that updates could reach beyond the tensor, more indices than there are extents, and counts of nothing.
#[test]
fn parameters_of_scatters() {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[4, 3, 5]).input("i", DataType::Int64, &[6, 2]).input("u", DataType::Float, &[6, 5]);
    let slices = b.node("ScatterND", "x i u", "y", &[]).outputs("y").build();
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[4, 3, 5]).input("i", DataType::Int64, &[4, 2, 5]);
    b.input("u", DataType::Float, &[4, 2, 5]).node("ScatterElements", "x i u", "y", &[("axis", Value::I(1))]);
    let elements = b.outputs("y").build();
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[4, 7]).constant(ints("k", DataType::Int64, &[1], &[3]));
    let largest = b.node("TopK", "x k", "y i", &[]).outputs("y i").build();
    // Word, and what it must not be. Words: op, rows, row, six extents, six strides, inner, depth, six extents, six steps.
    let (inner, depth, extents, steps) = (15, 16, 17, 23);
    let of_slices = [
        (0, 5),
        (1, 13),
        (2, 6),
        (8, 5),
        (8, 7),
        (14, 5),
        (14, 1 << 31),
        (14, u32::MAX),
        (inner, 0),
        (inner, 4),
        (depth, 0),
        (depth, 1),
        (depth, 7),
        (extents, 5),
        (extents, 0),
        (extents + 1, 4),
        (steps, 16),
        (steps + 1, 6),
        (steps, u32::MAX),
    ];
    let of_elements =
        [(3, 5), (9, 16), (9, 1 << 31), (13, 6), (14, 2), (extents, 4), (steps, 6), (inner, 2), (steps, u32::MAX)];
    let of_largest = [(0, 3), (1, 8), (1, 2), (2, 2), (3, 0), (3, 2), (3, 8), (4, 2)];
    for (model, words) in [(&slices, &of_slices[..]), (&elements, &of_elements), (&largest, &of_largest)] {
        for &(word_of, new) in words {
            let mut lie = Lie::new(model);
            assert_eq!(lie.steps(), 1);
            let at = section(&lie.file, Section::Params).0 / 4 + lie.step(0).params as usize + word_of;
            let old = word(&lie.file, at);
            set(&mut lie.file, at, new);
            let result = lie.load();
            let step = matches!(result, Err(Error::Step { fault: Fault::Params | Fault::Shape | Fault::Rows, .. }));
            assert!(step && old != new, "word {word_of} {old} became {new}: {result:?}");
        }
    }
}

/// Bands, offsets and advances changed at random, so that many of the files load.
#[test]
fn random_bands_and_advances() {
    let good = Lie::new(&two_bands());
    let layout = sections(&good.file);
    let (tensors, count) = good.records::<TensorRecord>(Section::Tensors);
    let (bands, band_count) = good.records::<BandRecord>(Section::Bands);
    // Words: offset, bytes and advance of each tensor, and all of the bands.
    let mut places: Vec<usize> =
        (0..count).flat_map(|i| [2, 8, 8].map(|k| tensors + i * TensorRecord::WORDS + k)).collect();
    (0..4).for_each(|_| places.extend(bands..bands + band_count * BandRecord::WORDS));
    let (mut loaded, mut failures) = (0, Vec::new());
    for seed in 0..cases(30_000) {
        let mut random = Random::new(seed + 3);
        let mut file = Aligned::copy(&good.file);
        for _ in 0..1 + random.below(3) {
            let i = places[random.below(places.len())];
            let old = word(file.as_ref(), i);
            let new = match random.below(6) {
                0 => old.wrapping_neg(),
                1 => old.wrapping_add(16 * (random.below(9) as u32)).wrapping_sub(64),
                2 => old.wrapping_add(4 * (random.below(9) as u32)).wrapping_sub(16),
                3 => old.wrapping_add(random.below(5) as u32).wrapping_sub(2),
                4 => word(file.as_ref(), places[random.below(places.len())]),
                _ => 16 * random.below(64) as u32,
            };
            set(file.as_mut(), i, new);
        }
        seal(file.as_mut(), &layout);
        match survives(&file, &mut random) {
            Ok(did) => loaded += u64::from(did),
            Err(text) => failures.push(format!("seed {seed}: {text}")),
        }
    }
    assert!(failures.is_empty(), "{} cases:\n{}", failures.len(), failures[..failures.len().min(25)].join("\n"));
    assert!(loaded > 2000, "only {loaded} plans loaded: the test has lost its teeth");
}

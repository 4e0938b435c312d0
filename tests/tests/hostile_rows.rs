//! Plans that lie about their bands of rows: about how many rows a step makes in a slice, how far it stays behind, how many are kept,
//! how many there are and who writes them. Each is refused with a typed error, or runs within its own memory.

use kinglet::format::{ABSENT, StepRecord, TensorRecord};
use kinglet::{Error, Fault};
use kinglet_onnx::DataType;
use kinglet_tests::Random;
use kinglet_tests::hostile::cases;
use kinglet_tests::hostile::lie::Lie;
use kinglet_tests::hostile::plan::planned_in_bands;
use kinglet_tests::small_onnx::{Builder, ints, picture, reals};

fn band() -> Lie {
    Lie { file: planned_in_bands("a picture", &picture(), kinglet::Target::Generic) }
}

/// The steps of the band and the number of each one's output.
fn inside(lie: &Lie) -> Vec<(usize, usize)> {
    lie.inside().map(|i| (i, lie.operand(i, lie.step(i).inputs as usize))).collect()
}

#[test]
fn the_plan_is_as_expected() {
    let lie = band();
    assert_eq!((lie.bands(), lie.band(0).slices > 4), (1, true));
    let rings = inside(&lie).iter().filter(|(_, t)| lie.tensors()[*t].capacity < lie.tensors()[*t].rows).count();
    assert!(inside(&lie).len() >= 3 && rings >= 2, "{rings} rings");
    assert!(inside(&lie).iter().any(|(i, _)| lie.step(*i).delay > 0));
    assert_eq!(lie.load(), Ok(()));
}

/// One row more or less anywhere: nothing that a step would read is missing in what is accepted.
#[test]
fn rows_off_by_one() {
    let slices = |result: Result<(), Error>, what: &str| {
        assert!(matches!(result, Err(Error::Step { fault: Fault::Slices, .. })), "{what}: {result:?}");
    };
    let honest = band();
    for &(i, t) in &inside(&honest) {
        let step = |change: &dyn Fn(&mut StepRecord)| honest.clone().roomy().change_step(i, change).load();
        let tensor = |change: &dyn Fn(&mut TensorRecord)| honest.clone().roomy().change_tensor(t, change).load();
        slices(step(&|s| s.slice_rows += 1), "a row more in a slice");
        slices(step(&|s| s.slice_rows -= 1), "a row less in a slice");
        slices(step(&|s| s.slice_rows = 0), "all rows");
        if honest.step(i).delay > 0 {
            slices(step(&|s| s.delay -= 1), "too early");
        }
        slices(step(&|s| s.delay = u32::MAX), "never");
        let record = honest.tensors()[t];
        if record.capacity < record.rows {
            let smaller = |t: &mut TensorRecord| (t.capacity, t.bytes) = (t.capacity - 1, t.bytes - t.row_bytes);
            let result = tensor(&smaller);
            assert!(
                matches!(result, Err(Error::Step { fault: Fault::Slices, .. } | Error::Tensor { .. })),
                "a row less in the ring of step {i}: {result:?}"
            );
            // More room than it takes does no harm.
            assert_eq!(
                tensor(&|t| (t.offset, t.capacity, t.bytes) = (0, t.capacity + 1, t.bytes + t.row_bytes)),
                Ok(())
            );
        }
        for writer in [ABSENT, i as u32 + 1, 0] {
            if writer as usize != i {
                slices(tensor(&|t| t.writer = writer), "another writer");
            }
        }
        let result = tensor(&|t| t.rows += 1);
        assert!(matches!(result, Err(Error::Tensor { .. } | Error::Step { .. })), "{result:?}");
    }
    // The last slices are missing.
    slices(band().change_band(0, |b| b.slices -= 1).load(), "a slice less");
    assert_eq!(band().change_band(0, |b| b.slices += 3).load(), Ok(()));
    // Steps that are in no band, or only some of them.
    let all = honest.band(0).steps;
    for steps in 1..all {
        let result = band().change_band(0, |b| b.steps = steps).load();
        assert!(matches!(result, Err(Error::Step { fault: Fault::Slices, .. })), "{steps} of {all}: {result:?}");
    }
}

/// A step that slides over its own input: a little closer, and it would write what it still reads.
#[test]
fn steps_that_slide_too_close() {
    let mut b = Builder::default();
    b.input("x", DataType::Float, &[64, 100]).constant(reals("s", &[0.5])).constant(ints(
        "z",
        DataType::Int8,
        &[],
        &[3],
    ));
    b.node("QuantizeLinear", "x s z", "y", &[]).outputs("y");
    let honest = Lie { file: planned_in_bands("a quantisation", &b.build(), kinglet::Target::Generic) };
    let [x, y] = [0, 1].map(|k| honest.operand(0, k));
    let tensor = |t: usize| honest.tensors()[t];
    assert!(honest.bands() == 1 && tensor(y).offset + tensor(y).bytes > tensor(x).offset, "it slides");
    assert_eq!(honest.clone().load(), Ok(()));
    let closer = honest.clone().roomy().change_tensor(y, |t| t.offset += 16).load();
    assert_eq!(closer, Err(Error::Step { step: 0, fault: Fault::Overlap }));
    assert_eq!(honest.clone().roomy().change_tensor(y, |t| t.offset -= 16).load(), Ok(()));
}

/// Rows anyhow: what is accepted stays within its memory.
#[test]
fn rows_anyhow() {
    let honest = band();
    let steps = inside(&honest);
    let mut accepted = 0;
    for case in 0..cases(2000) {
        let mut r = Random::new(case);
        let mut lie = honest.clone().roomy();
        for _ in 0..r.below(3) + 1 {
            let (i, t) = steps[r.below(steps.len())];
            let odd = [0, 1, 2, 3, 1 << 16, u32::MAX / 2, u32::MAX - 1, u32::MAX][r.below(8)];
            let near = |r: &mut Random, v: u32| v.wrapping_add(r.below(5) as u32).wrapping_sub(2);
            let kind = r.below(8);
            let value = |r: &mut Random, v: u32| if r.below(2) == 0 { odd } else { near(r, v) };
            lie = match kind {
                0 => lie.change_step(i, |s| s.slice_rows = value(&mut r, s.slice_rows)),
                1 => lie.change_step(i, |s| s.delay = value(&mut r, s.delay)),
                2 => lie.change_step(i, |s| s.rows = value(&mut r, s.rows)),
                3 => lie.change_tensor(t, |t| t.rows = value(&mut r, t.rows)),
                4 => lie.change_tensor(t, |t| t.writer = value(&mut r, t.writer)),
                5 => lie.change_band(0, |b| b.slices = value(&mut r, b.slices)),
                6 => lie.change_tensor(t, |t| {
                    t.capacity = value(&mut r, t.capacity);
                    t.bytes = t.capacity.wrapping_mul(t.row_bytes);
                }),
                _ => lie.change_tensor(t, |t| t.row_bytes = value(&mut r, t.row_bytes)),
            };
        }
        accepted += usize::from(lie.load().is_ok());
    }
    assert!(accepted > 0, "nothing was accepted");
}

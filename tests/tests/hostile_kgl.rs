//! A damaged or lying `.kgl` file gives a typed error or runs within its own memory in bounded time: nothing else.

use std::collections::HashSet;

use kinglet::format::words::Record;
use kinglet::format::{HEADER_BYTES, SECTION_ENTRY_BYTES, Section, TensorRecord};
use kinglet::{Error, Fault, Model, StepKind, Target};
use kinglet_compiler::{Options, compile, import};
use kinglet_onnx::{DataType, ModelProto};
use kinglet_tests::hostile::cases;
use kinglet_tests::hostile::plan::{
    mutate_words, planned, planned_fed, planned_in_halves, planned_in_regions, seal, section, sections, set, word,
};
use kinglet_tests::hostile::run::{run, survives};
use kinglet_tests::small_onnx::{self, Builder, Value};
use kinglet_tests::{Aligned, Random};

/// The small models' plans for every target.
fn compiled() -> Vec<(&'static str, Vec<u8>)> {
    let plans = |(name, model): (&'static str, ModelProto)| Target::ALL.map(|t| (name, planned(name, &model, t)));
    let fed = planned_fed("a fed picture", &small_onnx::picture(), Target::Generic);
    let halves =
        small_onnx::all().into_iter().map(|(name, model)| (name, planned_in_halves(name, &model, Target::Armv8)));
    let regions =
        small_onnx::all().into_iter().map(|(name, model)| (name, planned_in_regions(name, &model, Target::Generic)));
    small_onnx::all().into_iter().flat_map(plans).chain(halves).chain(regions).chain([("a fed picture", fed)]).collect()
}

#[test]
fn the_models_hold_every_step_kind_and_load() {
    let (mut kinds, mut bands) = (HashSet::new(), 0);
    for (name, kgl) in compiled() {
        let file = Aligned::copy(&kgl);
        let model = Model::load(file.as_ref()).expect("valid");
        kinds.extend((0..model.step_count()).filter_map(|i| model.step(i).kind()));
        bands += model.band_count();
        let mut sealed = Aligned::copy(&kgl);
        seal(sealed.as_mut(), &sections(&kgl));
        assert_eq!(sealed.as_ref(), &kgl[..], "{name}: the test's seal is the compiler's");
        run(model, &mut Random::new(1));
    }
    let missing: Vec<_> = StepKind::ALL.iter().filter(|k| !kinds.contains(k)).collect();
    assert!(missing.is_empty(), "no model has steps of {missing:?}");
    assert!(bands >= 2, "{bands} bands");
}

/// The verified work is no less than what the plan reports, and not out of all proportion to what it touches.
#[test]
fn the_work_of_honest_plans_is_in_proportion() {
    for (name, kgl) in compiled() {
        let file = Aligned::copy(&kgl);
        let model = Model::load(file.as_ref()).expect("valid");
        let (mut macs, mut touched) = (0, 0);
        for i in 0..model.step_count() {
            let (step, slices) = (model.step(i), u64::from(model.slices(i)));
            let operands = (0..16).filter_map(|k| step.input(k)).chain((0..2).filter_map(|k| step.output(k)));
            // In a band of rows a slice computes a part of them.
            macs += step.macs() * if step.record().slice_rows > 0 { 1 } else { slices };
            touched += slices * operands.map(|t| model.tensor(t).len() as u64 + 1).sum::<u64>();
        }
        assert!((macs..64 * macs + 512 * touched).contains(&model.work()), "{name}: {} of {macs}", model.work());
    }
}

#[test]
fn slices_are_found_by_the_step() {
    let mut bands = 0;
    for (name, kgl) in compiled() {
        let file = Aligned::copy(&kgl);
        let model = Model::load(file.as_ref()).expect("valid");
        bands += model.band_count();
        let by_runs: Vec<u32> = model.runs().flat_map(|(steps, n)| steps.map(move |_| n)).collect();
        let one_by_one: Vec<u32> = (0..model.step_count()).map(|i| model.slices(i)).collect();
        assert_eq!(one_by_one, by_runs, "{name}");
        assert_eq!(model.slices(model.step_count()), 1);
    }
    assert!(bands >= 2, "{bands} bands");
}

#[test]
fn every_truncation_fails() {
    for (name, kgl) in compiled() {
        let file = Aligned::copy(&kgl);
        for len in 0..kgl.len() {
            assert!(Model::load(&file.as_ref()[..len]).is_err(), "{name}: {len} of {} bytes", kgl.len());
        }
        let mut longer = Aligned::zeroed(kgl.len() + 64);
        longer.as_mut()[..kgl.len()].copy_from_slice(&kgl);
        assert!(Model::load(longer.as_ref()).is_err(), "{name}: a tail");
    }
    assert_eq!(Model::load(b"").err(), Some(Error::Truncated));
    assert_eq!(Model::load(b"ELF!").err(), Some(Error::Magic));
}

#[test]
fn every_bit_flip_shows() {
    for (name, kgl) in compiled() {
        let (weights, len) = section(&kgl, Section::Weights);
        let mut file = Aligned::copy(&kgl);
        for bit in 0..kgl.len() * 8 {
            // The weights' own checksum lies in the plan; every bit of a small model, a sample of a larger one.
            let inside = (weights..weights + len).contains(&(bit / 8));
            if inside && len > 2048 && bit % 61 != 0 {
                continue;
            }
            file.as_mut()[bit / 8] ^= 1 << (bit % 8);
            match Model::load(file.as_ref()) {
                Ok(model) if inside => {
                    assert_eq!(model.check_weights(), Err(Error::WeightsChecksum), "{name}: bit {bit}")
                }
                Ok(_) => panic!("{name}: a flip of bit {bit} does not show"),
                Err(e) => assert!(!inside, "{name}: bit {bit} of the weights: {e}"),
            }
            file.as_mut()[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn lying_plans_are_refused_or_harmless() {
    let mut loaded = 0;
    let mut failures = Vec::new();
    for (name, kgl) in compiled() {
        let layout = sections(&kgl);
        let plan = |id: u32| id <= Section::Io as u32;
        let of_section = |&(_, at, len): &(u32, usize, usize)| at / 4..(at + len) / 4;
        let sections_words: Vec<Vec<usize>> =
            layout.iter().filter(|s| plan(s.0) && s.2 > 0).map(|s| of_section(s).collect()).collect();
        let header: Vec<usize> = (7..16).collect();
        for seed in 0..cases(3000) {
            let mut random = Random::new(seed + 1);
            let mut file = Aligned::copy(&kgl);
            let which = random.below(sections_words.len() * 4 + 1);
            let words = sections_words.get(which % (sections_words.len() + 1)).unwrap_or(&header);
            mutate_words(file.as_mut(), words, &mut random);
            seal(file.as_mut(), &layout);
            match survives(&file, &mut random) {
                Ok(true) => loaded += 1,
                Ok(false) => {}
                Err(text) => failures.push(format!("{name}, seed {seed}: {text}")),
            }
        }
    }
    assert!(failures.is_empty(), "{} cases:\n{}", failures.len(), failures[..failures.len().min(25)].join("\n"));
    assert!(loaded > 1000, "only {loaded} mutated plans loaded: the test has lost its teeth");
}

#[test]
fn lying_section_tables_and_names_are_refused_or_harmless() {
    let mut failures = Vec::new();
    for (name, kgl) in compiled() {
        let layout = sections(&kgl);
        let table: Vec<usize> = (4..(HEADER_BYTES + layout.len() * SECTION_ENTRY_BYTES) / 4).collect();
        let (at, len) = section(&kgl, Section::Names);
        let names: Vec<usize> = (at / 4..(at + len) / 4).collect();
        for seed in 0..cases(1500) {
            let mut random = Random::new(seed + 77);
            let mut file = Aligned::copy(&kgl);
            let words = if random.below(2) == 0 { &table } else { &names };
            mutate_words(file.as_mut(), words, &mut random);
            // Sealed over the places the file now claims, where it has them.
            let claimed = layout.iter().enumerate().map(|(i, &old)| {
                let e = (HEADER_BYTES + i * SECTION_ENTRY_BYTES) / 4;
                let new = [0, 1, 2].map(|k| word(file.as_ref(), e + k));
                let (offset, len) = (new[1] as usize, new[2] as usize);
                if offset + len <= kgl.len() { (new[0], offset, len) } else { old }
            });
            let claimed: Vec<_> = claimed.collect();
            seal(file.as_mut(), &claimed);
            if let Err(text) = survives(&file, &mut random) {
                failures.push(format!("{name}, seed {seed}: {text}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} cases:\n{}", failures.len(), failures[..failures.len().min(25)].join("\n"));
}

/// A model of one step, from `x` to `y`, whose words `lie` changes.
fn lied(op: &str, dims: &[i64], attributes: &[(&str, Value<'_>)], lie: impl Fn(&mut [u8], [usize; 3])) -> Error {
    let mut b = Builder::default();
    let inputs = if op == "MatMul" { "x x2" } else { "x" };
    b.input("x", DataType::Float, dims).node(op, inputs, "y", attributes).outputs("y");
    if op == "MatMul" {
        b.input("x2", DataType::Float, dims);
    }
    let options = Options::default();
    let graph = import(&b.build().to_bytes(), None, &options).expect("valid");
    let kgl = compile(graph, &options).expect("compiles").kgl;
    let mut file = Aligned::copy(&kgl);
    let layout = sections(&kgl);
    let at = [Section::Tensors, Section::Params, Section::Steps].map(|s| section(&kgl, s).0 / 4);
    lie(file.as_mut(), at);
    seal(file.as_mut(), &layout);
    Model::load(file.as_ref()).expect_err("the lie shows")
}

#[test]
fn rows_without_elements_are_refused() {
    // Four thousand million rows of nothing would take their time.
    let e = lied("Softmax", &[2, 3], &[], |file, [tensors, params, steps]| {
        for t in 0..2 {
            // Bytes, bytes of a row, rows that are there and all rows; one dimension of extent 0.
            let at = tensors + t * TensorRecord::WORDS;
            [3, 4, 5, 6, 12].iter().for_each(|k| set(file, at + k, 0));
            set(file, at + 11, 1);
        }
        [(params, u32::MAX), (params + 1, 1), (params + 2, 0), (steps + 5, u32::MAX)]
            .into_iter()
            .for_each(|(i, v)| set(file, i, v));
    });
    assert_eq!(e, Error::Step { step: 0, fault: Fault::Rows });
}

#[test]
fn windows_far_larger_than_their_input_are_refused() {
    let kernel = [("kernel_shape", Value::Is(&[2, 2]))];
    let e = lied("AveragePool", &[1, 1, 4, 4], &kernel, |file, [_, params, steps]| {
        assert_eq!(word(file, steps + 1), 0, "the first operand");
        // kind, batch, input, output, channels, then the kernel.
        let first = (params..params + 24).find(|&i| word(file, i) == 2 && word(file, i + 1) == 2).expect("the kernel");
        (0..2).for_each(|k| set(file, first + k, 1 << 14));
    });
    assert_eq!(e, Error::Step { step: 0, fault: Fault::Params });
}

#[test]
fn products_repeated_over_a_batch_nobody_has_are_refused() {
    let e = lied("MatMul", &[2, 3, 3], &[], |file, [_, params, _]| {
        (params + 4..params + 12).for_each(|i| set(file, i, 0));
    });
    assert_eq!(e, Error::Step { step: 0, fault: Fault::Params });
}

#[test]
fn scratch_beyond_the_arena_is_refused() {
    for scratch in [u32::MAX, 1 << 20] {
        let e = lied("Softmax", &[2, 3], &[], |file, [_, _, steps]| set(file, steps + 9, scratch));
        assert_eq!(e, Error::Section { section: Section::Steps as u16 });
    }
}

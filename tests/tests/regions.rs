//! Plans for two memories: what does not fit the first lies in the second, the results are the same bits, and what does not fit either is
//! refused with the shortfall and what takes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinglet::format::Region;
use kinglet::{Error, Fault, Model, Ram, Reference, Session};
use kinglet_compiler::array::Array;
use kinglet_compiler::{Banding, Compiled, MemoryRegion, Options, compile, import};
use kinglet_models::glyphs;
use kinglet_native::{ModelFile, OwnedSession};
use kinglet_tests::hostile::lie::{Lie, SLOW_BYTES};
use kinglet_tests::hostile::plan::{planned_in_regions, set, word};
use kinglet_tests::{Aligned, parse_npz, row, run, small_onnx};

fn plan(bands: Banding, regions: &[(&str, usize)]) -> Result<Compiled, kinglet_compiler::Error> {
    let region = |&(name, bytes): &(&str, usize)| MemoryRegion { name: name.into(), bytes };
    let dims = [("batch".to_string(), 1)].into();
    let options = Options { bands, dims, regions: regions.iter().map(region).collect(), ..Options::default() };
    compile(import(glyphs::INT8, None, &options).expect("it imports"), &options)
}

fn inputs() -> BTreeMap<String, Array> {
    [("image".to_string(), row(&parse_npz(glyphs::VECTORS)["image"], 0))].into()
}

/// The less room there is in the first memory, the more a run touches of the second.
#[test]
fn tensors_that_are_touched_least_go_to_the_slow_memory() {
    let whole = plan(Banding::Off, &[]).expect("it compiles");
    let (arena, scratch) = (whole.report.arena_bytes, whole.report.scratch_bytes);
    assert_eq!((whole.report.slow_bytes, whole.report.slow_traffic_bytes), (0, 0));
    let want = run(&whole.kgl, &inputs());
    for bands in [Banding::Off, Banding::Memory] {
        let mut before = 0;
        for most in (0..=8).map(|n| (arena - scratch) / 8 * (8 - n) + scratch) {
            let plan = plan(bands, &[("sram", most), ("psram", 1 << 20)]).expect("there is room");
            let r = &plan.report;
            assert!(r.arena_bytes <= most, "{} of {most}", r.arena_bytes);
            assert!(r.slow_traffic_bytes >= before, "{} after {before}", r.slow_traffic_bytes);
            assert_eq!(r.slow_traffic_bytes > 0, r.slow_bytes > 0);
            before = r.slow_traffic_bytes;
            let got = run(&plan.kgl, &inputs());
            assert_eq!(got["logits"].to_bytes(), want["logits"].to_bytes());
            // A session that owns its memory asks for nothing more.
            let file = Arc::new(ModelFile::from_bytes(&plan.kgl).expect("it is whole"));
            let mut session = OwnedSession::new(file, 2).expect("there is memory");
            session.input_bytes_mut(0).expect("there is one").copy_from_slice(&inputs()["image"].to_bytes());
            session.run().expect("it runs");
            assert_eq!(session.output_bytes(0).expect("there is one"), &want["logits"].to_bytes()[..]);
        }
        assert!(before > 0);
    }
}

/// Scratch and nothing else is left in the arena, if it must be.
#[test]
fn all_tensors_may_lie_in_the_slow_memory() {
    let scratch = plan(Banding::Off, &[]).expect("it compiles").report.scratch_bytes;
    assert!(scratch > 0);
    let compiled = plan(Banding::Off, &[("sram", scratch), ("psram", 1 << 20)]).expect("there is room");
    let file = Aligned::copy(&compiled.kgl);
    let model = Model::load(file.as_ref()).expect("it is whole");
    assert_eq!(model.arena_bytes(), scratch);
    let regions = (0..model.tensor_count()).map(|t| model.tensor(t).0.region);
    assert!(regions.into_iter().all(|r| r != Region::Arena));
}

#[test]
fn what_does_not_fit_is_refused_with_the_shortfall() {
    let refused = |regions: &[(&str, usize)]| plan(Banding::Memory, regions).expect_err("it does not fit").to_string();
    let scratch = plan(Banding::Memory, &[]).expect("it compiles").report.scratch_bytes;
    let most = scratch + 4096;
    let split = plan(Banding::Memory, &[("sram", most), ("psram", 1 << 20)]).expect("it fits").report;
    let less = split.slow_bytes - 16;
    let text = refused(&[("sram", most), ("psram", less)]);
    assert!(text.contains(&format!("{} bytes of `psram`, 16 more than the {less}", split.slow_bytes)), "{text}");
    let text = refused(&[("sram", scratch - 1), ("psram", 1 << 20)]);
    assert!(text.contains("of `sram`, 1 more than") && text.contains("keeps as much while it runs"), "{text}");
    let text = refused(&[("sram", most)]);
    assert!(text.contains("of `sram`") && text.contains("are alive at `"), "{text}");
    assert!(refused(&[("a", 1), ("b", 1), ("c", 1)]).contains("3 memory regions"));
    assert!(refused(&[("a", 1), ("a", 1 << 20)]).contains("two memory regions are called `a`"));
}

#[test]
fn sessions_ask_for_the_memory_that_a_plan_needs() {
    let compiled = plan(Banding::Off, &[("sram", 14 << 10), ("psram", 1 << 20)]).expect("there is room");
    let file = Aligned::copy(&compiled.kgl);
    let model = Model::load(file.as_ref()).expect("it is whole");
    let needed = model.slow_bytes();
    assert!(needed > 0);
    let mut arena = Aligned::zeroed(model.arena_bytes());
    let mut slow = Aligned::zeroed(needed + 64);
    let refused = Session::new(model, arena.as_mut(), &Reference).err();
    assert_eq!(refused, Some(Error::SlowSize { needed: needed as u32 }));
    for (range, want) in [
        (0..needed, None),
        (0..needed - 1, Some(Error::SlowSize { needed: needed as u32 })),
        (8..needed + 8, Some(Error::SlowAlignment)),
    ] {
        let ram = Ram { arena: arena.as_mut(), slow: &mut slow.as_mut()[range] };
        assert_eq!(Session::new(model, ram, &Reference).err(), want);
    }
    // Of memory that the plan does not use nothing is asked.
    let whole = Aligned::copy(&plan(Banding::Off, &[]).expect("it compiles").kgl);
    let model = Model::load(whole.as_ref()).expect("it is whole");
    let mut arena = Aligned::zeroed(model.arena_bytes());
    let ram = Ram { arena: arena.as_mut(), slow: &mut slow.as_mut()[8..16] };
    assert_eq!(Session::new(model, ram, &Reference).err(), None);
}

/// A file that lies about its slow memory.
#[test]
fn lies_about_regions_are_refused() {
    let of = |name, model| Lie { file: planned_in_regions(name, &model, kinglet::Target::Generic) };
    let lie = || of("a picture", small_onnx::picture());
    assert_eq!(lie().load(), Ok(()));
    let slow = |t: &kinglet::format::TensorRecord| t.region == Region::Slow && t.bytes > 0;
    let tensors = lie().tensors();
    let (t, record) = tensors.iter().enumerate().find(|(_, t)| slow(t)).expect("there is one");
    let end = tensors.iter().filter(|t| slow(t)).map(|t| t.offset + t.bytes).max().expect("there is one");
    // Beyond its end, or the end before it.
    for offset in [end, u32::MAX - 15, record.offset + 8] {
        let result = lie().change_tensor(t, |t| t.offset = offset).load();
        assert_eq!(result, Err(Error::Tensor { tensor: t as u32 }), "{offset}");
    }
    let mut less = lie();
    set(&mut less.file, SLOW_BYTES, end - 16);
    assert!(matches!(less.load(), Err(Error::Tensor { .. })));
    // More than there must be harms nobody.
    let mut more = lie();
    set(&mut more.file, SLOW_BYTES, end + 4096);
    assert_eq!(more.load(), Ok(()));
    // What an output takes of an input in the same memory, moved there from the other one.
    let mut overlapping = 0;
    for step in 0..lie().steps() {
        let s = lie().step(step);
        let (x, y) = (lie().operand(step, 0), lie().operand(step, s.inputs as usize));
        let (rx, ry) = (tensors[x], tensors[y]);
        if !slow(&rx) || ry.region != Region::Arena || ry.bytes == 0 {
            continue;
        }
        let mut moved = lie();
        let room = word(&moved.file, SLOW_BYTES) + ry.bytes + 64;
        set(&mut moved.file, SLOW_BYTES, room);
        // (Sixteen bytes into it: no kernel may take that place.)
        let result = moved.change_tensor(y, |t| (t.region, t.offset) = (Region::Slow, rx.offset + 16)).load();
        let refused = matches!(result, Err(Error::Step { fault: Fault::Overlap | Fault::Slices, .. }));
        assert!(refused || rx.bytes <= 16, "step {step}: {result:?}");
        overlapping += usize::from(refused);
    }
    assert!(overlapping > 0);
}

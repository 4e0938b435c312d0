//! Files that are not taken, and those that are.

mod device;
mod mock;
mod plans;

use std::ops::Range;

use device::Device;
use kinglet::kernels::{Only, OpSet};
use kinglet::{Input, Model, Output, Reference, StepKind, Target};
use kinglet_update::{Error, Limits, Refused, Slots, has_input, has_output, same_ports, verify};
use mock::Flash;
use plans::{ALL, LIMITS, Ram, glyphs, outputs, run, small};

/// What is said of a file.
fn said(file: &[u8]) -> Option<Refused> {
    verify::<ALL>(Ram::of(file).get(), &LIMITS, |_| true).err()
}

#[test]
fn a_plan_in_ram_needs_no_slots() {
    let file = small(4, 1);
    let ram = Ram::of(&file);
    let model = verify::<ALL>(ram.get(), &LIMITS, |model| model.input_count() == 1).expect("it is a good one");
    assert_eq!(run(&model), outputs(&file));
}

#[test]
fn every_bit_of_a_file_counts() {
    for (file, every) in [(small(4, 1), 1), (glyphs("glyphs_int8.onnx", Target::Generic), 997)] {
        let mut ram = Ram::of(&file);
        let mut tried = 0;
        for bit in (0..file.len() * 8).step_by(every) {
            ram.get_mut()[bit / 8] ^= 1 << (bit % 8);
            assert!(verify::<ALL>(ram.get(), &LIMITS, |_| true).is_err(), "bit {bit}");
            ram.get_mut()[bit / 8] ^= 1 << (bit % 8);
            tried += 1;
        }
        assert!(tried > 200);
        assert!(verify::<ALL>(ram.get(), &LIMITS, |_| true).is_ok());
    }
}

#[test]
fn a_damaged_file_leaves_the_old_one() {
    let (old, new) = (small(4, 1), small(40, 2));
    let device = Device::<8, 2048>::new(2);
    device.install(&old, 1);
    for bit in (0..new.len() * 8).step_by(7) {
        let mut damaged = new.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let result = device.send(&damaged, 2, 300, None);
        assert!(matches!(result, Err(Error::Refused(Refused::Model(_)))), "bit {bit}: {result:?}");
    }
    assert_eq!(device.boot(), Some((1, outputs(&old), None)));
    device.install(&new, 2);
    assert_eq!(device.boot(), Some((2, outputs(&new), None)));
}

#[test]
fn every_length_but_the_right_one_is_refused() {
    let (old, new) = (small(4, 1), small(40, 2));
    let device = Device::<8, 2048>::new(2);
    device.install(&old, 1);
    for len in (0..new.len()).step_by(5) {
        assert!(said(&new[..len]).is_some(), "{len}");
        let result = device.send(&new[..len], 2, 300, None);
        assert!(matches!(result, Err(Error::Refused(Refused::Model(_)))), "{len} bytes: {result:?}");
    }
    let longer = [&new[..], &[0]].concat();
    assert_eq!(said(&longer), Some(Refused::Model(kinglet::Error::Truncated)));
    // Longer than announced, than there is room, and nothing at all.
    let mut slots = device.slots();
    let most = slots.capacity();
    let (_, mut updater) = slots.boot::<ALL>(&LIMITS, |_| true);
    assert_eq!(updater.capacity(), most);
    assert_eq!(updater.begin(most + 1, 2).err(), Some(Error::TooLong { most }));
    assert_eq!(updater.begin(u32::MAX, 2).err(), Some(Error::TooLong { most }));
    let mut transfer = updater.begin(100, 2).expect("there is room");
    transfer.write(&new[..60]).expect("it was announced");
    assert_eq!(transfer.write(&new[..41]), Err(Error::TooLong { most: 100 }));
    assert_eq!(transfer.bytes().err(), Some(Error::Incomplete { missing: 40 }));
    transfer.write(&new[60..100]).expect("it was announced");
    assert_eq!(transfer.bytes().expect("it is all there"), &new[..100]);
    assert!(matches!(transfer.finish::<ALL>(&LIMITS, |_| true), Err(Error::Refused(_))));
    assert_eq!(device.boot(), Some((1, outputs(&old), None)));
}

#[test]
fn a_plan_may_fill_a_slot() {
    // The last erase unit holds the end of the plan and the record.
    let file = small(120, 5);
    let device = Device::<4, 256>::new(file.len().div_ceil(256) + usize::from(file.len() % 256 > 256 - 64));
    assert!((device.slots().capacity() as usize) < file.len() + 256);
    device.install(&small(4, 1), 1);
    for sequence in 2..6 {
        device.install(&file, sequence);
        assert_eq!(device.boot(), Some((sequence, outputs(&file), None)));
    }
    device.check_others();
}

#[test]
fn plans_for_other_programs_are_refused() {
    let file = glyphs("glyphs_int8.onnx", Target::Generic);
    let ram = Ram::of(&file);
    let model = Model::load(ram.get()).expect("it is whole");
    let refused = |limits: &Limits<'_, Reference>| verify::<ALL>(ram.get(), limits, |_| true).err();
    // Targets.
    for target in Target::ALL {
        let expected = (!target.runs_on(Target::Generic)).then_some(Refused::Model(kinglet::Error::Kernels { target }));
        assert_eq!(said(&glyphs("glyphs_int8.onnx", target)), expected, "{target:?}");
    }
    // Memory and time.
    let (arena, work) = (model.arena_bytes(), model.work());
    let needed = arena as u32;
    assert_eq!(refused(&Limits { arena, work, ..LIMITS }), None);
    assert_eq!(
        refused(&Limits { arena: arena - 1, ..LIMITS }),
        Some(Refused::Model(kinglet::Error::ArenaSize { needed }))
    );
    assert_eq!(refused(&Limits { work: work - 1, ..LIMITS }), Some(Refused::Work { needed: work }));
    // Kinds of steps: those of this very model serve, fewer do not, whether the loader or the kernels are without.
    const FEW: u128 = OpSet::of(&[StepKind::ConvI8, StepKind::Pool]).bits();
    let result = verify::<FEW>(ram.get(), &LIMITS, |_| true);
    assert!(matches!(result, Err(Refused::Model(kinglet::Error::Step { .. }))), "{result:?}");
    let few = Limits { kernels: &Only::<_, FEW>(Reference), arena, slow: 0, work };
    let result = verify::<ALL>(ram.get(), &few, |_| true);
    assert!(matches!(result, Err(Refused::Model(kinglet::Error::Step { .. }))), "{result:?}");
    // In a slot it is the same, and nothing is taken for whole.
    let device = Device::<8, 2048>::new(80);
    let mut slots = device.slots();
    let (none, mut updater) = slots.boot::<ALL>(&LIMITS, |_| true);
    assert!(none.is_none());
    let mut transfer = updater.begin(file.len() as u32, 1).expect("there is room");
    transfer.write(&file).expect("the flash works");
    let little = Limits { arena: arena - 1, ..LIMITS };
    let expected = Error::Refused(Refused::Model(kinglet::Error::ArenaSize { needed }));
    assert_eq!(transfer.finish::<ALL>(&little, |_| true), Err(expected));
    assert_eq!(device.boot(), None);
}

#[test]
fn slow_memory_has_a_limit() {
    let options = |target| {
        let regions = [("sram", 24 << 10), ("psram", 1 << 20)];
        let region = |(name, bytes): (&str, usize)| kinglet_compiler::MemoryRegion { name: name.into(), bytes };
        kinglet_compiler::Options { regions: regions.map(region).to_vec(), ..plans::options(target) }
    };
    let file = plans::glyphs_with("glyphs_int8.onnx", &options(Target::Generic));
    let ram = Ram::of(&file);
    let slow = Model::load(ram.get()).expect("it is whole").slow_bytes();
    assert!(slow > 0);
    assert!(verify::<ALL>(ram.get(), &Limits { slow, ..LIMITS }, |_| true).is_ok());
    let needed = slow as u32;
    assert_eq!(
        verify::<ALL>(ram.get(), &Limits { slow: slow - 1, ..LIMITS }, |_| true).err(),
        Some(Refused::Model(kinglet::Error::SlowSize { needed }))
    );
}

#[test]
fn a_model_with_other_inputs_or_outputs_is_refused() {
    let (a, b, c) = (Ram::of(&small(4, 1)), Ram::of(&small(4, 2)), Ram::of(&small(5, 1)));
    let [a, b, c] = [&a, &b, &c].map(|ram| Model::load(ram.get()).expect("it is whole"));
    assert!(same_ports(&a, &b) && same_ports(&a, &a) && !same_ports(&a, &c));
    let input = Input::<f32>::new(0, &[1, 4], 1.0, 0);
    assert!(has_input(&a, &input) && has_input(&b, &input) && !has_input(&c, &input));
    let others = [
        Input::<f32>::new(1, &[1, 4], 1.0, 0),
        Input::new(0, &[4], 1.0, 0),
        Input::new(0, &[1, 4], 0.5, 0),
        Input::new(0, &[1, 4], 1.0, 1),
    ];
    assert!(others.iter().all(|other| !has_input(&a, other)) && !has_input(&a, &Input::<i8>::new(0, &[1, 4], 1.0, 0)));
    assert!(has_output(&a, &Output::<f32>::new(0, &[1, 3], 1.0, 0)));
    assert!(!has_output(&a, &Output::<f32>::new(0, &[1, 4], 1.0, 0)));
    let device = Device::<8, 2048>::new(2);
    device.install(&small(4, 1), 1);
    let send = |file: &[u8]| {
        let mut slots = device.slots();
        let (plan, mut updater) = slots.boot::<ALL>(&LIMITS, |_| true);
        let mut transfer = updater.begin(file.len() as u32, 2)?;
        transfer.write(file)?;
        let running = plan.expect("there is one").model;
        transfer.finish::<ALL>(&LIMITS, |model| same_ports(model, &running))
    };
    assert_eq!(send(&small(5, 1)), Err(Error::Refused(Refused::Unexpected)));
    assert_eq!(device.boot(), Some((1, outputs(&small(4, 1)), None)));
    assert_eq!(send(&small(4, 2)), Ok(()));
}

#[test]
fn slots_are_whole_erase_units_of_the_device() {
    let new = |a, b| {
        let flash = Flash::<8, 2048>::new(8 * 2048);
        let view = flash.view();
        Slots::new(flash, view, [a, b]).err()
    };
    assert_eq!(new(0..4096, 4096..8192), None);
    assert_eq!(new(4096..8192, 0..4096), None);
    let wrong = [
        (0..4096, 2048..8192),
        (0..4096, 0..4096),
        (0..4096, 4096..4096),
        (0..4096, Range { start: 8192, end: 4096 }),
        (8..4096, 4096..8192),
        (0..4096, 4096..8200),
        (0..4096, 4096..9 * 2048),
        (0..4096, 4096..u32::MAX - 2047),
    ];
    for (a, b) in wrong {
        assert_eq!(new(a.clone(), b.clone()), Some(Error::Slots), "{a:?} {b:?}");
    }
}

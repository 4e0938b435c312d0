//! Updates that go well, those that turn out bad, and slots with anything in them.

mod device;
mod mock;
mod plans;

use device::Device;
use kinglet::format::checksum;
use kinglet::{Arena, Reference, Session, Target};
use kinglet_update::{Error, Limits, RECORD_BYTES, TRIES};
use plans::{ALL, ARENA, LIMITS, glyphs, outputs, run, small};

#[test]
fn a_plan_runs_from_one_slot_while_the_other_is_written() {
    let (old, new) = (glyphs("glyphs_int8.onnx", Target::Generic), glyphs("glyphs.onnx", Target::Generic));
    let device = Device::<4, 4096>::new(100);
    device.install(&old, 1);
    let mut slots = device.slots();
    let (plan, mut updater) = slots.boot::<ALL>(&LIMITS, |_| true);
    let plan = plan.expect("there is one");
    let from = device.slots[plan.slot].start;
    device.flash.0.borrow_mut().running = from..from + plan.bytes.len() as u32;
    let mut arena = Box::new(Arena::<ARENA>::new());
    let mut session = Session::new(plan.model, &mut arena.0[..], &Reference).expect("it was verified");
    session.input_mut::<f32>(0).expect("there is one").fill(0.5);
    session.run().expect("it runs");
    let expected = session.output_bytes(0).expect("there is one").to_vec();
    let mut transfer = updater.begin(new.len() as u32, 2).expect("it is newer");
    for (i, piece) in new.chunks(20_000).enumerate() {
        transfer.write(piece).expect("the flash works");
        session.input_mut::<f32>(0).expect("there is one").fill(0.5);
        session.run().expect("it runs");
        assert_eq!(session.output_bytes(0).expect("there is one"), expected, "after piece {i}");
    }
    assert_eq!(transfer.bytes().expect("it is all there"), &new[..]);
    transfer.finish::<ALL>(&LIMITS, |_| true).expect("it is a good one");
    // What was written is not booted yet: a newer one may take its place, an older one may not.
    updater.confirm().expect("it is confirmed");
    assert_eq!(updater.begin(100, 2).err(), Some(Error::NotNewer { newest: 2 }));
    assert_eq!(run(&plan.model), outputs(&old));
    // Without a restart.
    let (plan, mut updater) = slots.boot::<ALL>(&LIMITS, |_| true);
    let plan = plan.expect("there is one");
    assert_eq!((plan.sequence, plan.slot, plan.tries), (2, 1, Some(TRIES - 1)));
    assert_eq!(run(&plan.model), outputs(&new));
    updater.confirm().expect("the flash works");
    assert_eq!(device.boot(), Some((2, outputs(&new), None)));
    device.check_others();
}

#[test]
fn a_plan_that_nobody_confirms_is_given_up() {
    let (old, new) = (small(4, 1), small(40, 2));
    let device = Device::<8, 2048>::new(2);
    device.install(&old, 1);
    device.send(&new, 2, 100, None).expect("it is a good one");
    // Looking at it costs nothing.
    for _ in 0..10 {
        let mut slots = device.slots();
        assert_eq!(slots.current::<ALL>(&LIMITS, |_| true).expect("there is one").tries, Some(TRIES));
    }
    for left in (0..TRIES).rev() {
        assert_eq!(device.boot(), Some((2, outputs(&new), Some(left))));
        // The other slot holds what it falls back to.
        if left > 0 {
            let before = device.flash.0.borrow().bytes.clone();
            let mut slots = device.slots();
            slots.boot::<ALL>(&LIMITS, |_| true);
            device.flash.0.borrow_mut().bytes = before;
            assert_eq!(device.copy().send(&small(10, 3), 3, 100, None), Err(Error::Unconfirmed));
        }
    }
    for _ in 0..5 {
        assert_eq!(device.boot(), Some((1, outputs(&old), None)));
    }
    // It does not come back under its number.
    assert_eq!(device.send(&new, 2, 100, None), Err(Error::NotNewer { newest: 2 }));
    assert_eq!(device.send(&new, 1, 100, None), Err(Error::NotNewer { newest: 2 }));
    device.install(&new, 3);
    assert_eq!(device.boot(), Some((3, outputs(&new), None)));
    assert_eq!(device.send(&old, 3, 100, None), Err(Error::NotNewer { newest: 3 }));
    assert_eq!(device.send(&old, 0, 100, None), Err(Error::NotNewer { newest: 3 }));
    device.check_others();
}

#[test]
fn a_plan_may_be_rejected_before_and_after_it_was_confirmed() {
    let (old, new) = (small(4, 1), small(40, 2));
    let device = Device::<8, 2048>::new(2);
    device.install(&old, 1);
    device.send(&new, 2, 100, None).expect("it is a good one");
    for confirmed in [false, true] {
        let device = device.copy();
        if confirmed {
            device.confirm();
        }
        let mut slots = device.slots();
        let (plan, mut updater) = slots.boot::<ALL>(&LIMITS, |_| true);
        assert_eq!(plan.map(|p| p.sequence), Some(2));
        updater.reject().expect("the flash works");
        updater.reject().expect("it is rejected");
        assert_eq!(updater.begin(100, 3).err(), Some(Error::Unconfirmed));
        assert_eq!(device.boot(), Some((1, outputs(&old), None)));
        // The last one may be rejected, too: then there is none, until the next comes.
        device.reject();
        assert_eq!(device.boot(), None);
        assert_eq!(device.slots().boot::<ALL>(&LIMITS, |_| true).1.reject(), Err(Error::NoPlan));
        assert_eq!(device.slots().boot::<ALL>(&LIMITS, |_| true).1.confirm(), Err(Error::NoPlan));
        device.install(&new, 3);
        assert_eq!(device.boot(), Some((3, outputs(&new), None)));
    }
}

#[test]
fn a_plan_that_another_firmware_took_may_not_be_taken_by_this_one() {
    let (old, new) = (small(4, 1), small(40, 2));
    let device = Device::<8, 2048>::new(2);
    device.install(&old, 1);
    device.install(&new, 2);
    let mut slots = device.slots();
    let newest = slots.current::<ALL>(&LIMITS, |_| true).expect("there are two");
    let needed = newest.model.arena_bytes();
    let less = Limits { arena: needed - 1, ..LIMITS };
    assert_eq!(slots.current::<ALL>(&less, |_| true).expect("the older one is smaller").sequence, 1);
    let four = |model: &kinglet::Model<'_>| model.tensor(model.input_tensor(0).unwrap_or(0)).shape() == [1, 4];
    assert_eq!(slots.current::<ALL>(&LIMITS, four).expect("the older one has them").sequence, 1);
    assert!(slots.current::<ALL>(&Limits { arena: 0, ..LIMITS }, |_| true).is_none());
}

#[test]
fn damage_in_a_slot_is_noticed() {
    let (old, new) = (small(4, 1), small(40, 2));
    let device = Device::<8, 2048>::new(2);
    device.install(&old, 1);
    device.install(&new, 2);
    let at = device.slots[1].start as usize;
    for byte in 0..new.len() {
        let damaged = device.copy();
        damaged.flash.0.borrow_mut().bytes[at + byte] ^= 1 << (byte % 8);
        assert_eq!(damaged.boot().map(|b| b.0), Some(1), "byte {byte}");
    }
}

/// A record as the README has it.
fn record(sequence: u32, length: u32, sum: u64) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..4].copy_from_slice(b"KGS1");
    record[4..8].copy_from_slice(&sequence.to_le_bytes());
    record[8..12].copy_from_slice(&length.to_le_bytes());
    record[16..24].copy_from_slice(&sum.to_le_bytes());
    let own = checksum(&record[..24], 0);
    record[24..].copy_from_slice(&own.to_le_bytes());
    record
}

#[test]
fn the_layout_is_that_of_the_readme() {
    let file = small(40, 2);
    let device = Device::<8, 2048>::new(2);
    device.install(&file, 77);
    let (from, to) = (device.slots[0].start as usize, device.slots[0].end as usize);
    assert_eq!(device.slots().capacity() as usize, to - from - (32 + 6 * 8));
    let bytes = device.flash.0.borrow().bytes.clone();
    assert_eq!(&bytes[from..][..file.len()], &file[..]);
    let mut tail = vec![0xff; 8];
    tail.extend(record(77, file.len() as u32, checksum(&file, 0)));
    // Three boots, of which one was made, confirmed, rejected.
    tail.extend([[0; 8], [0xff; 8], [0xff; 8], [0; 8], [0xff; 8]].concat());
    assert_eq!(&bytes[to - tail.len()..to], &tail[..]);
}

#[test]
fn anything_may_lie_in_the_slots() {
    let mut random = 99u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as u32
    };
    let good = small(4, 1);
    let device = Device::<4, 1024>::new(2);
    device.install(&good, 5);
    let (from, to) = (device.slots[1].start as usize, device.slots[1].end as usize);
    let room = to - from - (32 + 6 * 4);
    let at = to - 32 - 5 * 4;
    let lengths = [0, 1, 63, 64, 65, room as u32, room as u32 + 1, 2047, 2048, 1 << 20, 1 << 31, u32::MAX];
    for round in 0..4000 {
        let device = device.copy();
        let length = lengths[next() as usize % lengths.len()];
        {
            let bytes = &mut device.flash.0.borrow_mut().bytes;
            bytes[from..to].iter_mut().for_each(|b| *b = next() as u8);
            if round % 2 == 0 {
                // A record that is right about what lies there, as far as it may speak of it.
                let sum = checksum(&bytes[from..from + (length as usize).min(room)], 0);
                bytes[at..][..RECORD_BYTES].copy_from_slice(&record(next() | 8, length, sum));
                bytes[to - 4..].fill(0xff);
                bytes[at - 4..at].fill(0xff);
            }
            if round % 8 == 0 {
                let plan = if round % 16 == 0 { good.clone() } else { small(4, 1)[..200].to_vec() };
                bytes[from..][..plan.len()].copy_from_slice(&plan);
                let sum = checksum(&bytes[from..][..plan.len()], 0);
                bytes[at..][..RECORD_BYTES].copy_from_slice(&record(9, plan.len() as u32, sum));
            }
        }
        let expected = if round % 16 == 0 { 9 } else { 5 };
        assert_eq!(device.boot().map(|b| b.0), Some(expected), "round {round}");
        // And there is always a next one.
        if round % 5 == 0 {
            device.confirm();
            let sequence = match device.send(&good, 6, 100, None) {
                Err(Error::NotNewer { newest: u32::MAX }) => continue,
                Err(Error::NotNewer { newest }) => newest + 1,
                other => {
                    other.expect("it is a good one");
                    6
                }
            };
            if sequence > 6 {
                device.send(&good, sequence, 100, None).expect("it is a good one");
            }
            assert_eq!(device.boot().map(|b| b.0), Some(sequence), "round {round}");
        }
    }
}

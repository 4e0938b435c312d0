//! Transfers that are cut and power that is lost: the old plan runs, and the next update works.

mod device;
mod mock;
mod plans;

use device::Device;
use kinglet::Target;
use kinglet_update::{Error, TRIES};
use mock::{Failure, Loss};
use plans::{ALL, LIMITS, glyphs, outputs, run, small};

#[test]
fn a_transfer_may_be_cut_at_every_kilobyte() {
    let (old, new) = (glyphs("glyphs_int8.onnx", Target::Generic), glyphs("glyphs_int8.onnx", Target::Mcu));
    let (last, expected) = (glyphs("glyphs.onnx", Target::Generic), outputs(&old));
    assert_ne!(old, new);
    assert_ne!(expected, outputs(&last));
    let device = Device::<8, 2048>::new(200);
    device.install(&old, 1);
    for kilobytes in 0..=new.len() / 1024 {
        // The sender goes away; the device runs on, and is later switched off.
        let mut slots = device.slots();
        let (plan, mut updater) = slots.boot::<ALL>(&LIMITS, |_| true);
        let plan = plan.expect("there is an old one");
        let mut transfer = updater.begin(new.len() as u32, 2).expect("it is newer");
        for piece in new[..kilobytes * 1024].chunks(1024) {
            transfer.write(piece).expect("the flash works");
        }
        let missing = (new.len() - kilobytes * 1024) as u32;
        assert_eq!(transfer.missing(), missing);
        assert_eq!(
            transfer.finish::<ALL>(&LIMITS, |_| true).err(),
            (missing > 0).then_some(Error::Incomplete { missing })
        );
        assert_eq!(run(&plan.model), expected);
        assert_eq!(device.boot(), Some((1, expected.clone(), None)), "cut at {kilobytes} KB");
        // The next update works from here.
        let next = device.copy();
        let (file, sequence) = if kilobytes % 16 == 0 { (&last, 3) } else { (&new, 2) };
        next.install(file, sequence);
        assert_eq!(next.boot(), Some((sequence, outputs(file), None)));
    }
    device.check_others();
}

/// Where in an operation the power is lost: everywhere in what is short, and at the ends of what is long.
fn points(loss: Loss) -> Vec<usize> {
    match loss {
        Loss::Before | Loss::After => vec![0],
        Loss::Garbage => (0..3).collect(),
        _ => (0..80).chain([255, 256, 511, 600, 4000]).collect(),
    }
}

/// Loses power in every operation of an update, from plan 1 to plan `sequence`, and of what follows.
fn every_loss<const WRITE: usize, const ERASE: usize>(
    device: &Device<WRITE, ERASE>,
    files: &[Vec<u8>; 4],
    also: &[u32],
) {
    let expected: Vec<Vec<u8>> = files.iter().map(|f| outputs(f)).collect();
    let whole = device.copy();
    whole.send(&files[2], 3, 100, None).expect("nothing is lost");
    let operations = whole.flash.0.borrow().operations;
    // At least an erase, as many writes as there are chunks, and the record.
    assert!(operations >= 2 + files[2].len() / 256);
    for operation in 0..operations {
        for loss in Loss::ALL {
            for point in points(loss) {
                let say = format!("{WRITE}/{ERASE}: {loss:?} at {point} of operation {operation} of {operations}");
                let cut = device.copy();
                let result = cut.send(&files[2], 3, 100, Some((operation, loss, point)));
                assert_eq!(result, Err(Error::Flash(Failure::Power)), "{say}");
                cut.check_others();
                let (sequence, got, tries) = cut.copy().boot().expect("a plan runs");
                assert_eq!(got, expected[sequence as usize - 1], "{say}");
                // The new plan is there once its record is, and on trial.
                match sequence {
                    1 => assert!(tries.is_none() && (operation + 1 < operations || loss != Loss::After), "{say}"),
                    3 => assert!(tries == Some(TRIES - 1) && operation + 1 == operations, "{say}"),
                    other => assert!(also.contains(&other) && tries.is_some(), "{say}: plan {other} runs again"),
                }
                // If an earlier one is tried again, it is given up again.
                let mut boots = 0;
                while cut.boot().is_some_and(|(sequence, ..)| sequence == 2) {
                    boots += 1;
                    assert!(boots <= TRIES, "{say}");
                }
                if sequence == 3 {
                    cut.confirm();
                }
                cut.install(&files[3], 4);
                assert_eq!(cut.boot(), Some((4, expected[3].clone(), None)), "{say}");
            }
        }
    }
}

fn files() -> [Vec<u8>; 4] {
    [small(4, 1), small(40, 2), small(20, 3), small(30, 4)]
}

#[test]
fn power_may_be_lost_in_every_operation_of_an_update() {
    fn all<const WRITE: usize, const ERASE: usize>(units: usize) {
        let files = files();
        let device = Device::<WRITE, ERASE>::new(units);
        device.install(&files[0], 1);
        every_loss(&device, &files, &[]);
    }
    all::<1, 4096>(1);
    all::<4, 4096>(2);
    all::<8, 2048>(2);
    all::<16, 512>(6);
    all::<32, 1024>(4);
    all::<256, 4096>(2);
    all::<4, 4>(800);
}

#[test]
fn power_may_be_lost_where_an_older_plan_or_a_failed_one_is_replaced() {
    fn all<const WRITE: usize, const ERASE: usize>(units: usize) {
        let files = files();
        let base = Device::<WRITE, ERASE>::new(units);
        base.install(&files[0], 1);
        base.send(&files[1], 2, 333, None).expect("it is a good one");
        // Nobody confirms it.
        let failed = base.copy();
        (0..TRIES).for_each(|_| assert_eq!(failed.boot().map(|b| b.0), Some(2)));
        every_loss(&failed, &files, &[2]);
        // Rejected, on trial or later: it never comes back.
        let rejected = base.copy();
        rejected.reject();
        every_loss(&rejected, &files, &[]);
        let later = base.copy();
        later.confirm();
        later.reject();
        every_loss(&later, &files, &[]);
    }
    all::<1, 4096>(1);
    all::<8, 2048>(2);
    all::<32, 1024>(4);
    all::<256, 4096>(2);
}

#[test]
fn power_may_be_lost_while_a_mark_is_written() {
    let files = files();
    let device = Device::<8, 2048>::new(2);
    device.install(&files[0], 1);
    device.send(&files[1], 2, 64, None).expect("it is a good one");
    for loss in Loss::ALL {
        for point in 0..=8 {
            let say = format!("{loss:?} at {point}");
            // In the mark of a boot: the plan that the program was to run has not run, and is booted as often or once less.
            let cut = device.copy();
            let mut slots = cut.slots_until(Some((0, loss, point)));
            assert!(slots.boot::<ALL>(&LIMITS, |_| true).0.is_none(), "{say}");
            let (sequence, _, tries) = cut.boot().expect("there are two");
            let left = tries.expect("nobody has confirmed it");
            assert!(sequence == 2 && (TRIES - 2..TRIES).contains(&left), "{say}");
            // In the mark that it is good: it is or it is not, and can be said again.
            let cut = device.copy();
            let mut slots = cut.slots_until(Some((1, loss, point)));
            assert_eq!(slots.boot::<ALL>(&LIMITS, |_| true).1.confirm(), Err(Error::Flash(Failure::Power)), "{say}");
            cut.confirm();
            assert_eq!(cut.boot(), Some((2, outputs(&files[1]), None)), "{say}");
            // In the marks that it is bad.
            for operation in 1..3 {
                let cut = device.copy();
                let mut slots = cut.slots_until(Some((operation, loss, point)));
                let _ = slots.boot::<ALL>(&LIMITS, |_| true).1.reject();
                if cut.boot().is_some_and(|(sequence, ..)| sequence == 2) {
                    assert_eq!(operation, 1, "{say}");
                    cut.reject();
                }
                assert_eq!(cut.boot(), Some((1, outputs(&files[0]), None)), "{say}");
            }
        }
    }
}

#[test]
fn a_driver_that_fails_once_leaves_the_old_plan() {
    let files = files();
    let device = Device::<8, 2048>::new(2);
    device.install(&files[0], 1);
    let whole = device.copy();
    whole.send(&files[2], 3, 100, None).expect("nothing fails");
    let operations = whole.flash.0.borrow().operations;
    for operation in 0..operations {
        for loss in Loss::ALL {
            let say = format!("{loss:?} of operation {operation} of {operations}");
            let cut = device.copy();
            let mut slots = cut.slots_until(Some((operation, loss, 9)));
            cut.flash.0.borrow_mut().once = true;
            let (_, mut updater) = slots.boot::<ALL>(&LIMITS, |_| true);
            let failed = Error::Flash(Failure::Once);
            match updater.begin(files[2].len() as u32, 3) {
                Err(error) => assert!(error == failed && operation == 0, "{say}: {error:?}"),
                Ok(mut transfer) => {
                    // All the rest is sent all the same: it is not written where something has failed.
                    let mut results = files[2].chunks(100).map(|piece| transfer.write(piece));
                    let first = results.by_ref().find_map(Result::err);
                    assert!(results.all(|result| result == Err(Error::Broken)), "{say}");
                    drop(results);
                    let finished = transfer.finish::<ALL>(&LIMITS, |_| true).expect_err("something has failed");
                    assert_eq!(first.unwrap_or(finished), failed, "{say}");
                }
            }
            assert_eq!(cut.boot(), Some((1, outputs(&files[0]), None)), "{say}");
            cut.install(&files[3], 4);
            assert_eq!(cut.boot(), Some((4, outputs(&files[3]), None)), "{say}");
        }
    }
}

#[test]
fn power_may_be_lost_again_and_again() {
    let files: Vec<Vec<u8>> = (0..8).map(|seed| small(4 + seed as i64 * 5, seed)).collect();
    let expected: Vec<Vec<u8>> = files.iter().map(|f| outputs(f)).collect();
    let of = |sequence: u32| &files[sequence as usize % files.len()];
    let mut random = 12345u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let device = Device::<4, 1024>::new(3);
    device.install(of(1), 1);
    let (mut sent, mut confirmed, mut updates) = (1, 1, 0);
    for round in 0..3000 {
        let loss = (next(3) > 0).then(|| (next(16), Loss::ALL[next(7)], next(300)));
        sent += 1;
        let sending = device.send(of(sent), sent, 1 + next(700), loss);
        updates += u32::from(sending.is_ok());
        let (sequence, got, _) = device.boot().expect("a plan runs");
        assert_eq!(got, expected[sequence as usize % files.len()], "round {round}");
        assert!(sequence >= confirmed, "round {round}: plan {sequence} after {confirmed} was confirmed");
        // Confirmed and rejected with losses, too.
        let loss = (next(3) == 0).then(|| (next(3), Loss::ALL[next(7)], next(5)));
        let mut slots = device.slots_until(loss);
        let (plan, mut updater) = slots.boot::<ALL>(&LIMITS, |_| true);
        if let Some(plan) = plan.filter(|plan| plan.tries.is_some()) {
            if next(4) == 0 {
                let _ = updater.reject();
            } else if updater.confirm().is_ok() {
                confirmed = plan.sequence;
            }
        }
    }
    device.check_others();
    assert!(updates > 500, "{updates} updates of 3000 have come through");
}

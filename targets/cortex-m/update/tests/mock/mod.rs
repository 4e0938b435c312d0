//! A NOR flash in memory: it keeps the rules of real ones, and loses power when it is told to.
#![allow(dead_code)] // The example takes less of it than the tests.

use std::cell::{OnceCell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use kinglet_update::Map;

/// How an operation ends in which the power is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing was done.
    Before,
    /// The first bytes are done.
    Front,
    /// The last bytes are done.
    Back,
    /// Of an erase that clears bits before it sets them: the first bytes are 0. Of a write as `Front`.
    FrontCleared,
    /// The same of the last bytes.
    BackCleared,
    /// All bits that were to change are anything.
    Garbage,
    /// All was done.
    After,
}

impl Loss {
    pub const ALL: [Loss; 7] =
        [Loss::Before, Loss::Front, Loss::Back, Loss::FrontCleared, Loss::BackCleared, Loss::Garbage, Loss::After];
}

/// Why the flash does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The power is off.
    Power,
    /// The driver failed once.
    Once,
    /// An erase of this unit was cut: it must be erased again.
    Unsettled,
    /// The driver's own checks.
    Arguments(NorFlashErrorKind),
}

impl NorFlashError for Failure {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Failure::Arguments(kind) => *kind,
            _ => NorFlashErrorKind::Other,
        }
    }
}

/// The memory, and what is told to it.
#[derive(Clone)]
pub struct Chip {
    pub bytes: Vec<u8>,
    /// Bytes whose erase was cut.
    unsettled: Vec<bool>,
    /// Writes and erases since the power is on.
    pub operations: usize,
    /// The operation in which the power is lost, how, and at which byte of it if less than all is done (from the end, if it counts from there).
    pub loss: Option<(usize, Loss, usize)>,
    /// Whether it is not the power that fails then, but the driver, once.
    pub once: bool,
    pub off: bool,
    /// What a plan runs from: nobody writes there.
    pub running: Range<u32>,
    random: u64,
}

impl Chip {
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    /// Does an operation that makes `new` of the bytes from `from` on, or loses power in it.
    fn operate(&mut self, from: u32, new: &[u8], erase: bool) -> Result<(), Failure> {
        let range = from as usize..from as usize + new.len();
        assert!(range.end as u32 <= self.running.start || from >= self.running.end, "the plan that runs is written");
        let number = self.operations;
        self.operations += 1;
        let Some((_, loss, at)) = self.loss.filter(|&(n, ..)| n == number) else {
            self.bytes[range.clone()].copy_from_slice(new);
            if erase {
                self.unsettled[range].fill(false);
            }
            return Ok(());
        };
        self.off = !self.once;
        let n = new.len();
        let at = at.min(n);
        let done = match loss {
            Loss::Before => 0..0,
            Loss::Front | Loss::FrontCleared => 0..at,
            Loss::Back | Loss::BackCleared => n - at..n,
            Loss::Garbage | Loss::After => 0..n,
        };
        let cleared = erase && matches!(loss, Loss::FrontCleared | Loss::BackCleared);
        for i in done {
            let old = self.bytes[range.start + i];
            let mask = if loss == Loss::Garbage { self.random() as u8 } else { 0xff };
            let to = if cleared { 0 } else { new[i] };
            self.bytes[range.start + i] = old & !mask | to & mask;
        }
        if erase {
            self.unsettled[range].fill(loss != Loss::Before && loss != Loss::After);
        }
        Err(if self.once { Failure::Once } else { Failure::Power })
    }
}

/// The device, with its write and erase unit.
pub struct Flash<const WRITE: usize, const ERASE: usize>(pub Rc<RefCell<Chip>>);

impl<const WRITE: usize, const ERASE: usize> Flash<WRITE, ERASE> {
    /// Erased.
    pub fn new(bytes: usize) -> Self {
        let chip = Chip {
            bytes: vec![0xff; bytes],
            unsettled: vec![false; bytes],
            operations: 0,
            loss: None,
            once: false,
            off: false,
            running: 0..0,
            random: 1,
        };
        Flash(Rc::new(RefCell::new(chip)))
    }

    /// The same chip after the power came back.
    pub fn again(&self) -> Self {
        let mut chip = self.0.borrow_mut();
        (chip.operations, chip.loss, chip.once, chip.off, chip.running) = (0, None, false, false, 0..0);
        drop(chip);
        Flash(self.0.clone())
    }

    /// Another chip with the same content.
    pub fn copy(&self) -> Self {
        Flash(Rc::new(RefCell::new(self.0.borrow().clone()))).again()
    }

    /// What the CPU sees of it.
    pub fn view(&self) -> View {
        View { chip: self.0.clone(), seen: Seen::default() }
    }
}

impl<const WRITE: usize, const ERASE: usize> ErrorType for Flash<WRITE, ERASE> {
    type Error = Failure;
}

impl<const WRITE: usize, const ERASE: usize> ReadNorFlash for Flash<WRITE, ERASE> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Failure> {
        check_read(self, offset, bytes.len()).map_err(Failure::Arguments)?;
        let chip = self.0.borrow();
        if chip.off {
            return Err(Failure::Power);
        }
        bytes.copy_from_slice(&chip.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.borrow().bytes.len()
    }
}

impl<const WRITE: usize, const ERASE: usize> NorFlash for Flash<WRITE, ERASE> {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Failure> {
        check_erase(self, from, to).expect("whole erase units of the device");
        let mut chip = self.0.borrow_mut();
        if chip.off {
            return Err(Failure::Power);
        }
        chip.operate(from, &vec![0xff; (to - from) as usize], true)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Failure> {
        check_write(self, offset, bytes.len()).expect("whole write units of the device");
        let mut chip = self.0.borrow_mut();
        let range = offset as usize..offset as usize + bytes.len();
        if chip.off {
            return Err(Failure::Power);
        }
        if chip.unsettled[range.clone()].contains(&true) {
            return Err(Failure::Unsettled);
        }
        assert!(chip.bytes[range].iter().all(|&b| b == 0xff), "written without an erase before");
        chip.operate(offset, bytes, false)
    }
}

/// What the CPU sees of a chip. A slice is a copy of what was there when it was asked for: that it stays as it is while it is lent, `Chip::running` checks.
pub struct View {
    chip: Rc<RefCell<Chip>>,
    seen: Seen,
}

/// A list that grows while it is lent.
#[derive(Default)]
struct Seen {
    copy: Vec<u8>,
    next: OnceCell<Box<Seen>>,
}

impl Map for View {
    fn bytes(&self, from: u32, len: u32) -> Option<&[u8]> {
        let chip = self.chip.borrow();
        let bytes = chip.bytes.get(from as usize..)?.get(..len as usize).filter(|_| !chip.off)?;
        let mut last = &self.seen;
        while let Some(next) = last.next.get() {
            last = next;
        }
        let mut copy = vec![0; bytes.len() + 64];
        let at = copy.as_ptr().align_offset(64);
        copy[at..][..bytes.len()].copy_from_slice(bytes);
        let seen = last.next.get_or_init(|| Box::new(Seen { copy, next: OnceCell::new() }));
        seen.copy.get(at..)?.get(..bytes.len())
    }
}

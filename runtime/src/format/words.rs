//! Plan data is a sequence of little-endian 32-bit words; this module turns words into typed fields and back.
//!
//! A record (tensor, step, parameters of a kernel) is declared once with `record!`; reading and writing both follow
//! from that declaration, so the compiler and the runtime cannot disagree about the layout.

/// A read-only view of little-endian words.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a>(&'a [[u8; 4]]);

impl<'a> Words<'a> {
    /// Views `bytes` as words; a tail of fewer than four bytes is not seen.
    pub fn new(bytes: &'a [u8]) -> Self {
        Words(bytes.as_chunks().0)
    }

    /// Number of whole words.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no word at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Word `i`, if it is there.
    #[inline(always)]
    pub fn get(&self, i: usize) -> Option<u32> {
        self.0.get(i).map(|b| u32::from_le_bytes(*b))
    }

    /// The words `start .. start + len`, if they are all there.
    #[inline(always)]
    pub fn slice(&self, start: usize, len: usize) -> Option<Words<'a>> {
        self.0.get(start..)?.get(..len).map(Words)
    }

    /// The record at word `at`, where it lies; `None` if its words are missing, are no valid value, or do not lie at a multiple of 4.
    #[inline(always)]
    pub(crate) fn in_place<T: bytemuck::CheckedBitPattern>(&self, at: usize) -> Option<&'a T> {
        let words = self.slice(at, size_of::<T>() / 4)?;
        bytemuck::checked::try_from_bytes(words.0.as_flattened()).ok()
    }
}

/// A value with a fixed number of words.
pub trait Record: Sized + Copy {
    /// How many words a value takes.
    const WORDS: usize;

    /// Reads a value at word `at`; `None` if the words are missing or are no valid value.
    fn read(words: &Words<'_>, at: usize) -> Option<Self>;

    /// Hands the value's words to `out`, in order.
    fn write(&self, out: &mut dyn FnMut(u32));
}

macro_rules! number {
    ($($t:ty, $from:expr, $to:expr;)*) => {$(
        impl Record for $t {
            const WORDS: usize = 1;
            #[inline(always)]
            fn read(words: &Words<'_>, at: usize) -> Option<Self> {
                let from: fn(u32) -> Option<$t> = $from;
                from(words.get(at)?)
            }
            fn write(&self, out: &mut dyn FnMut(u32)) {
                let to: fn($t) -> u32 = $to;
                out(to(*self))
            }
        }
    )*};
}

number! {
    u32, Some, |v| v;
    i32, |w| Some(w as i32), |v| v as u32;
    f32, |w| Some(f32::from_bits(w)), |v| v.to_bits();
    bool, |w| if w < 2 { Some(w == 1) } else { None }, |v| v as u32;
    crate::DType, crate::DType::from_code, |v| v as u32;
}

impl<T: Record + Default, const N: usize> Record for [T; N] {
    const WORDS: usize = N * T::WORDS;
    #[inline(always)]
    fn read(words: &Words<'_>, at: usize) -> Option<Self> {
        let mut out = [T::default(); N];
        for (i, slot) in out.iter_mut().enumerate() {
            *slot = T::read(words, at + i * T::WORDS)?;
        }
        Some(out)
    }
    fn write(&self, out: &mut dyn FnMut(u32)) {
        for v in self {
            v.write(out);
        }
    }
}

/// Declares a struct whose fields are [`Record`]s, and with it its place in the format: the fields in order.
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident: $t:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[repr(C)]
        pub struct $name { $($(#[$fmeta])* pub $field: $t,)* }

        impl $crate::format::words::Record for $name {
            const WORDS: usize = 0 $(+ <$t as $crate::format::words::Record>::WORDS)*;
            #[inline(always)]
            fn read(words: &$crate::format::words::Words<'_>, at: usize) -> Option<Self> {
                // One check for all fields: a session reads records before every step.
                let words = &words.slice(at, Self::WORDS)?;
                let mut at = 0;
                $(
                    let $field = <$t as $crate::format::words::Record>::read(words, at)?;
                    at += <$t as $crate::format::words::Record>::WORDS;
                )*
                let _ = at;
                Some($name { $($field,)* })
            }
            fn write(&self, out: &mut dyn FnMut(u32)) {
                $($crate::format::words::Record::write(&self.$field, out);)*
            }
        }
    };
}

/// Declares an enum with stable numbers that is a [`Record`] of one word.
macro_rules! code {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $n:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum $name { $($(#[$vmeta])* $variant = $n,)* }

        impl $name {
            /// Every variant, in the order of its number in the format.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];
        }

        impl $crate::format::words::Record for $name {
            const WORDS: usize = 1;
            fn read(words: &$crate::format::words::Words<'_>, at: usize) -> Option<Self> {
                match words.get(at)? {
                    $($n => Some($name::$variant),)*
                    _ => None,
                }
            }
            fn write(&self, out: &mut dyn FnMut(u32)) {
                out(*self as u32)
            }
        }
    };
}

pub(crate) use {code, record};

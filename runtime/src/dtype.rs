//! Element types of tensors.

/// Element type of a tensor. The numbers are part of the `.kgl` format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DType {
    /// 32-bit IEEE float.
    F32 = 0,
    /// Signed byte, usually quantised.
    I8 = 1,
    /// Unsigned byte, usually quantised.
    U8 = 2,
    /// Signed 16-bit integer, usually quantised.
    I16 = 3,
    /// Unsigned 16-bit integer, usually quantised.
    U16 = 4,
    /// Signed 32-bit integer (biases, indices).
    I32 = 5,
    /// Signed 64-bit integer (ONNX indices and positions).
    I64 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// 16-bit IEEE float: how a float may be stored. Kernels compute with it as with an f32, but where they say otherwise.
    F16 = 8,
}

impl DType {
    /// Every type, in the order of its number in the format.
    pub const ALL: [DType; 9] =
        [DType::F32, DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::I64, DType::Bool, DType::F16];

    /// The types that inputs and outputs of a model have: every one but f16, in which floats may be stored between steps.
    pub const PORTS: [DType; 8] =
        [DType::F32, DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::I64, DType::Bool];

    /// The type with this number in the format, if there is one.
    pub fn from_code(code: u32) -> Option<DType> {
        DType::ALL.get(code as usize).copied()
    }

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::I8 | DType::U8 | DType::Bool => 1,
            DType::I16 | DType::U16 | DType::F16 => 2,
            DType::F32 | DType::I32 => 4,
            DType::I64 => 8,
        }
    }

    /// Whether elements are floats.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16)
    }

    /// Smallest and largest value of an integer type that a quantised tensor may have; `None` for the others.
    pub const fn quantized_range(self) -> Option<(i32, i32)> {
        match self {
            DType::I8 => Some((-128, 127)),
            DType::U8 => Some((0, 255)),
            DType::I16 => Some((-32768, 32767)),
            DType::U16 => Some((0, 65535)),
            _ => None,
        }
    }

    /// Lower-case name, as reports print it.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::I8 => "i8",
            DType::U8 => "u8",
            DType::I16 => "i16",
            DType::U16 => "u16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::Bool => "bool",
            DType::F16 => "f16",
        }
    }
}

/// A Rust type that a tensor's bytes can be read as without conversion.
pub trait Element: bytemuck::Pod {
    /// The tensor type it stands for. [`DType::Bool`] is read as `u8`.
    fn matches(dtype: DType) -> bool;
}

macro_rules! element {
    ($($t:ty => $($d:ident)|+;)*) => {$(
        impl Element for $t {
            fn matches(dtype: DType) -> bool {
                matches!(dtype, $(DType::$d)|+)
            }
        }
    )*};
}

element! {
    f32 => F32;
    i8 => I8;
    u8 => U8 | Bool;
    i16 => I16;
    u16 => U16;
    i32 => I32;
    i64 => I64;
    half::f16 => F16;
}

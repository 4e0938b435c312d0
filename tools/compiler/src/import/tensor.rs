//! Constant tensors of an ONNX file.

use std::path::{Component, Path};

use kinglet::DType;
use kinglet_onnx::{Bytes, DataType, TensorProto};

use super::fits;
use crate::array::Array;

/// Why a tensor cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// In words.
    pub text: String,
    /// The tensor is in order but of a type that is not supported.
    pub unsupported: bool,
}

/// The runtime's type for an ONNX element type: that which kernels compute in. Floats of 64 and 16 bits become f32, integers of 32 and 64 bits without a
/// sign i64, and those of 4 and 2 bits bytes.
pub fn dtype_from_onnx(code: i32) -> Option<DType> {
    Some(match DataType::try_from(code).ok()? {
        DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16 => DType::F32,
        DataType::Int8 | DataType::Int4 | DataType::Int2 => DType::I8,
        DataType::Uint8 | DataType::Uint4 | DataType::Uint2 => DType::U8,
        DataType::Int16 => DType::I16,
        DataType::Uint16 => DType::U16,
        DataType::Int32 => DType::I32,
        DataType::Int64 | DataType::Uint32 | DataType::Uint64 => DType::I64,
        DataType::Bool => DType::Bool,
        _ => return None,
    })
}

/// Whether an ONNX element type is one of the runtime's, so that a tensor of it keeps its type while the model runs. (Constants
/// of other types are read all the same: what they mean is decided by where they go.)
pub fn is_native(code: i32) -> bool {
    dtype_from_onnx(code).is_some_and(|dtype| code_of(dtype) == code)
}

/// The number of the ONNX element type that is a type of the runtime.
pub fn code_of(dtype: DType) -> i32 {
    (match dtype {
        DType::F32 => DataType::Float,
        DType::I8 => DataType::Int8,
        DType::U8 => DataType::Uint8,
        DType::I16 => DataType::Int16,
        DType::U16 => DataType::Uint16,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::Bool => DataType::Bool,
        DType::F16 => DataType::Float16,
    }) as i32
}

/// Smallest and largest number of an integer type that a byte holds.
pub fn byte_range(code: i32) -> Option<(i32, i32)> {
    Some(match DataType::try_from(code).ok()? {
        DataType::Int8 => (-128, 127),
        DataType::Uint8 => (0, 255),
        DataType::Int4 => (-8, 7),
        DataType::Uint4 => (0, 15),
        DataType::Int2 => (-2, 1),
        DataType::Uint2 => (0, 3),
        _ => return None,
    })
}

/// Bits of an element of which several lie in a byte.
fn packed_bits(onnx: DataType) -> Option<usize> {
    match onnx {
        DataType::Int4 | DataType::Uint4 => Some(4),
        DataType::Int2 | DataType::Uint2 => Some(2),
        _ => None,
    }
}

/// The `n` integers of `bits` bits that lie in bytes, the first one lowest.
fn unpacked(onnx: DataType, bits: usize, n: usize, bytes: impl Iterator<Item = u8>) -> Vec<i64> {
    let each = |byte: u8| (0..8 / bits).map(move |k| i64::from(byte >> (k * bits)) & ((1 << bits) - 1));
    let signed = matches!(onnx, DataType::Int4 | DataType::Int2);
    let sign = |v: i64| if signed && v >> (bits - 1) == 1 { v - (1 << bits) } else { v };
    bytes.flat_map(each).map(sign).take(n).collect()
}

/// A float of 16 bits: the type, and its bits.
fn half(onnx: DataType, bits: u16) -> f64 {
    f64::from(match onnx {
        DataType::Bfloat16 => f32::from_bits(u32::from(bits) << 16),
        _ => kinglet::f16::from_bits(bits).to_f32(),
    })
}

/// Reads a constant tensor. External data is read from a file below `base_dir`.
///
/// # Errors
/// If the type is not supported, the data does not fit the shape, or the external file cannot be read.
pub fn array_from_proto(t: &TensorProto, base_dir: Option<&Path>) -> Result<Array, Unreadable> {
    let bad = |text: String| Unreadable { text, unsupported: false };
    let onnx = DataType::try_from(t.data_type).unwrap_or(DataType::Undefined);
    let dtype = dtype_from_onnx(t.data_type)
        .ok_or_else(|| Unreadable { text: format!("element type {onnx:?} is not supported"), unsupported: true })?;
    let shape = t.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| bad(format!("negative dimension in {:?}", t.dims)))?;
    if !fits(&shape) {
        return Err(bad(format!("shape {shape:?} is too large")));
    }
    let n = shape.iter().product::<usize>();
    let raw = if t.data_location == 1 {
        Some(external_data(t, base_dir, stored_bytes(onnx, dtype, n)).map_err(bad)?)
    } else {
        (!t.raw_data.is_empty()).then(|| t.raw_data.clone())
    };
    let mismatch = |found: usize| bad(format!("{found} elements or bytes of data for shape {shape:?}"));
    if let Some(raw) = raw {
        let wide = |size: usize, f: &dyn Fn(&[u8]) -> i64| {
            (raw.len() == n * size).then(|| Array::int(DType::I64, &shape, raw.chunks_exact(size).map(f).collect()))
        };
        if let Some(bits) = packed_bits(onnx) {
            if raw.len() != n.saturating_mul(bits).div_ceil(8) {
                return Err(mismatch(raw.len()));
            }
            return Ok(Array::int(dtype, &shape, unpacked(onnx, bits, n, raw.iter().copied())));
        }
        let array = match onnx {
            DataType::Double => (raw.len() == n * 8).then(|| {
                let f = |c: &[u8]| f64::from_le_bytes(c.try_into().expect("chunks of 8"));
                Array::f32(&shape, raw.chunks_exact(8).map(f).collect())
            }),
            DataType::Float16 | DataType::Bfloat16 => (raw.len() == n * 2).then(|| {
                let f = |c: &[u8]| half(onnx, u16::from_le_bytes(c.try_into().expect("chunks of 2")));
                Array::f32(&shape, raw.chunks_exact(2).map(f).collect()).stored()
            }),
            DataType::Uint32 => wide(4, &|c| i64::from(u32::from_le_bytes(c.try_into().expect("chunks of 4")))),
            DataType::Uint64 => wide(8, &|c| u64::from_le_bytes(c.try_into().expect("chunks of 8")) as i64),
            _ => Array::from_shared(dtype, &shape, raw.clone()),
        };
        let array = array.ok_or_else(|| mismatch(raw.len()))?;
        return held(onnx, array).map_err(bad);
    }
    if let Some(bits) = packed_bits(onnx) {
        if t.int32_data.len() != n.saturating_mul(bits).div_ceil(8) {
            return Err(mismatch(t.int32_data.len()));
        }
        return Ok(Array::int(dtype, &shape, unpacked(onnx, bits, n, t.int32_data.iter().map(|&v| v as u8))));
    }
    let array = match onnx {
        DataType::Float => {
            let reals = || Array::f32(&shape, t.float_data.iter().map(|&v| f64::from(v)).collect());
            (t.float_data.len() == n).then(|| reals().stored())
        }
        DataType::Float16 | DataType::Bfloat16 => (t.int32_data.len() == n)
            .then(|| Array::f32(&shape, t.int32_data.iter().map(|&v| half(onnx, v as u16)).collect()).stored()),
        DataType::Double => (t.double_data.len() == n).then(|| Array::f32(&shape, t.double_data.clone())),
        DataType::Int64 => (t.int64_data.len() == n).then(|| Array::int(dtype, &shape, t.int64_data.clone())),
        DataType::Uint32 | DataType::Uint64 => (t.uint64_data.len() == n)
            .then(|| Array::int(dtype, &shape, t.uint64_data.iter().map(|&v| v as i64).collect())),
        _ if t.int32_data.iter().any(|&v| !stores(dtype, v)) => {
            return Err(bad(format!("an element is out of the range of {}", dtype.name())));
        }
        _ => (t.int32_data.len() == n)
            .then(|| Array::int(dtype, &shape, t.int32_data.iter().map(|&v| i64::from(v)).collect())),
    };
    let found =
        t.float_data.len() + t.int32_data.len() + t.int64_data.len() + t.double_data.len() + t.uint64_data.len();
    held(onnx, array.ok_or_else(|| mismatch(found))?).map_err(bad)
}

/// An array whose elements i64 can hold, if they are of type UINT64.
fn held(onnx: DataType, array: Array) -> Result<Array, String> {
    if onnx == DataType::Uint64 && array.ints().iter().any(|&v| v < 0) {
        return Err("an element of type UINT64 is beyond the range of i64".into());
    }
    Ok(array)
}

/// Bytes of `n` elements in the file.
fn stored_bytes(onnx: DataType, dtype: DType, n: usize) -> Option<usize> {
    match packed_bits(onnx) {
        Some(bits) => Some(n.checked_mul(bits)?.div_ceil(8)),
        None => n.checked_mul(width(onnx, dtype)),
    }
}

/// Bytes of an element in the file.
fn width(onnx: DataType, dtype: DType) -> usize {
    match onnx {
        DataType::Double | DataType::Uint64 => 8,
        DataType::Uint32 => 4,
        DataType::Float16 | DataType::Bfloat16 => 2,
        _ => dtype.size(),
    }
}

/// Whether a type can hold this integer.
fn stores(dtype: DType, v: i32) -> bool {
    match dtype {
        DType::Bool => v == 0 || v == 1,
        other => other.quantized_range().is_none_or(|(lo, hi)| (lo..=hi).contains(&v)),
    }
}

/// The `wanted` bytes of a tensor from the file that it names, which must be a plain file in the model's folder.
fn external_data(t: &TensorProto, base_dir: Option<&Path>, wanted: Option<usize>) -> Result<Bytes, String> {
    use std::io::{Read, Seek, SeekFrom};
    let get = |key: &str| t.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let location = get("location").ok_or("external data without a location")?;
    // The file names its own data: it must not reach outside its folder, by its name or by a link.
    let inside = Path::new(location).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    let outside = || format!("external data `{location}` lies outside the model's folder");
    if !inside {
        return Err(outside());
    }
    // An empty parent is the folder the process is in.
    let folder = base_dir.ok_or("external data needs the model's folder")?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let path = folder.join(location);
    let number = |key: &str| get(key).map(|v| v.parse::<u64>().map_err(|_| format!("external data: bad {key} `{v}`")));
    let offset = number("offset").transpose()?.unwrap_or(0);
    let fail = |e: std::io::Error| format!("external data {}: {e}", path.display());
    let real = path.canonicalize().map_err(fail)?;
    if !real.starts_with(folder.canonicalize().map_err(fail)?) {
        return Err(outside());
    }
    // Opening a pipe would wait for whoever writes to it.
    if !std::fs::metadata(&real).map_err(fail)?.is_file() {
        return Err(format!("external data {} is no plain file", path.display()));
    }
    let mut file = std::fs::File::open(&real).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    let length = number("length").transpose()?.unwrap_or(size.saturating_sub(offset));
    if offset.checked_add(length).is_none_or(|end| end > size) {
        return Err(format!("external data {}: {length} bytes at {offset} go beyond its {size}", path.display()));
    }
    // Only what the shape has room for is read, however long the file is.
    let length = usize::try_from(length).ok().filter(|&n| Some(n) == wanted).ok_or_else(|| {
        format!("external data {}: {length} bytes for a tensor of shape {:?}", path.display(), t.dims)
    })?;
    let mut data = Vec::new();
    data.try_reserve_exact(length).map_err(|_| format!("no memory for {length} bytes of external data"))?;
    file.seek(SeekFrom::Start(offset)).map_err(fail)?;
    file.take(length as u64).read_to_end(&mut data).map_err(fail)?;
    if data.len() < length {
        return Err(format!("external data {} ends while it is read", path.display()));
    }
    Ok(data.into())
}

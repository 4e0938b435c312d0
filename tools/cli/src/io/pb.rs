//! Tensors as ONNX's own test suites store them: one serialised `TensorProto` a file.

use kinglet::DType;
use kinglet_compiler::array::{Array, Numbers};
use kinglet_onnx::{DataType, TensorProto};

use super::{elements, f16};

/// Reads a tensor. f64 and f16 become reals, unsigned 32- and 64-bit integers i64.
pub fn read(bytes: &[u8]) -> Result<Array, String> {
    let t = TensorProto::from_bytes(bytes).map_err(|e| format!("not an ONNX tensor: {e}"))?;
    if t.data_location == 1 {
        return Err("its data lies in another file; save the tensor with its data inside".into());
    }
    let shape = t.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| format!("negative dimension in {:?}", t.dims))?;
    let n = elements(&shape, bytes.len())?;
    let onnx = DataType::try_from(t.data_type).unwrap_or(DataType::Undefined);
    let dtype = match onnx {
        DataType::Float | DataType::Double | DataType::Float16 => DType::F32,
        DataType::Int8 => DType::I8,
        DataType::Uint8 => DType::U8,
        DataType::Int16 => DType::I16,
        DataType::Uint16 => DType::U16,
        DataType::Int32 => DType::I32,
        DataType::Int64 | DataType::Uint32 | DataType::Uint64 => DType::I64,
        DataType::Bool => DType::Bool,
        other => return Err(format!("elements of type {other:?} are not supported (floats, integers and bools are)")),
    };
    let data = if t.raw_data.is_empty() { typed(&t, onnx, dtype) } else { raw(&t.raw_data, onnx, dtype, &shape) };
    let data = data.ok_or("a value or the amount of data does not fit the tensor's type")?;
    let array = Array { dtype, shape, data };
    if array.len() == n { Ok(array) } else { Err(format!("{} elements for shape {:?}", array.len(), array.shape)) }
}

fn raw(bytes: &[u8], onnx: DataType, dtype: DType, shape: &[usize]) -> Option<Numbers> {
    Some(match onnx {
        DataType::Double => Numbers::F(bytes.as_chunks().0.iter().map(|c| f64::from_le_bytes(*c)).collect()),
        DataType::Float16 => Numbers::F(bytes.as_chunks().0.iter().map(|c| f16(u16::from_le_bytes(*c))).collect()),
        DataType::Uint32 => Numbers::I(bytes.as_chunks().0.iter().map(|c| i64::from(u32::from_le_bytes(*c))).collect()),
        DataType::Uint64 => {
            let wide = bytes.as_chunks().0.iter().map(|c| i64::try_from(u64::from_le_bytes(*c)).ok());
            Numbers::I(wide.collect::<Option<_>>()?)
        }
        _ => Array::from_bytes(dtype, shape, bytes)?.data,
    })
}

fn typed(t: &TensorProto, onnx: DataType, dtype: DType) -> Option<Numbers> {
    Some(match onnx {
        DataType::Float => Numbers::F(t.float_data.iter().map(|&v| f64::from(v)).collect()),
        DataType::Double => Numbers::F(t.double_data.clone()),
        DataType::Float16 => Numbers::F(t.int32_data.iter().map(|&v| f16(v as u16)).collect()),
        DataType::Int64 => Numbers::I(t.int64_data.clone()),
        DataType::Uint32 | DataType::Uint64 => {
            Numbers::I(t.uint64_data.iter().map(|&v| i64::try_from(v).ok()).collect::<Option<_>>()?)
        }
        _ => {
            let bool_range = (dtype == DType::Bool).then_some((0, 1));
            let (lo, hi) = dtype.quantized_range().or(bool_range).unwrap_or((i32::MIN, i32::MAX));
            let narrow = t.int32_data.iter().map(|&v| (lo..=hi).contains(&v).then_some(i64::from(v)));
            Numbers::I(narrow.collect::<Option<_>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinglet_onnx::prost::Message;

    fn tensor(ty: DataType, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: ty as i32, dims: dims.to_vec(), ..Default::default() }
    }

    #[test]
    fn typed_and_raw_data() {
        let mut t = tensor(DataType::Float, &[2]);
        t.float_data = vec![1.5, -2.0];
        assert_eq!(read(&t.encode_to_vec()).unwrap(), Array::f32(&[2], vec![1.5, -2.0]));
        let mut t = tensor(DataType::Int8, &[1, 2]);
        t.raw_data = vec![1, 0xff];
        assert_eq!(read(&t.encode_to_vec()).unwrap(), Array::int(DType::I8, &[1, 2], vec![1, -1]));
        let mut t = tensor(DataType::Int8, &[2]);
        t.int32_data = vec![1, -1];
        assert_eq!(read(&t.encode_to_vec()).unwrap(), Array::int(DType::I8, &[2], vec![1, -1]));
        let mut t = tensor(DataType::Double, &[]);
        t.raw_data = 0.1f64.to_le_bytes().to_vec();
        assert_eq!(read(&t.encode_to_vec()).unwrap(), Array::f32(&[], vec![0.1]));
        let mut t = tensor(DataType::Uint64, &[1]);
        t.uint64_data = vec![9];
        assert_eq!(read(&t.encode_to_vec()).unwrap(), Array::i64s(&[9]));
    }

    #[test]
    fn malformed_tensors_are_errors() {
        let mut short = tensor(DataType::Float, &[3]);
        short.float_data = vec![1.0];
        let mut odd = tensor(DataType::Float, &[1]);
        odd.raw_data = vec![0; 5];
        let mut huge = tensor(DataType::Float, &[i64::MAX, i64::MAX]);
        huge.float_data = vec![1.0];
        let mut large = tensor(DataType::Uint64, &[1]);
        large.uint64_data = vec![u64::MAX];
        let mut wide = tensor(DataType::Int8, &[1]);
        wide.int32_data = vec![300];
        let strings = tensor(DataType::String, &[0]);
        let negative = tensor(DataType::Float, &[-1]);
        for t in [short, odd, huge, large, wide, strings, negative] {
            assert!(read(&t.encode_to_vec()).is_err(), "{t:?}");
        }
        assert!(read(&[0xff; 20]).is_err());
    }
}

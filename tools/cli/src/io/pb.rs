//! Tensors as ONNX's own test suites store them: one serialised `TensorProto` a file.

use kinglet_compiler::array::Array;
use kinglet_compiler::array_from_proto;
use kinglet_onnx::TensorProto;

use super::Wanted;

/// Bytes of the longest file that a tensor as wanted can be in: an element takes ten where it is a negative integer, and name
/// and documentation take some.
pub fn most_bytes(wanted: &Wanted<'_>) -> u64 {
    10 * wanted.most as u64 + (1 << 20)
}

/// Reads a tensor.
pub fn read(bytes: &[u8], wanted: &Wanted<'_>) -> Result<Array, String> {
    let tensor = TensorProto::from_bytes(bytes).map_err(|e| format!("not an ONNX tensor: {e}"))?;
    let shape: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect();
    wanted.elements(&shape)?;
    array_from_proto(&tensor, None).map_err(|e| e.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinglet::DType;
    use kinglet_onnx::DataType;
    use kinglet_onnx::prost::Message;

    fn tensor(ty: DataType, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: ty as i32, dims: dims.to_vec(), ..Default::default() }
    }

    #[test]
    fn typed_and_raw_data() {
        let mut t = tensor(DataType::Float, &[2]);
        t.float_data = vec![1.5, -2.0];
        assert_eq!(read(&t.encode_to_vec(), &Wanted::up_to(9)).unwrap(), Array::f32(&[2], vec![1.5, -2.0]));
        let mut t = tensor(DataType::Int8, &[1, 2]);
        t.raw_data = vec![1, 0xff].into();
        assert_eq!(read(&t.encode_to_vec(), &Wanted::up_to(9)).unwrap(), Array::int(DType::I8, &[1, 2], vec![1, -1]));
        let mut t = tensor(DataType::Double, &[]);
        t.raw_data = 0.1f64.to_le_bytes().to_vec().into();
        assert_eq!(read(&t.encode_to_vec(), &Wanted::up_to(9)).unwrap(), Array::f32(&[], vec![0.1]));
    }

    #[test]
    fn malformed_tensors_are_errors() {
        let mut short = tensor(DataType::Float, &[3]);
        short.float_data = vec![1.0];
        let mut huge = tensor(DataType::Float, &[i64::MAX, i64::MAX]);
        huge.float_data = vec![1.0];
        let mut outside = tensor(DataType::Float, &[1]);
        outside.data_location = 1;
        let strings = tensor(DataType::String, &[0]);
        let mut many = tensor(DataType::Int8, &[10]);
        many.raw_data = vec![1; 10].into();
        for t in [short, huge, outside, strings, many] {
            assert!(read(&t.encode_to_vec(), &Wanted::up_to(9)).is_err(), "{t:?}");
        }
        assert!(read(&[0xff; 20], &Wanted::up_to(9)).is_err());
    }
}

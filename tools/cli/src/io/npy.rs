//! NumPy's `.npy` format.

use std::io::Write;

use kinglet::DType;
use kinglet_compiler::array::{Array, Numbers, strides};
use npyz::{Endianness, NpyHeader, Order, TypeChar, TypeStr, WriteOptions, WriterBuilder};

use super::{elements, f16};

/// Reads an array. f64 and f16 become reals, unsigned 32- and 64-bit integers i64.
pub fn read(bytes: &[u8]) -> Result<Array, String> {
    // A header that claims to be longer than the file would be allocated before it is read.
    let header_len = match bytes {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => usize::from(u16::from_le_bytes([*a, *b])),
        [0x93, b'N', b'U', b'M', b'P', b'Y', _, _, a, b, c, d, ..] => u32::from_le_bytes([*a, *b, *c, *d]) as usize,
        _ => return Err("not a .npy file".into()),
    };
    if header_len > bytes.len() {
        return Err("the .npy header is cut off".into());
    }
    let mut rest = bytes;
    let header =
        NpyHeader::from_reader(&mut rest).map_err(|e| format!("bad .npy header: {}", shorten(&e.to_string())))?;
    let npyz::DType::Plain(ty) = header.dtype() else {
        return Err(format!("elements of type {} are not supported", shorten(&header.dtype().descr())));
    };
    let shape: Vec<usize> = header.shape().iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect();
    let n = elements(&shape, rest.len())?;
    let size = ty.num_bytes().filter(|&s| s > 0).ok_or_else(|| unsupported(&ty))?;
    if n.checked_mul(size) != Some(rest.len()) {
        return Err(format!("shape {shape:?} of type {ty} does not fit the {} bytes of data", rest.len()));
    }
    let (dtype, data) = numbers(&ty, rest)?;
    let data = match header.order() {
        Order::C => data,
        Order::Fortran => match data {
            Numbers::F(v) => Numbers::F(from_fortran(&v, &shape)),
            Numbers::I(v) => Numbers::I(from_fortran(&v, &shape)),
        },
    };
    Ok(Array { dtype, shape, data })
}

fn unsupported(ty: &TypeStr) -> String {
    format!("elements of type {ty} are not supported (floats, integers and bools are)")
}

fn numbers(ty: &TypeStr, bytes: &[u8]) -> Result<(DType, Numbers), String> {
    let big = ty.endianness() == Endianness::Big;
    macro_rules! read {
        ($t:ty, $f:expr) => {{
            let mut word = [0; size_of::<$t>()];
            let one = |c: &[u8]| {
                word.copy_from_slice(c);
                if big {
                    word.reverse();
                }
                $f(<$t>::from_le_bytes(word))
            };
            bytes.chunks_exact(size_of::<$t>()).map(one).collect()
        }};
    }
    Ok(match (ty.type_char(), ty.size_field()) {
        (TypeChar::Float, 2) => (DType::F32, Numbers::F(read!(u16, f16))),
        (TypeChar::Float, 4) => (DType::F32, Numbers::F(read!(f32, f64::from))),
        (TypeChar::Float, 8) => (DType::F32, Numbers::F(read!(f64, |v| v))),
        (TypeChar::Int, 1) => (DType::I8, Numbers::I(read!(i8, i64::from))),
        (TypeChar::Int, 2) => (DType::I16, Numbers::I(read!(i16, i64::from))),
        (TypeChar::Int, 4) => (DType::I32, Numbers::I(read!(i32, i64::from))),
        (TypeChar::Int, 8) => (DType::I64, Numbers::I(read!(i64, |v| v))),
        (TypeChar::Uint, 1) => (DType::U8, Numbers::I(read!(u8, i64::from))),
        (TypeChar::Uint, 2) => (DType::U16, Numbers::I(read!(u16, i64::from))),
        (TypeChar::Uint, 4) => (DType::I64, Numbers::I(read!(u32, i64::from))),
        (TypeChar::Uint, 8) => {
            let wide: Vec<u64> = read!(u64, |v| v);
            let narrow: Result<Vec<i64>, _> = wide.into_iter().map(i64::try_from).collect();
            (DType::I64, Numbers::I(narrow.map_err(|_| "a value of type u64 is too large for i64")?))
        }
        (TypeChar::Bool, 1) => (DType::Bool, Numbers::I(read!(u8, |v| i64::from(v != 0)))),
        _ => return Err(unsupported(ty)),
    })
}

/// Elements that vary fastest along the first axis, brought into the order of the last.
fn from_fortran<T: Copy>(data: &[T], shape: &[usize]) -> Vec<T> {
    let mut fortran = vec![1; shape.len()];
    for d in 1..shape.len() {
        fortran[d] = fortran[d - 1] * shape[d - 1];
    }
    let own = strides(shape);
    let source = |i: usize| (0..shape.len()).map(|d| i / own[d] % shape[d] * fortran[d]).sum::<usize>();
    (0..data.len()).map(|i| data[source(i)]).collect()
}

/// Writes little-endian elements of `dtype` as a `.npy` file.
pub fn write(out: &mut dyn Write, dtype: DType, shape: &[u32], bytes: &[u8]) -> std::io::Result<()> {
    let name = match dtype {
        DType::F32 => "<f4",
        DType::I8 => "|i1",
        DType::U8 => "|u1",
        DType::I16 => "<i2",
        DType::U16 => "<u2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::Bool => "|b1",
    };
    let ty: TypeStr = name.parse().map_err(std::io::Error::other)?;
    let shape: Vec<u64> = shape.iter().map(|&d| u64::from(d)).collect();
    WriteOptions::new_header_only()
        .dtype(npyz::DType::Plain(ty))
        .shape(&shape)
        .writer(&mut *out)
        .write_header_only()?;
    out.write_all(bytes)
}

/// Error texts quote the header, which may be megabytes of nonsense.
fn shorten(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    if short.len() < text.len() { short + " …" } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut f = b"\x93NUMPY\x01\x00".to_vec();
        f.extend((header.len() as u16).to_le_bytes());
        f.extend(header.bytes());
        f.extend(data);
        f
    }

    fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
    }

    #[test]
    fn what_is_written_is_read_back() {
        for dtype in DType::ALL {
            for shape in [&[][..], &[3], &[2, 0, 3], &[2, 3, 4]] {
                let dims: Vec<usize> = shape.iter().map(|&d: &u32| d as usize).collect();
                let array = crate::random::Rng::new(1).array(dtype, &dims);
                let mut bytes = Vec::new();
                write(&mut bytes, dtype, shape, &array.to_bytes()).unwrap();
                assert_eq!(bytes.len() % 64, array.len() * dtype.size() % 64, "NumPy aligns the data");
                assert_eq!(read(&bytes).unwrap(), array);
            }
        }
    }

    #[test]
    fn other_orders_and_types() {
        let a = read(&file(&header("|u1", "True", "(2, 3)"), &[1, 4, 2, 5, 3, 6])).unwrap();
        assert_eq!(a, Array::int(DType::U8, &[2, 3], vec![1, 2, 3, 4, 5, 6]));
        let a = read(&file(&header(">i2", "False", "(2,)"), &[0, 1, 0xff, 0xfe])).unwrap();
        assert_eq!(a, Array::int(DType::I16, &[2], vec![1, -2]));
        let a = read(&file(&header("<f8", "False", "(1,)"), &0.1f64.to_le_bytes())).unwrap();
        assert_eq!(a, Array::f32(&[1], vec![0.1]));
        let a = read(&file(&header("<u4", "False", "()"), &u32::MAX.to_le_bytes())).unwrap();
        assert_eq!(a, Array::int(DType::I64, &[], vec![i64::from(u32::MAX)]));
        let nan = read(&file(&header("<f4", "False", "(1,)"), &f32::NAN.to_le_bytes())).unwrap();
        assert!(nan.reals()[0].is_nan());
    }

    #[test]
    fn malformed_files_are_errors() {
        let good = file(&header("<f4", "False", "(2,)"), &[0; 8]);
        for cut in 0..good.len() {
            assert!(read(&good[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = good.clone();
        longer.push(0);
        let bad = [
            longer,
            file(&header("<f4", "False", "(99999999999, 99999999999)"), &[0; 8]),
            file(&header("<f4", "False", "(-2,)"), &[0; 8]),
            file(&header("<c8", "False", "(1,)"), &[0; 8]),
            file(&header("|O", "False", "(1,)"), &[0; 8]),
            file(&header("<U2", "False", "(1,)"), &[0; 8]),
            file(&header("<u8", "False", "(1,)"), &[0xff; 8]),
            file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }\n", &[0; 8]),
            file(&"(".repeat(60_000), &[]),
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(),
            b"PK\x03\x04".to_vec(),
        ];
        for f in bad {
            let error = read(&f).unwrap_err();
            assert!(error.len() < 1000, "{error}");
        }
    }
}

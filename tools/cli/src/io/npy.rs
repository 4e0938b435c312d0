//! NumPy's `.npy` format: a magic number, a header that is a Python dictionary, and the elements.

use std::io::{ErrorKind, Read, Write};

use kinglet::DType;
use kinglet_compiler::array::{Array, Numbers, strides};

use super::{Wanted, f16};
use crate::memory::room;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Longest header that is read. NumPy itself reads no more than 10,000 characters unless it is told to.
const LONGEST_HEADER: usize = 1 << 16;

/// Reads an array if it is as wanted; its header tells before an element is read. f64 and f16 become reals, unsigned 32- and
/// 64-bit integers i64.
pub fn read(file: &mut dyn Read, wanted: &Wanted<'_>) -> Result<Array, String> {
    let mut begin = [0; 8];
    file.read_exact(&mut begin).map_err(|e| cut_off(e, "not a .npy file"))?;
    let version = begin.strip_prefix(MAGIC).ok_or("not a .npy file")?[0];
    let mut length = [0; 4];
    let digits = match version {
        1 => 2,
        2 | 3 => 4,
        _ => return Err(format!("version {version} of .npy is not known")),
    };
    file.read_exact(&mut length[..digits]).map_err(|e| cut_off(e, "the .npy header is cut off"))?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST_HEADER {
        return Err(format!("the .npy header is {length} bytes long, at most {LONGEST_HEADER} are read"));
    }
    let mut header = vec![0; length];
    file.read_exact(&mut header).map_err(|e| cut_off(e, "the .npy header is cut off"))?;
    let header = std::str::from_utf8(&header).map_err(|_| "the .npy header is not text")?;
    let Header { descr, fortran, shape } = Header::parse(header)?;
    let n = wanted.elements(&shape)?;
    let (dtype, data) = numbers(&descr, n, file)?;
    if file.read(&mut [0]).map_err(|e| e.to_string())? > 0 {
        return Err(format!("there is more data than {n} elements of type {descr}"));
    }
    let data = match data {
        Numbers::F(v) if fortran => Numbers::F(from_fortran(&v, &shape)?),
        Numbers::I(v) if fortran => Numbers::I(from_fortran(&v, &shape)?),
        data => data,
    };
    Ok(Array::new(dtype, shape, data))
}

/// What to say of a failed read: `at_end` if the file ends too early.
fn cut_off(error: std::io::Error, at_end: &str) -> String {
    if error.kind() == ErrorKind::UnexpectedEof { at_end.to_string() } else { error.to_string() }
}

/// What the dictionary says.
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    fn parse(text: &str) -> Result<Header, String> {
        let bad =
            || format!("the .npy header `{}` is not understood", text.trim().chars().take(200).collect::<String>());
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        let mut rest = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(bad)?.trim();
        while !rest.is_empty() {
            let (key, after) = quoted(rest).ok_or_else(bad)?;
            let value = after.trim_start().strip_prefix(':').ok_or_else(bad)?.trim_start();
            let after = match key {
                "descr" if value.starts_with('[') => return Err("arrays of records are not supported".into()),
                "descr" => {
                    let (name, after) = quoted(value).ok_or_else(bad)?;
                    descr = Some(name.to_string());
                    after
                }
                "fortran_order" => {
                    let (yes, no) = (value.strip_prefix("True"), value.strip_prefix("False"));
                    fortran = Some(yes.is_some());
                    yes.or(no).ok_or_else(bad)?
                }
                "shape" => {
                    let (dims, after) = value.strip_prefix('(').and_then(|v| v.split_once(')')).ok_or_else(bad)?;
                    let dims = dims.split(',').map(str::trim).filter(|d| !d.is_empty()).map(str::parse);
                    shape = Some(dims.collect::<Result<Vec<usize>, _>>().map_err(|_| bad())?);
                    after
                }
                _ => return Err(bad()),
            };
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if after.is_empty() => after,
                None => return Err(bad()),
            };
        }
        match (descr, fortran, shape) {
            (Some(descr), Some(fortran), Some(shape)) => Ok(Header { descr, fortran, shape }),
            _ => Err(bad()),
        }
    }
}

/// A Python string without escapes at the start of `text`, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// The `n` elements of the type that `descr` names: byte order, kind, size.
fn numbers(descr: &str, n: usize, file: &mut dyn Read) -> Result<(DType, Numbers), String> {
    let big = descr.starts_with('>');
    macro_rules! read {
        ($t:ty, $f:expr) => {{
            const SIZE: usize = size_of::<$t>();
            let mut list = room(n)?;
            // A piece at a time, converted at once: memory is that of the list.
            let mut piece = [0; 8 << 10];
            while list.len() < n {
                let piece = &mut piece[..(SIZE * (n - list.len())).min(8 << 10)];
                let short = || format!("the data ends before {n} elements of type {descr}");
                file.read_exact(piece).map_err(|e| cut_off(e, &short()))?;
                for c in piece.as_chunks::<SIZE>().0 {
                    let v = if big { <$t>::from_be_bytes(*c) } else { <$t>::from_le_bytes(*c) };
                    list.push($f(v));
                }
            }
            list
        }};
    }
    Ok(match descr.trim_start_matches(['<', '>', '|', '=']) {
        "f2" => (DType::F32, Numbers::F(read!(u16, f16))),
        "f4" => (DType::F32, Numbers::F(read!(f32, f64::from))),
        "f8" => (DType::F32, Numbers::F(read!(f64, |v| v))),
        "i1" => (DType::I8, Numbers::I(read!(i8, i64::from))),
        "i2" => (DType::I16, Numbers::I(read!(i16, i64::from))),
        "i4" => (DType::I32, Numbers::I(read!(i32, i64::from))),
        "i8" => (DType::I64, Numbers::I(read!(i64, |v| v))),
        "u1" => (DType::U8, Numbers::I(read!(u8, i64::from))),
        "u2" => (DType::U16, Numbers::I(read!(u16, i64::from))),
        "u4" => (DType::I64, Numbers::I(read!(u32, i64::from))),
        "u8" => {
            let list = read!(u64, |v: u64| v as i64);
            if list.iter().any(|&v| v < 0) {
                return Err("a value of type u64 is too large for i64".into());
            }
            (DType::I64, Numbers::I(list))
        }
        "b1" => (DType::Bool, Numbers::I(read!(u8, |v| i64::from(v != 0)))),
        _ => {
            let name: String = descr.chars().take(40).collect();
            return Err(format!("elements of type `{name}` are not supported (floats, integers and bools are)"));
        }
    })
}

/// Elements that vary fastest along the first axis, brought into the order of the last.
fn from_fortran<T: Copy>(data: &[T], shape: &[usize]) -> Result<Vec<T>, String> {
    let mut fortran = vec![1; shape.len()];
    for d in 1..shape.len() {
        fortran[d] = fortran[d - 1] * shape[d - 1];
    }
    let own = strides(shape);
    let source = |i: usize| (0..shape.len()).map(|d| i / own[d] % shape[d] * fortran[d]).sum::<usize>();
    let mut list = room(data.len())?;
    list.extend((0..data.len()).map(|i| data[source(i)]));
    Ok(list)
}

/// Writes little-endian elements of `dtype` as a `.npy` file.
pub fn write(out: &mut dyn Write, dtype: DType, shape: &[u32], bytes: &[u8]) -> std::io::Result<()> {
    let name = match dtype {
        DType::F32 => "<f4",
        DType::F16 => "<f2",
        DType::I8 => "|i1",
        DType::U8 => "|u1",
        DType::I16 => "<i2",
        DType::U16 => "<u2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::Bool => "|b1",
    };
    let dims: String = shape.iter().map(|d| format!("{d},")).collect();
    let mut header = format!("{{'descr': '{name}', 'fortran_order': False, 'shape': ({dims}), }}");
    // The data begins at a multiple of 64, as NumPy has it, and a line break ends the header.
    let before = MAGIC.len() + 4;
    let padded = (before + header.len() + 1).next_multiple_of(64) - before;
    header += &" ".repeat(padded - 1 - header.len());
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(std::io::Error::other)?;
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    out.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Array, String> {
        super::read(&mut &bytes[..], &Wanted::up_to(1000))
    }

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
        for dtype in DType::PORTS {
            for shape in [&[][..], &[3], &[2, 0, 3], &[2, 3, 4]] {
                let dims: Vec<usize> = shape.iter().map(|&d: &u32| d as usize).collect();
                let array = crate::random::Rng::new(1).array(dtype, &dims).unwrap();
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
            b"\x93NUMPY\x04\x00\x00\x00\x00\x00".to_vec(),
            b"PK\x03\x04".to_vec(),
            file("{'descr': '<f4', 'shape': (0,), }\n", &[]),
            file("{'descr': '<f4, 'shape': (0,), }\n", &[]),
            file("{\u{e9}}\n", &[]),
        ];
        for f in bad {
            let error = read(&f).unwrap_err();
            assert!(error.len() < 1000, "{error}");
        }
    }

    #[test]
    fn no_element_is_read_that_is_not_wanted() {
        /// Counts what is read, and goes on for ever.
        struct Endless<'a>(&'a [u8], usize);
        impl Read for Endless<'_> {
            fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
                self.1 += out.len();
                let n = self.0.read(out)?;
                out[n..].fill(0);
                Ok(out.len())
            }
        }
        let long = file(&header("<f4", "False", "(1000, 1000, 1000)"), &[]);
        let shape = |shape: &[usize]| if shape == [2] { Ok(()) } else { Err("not [2]".into()) };
        for (wanted, words) in
            [(Wanted::up_to(1000), "too many"), (Wanted { most: usize::MAX, check: &shape }, "not [2]")]
        {
            let mut endless = Endless(&long, 0);
            let error = super::read(&mut endless, &wanted).unwrap_err();
            assert!(error.contains(words) && endless.1 == long.len(), "{error}: {} bytes read", endless.1);
        }
        let two = file(&header("<f4", "False", "(2,)"), &[]);
        let mut endless = Endless(&two, 0);
        let error = super::read(&mut endless, &Wanted::up_to(2)).unwrap_err();
        assert!(error.contains("more data") && endless.1 == two.len() + 9, "{error}: {} bytes read", endless.1);
    }
}

//! A picture as the input of a model.

use std::path::Path;

use clap::{Args, ValueEnum};
use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder, ImageReader};
use kinglet::{DType, Tensor};
use kinglet_compiler::{DimInfo, InputInfo};

use crate::error::{Error, Result};
use crate::inputs::describe;
use crate::memory::room;
use crate::model::Source;
use crate::values;

/// Most pixels of a picture, in its file and resized: 8192 by 8192. In f32, as which they are resized, they take 800 MB.
const MAX_AREA: usize = 1 << 26;

/// How pixels become numbers. What is not given comes from the model's metadata.
#[derive(Args, Debug)]
pub struct ImageFlags {
    /// A PNG or JPEG picture for the input that nothing else is given for, resized to its height and width
    #[arg(long, value_name = "FILE")]
    pub image: Option<std::path::PathBuf>,
    /// Colours of the picture [default: metadata `kinglet.image.mode`, else what the input's channels say]
    #[arg(long, value_name = "MODE", requires = "image")]
    image_mode: Option<Mode>,
    /// Subtracted from each pixel, which is in 0..1; one number or one a channel [default: `kinglet.image.mean`, else 0]
    #[arg(long, value_name = "R,G,B", requires = "image", allow_hyphen_values = true)]
    image_mean: Option<String>,
    /// Divides each pixel after that; one number or one a channel [default: metadata `kinglet.image.std`, else 1]
    #[arg(long, value_name = "R,G,B", requires = "image")]
    image_std: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// One channel of luminance
    Gray,
    /// Red, green and blue
    Rgb,
}

/// A picture made into numbers for one input.
#[derive(Debug)]
pub struct Picture {
    /// The input.
    pub name: String,
    /// Its shape, with batch 1.
    pub shape: Vec<usize>,
    /// One value an element, in the input's order.
    pub values: Vec<f32>,
    /// The values are pixels in 0..1, neither shifted nor scaled.
    plain: bool,
}

impl ImageFlags {
    /// The flags that say how pixels become numbers, as they were given, without their dashes.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mode = self.image_mode.and_then(|m| m.to_possible_value()).map(|m| m.get_name().to_string());
        let all =
            [("image-mode", mode), ("image-mean", self.image_mean.clone()), ("image-std", self.image_std.clone())];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Reads the picture for `input`.
pub fn read(path: &Path, flags: &ImageFlags, input: &InputInfo, source: &Source) -> Result<Picture> {
    let place = Place::of(input)?;
    let channels = place.channels;
    let setting = |flag: &Option<String>, name: &str, default: f32| {
        let (origin, text) = match flag {
            Some(text) => (format!("--image-{name}"), Some(text.clone())),
            None => (format!("metadata kinglet.image.{name}"), source.metadata(&format!("kinglet.image.{name}"))),
        };
        text.map_or_else(
            || Ok(vec![default; channels]),
            |t| numbers(&t, channels, &origin).map_err(|text| said(flag.is_some(), text)),
        )
    };
    let mean = setting(&flags.image_mean, "mean", 0.0)?;
    let std = setting(&flags.image_std, "std", 1.0)?;
    if std.contains(&0.0) {
        let text = "the standard deviation of an image channel cannot be 0";
        return Err(said(flags.image_std.is_some(), text.into()));
    }
    let mode = mode(flags, channels, source)?;
    if (mode == Mode::Gray) != (channels == 1) {
        let name = if mode == Mode::Gray { "gray" } else { "rgb" };
        let text = format!("image mode {name} does not fit the {channels} channels of input {}", describe(input));
        return Err(said(flags.image_mode.is_some(), text));
    }
    let picture = decode(path)?;
    let (height, width) =
        (place.height.unwrap_or(picture.height() as usize), place.width.unwrap_or(picture.width() as usize));
    if height.checked_mul(width).is_none_or(|area| area > MAX_AREA) {
        return Err(Error::failed(format!("{width}x{height} pixels are too many for input {}", describe(input))));
    }
    let pixels = pixels(picture, mode, height, width);
    let mut values = room(pixels.len()).map_err(|e| Error::file(path, e))?;
    let area = height * width;
    for i in 0..pixels.len() {
        let (at, c) = if place.channels_last { (i, i % channels) } else { (i % area * channels + i / area, i / area) };
        values.push((pixels[at] - mean[c]) / std[c]);
    }
    let shape = if place.channels_last { vec![1, height, width, channels] } else { vec![1, channels, height, width] };
    let plain = mean.iter().all(|&m| m == 0.0) && std.iter().all(|&s| s == 1.0);
    Ok(Picture { name: input.name.clone(), shape, values, plain })
}

fn mode(flags: &ImageFlags, channels: usize, source: &Source) -> Result<Mode> {
    if let Some(mode) = flags.image_mode {
        return Ok(mode);
    }
    match source.metadata("kinglet.image.mode").as_deref() {
        Some("gray") => Ok(Mode::Gray),
        Some("rgb") => Ok(Mode::Rgb),
        Some(other) => Err(Error::failed(format!("metadata kinglet.image.mode: `{other}` is neither gray nor rgb"))),
        None => Ok(if channels == 1 { Mode::Gray } else { Mode::Rgb }),
    }
}

/// One number for each channel, or one for all.
fn numbers(text: &str, channels: usize, origin: &str) -> std::result::Result<Vec<f32>, String> {
    let list: std::result::Result<Vec<f32>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    match list {
        Ok(list) if list.iter().all(|v| v.is_finite()) && list.len() == channels => Ok(list),
        Ok(list) if list.len() == 1 && list[0].is_finite() => Ok(vec![list[0]; channels]),
        _ => Err(format!("{origin}: `{text}` is not one number, nor {channels} separated by commas")),
    }
}

/// What is wrong with a setting: wrong usage if a flag gave it, and else found in the model.
fn said(by_flag: bool, text: String) -> Error {
    if by_flag { Error::Usage(text) } else { Error::Failed(text) }
}

/// Where an image lies in an input.
struct Place {
    channels_last: bool,
    channels: usize,
    height: Option<usize>,
    width: Option<usize>,
}

impl Place {
    fn of(input: &InputInfo) -> Result<Place> {
        let size = |d: &DimInfo| match d {
            DimInfo::Fixed(n) => Some(*n),
            DimInfo::Symbol(_) => None,
        };
        let is_channels = |n: &usize| *n == 1 || *n == 3;
        if let [batch, a, b, c] = &input.dims[..]
            && size(batch).is_none_or(|n| n == 1)
        {
            if let Some(channels) = size(a).filter(is_channels) {
                return Ok(Place { channels_last: false, channels, height: size(b), width: size(c) });
            }
            if let Some(channels) = size(c).filter(is_channels) {
                return Ok(Place { channels_last: true, channels, height: size(a), width: size(b) });
            }
        }
        let text = "an image needs an input of shape 1xCxHxW or 1xHxWxC with 1 or 3 channels";
        Err(Error::usage(format!("{text}, not {}: prepare the values yourself and use --input", describe(input))))
    }
}

fn decode(path: &Path) -> Result<DynamicImage> {
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let reader = reader.map_err(|e| Error::file(path, e))?;
    let fail = |e| Error::file(path, format_args!("cannot read it as a PNG or JPEG picture: {e}"));
    let decoder = reader.into_decoder().map_err(fail)?;
    // The file says how large the picture is: a few kilobytes may promise gigabytes.
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_AREA as u64 {
        let text = format!("{width}x{height} pixels are too many, at most {MAX_AREA} are read: make it smaller");
        return Err(Error::file(path, text));
    }
    DynamicImage::from_decoder(decoder).map_err(fail)
}

/// The pixels in 0..1, row by row, channels innermost.
fn pixels(picture: DynamicImage, mode: Mode, height: usize, width: usize) -> Vec<f32> {
    let same = picture.height() as usize == height && picture.width() as usize == width;
    let (w, h) = (width as u32, height as u32);
    // In f32, because resizing 8-bit pixels would round them once more.
    match mode {
        Mode::Gray => {
            let gray = picture.to_luma32f();
            let gray = if same { gray } else { imageops::resize(&gray, w, h, FilterType::Triangle) };
            gray.into_raw()
        }
        Mode::Rgb => {
            let rgb = picture.into_rgb32f();
            let rgb = if same { rgb } else { imageops::resize(&rgb, w, h, FilterType::Triangle) };
            rgb.into_raw()
        }
    }
}

impl Picture {
    /// The bytes of the input that `tensor` describes: reals as they are, or quantised as it is.
    pub fn bytes(&self, tensor: &Tensor) -> Result<Vec<u8>> {
        if tensor.dtype() == DType::F32 {
            return Ok(self.values.iter().flat_map(|v| v.to_le_bytes()).collect());
        }
        let no_pixels = || {
            let text =
                format!("input `{}` has type {}, an image needs reals or bytes", self.name, tensor.dtype().name());
            Error::usage(text)
        };
        tensor.dtype().quantized_range().ok_or_else(no_pixels)?;
        let quantization = match tensor.quantization() {
            // Bytes that no DequantizeLinear gives a meaning are the pixels themselves.
            Some((1.0, 0)) if tensor.dtype() == DType::U8 && self.plain => (1.0 / 255.0, 0),
            Some((1.0, 0)) | None => {
                let text = "the model does not say how its integers stand for pixels: prepare them and use --input";
                return Err(Error::usage(format!("input `{}`: {text}", self.name)));
            }
            Some(quantization) => quantization,
        };
        values::quantized(&self.values, tensor.dtype(), quantization).ok_or_else(no_pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TempDir, tensor};
    use kinglet_onnx::{ModelProto, StringStringEntryProto};

    fn input(dtype: DType, dims: &[usize]) -> InputInfo {
        InputInfo {
            name: "x".into(),
            dtype,
            dims: dims.iter().map(|&d| DimInfo::Fixed(d)).collect(),
            ranked: true,
            has_default: false,
        }
    }

    fn flags(mean: Option<&str>, std: Option<&str>) -> ImageFlags {
        let own = |s: Option<&str>| s.map(String::from);
        ImageFlags { image: None, image_mode: None, image_mean: own(mean), image_std: own(std) }
    }

    fn source(metadata: &[(&str, &str)]) -> Source {
        let entry = |(k, v): &(&str, &str)| StringStringEntryProto { key: k.to_string(), value: v.to_string() };
        let model = ModelProto { metadata_props: metadata.iter().map(entry).collect(), ..Default::default() };
        Source::with_metadata(model.to_bytes())
    }

    /// A picture of 2x1 pixels, red and a grey.
    fn two_pixels(dir: &TempDir) -> std::path::PathBuf {
        let path = dir.path().join("two.png");
        image::RgbImage::from_raw(2, 1, vec![255, 0, 0, 51, 51, 51]).unwrap().save(&path).unwrap();
        path
    }

    #[test]
    fn pixels_lie_where_the_input_wants_them() {
        let dir = TempDir::new();
        let path = two_pixels(&dir);
        let plain = flags(None, None);
        let first = read(&path, &plain, &input(DType::F32, &[1, 3, 1, 2]), &source(&[])).unwrap();
        assert_eq!((first.shape, first.values), (vec![1, 3, 1, 2], vec![1.0, 0.2, 0.0, 0.2, 0.0, 0.2]));
        let last = read(&path, &plain, &input(DType::F32, &[1, 1, 2, 3]), &source(&[])).unwrap();
        assert_eq!(
            (last.shape, last.values.len()),
            (vec![1, 1, 2, 3], 6),
            "one channel in front wins over three behind"
        );
        let last = read(&path, &plain, &input(DType::F32, &[1, 4, 8, 3]), &source(&[])).unwrap();
        assert_eq!((last.shape, last.values.len()), (vec![1, 4, 8, 3], 96));
        assert!(last.values[..3].iter().zip([1.0, 0.0, 0.0]).all(|(a, b)| (a - b).abs() < 1e-6));
        let gray = read(&path, &plain, &input(DType::F32, &[1, 1, 1, 2]), &source(&[])).unwrap();
        assert!(gray.values[0] < 0.35 && (gray.values[1] - 0.2).abs() < 1e-3, "{:?}", gray.values);
    }

    #[test]
    fn flags_win_over_metadata() {
        let dir = TempDir::new();
        let path = two_pixels(&dir);
        let x = input(DType::F32, &[1, 3, 1, 2]);
        let said = source(&[("kinglet.image.mean", "0.5"), ("kinglet.image.std", "0.5, 0.25, 1")]);
        let a = read(&path, &flags(None, None), &x, &said).unwrap();
        assert_eq!(a.values, [1.0, -0.6, -2.0, -1.2, -0.5, -0.3]);
        let b = read(&path, &flags(Some("0"), Some("1")), &x, &said).unwrap();
        assert_eq!(b.values, [1.0, 0.2, 0.0, 0.2, 0.0, 0.2]);
        for (mean, std) in [(Some("a"), None), (Some("1,2"), None), (None, Some("0")), (Some("nan"), None)] {
            assert!(matches!(read(&path, &flags(mean, std), &x, &source(&[])), Err(Error::Usage(_))));
        }
        // The same mistakes in the model are no wrong usage.
        for (key, value) in [("mode", "gray"), ("mode", "cmyk"), ("mean", "a"), ("std", "0"), ("std", "1,2")] {
            let said = source(&[(&format!("kinglet.image.{key}"), value)]);
            assert!(matches!(read(&path, &flags(None, None), &x, &said), Err(Error::Failed(_))), "{key} {value}");
        }
        let gray = ImageFlags { image_mode: Some(Mode::Gray), ..flags(None, None) };
        assert!(matches!(read(&path, &gray, &x, &source(&[])), Err(Error::Usage(_))));
    }

    #[test]
    fn pixels_are_quantised_as_the_input_is() {
        let dir = TempDir::new();
        let path = two_pixels(&dir);
        let p = read(&path, &flags(None, None), &input(DType::I8, &[1, 3, 1, 2]), &source(&[])).unwrap();
        let i8s = |b: Vec<u8>| b.into_iter().map(|v| v as i8).collect::<Vec<_>>();
        assert_eq!(i8s(p.bytes(&tensor(DType::I8, 1.0 / 255.0, -128)).unwrap()), [127, -77, -128, -77, -128, -77]);
        assert_eq!(p.bytes(&tensor(DType::U8, 1.0, 0)).unwrap(), [255, 51, 0, 51, 0, 51]);
        assert_eq!(p.bytes(&tensor(DType::F32, 1.0, 0)).unwrap().len(), 24);
        assert!(p.bytes(&tensor(DType::I8, 1.0, 0)).is_err());
        assert!(p.bytes(&tensor(DType::I64, 1.0, 0)).is_err());
    }

    #[test]
    fn what_is_no_picture_or_no_place_for_one_is_an_error() {
        let dir = TempDir::new();
        let path = dir.path().join("x.png");
        std::fs::write(&path, b"no picture").unwrap();
        let x = input(DType::F32, &[1, 3, 8, 8]);
        let error = read(&path, &flags(None, None), &x, &source(&[])).unwrap_err();
        assert!(matches!(error, Error::Failed(_)) && error.to_string().contains("x.png"), "{error}");
        // A picture of 2^40 pixels in 45 bytes: its header is read, and no more.
        let mut bomb = std::fs::read(two_pixels(&dir)).unwrap();
        bomb[16..24].copy_from_slice(&[0, 16, 0, 0, 0, 16, 0, 0]);
        let crc = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        std::fs::write(&path, bomb).unwrap();
        let error = read(&path, &flags(None, None), &x, &source(&[])).unwrap_err().to_string();
        assert!(error.contains("x.png: 1048576x1048576 pixels are too many"), "{error}");
        for dims in [&[1, 2, 8, 8][..], &[3, 8, 8], &[2, 3, 8, 8]] {
            let error = read(&two_pixels(&dir), &flags(None, None), &input(DType::F32, dims), &source(&[]));
            assert!(matches!(error, Err(Error::Usage(_))), "{dims:?}");
        }
    }

    /// The checksum of a chunk of a PNG file.
    fn crc32(bytes: &[u8]) -> u32 {
        let bit = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        !bytes.iter().fold(!0, |crc, &b| (0..8).fold(crc ^ u32::from(b), |crc, _| bit(crc)))
    }
}

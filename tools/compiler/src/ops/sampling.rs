//! Samples of pictures, and boxes in them.

use kinglet::DType;

use crate::array::Array;
use crate::graph::{BinaryOp, Op, ReduceOp, SampleMode, SamplePadding, TensorId};
use crate::import::{Context, Failure};

/// `GridSample`: the channels of the picture are moved to the end, where they lie side by side, and back.
pub fn grid_sample(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, grid) = (c.input(0)?, c.input(1)?);
    let (shape, samples) = (c.shape(x), c.shape(grid));
    if [x, grid].iter().any(|&t| c.dtype(t) != DType::F32) {
        return Err(Failure::unsupported("samples of integers", "cast the picture and the grid to f32 before it"));
    }
    let axes = shape.len().saturating_sub(2);
    if axes == 0 || samples.len() != shape.len() || samples[0] != shape[0] || samples[axes + 1] != axes {
        return Err(Failure::malformed(format!("a picture {shape:?} sampled at a grid {samples:?}")));
    }
    if axes > 3 {
        return Err(Failure::unsupported(format!("a picture of {axes} axes"), "at most 3 are sampled"));
    }
    let mode = match (c.string("mode", if c.opset < 20 { "bilinear" } else { "linear" }).as_str(), c.opset < 20) {
        ("nearest", _) => SampleMode::Nearest,
        ("bilinear", true) | ("linear", false) => SampleMode::Linear,
        ("bicubic", true) | ("cubic", false) => SampleMode::Cubic,
        (other, _) => return Err(Failure::malformed(format!("the mode {other}"))),
    };
    let padding = match c.string("padding_mode", "zeros").as_str() {
        "zeros" => SamplePadding::Zeros,
        "border" => SamplePadding::Border,
        "reflection" => SamplePadding::Reflection,
        other => return Err(Failure::malformed(format!("the padding {other}"))),
    };
    let places = &samples[1..=axes];
    if shape[2..].contains(&0) && !places.contains(&0) {
        return Err(Failure::malformed("samples of a picture without pixels"));
    }
    let op = Op::GridSample { mode, padding, align_corners: c.flag("align_corners", false) };
    let last = c.moved(x, 1, axes + 1)?;
    let y = c.emit(op, &[last, grid], DType::F32, &[&samples[..=axes], &[shape[1]]].concat())?;
    let y = c.moved(y, axes + 1, 1)?;
    c.output(0, y);
    Ok(())
}

/// `RoiAlign`: the channels of the pictures are moved to the end, where they lie side by side, and back.
pub fn roi_align(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let [x, regions, pictures] = [c.input(0)?, c.input(1)?, c.input(2)?];
    let (shape, corners, of) = (c.shape(x), c.shape(regions), c.shape(pictures));
    if [x, regions].iter().any(|&t| c.dtype(t) != DType::F32) {
        return Err(Failure::unsupported("regions of integers", "cast the pictures and the regions to f32 before it"));
    }
    let (&[batch, channels, height, width], &[count, 4]) = (&shape[..], &corners[..]) else {
        return Err(Failure::malformed(format!("regions {corners:?} of pictures {shape:?}")));
    };
    if of != [count] || (count > 0 && (batch == 0 || height == 0 || width == 0)) {
        return Err(Failure::malformed(format!("{count} regions of pictures {of:?}, of shape {shape:?}")));
    }
    let number = |name: &str, default: i64| {
        let n = c.int(name, default);
        u32::try_from(n).map_err(|_| Failure::malformed(format!("{name} is {n}")))
    };
    let (down, across) = (number("output_height", 1)?, number("output_width", 1)?);
    if down == 0 || across == 0 {
        return Err(Failure::malformed(format!("an output of {down} x {across}")));
    }
    let ratio = number("sampling_ratio", 0)?;
    let scale = c.float("spatial_scale", 1.0);
    if !scale.is_finite() {
        return Err(Failure::malformed(format!("spatial_scale is {scale}")));
    }
    let shifted = if c.opset < 16 { "output_half_pixel" } else { "half_pixel" };
    let half_pixel = match c.string("coordinate_transformation_mode", shifted).as_str() {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => return Err(Failure::malformed(format!("the coordinate_transformation_mode {other}"))),
    };
    let largest = match c.string("mode", "avg").as_str() {
        "avg" => false,
        "max" => true,
        other => return Err(Failure::malformed(format!("the mode {other}"))),
    };
    let op = Op::RoiAlign { ratio, scale, half_pixel, largest };
    let last = c.moved(x, 1, 3)?;
    let y = c.emit(op, &[last, regions, pictures], DType::F32, &[count, down as usize, across as usize, channels])?;
    let y = c.moved(y, 3, 1)?;
    c.output(0, y);
    Ok(())
}

/// `NonMaxSuppression`: how many boxes are selected depends on the data, so that the output has as many rows as there may be at
/// most, if the caller says so.
pub fn non_max_suppression(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (boxes, scores) = (c.input(0)?, c.input(1)?);
    let (of_boxes, of_scores) = (c.shape(boxes), c.shape(scores));
    let (&[pictures, n, 4], &[batch, classes, scored]) = (&of_boxes[..], &of_scores[..]) else {
        return Err(Failure::malformed(format!("boxes {of_boxes:?} with scores {of_scores:?}")));
    };
    if (pictures, n) != (batch, scored) {
        return Err(Failure::malformed(format!("boxes {of_boxes:?} with scores {of_scores:?}")));
    }
    let limits = [c.given(3)?, c.given(4)?];
    if limits.iter().flatten().any(|&t| c.shape(t).iter().product::<usize>() != 1) {
        return Err(Failure::malformed("a threshold is no scalar"));
    }
    let most = match c.given(2)? {
        // Then there are none.
        None => 0,
        Some(_) => match &c.constant_ints(2, "the number of boxes")?[..] {
            &[most] => usize::try_from(most).unwrap_or(0).min(n),
            other => return Err(Failure::malformed(format!("the number of boxes is {other:?}"))),
        },
    };
    let rows = batch.saturating_mul(classes).saturating_mul(most);
    if rows == 0 {
        let none = c.add_constant(Array::int(DType::I64, &[0, 3], Vec::new()));
        c.output(0, none);
        return Ok(());
    }
    if !c.importer.options.pad_selections {
        return Err(Failure::unsupported(
            "how many boxes are selected depends on the data, and a plan's shapes are fixed",
            format!("pass --pad-selections, which makes the output [{rows}, 3], filled up with rows of -1"),
        ));
    }
    let op = Op::NonMaxSuppression { most, centers: c.flag("center_point_box", false) };
    let inputs = [Some(boxes), Some(scores), limits[0], limits[1]];
    let y = c.emit_optional(op, &inputs, DType::I64, &[rows, 3], None)?;
    c.output(0, y);
    // In the body of a loop it is another number in every trip.
    if !c.in_body() {
        let selected = count(c, y, rows)?;
        c.importer.counts.push((format!("{}.count", c.output_name(0)), selected));
    }
    Ok(())
}

/// How many rows of a padded selection are there: those whose picture is not −1.
fn count(c: &mut Context<'_, '_>, selection: TensorId, rows: usize) -> Result<TensorId, Failure> {
    let pictures = c.sliced(selection, 1, 0, 1, 1)?;
    let pictures = c.reshaped(pictures, &[rows])?;
    let none = c.add_constant(Array::i64s(&[0]));
    let there = c.binary(BinaryOp::GreaterOrEqual, pictures, none)?;
    let there = c.as_type(there, DType::I64)?;
    c.reduced(ReduceOp::Sum, there, &[0], true)
}

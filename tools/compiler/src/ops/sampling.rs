//! Samples of pictures, and boxes in them.

use kinglet::DType;

use crate::array::Array;
use crate::graph::{Op, SampleMode, SamplePadding};
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
    Ok(())
}

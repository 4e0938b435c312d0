//! Samples of pictures, and boxes in them.

use kinglet::StepKind;
use kinglet::kernels::{GridSample, NonMaxSuppression, RoiAlign};

use super::{DEFECT, Extra, Lowerer, Result, no_kernel};
use crate::graph::{Node, Op, SampleMode, SamplePadding};

impl Lowerer<'_> {
    pub(super) fn sampling(&mut self, node: &Node) -> Result<()> {
        match node.op {
            Op::GridSample { mode, padding, align_corners } => self.grid_sample(node, mode, padding, align_corners),
            Op::RoiAlign { .. } => self.roi_align(node),
            Op::NonMaxSuppression { most, centers } => self.non_max_suppression(node, most, centers),
            _ => Err(no_kernel("it samples nothing", DEFECT)),
        }
    }

    fn grid_sample(
        &mut self,
        node: &Node,
        mode: SampleMode,
        padding: SamplePadding,
        align_corners: bool,
    ) -> Result<()> {
        let [x, grid] = [0, 1].map(|i| node.inputs[i].expect("both inputs of a sampling are there"));
        let (shape, samples) = (self.shape(x), self.shape(grid));
        let axes = shape.len() - 2;
        if !(1..=3).contains(&axes) {
            return Err(no_kernel(
                format!("a picture of {axes} axes; at most 3 are sampled"),
                "sample some of them at a time",
            ));
        }
        let mut extents = [1; 3];
        for (extent, &n) in extents[3 - axes..].iter_mut().zip(&shape[1..=axes]) {
            if n > 1 << 24 {
                return Err(no_kernel(format!("an axis of {n} pixels, which f32 cannot number"), "sample parts of it"));
            }
            *extent = n as u32;
        }
        let params = GridSample {
            batch: shape[0] as u32,
            extents,
            channels: shape[axes + 1] as u32,
            rows: samples[1] as u32,
            row: samples[2..=axes].iter().product::<usize>() as u32,
            axes: axes as u32,
            mode,
            padding,
            align_corners,
        };
        let inputs = [x, grid].map(|t| Some(self.operand(t))).to_vec();
        let y = self.buffer_tensor(node.output);
        self.emit(node, StepKind::GridSample, params, inputs, y, Extra::rows(shape[0] * samples[1]));
        Ok(())
    }

    fn roi_align(&mut self, node: &Node) -> Result<()> {
        let Op::RoiAlign { ratio, scale, half_pixel, largest } = node.op else {
            return Err(no_kernel("it has no regions", DEFECT));
        };
        let [x, regions, pictures] = [0, 1, 2].map(|i| node.inputs[i].expect("all inputs of regions are there"));
        let (&[batch, height, width, channels], &[count, down, across, _]) = (self.shape(x), self.shape(node.output))
        else {
            return Err(no_kernel("its input is not of pictures", DEFECT));
        };
        if height.max(width) > 1 << 24 {
            let reason = format!("a picture of {height} x {width} pixels, which f32 cannot number");
            return Err(no_kernel(reason, "take regions of parts of it"));
        }
        let params = RoiAlign {
            batch: batch as u32,
            extents: [height, width].map(|n| n as u32),
            channels: channels as u32,
            regions: count as u32,
            bins: [down, across].map(|n| n as u32),
            ratio,
            scale,
            half_pixel,
            largest,
        };
        let inputs = [x, regions, pictures].map(|t| Some(self.operand(t))).to_vec();
        let y = self.buffer_tensor(node.output);
        self.emit(node, StepKind::RoiAlign, params, inputs, y, Extra::rows(count * down));
        Ok(())
    }

    fn non_max_suppression(&mut self, node: &Node, most: usize, centers: bool) -> Result<()> {
        let scores = node.inputs[1].expect("has scores");
        let &[batch, classes, boxes] = self.shape(scores) else {
            return Err(no_kernel("its scores are not of pictures, classes and boxes", DEFECT));
        };
        let params = NonMaxSuppression {
            batch: batch as u32,
            classes: classes as u32,
            boxes: boxes as u32,
            most: most as u32,
            centers,
        };
        let inputs = node.inputs.iter().map(|t| t.map(|t| self.operand(t))).collect();
        let y = self.buffer_tensor(node.output);
        let extra = Extra { scratch: NonMaxSuppression::scratch(boxes) as u64, ..Extra::rows(1) };
        self.emit(node, StepKind::NonMaxSuppression, params, inputs, y, extra);
        Ok(())
    }
}

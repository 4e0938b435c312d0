//! Operators by their ONNX names (operator set 17), with their shapes inferred.

use super::net::{Attribute, Net, Value};
use kinglet_onnx::DataType;

/// Windows that slide over the axes behind the first two: of a convolution or a pooling. One axis or two.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    kernel: Vec<usize>,
    pub(super) stride: usize,
    dilation: usize,
    begin: Vec<usize>,
    end: Vec<usize>,
}

impl Window {
    /// A kernel, one length an axis; stride 1, no padding.
    pub fn new(kernel: &[usize]) -> Self {
        let zeros = vec![0; kernel.len()];
        Window { kernel: kernel.to_vec(), stride: 1, dilation: 1, begin: zeros.clone(), end: zeros }
    }

    /// A square kernel over two axes.
    pub fn square(kernel: usize) -> Self {
        Window::new(&[kernel, kernel])
    }

    /// Steps of this length along every axis.
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    /// Padding on both sides of every axis.
    pub fn pad(self, pad: usize) -> Self {
        self.pads(pad, pad)
    }

    /// Padding before and behind, the same along every axis.
    pub fn pads(mut self, begin: usize, end: usize) -> Self {
        self.begin.fill(begin);
        self.end.fill(end);
        self
    }

    /// Distance between elements of the kernel.
    pub fn dilation(mut self, dilation: usize) -> Self {
        self.dilation = dilation;
        self
    }

    /// Lengths of the kernel.
    pub fn kernel(&self) -> &[usize] {
        &self.kernel
    }

    /// Lengths of the axes behind the first two after sliding over `spatial`.
    fn output(&self, spatial: &[usize]) -> Vec<usize> {
        assert_eq!(spatial.len(), self.kernel.len(), "axes of the window {self:?}");
        let axis = |i: usize| {
            let padded = spatial[i] + self.begin[i] + self.end[i];
            let span = (self.kernel[i] - 1) * self.dilation + 1;
            assert!(padded >= span, "a window of {span} does not fit into {padded}");
            (padded - span) / self.stride + 1
        };
        (0..spatial.len()).map(axis).collect()
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let rank = self.kernel.len();
        vec![
            ("kernel_shape", Attribute::ints(&self.kernel)),
            ("strides", Attribute::ints(&vec![self.stride; rank])),
            ("dilations", Attribute::ints(&vec![self.dilation; rank])),
            ("pads", Attribute::ints(&[&self.begin[..], &self.end[..]].concat())),
        ]
    }
}

/// The shape that two operands are broadcast to.
fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| if i + s.len() < rank { 1 } else { s[i + s.len() - rank] };
    let axis = |i| match (dim(a, i), dim(b, i)) {
        (x, y) if x == y || y == 1 => x,
        (1, y) => y,
        _ => panic!("{a:?} and {b:?} do not go together"),
    };
    (0..rank).map(axis).collect()
}

fn axis_of(x: &Value, axis: isize) -> usize {
    let rank = x.shape().len();
    let axis = if axis < 0 { rank.checked_add_signed(axis) } else { Some(axis as usize) };
    axis.filter(|&a| a < rank).unwrap_or_else(|| panic!("no such axis of {:?}", x.shape()))
}

impl Net<'_> {
    /// An operator of one operand that keeps its shape (`Relu`, `Sigmoid`, `Erf`, `Exp`, `Softplus`, …).
    pub fn unary(&mut self, op: &str, name: &str, x: &Value) -> Value {
        self.node(op, name, &[x], &[], x.shape())
    }

    /// An operator of two operands that broadcast (`Add`, `Sub`, `Mul`, `Div`, `Pow`, `Min`, `Max`, `PRelu`).
    pub fn binary(&mut self, op: &str, name: &str, a: &Value, b: &Value) -> Value {
        self.node(op, name, &[a, b], &[], &broadcast(a.shape(), b.shape()))
    }

    /// A comparison of two operands that broadcast (`Greater`, `Less`, `Equal`, …): booleans.
    pub fn compare(&mut self, op: &str, name: &str, a: &Value, b: &Value) -> Value {
        let shape = broadcast(a.shape(), b.shape());
        self.typed_nodes(op, name, &[a, b], &[], &[(&shape, DataType::Bool)]).remove(0)
    }

    /// Max(x, 0).
    pub fn relu(&mut self, name: &str, x: &Value) -> Value {
        self.unary("Relu", name, x)
    }

    /// 1 / (1 + e^−x).
    pub fn sigmoid(&mut self, name: &str, x: &Value) -> Value {
        self.unary("Sigmoid", name, x)
    }

    /// a + b.
    pub fn add(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.binary("Add", name, a, b)
    }

    /// a − b.
    pub fn sub(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.binary("Sub", name, a, b)
    }

    /// a · b.
    pub fn mul(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.binary("Mul", name, a, b)
    }

    /// a / b.
    pub fn div(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.binary("Div", name, a, b)
    }

    /// a^b.
    pub fn pow(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.binary("Pow", name, a, b)
    }

    /// Values limited to `min` … `max`.
    pub fn clip(&mut self, name: &str, x: &Value, min: f32, max: f32) -> Value {
        let (min, max) = (self.scalar(min), self.scalar(max));
        self.node("Clip", name, &[x, &min, &max], &[], x.shape())
    }

    /// A product of matrices, the last two axes of both operands; the others broadcast.
    pub fn matmul(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        let ((batch_a, [m, k]), (batch_b, [k_b, n])) = (matrices(a), matrices(b));
        assert_eq!(k, k_b, "{:?} times {:?}", a.shape(), b.shape());
        let mut shape = broadcast(batch_a, batch_b);
        self.count_macs(shape.iter().product::<usize>() * m * k * n);
        shape.extend([m, n]);
        self.node("MatMul", name, &[a, b], &[], &shape)
    }

    /// `x · weightᵀ + bias` for `x` `[rows, in]`, `weight` `[out, in]`, `bias` `[out]`.
    pub fn gemm(&mut self, name: &str, x: &Value, weight: &Value, bias: Option<&Value>) -> Value {
        let (&[rows, k], &[out, k_w]) = (x.shape(), weight.shape()) else { panic!("Gemm takes matrices") };
        assert_eq!(k, k_w, "`{name}`");
        self.count_macs(rows * k * out);
        let inputs: Vec<&Value> = [x, weight].into_iter().chain(bias).collect();
        self.node("Gemm", name, &inputs, &[("transB", Attribute::Int(1))], &[rows, out])
    }

    /// A convolution of `x` `[batch, in, …]` with `weight` `[out, in / group, …]` and `bias` `[out]`.
    pub fn conv(
        &mut self,
        name: &str,
        x: &Value,
        weight: &Value,
        bias: Option<&Value>,
        window: &Window,
        group: usize,
    ) -> Value {
        let (w, spatial) = (weight.shape(), window.output(&x.shape()[2..]));
        assert!(w[1] * group == x.dim(1) && w[0] % group == 0 && w[2..] == *window.kernel(), "`{name}`: weight {w:?}");
        let shape = [&[x.dim(0), w[0]], &spatial[..]].concat();
        self.count_macs(shape.iter().product::<usize>() * w[1..].iter().product::<usize>());
        let inputs: Vec<&Value> = [x, weight].into_iter().chain(bias).collect();
        let mut attributes = window.attributes();
        attributes.push(("group", Attribute::Int(group as i64)));
        self.node("Conv", name, &inputs, &attributes, &shape)
    }

    /// A transposed convolution of `x` `[batch, in, …]` with `weight` `[in, out, …]` and `bias` `[out]`;
    /// `output_padding` more elements at the end of every axis.
    pub fn conv_transpose(
        &mut self,
        name: &str,
        x: &Value,
        weight: &Value,
        bias: Option<&Value>,
        window: &Window,
        output_padding: usize,
    ) -> Value {
        let w = weight.shape();
        assert!(w[0] == x.dim(1) && w[2..] == *window.kernel(), "`{name}`: weight {w:?}");
        let axis = |i: usize| {
            let full = (x.shape()[2 + i] - 1) * window.stride + (window.kernel[i] - 1) * window.dilation + 1;
            full + output_padding - window.begin[i] - window.end[i]
        };
        let spatial: Vec<usize> = (0..window.kernel.len()).map(axis).collect();
        self.count_macs(x.len() * w[1..].iter().product::<usize>());
        let inputs: Vec<&Value> = [x, weight].into_iter().chain(bias).collect();
        let mut attributes = window.attributes();
        attributes.push(("group", Attribute::Int(1)));
        attributes.push(("output_padding", Attribute::ints(&vec![output_padding; spatial.len()])));
        self.node("ConvTranspose", name, &inputs, &attributes, &[&[x.dim(0), w[1]], &spatial[..]].concat())
    }

    /// The largest value of each window.
    pub fn max_pool(&mut self, name: &str, x: &Value, window: &Window) -> Value {
        self.pool("MaxPool", name, x, window, window.attributes())
    }

    /// The mean of each window; elements of the padding do not count.
    pub fn average_pool(&mut self, name: &str, x: &Value, window: &Window) -> Value {
        assert_eq!(window.dilation, 1, "AveragePool has dilations from operator set 19 on");
        let mut attributes = window.attributes();
        attributes.retain(|(name, _)| *name != "dilations");
        attributes.push(("count_include_pad", Attribute::Int(0)));
        self.pool("AveragePool", name, x, window, attributes)
    }

    fn pool(&mut self, op: &str, name: &str, x: &Value, window: &Window, attributes: Vec<(&str, Attribute)>) -> Value {
        let shape = [&x.shape()[..2], &window.output(&x.shape()[2..])[..]].concat();
        self.node(op, name, &[x], &attributes, &shape)
    }

    /// The mean over all axes behind the first two, which stay with length 1.
    pub fn global_average_pool(&mut self, name: &str, x: &Value) -> Value {
        let ones = vec![1; x.shape().len() - 2];
        self.node("GlobalAveragePool", name, &[x], &[], &[&x.shape()[..2], &ones[..]].concat())
    }

    /// The mean over some axes, which go or stay with length 1.
    pub fn reduce_mean(&mut self, name: &str, x: &Value, axes: &[isize], keep: bool) -> Value {
        let gone: Vec<usize> = axes.iter().map(|&a| axis_of(x, a)).collect();
        let kept = |(i, &d): (usize, &usize)| if gone.contains(&i) { keep.then_some(1) } else { Some(d) };
        let shape: Vec<usize> = x.shape().iter().enumerate().filter_map(kept).collect();
        let attributes = [("axes", Attribute::ints(&gone)), ("keepdims", Attribute::Int(i64::from(keep)))];
        self.node("ReduceMean", name, &[x], &attributes, &shape)
    }

    /// e^x over its sum along an axis.
    pub fn softmax(&mut self, name: &str, x: &Value, axis: isize) -> Value {
        let axis = axis_of(x, axis) as i64;
        self.node("Softmax", name, &[x], &[("axis", Attribute::Int(axis))], x.shape())
    }

    /// The same elements in another shape.
    pub fn reshape(&mut self, name: &str, x: &Value, shape: &[usize]) -> Value {
        assert_eq!(x.len(), shape.iter().product::<usize>(), "{:?} to {shape:?}", x.shape());
        let to = self.ints(&shape.iter().map(|&d| d as i64).collect::<Vec<_>>());
        self.typed_nodes("Reshape", name, &[x, &to], &[], &[(shape, x.dtype())]).remove(0)
    }

    /// Axes up to `axis` in one, those from it on in another.
    pub fn flatten(&mut self, name: &str, x: &Value, axis: usize) -> Value {
        let (rows, columns) = x.shape().split_at(axis);
        let shape = [rows.iter().product(), columns.iter().product()];
        self.node("Flatten", name, &[x], &[("axis", Attribute::Int(axis as i64))], &shape)
    }

    /// Axis `i` of the result is axis `perm[i]` of `x`.
    pub fn transpose(&mut self, name: &str, x: &Value, perm: &[usize]) -> Value {
        assert_eq!(perm.len(), x.shape().len(), "`{name}`");
        let shape: Vec<usize> = perm.iter().map(|&p| x.shape()[p]).collect();
        self.node("Transpose", name, &[x], &[("perm", Attribute::ints(perm))], &shape)
    }

    /// Axes of length 1, at these places of the result.
    pub fn unsqueeze(&mut self, name: &str, x: &Value, axes: &[usize]) -> Value {
        let mut rest = x.shape().iter();
        let rank = x.shape().len() + axes.len();
        let dim = |i| if axes.contains(&i) { 1 } else { *rest.next().expect("axes are distinct and below the rank") };
        let shape: Vec<usize> = (0..rank).map(dim).collect();
        let axes = self.ints(&axes.iter().map(|&a| a as i64).collect::<Vec<_>>());
        self.node("Unsqueeze", name, &[x, &axes], &[], &shape)
    }

    /// Without these axes of length 1.
    pub fn squeeze(&mut self, name: &str, x: &Value, axes: &[usize]) -> Value {
        assert!(axes.iter().all(|&a| x.shape()[a] == 1), "`{name}`: {:?} at {axes:?}", x.shape());
        let kept = x.shape().iter().enumerate().filter(|(i, _)| !axes.contains(i));
        let shape: Vec<usize> = kept.map(|(_, &d)| d).collect();
        let axes = self.ints(&axes.iter().map(|&a| a as i64).collect::<Vec<_>>());
        self.node("Squeeze", name, &[x, &axes], &[], &shape)
    }

    /// Elements `start..end` of an axis.
    pub fn slice(&mut self, name: &str, x: &Value, axis: isize, start: usize, end: usize) -> Value {
        let axis = axis_of(x, axis);
        assert!(start < end && end <= x.shape()[axis], "`{name}`: {start}..{end} of {:?}", x.shape());
        let mut shape = x.shape().to_vec();
        shape[axis] = end - start;
        let bounds = [start, end, axis].map(|v| self.ints(&[v as i64]));
        self.node("Slice", name, &[x, &bounds[0], &bounds[1], &bounds[2]], &[], &shape)
    }

    /// Parts of the lengths `sizes` along an axis.
    pub fn split(&mut self, name: &str, x: &Value, axis: isize, sizes: &[usize]) -> Vec<Value> {
        let axis = axis_of(x, axis);
        assert_eq!(sizes.iter().sum::<usize>(), x.shape()[axis], "`{name}`");
        let shapes = sizes.iter().map(|&size| {
            let mut shape = x.shape().to_vec();
            shape[axis] = size;
            shape
        });
        let shapes: Vec<Vec<usize>> = shapes.collect();
        let outputs: Vec<(&[usize], DataType)> = shapes.iter().map(|s| (&s[..], x.dtype())).collect();
        let lengths = self.ints(&sizes.iter().map(|&s| s as i64).collect::<Vec<_>>());
        self.typed_nodes("Split", name, &[x, &lengths], &[("axis", Attribute::Int(axis as i64))], &outputs)
    }

    /// The elements at one position of an axis, which goes.
    pub fn select(&mut self, name: &str, x: &Value, axis: isize, position: usize) -> Value {
        let at = self.int(position as i64);
        self.gather(name, x, &at, axis)
    }

    /// The elements of an axis at the positions `indices` (i64), whose axes take its place.
    pub fn gather(&mut self, name: &str, x: &Value, indices: &Value, axis: isize) -> Value {
        let axis = axis_of(x, axis);
        let shape = [&x.shape()[..axis], indices.shape(), &x.shape()[axis + 1..]].concat();
        let attributes = [("axis", Attribute::Int(axis as i64))];
        self.typed_nodes("Gather", name, &[x, indices], &attributes, &[(&shape, x.dtype())]).remove(0)
    }

    /// The sum over one axis, which goes.
    pub fn reduce_sum(&mut self, name: &str, x: &Value, axis: isize) -> Value {
        let axis = axis_of(x, axis);
        let shape = [&x.shape()[..axis], &x.shape()[axis + 1..]].concat();
        let axes = self.ints(&[axis as i64]);
        self.node("ReduceSum", name, &[x, &axes], &[("keepdims", Attribute::Int(0))], &shape)
    }

    /// `a` where `condition` (booleans) holds, `b` elsewhere; all three broadcast.
    pub fn choose(&mut self, name: &str, condition: &Value, a: &Value, b: &Value) -> Value {
        let shape = broadcast(condition.shape(), &broadcast(a.shape(), b.shape()));
        self.node("Where", name, &[condition, a, b], &[], &shape)
    }

    /// Parts behind each other along an axis.
    pub fn concat(&mut self, name: &str, parts: &[&Value], axis: isize) -> Value {
        let axis = axis_of(parts[0], axis);
        let mut shape = parts[0].shape().to_vec();
        shape[axis] = parts.iter().map(|p| p.shape()[axis]).sum();
        let fits = |p: &Value| shape.iter().zip(p.shape()).enumerate().all(|(i, (a, b))| i == axis || a == b);
        assert!(parts.iter().all(|p| fits(p)), "`{name}` joins parts of different shapes");
        self.node("Concat", name, parts, &[("axis", Attribute::Int(axis as i64))], &shape)
    }

    /// Broadcast to a shape.
    pub fn expand(&mut self, name: &str, x: &Value, shape: &[usize]) -> Value {
        assert_eq!(broadcast(x.shape(), shape), shape, "`{name}`");
        let to = self.ints(&shape.iter().map(|&d| d as i64).collect::<Vec<_>>());
        self.node("Expand", name, &[x, &to], &[], shape)
    }

    /// The last two axes of `[batch, channels, rows, columns]` continued by `pad` mirrored elements on each side.
    pub fn pad_reflect(&mut self, name: &str, x: &Value, pad: usize) -> Value {
        let &[batch, channels, rows, columns] = x.shape() else { panic!("`{name}` takes pictures") };
        assert!(pad < rows && pad < columns, "`{name}`: {pad} elements cannot be mirrored out of {rows}x{columns}");
        let p = pad as i64;
        let pads = self.ints(&[0, 0, p, p, 0, 0, p, p]);
        let shape = [batch, channels, rows + 2 * pad, columns + 2 * pad];
        self.node("Pad", name, &[x, &pads], &[("mode", Attribute::String("reflect"))], &shape)
    }

    /// Channels become pixels, `block` by `block`, as PyTorch's PixelShuffle has it.
    pub fn depth_to_space(&mut self, name: &str, x: &Value, block: usize) -> Value {
        let &[batch, channels, rows, columns] = x.shape() else { panic!("`{name}` takes pictures") };
        assert_eq!(channels % (block * block), 0, "`{name}`");
        let shape = [batch, channels / (block * block), rows * block, columns * block];
        let attributes = [("blocksize", Attribute::Int(block as i64)), ("mode", Attribute::String("CRD"))];
        self.node("DepthToSpace", name, &[x], &attributes, &shape)
    }
}

fn matrices(x: &Value) -> (&[usize], [usize; 2]) {
    let (batch, matrix) = x.shape().split_at(x.shape().len().checked_sub(2).expect("MatMul takes matrices"));
    (batch, [matrix[0], matrix[1]])
}

"""Recipes of `every` for operators that move elements, describe shapes, and have graphs in them."""

import numpy as np
from onnx import TensorProto, numpy_helper

from every import recipe
from every_recipes import onnx_type
from graphs import Const, f32, i64


@recipe("Identity")
def _(g):
    g.run(g.wild(2, 3))


@recipe("Flatten")
def _(g):
    g.run(g.wild(2, 3, 2), axis=2)


@recipe("Reshape")
def _(g):
    g.run(g.wild(2, 3, 2), Const(i64(0, -1)))


@recipe("Squeeze")
def _(g):
    x = g.wild(2, 1, 3)
    g.run(x, axes=[1]) if g.version < 13 else g.run(x, Const(i64(1)))


@recipe("Unsqueeze")
def _(g):
    x = g.wild(2, 3)
    g.run(x, axes=[0, 2]) if g.version < 13 else g.run(x, Const(i64(0, -2)))


@recipe("Transpose")
def _(g):
    g.run(g.wild(2, 3, 2), perm=[1, 2, 0])


@recipe("Concat")
def _(g):
    g.run(g.wild(2, 3), g.tame(2, 1), axis=1)


@recipe("Split")
def _(g):
    x = g.wild(2, 4)
    g.run(x, axis=1, split=[1, 3], outputs=2) if g.version < 13 else g.run(x, Const(i64(1, 3)), axis=1, outputs=2)


@recipe("Slice")
def _(g):
    x = g.wild(3, 4)
    if g.version < 10:
        return g.run(x, starts=[1, 0], ends=[3, -1], axes=[0, 1])
    g.run(x, *map(Const, (i64(2, 0), i64(-9, 3), i64(0, 1), i64(-1, 2))))


@recipe("Pad")
def _(g):
    x = g.wild(2, 3)
    if g.version < 11:
        return g.run(x, pads=[0, 1, 1, 2], value=0.5)
    # ONNX Runtime wants the last as one number.
    g.run(x, Const(i64(0, 1, 1, 2)), Const(np.asarray(1, g.dtype)))
    g.run(x, Const(i64(0, 1, 1, 2)), mode="reflect" if g.version < 19 else "wrap")


@recipe("Tile")
def _(g):
    g.run(g.wild(2, 3), Const(i64(2, 1)))


@recipe("Expand")
def _(g):
    g.run(g.wild(2, 1), Const(i64(3, 1, 4)))


@recipe("Gather")
def _(g):
    g.run(g.wild(3, 4), np.array([2, 0], np.int32), axis=1)
    g.run(g.wild(3, 4), np.array([[1], [-1 if g.version >= 11 else 2]], np.int64))


@recipe("GatherElements")
def _(g):
    g.run(g.wild(3, 4), i64(2, 0, -1, 1).reshape(1, 4))


@recipe("GatherND")
def _(g):
    g.run(g.wild(3, 4), i64(2, 0, 1, 3).reshape(2, 2))
    if g.version >= 12:
        g.run(g.wild(3, 4), i64(2, 0, 1).reshape(3, 1), batch_dims=1)


@recipe("Scatter ScatterElements")
def _(g):
    indices, updates = i64(2, 0, 1, 1).reshape(1, 4), g.wild(1, 4)
    g.run(g.wild(3, 4), indices, updates)
    reductions(g, indices, updates)


def reductions(g, indices, updates):
    """What updates are joined by, where ONNX Runtime has it of the type."""
    if g.dtype not in (np.float16, np.bool_):
        for reduction in ("add", "mul")[: 2 * (g.version >= 16)] + ("max", "min")[: 2 * (g.version >= 18)]:
            g.run(g.wild(3, 4), indices, updates, reduction=reduction)


@recipe("ScatterND")
def _(g):
    indices, updates = i64(2, 0).reshape(2, 1), g.wild(2, 4)
    g.run(g.wild(3, 4), indices, updates)
    reductions(g, indices, updates)


@recipe("TensorScatter")
def _(g):
    g.run(g.wild(2, 4, 2), g.tame(2, 1, 2), i64(1, 3))


@recipe("Compress")
def _(g):
    g.run(g.wild(3, 2), Const(np.array([True, False, True])), axis=0)


@recipe("DepthToSpace SpaceToDepth")
def _(g):
    x = g.wild(1, 4, 2, 2)
    g.run(x, blocksize=2)
    if g.version >= (11 if g.kind == "DepthToSpace" else 28):
        g.run(x, blocksize=2, mode="CRD")


@recipe("CenterCropPad")
def _(g):
    g.run(g.wild(3, 4), Const(i64(5, 2)))


@recipe("ReverseSequence")
def _(g):
    g.run(g.wild(3, 2), Const(i64(2, 3)))


@recipe("Trilu")
def _(g):
    g.run(g.wild(3, 4))
    g.run(g.wild(3, 4), Const(np.int64(-1)), upper=0)


@recipe("OneHot", "T3")
def _(g):
    g.run(i64(1, -1, 0), Const(np.int64(3)), Const(g.wild(2)))


@recipe("EyeLike", "T2")
def _(g):
    g.run(np.zeros((2, 3), np.float32), dtype=onnx_type(g.dtype), k=1)


@recipe("NonZero Unique")
def _(g):
    g.run(Const(g.tame(6)))


@recipe("TfIdfVectorizer")
def _(g):
    how = dict(mode="TF", min_gram_length=1, max_gram_length=2, max_skip_count=0)
    g.run(g.dtype([2, 3, 2, 5]), ngram_counts=[0, 2], ngram_indexes=[0, 1, 2], pool_int64s=[2, 3, 2, 3], **how)


# Shapes and constants.


@recipe("Shape Size")
def _(g):
    g.run(g.wild(2, 3))


@recipe("Constant", "T")
def _(g):
    g.run(value=numpy_helper.from_array(g.wild(2, 3)))


@recipe("ConstantOfShape", "T2")
def _(g):
    g.run(Const(i64(2, 3)), value=numpy_helper.from_array(np.asarray(g.positive(1)[:1])))


@recipe("Range")
def _(g):
    g.run(*(Const(g.dtype(v)) for v in (1, 9, 3)))


@recipe("BlackmanWindow HammingWindow HannWindow")
def _(g):
    g.run(Const(g.dtype(5)))


@recipe("MelWeightMatrix")
def _(g):
    g.run(*(Const(g.dtype(v)) for v in (3, 16, 100)), Const(f32(0)), Const(f32(50)))


# Sequences and optionals.


@recipe("SequenceConstruct", "T")
def _(g):
    s = g.made(g.wild(2), g.tame(2))
    g.result(g.op("SequenceAt", s, np.int64(1)))


@recipe("SequenceAt", "T")
def _(g):
    s = g.made(g.wild(2), g.tame(2), kind="SequenceConstruct")
    g.run(s, Const(np.int64(-2)))


@recipe("SequenceEmpty", "S")
def _(g):
    s = g.made(dtype=onnx_type(g.dtype))
    s = g.op("SequenceInsert", s, g.give(g.wild(2)))
    g.result(g.op("SequenceAt", s, np.int64(0)))


@recipe("SequenceErase", "S")
def _(g):
    s = g.made(g.wild(2), g.tame(2), kind="SequenceConstruct")
    g.result(g.op("SequenceAt", g.made(s, Const(np.int64(0))), np.int64(0)))


@recipe("SequenceInsert", "T")
def _(g):
    s = g.made(g.wild(2), kind="SequenceConstruct")
    g.result(g.op("SequenceAt", g.made(s, g.tame(2), Const(np.int64(0))), np.int64(0)))


@recipe("SequenceLength", "S")
def _(g):
    g.run(g.made(g.wild(2), g.tame(2), kind="SequenceConstruct"))


@recipe("ConcatFromSequence", "T")
def _(g):
    s = g.made(g.wild(2), g.tame(2), kind="SequenceConstruct")
    g.run(s, axis=0, new_axis=1)


@recipe("SplitToSequence", "T")
def _(g):
    s = g.made(g.wild(4, 2), Const(np.int64(2)))
    g.result(g.op("SequenceAt", s, np.int64(1)))


@recipe("OptionalHasElement OptionalGetElement", "O")
def _(g):
    x = g.give(g.wild(2))
    g.run(g.op("Optional", x) if g.version < 18 else x)


# Graphs in nodes.


@recipe("If", "V")
def _(g):
    x = g.give(g.wild(2, 3))
    then, other = g.body(), g.body()
    then.out(then.op("Identity", x))
    other.out(other.op("Concat", *([g.const(g.wild(1, 3))] * 2), axis=0))
    g.run(np.bool_(True), then_branch=then, else_branch=other)


@recipe("Loop", "V")
def _(g):
    body = g.body(3)
    body.scalars |= {body.inputs[0]: TensorProto.INT64, body.inputs[1]: TensorProto.BOOL}
    turned = body.op("Concat", *halves(g, body), axis=0)
    body.out(body.op("Identity", body.inputs[1]), turned, body.op("Identity", body.inputs[2]))
    g.run(Const(np.int64(3)), None, g.wild(3), body=body, outputs=2)


def halves(g, body):
    """The end and the beginning of the vector that a loop carries."""
    x, cuts = body.inputs[2], ((1, 3), (0, 1))
    if g.opset < 10:
        return [body.op("Slice", x, starts=[a], ends=[b]) for a, b in cuts]
    return [body.op("Slice", x, i64(a), i64(b)) for a, b in cuts]


@recipe("Scan", "V")
def _(g):
    body = g.body(2)
    body.out(body.op("Identity", body.inputs[1]), body.op("Concat", *body.inputs, axis=0))
    if g.version < 9:
        return g.run("", g.wild(1, 3), g.tame(1, 2, 3), body=body, num_scan_inputs=1, outputs=2)
    g.run(g.wild(3), g.tame(2, 3), body=body, num_scan_inputs=1, outputs=2)

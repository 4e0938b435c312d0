//! Recurrences: loops, the selective scan, the Legendre memory.

use super::{Call, interpret};
use crate::array::{Array, Numbers};
use crate::graph::{Body, Tensor};

/// A loop: its carried values after the last trip, then its slices, stacked.
pub(super) fn run_loop(call: &Call<'_>, body: &Body) -> Vec<Array> {
    let inputs: Vec<&Array> = (0..call.inputs.len()).map(|i| call.array(i)).collect();
    let (mut carried, rest) = split(&inputs, body.carried);
    let (scanned, captured) = rest.split_at(body.scanned);
    let slices = &body.graph.outputs[body.carried..];
    let mut stacked: Vec<Vec<Array>> = vec![Vec::with_capacity(body.trips); slices.len()];
    for trip in 0..body.trips {
        if body.ends && carried[0].ints()[0] == 0 {
            break;
        }
        let of_trip = scanned.iter().map(|x| x.cut(0, trip..trip + 1).reshaped(&x.shape[1..]));
        let all: Vec<Array> = carried.into_iter().chain(of_trip).chain(captured.iter().map(|&x| x.clone())).collect();
        let mut results = interpret(&body.graph, &all, |_, _| Ok(()), |_, _| {})
            .unwrap_or_else(|e| panic!("the body of a loop: {e}"));
        for (whole, part) in stacked.iter_mut().zip(results.drain(body.carried..)) {
            whole.push(part);
        }
        carried = results;
    }
    let stacks = stacked.iter().zip(slices).map(|(parts, &t)| stack(parts, &body.graph.tensors[t]));
    carried.into_iter().chain(stacks).collect()
}

fn split<'a, 'b>(inputs: &'b [&'a Array], at: usize) -> (Vec<Array>, &'b [&'a Array]) {
    let (first, rest) = inputs.split_at(at);
    (first.iter().map(|&a| a.clone()).collect(), rest)
}

/// Slices stacked along a new first axis.
fn stack(parts: &[Array], slice: &Tensor) -> Array {
    let shape = [&[parts.len()], &slice.shape[..]].concat();
    if slice.dtype == kinglet::DType::F32 {
        return Array::f32(&shape, parts.iter().flat_map(|p| p.reals().into_owned()).collect());
    }
    let bytes: Vec<u8> = parts.iter().flat_map(|p| p.to_bytes().into_owned()).collect();
    Array::from_shared(slice.dtype, &shape, bytes.into()).expect("slices have their own type and shape")
}

/// The selective scan: y, and the state after the last frame.
pub(super) fn selective_scan(call: &Call<'_>, softplus: bool) -> [Numbers; 2] {
    let (x, delta, a) = (call.real(0), call.real(1), call.real(2));
    let (b, c) = (call.real(3), call.real(4));
    let (d, z) = (call.get_real(5), call.get_real(6));
    let &[batch, time, inner] = x.shape else { panic!("x has the shape {:?}", x.shape) };
    let state = a.shape[1];
    let mut h = call.get_real(7).map_or_else(|| vec![0.0; batch * inner * state], |h| h.v.into_owned());
    let mut y = vec![0.0; batch * time * inner];
    for frame in 0..batch * time {
        for channel in 0..inner {
            let at = frame * inner + channel;
            let step = if softplus { delta.v[at].max(0.0) + (-delta.v[at].abs()).exp().ln_1p() } else { delta.v[at] };
            let mut sum = d.as_ref().map_or(0.0, |d| d.v[channel] * x.v[at]);
            for n in 0..state {
                let cell = &mut h[(frame / time * inner + channel) * state + n];
                *cell = (step * a.v[channel * state + n]).exp() * *cell + step * x.v[at] * b.v[frame * state + n];
                sum += *cell * c.v[frame * state + n];
            }
            y[at] = sum * z.as_ref().map_or(1.0, |z| z.v[at] / (1.0 + (-z.v[at]).exp()));
        }
    }
    [Numbers::F(y), Numbers::F(h)]
}

/// The Legendre memory of each channel after each frame.
pub(super) fn legendre_memory(call: &Call<'_>) -> Numbers {
    let (u, a, b) = (call.real(0), call.real(1), call.real(2));
    let &[batch, time, channels] = u.shape else { panic!("u has the shape {:?}", u.shape) };
    let order = b.v.len();
    let start = call.get_real(3).map_or_else(|| vec![0.0; batch * channels * order], |m| m.v.into_owned());
    let mut out = vec![0.0; batch * time * channels * order];
    for row in 0..batch * channels {
        let mut memory = start[row * order..(row + 1) * order].to_vec();
        for t in 0..time {
            let at = (row / channels * time + t) * channels + row % channels;
            let next = |i: usize| {
                let product: f64 = a.v[i * order..(i + 1) * order].iter().zip(&memory).map(|(a, m)| a * m).sum();
                product + b.v[i] * u.v[at]
            };
            memory = (0..order).map(next).collect();
            out[at * order..(at + 1) * order].copy_from_slice(&memory);
        }
    }
    Numbers::F(out)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::array::Array;
    use crate::graph::Op;
    use kinglet::DType;

    #[test]
    fn a_scan_of_one_channel_by_hand() {
        let t = |shape: &[usize], v: &[f64]| f(shape, v);
        let x = t(&[1, 2, 1], &[2.0, 3.0]);
        let delta = t(&[1, 2, 1], &[0.5, 1.0]);
        let a = t(&[1, 1], &[-1.0]);
        let b = t(&[1, 2, 1], &[1.0, 2.0]);
        let c = t(&[1, 2, 1], &[4.0, 5.0]);
        let d = t(&[1], &[10.0]);
        // h₁ = 0.5·2·1 = 1, y₁ = 4 + 20; h₂ = e⁻¹·1 + 1·3·2, y₂ = 5·h₂ + 30.
        let y =
            eval(Op::SelectiveScan { softplus: false }, &[x, delta, a, b, c, d], &like(DType::F32, &[1, 2, 1], None));
        assert_eq!(y, Array::f32(&[1, 2, 1], vec![24.0, 5.0 * ((-1f64).exp() + 6.0) + 30.0]));
    }

    #[test]
    fn a_memory_of_order_two_by_hand() {
        let u = f(&[1, 2, 1], &[1.0, -1.0]);
        let a = f(&[2, 2], &[0.5, 1.0, 0.0, 2.0]);
        let b = f(&[2], &[1.0, 3.0]);
        // m₁ = (1, 3); m₂ = (0.5 + 3 − 1, 6 − 3).
        let m = eval(Op::LegendreMemory, &[u, a, b], &like(DType::F32, &[1, 2, 1, 2], None));
        assert_eq!(m, Array::f32(&[1, 2, 1, 2], vec![1.0, 3.0, 2.5, 3.0]));
    }
}

//! `TfIdfVectorizer`.

use kinglet::DType;

use crate::array::Array;
use crate::graph::{BinaryOp, ReduceOp, TensorId};
use crate::import::{Context, Failure};

/// Most comparisons of positions with n-grams of a row.
const MOST_COMPARED: usize = 1 << 22;

/// N-grams of one length, and the column of each.
struct Grams {
    length: usize,
    items: Vec<(Vec<i64>, usize)>,
}

/// `TfIdfVectorizer` (opset 9): how often constant n-grams of integers are in each row, found by comparing every place with each.
pub fn tf_idf(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    if c.has("pool_strings") {
        return Err(Failure::unsupported("n-grams of strings", "number the words before the model runs"));
    }
    let x = c.input(0)?;
    if !matches!(c.dtype(x), DType::I32 | DType::I64) {
        return Err(Failure::malformed("its input is not int32 or int64"));
    }
    let shape = c.shape(x);
    let (rows, n) = match shape[..] {
        [n] => (1, n),
        [rows, n] => (rows, n),
        _ => return Err(Failure::malformed(format!("input of shape {shape:?}"))),
    };
    let (grams, columns) = pool(c)?;
    let mode = c.string("mode", "");
    if !matches!(&mode[..], "TF" | "IDF" | "TFIDF") {
        return Err(Failure::malformed(format!("mode `{mode}`")));
    }
    let x = c.as_type(x, DType::I64)?;
    let x = c.reshaped(x, &[rows, n])?;
    let most_skipped = c.int("max_skip_count", 0);
    let mut total: Option<TensorId> = None;
    for grams in &grams {
        let Some(counts) = counted(c, x, grams, most_skipped)? else { continue };
        // Each n-gram to its column.
        let (many, wide) = (grams.items.len(), columns);
        let to = c.reals(&[many, wide], |k| f64::from(u8::from(grams.items[k / wide].1 == k % wide)))?;
        let y = c.product(counts, to, [false, false])?;
        total = Some(match total {
            Some(total) => c.binary(BinaryOp::Add, total, y)?,
            None => y,
        });
    }
    let mut y = match total {
        Some(total) => total,
        None => c.reals(&[rows, columns], |_| 0.0)?,
    };
    if mode == "IDF" {
        y = c.binary_with(BinaryOp::Min, y, 1.0)?;
    }
    if mode != "TF"
        && let Some(weights) = c.floats("weights")
    {
        let weights = c.reals(&[columns], |k| f64::from(weights[k]))?;
        y = c.binary(BinaryOp::Mul, y, weights)?;
    }
    let out = if shape.len() == 1 { vec![columns] } else { vec![rows, columns] };
    let y = c.reshaped(y, &out)?;
    c.output(0, y);
    Ok(())
}

/// The n-grams of the lengths that are counted, and the number of columns.
fn pool(c: &Context<'_, '_>) -> Result<(Vec<Grams>, usize), Failure> {
    let list = |name: &str| c.ints(name).ok_or_else(|| Failure::malformed(format!("it has no {name}")));
    let (items, starts, to) = (list("pool_int64s")?, list("ngram_counts")?, list("ngram_indexes")?);
    let (least, most) = (c.int("min_gram_length", 0), c.int("max_gram_length", 0));
    if least < 1 || most < least || starts.len() > 64 {
        return Err(Failure::malformed(format!("n-grams of {least} to {most} in {} pools", starts.len())));
    }
    let column = |i: i64| usize::try_from(i).ok().filter(|&i| i < 1 << 24);
    let to = to.iter().map(|&i| column(i)).collect::<Option<Vec<_>>>();
    let to = to.filter(|to| !to.is_empty()).ok_or_else(|| Failure::malformed("ngram_indexes are no columns"))?;
    let columns = to.iter().max().map_or(0, |m| m + 1);
    let weights = c.floats("weights").filter(|_| c.string("mode", "") != "TF");
    let bad = || Failure::malformed("ngram_counts do not divide the pool into n-grams");
    let mut grams = Vec::new();
    let mut id = 0;
    for (i, &start) in starts.iter().enumerate() {
        let length = i + 1;
        let end = starts.get(i + 1).copied().unwrap_or(items.len() as i64);
        let part = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let part = part.and_then(|(start, end)| items.get(start..end)).ok_or_else(bad)?;
        if part.len() % length != 0 {
            return Err(bad());
        }
        let mut found: Vec<(Vec<i64>, usize)> = Vec::new();
        for gram in part.chunks(length) {
            let column = *to.get(id).ok_or_else(|| Failure::malformed("fewer ngram_indexes than n-grams"))?;
            check_weights(weights.as_deref(), id, column)?;
            found.push((gram.to_vec(), column));
            id += 1;
        }
        if (least..=most).contains(&(length as i64)) && !found.is_empty() {
            // Of the same n-gram twice the last one counts.
            found.reverse();
            found.sort_by(|a, b| a.0.cmp(&b.0));
            found.dedup_by(|later, kept| later.0 == kept.0);
            grams.push(Grams { length, items: found });
        }
    }
    if c.floats("weights").is_some_and(|w| w.len() < columns) {
        return Err(Failure::malformed("fewer weights than columns"));
    }
    Ok((grams, columns))
}

/// Weights are those of n-grams by the operator's text, and those of columns in ONNX Runtime: both must be the same.
fn check_weights(weights: Option<&[f32]>, id: usize, column: usize) -> Result<(), Failure> {
    let bits = |w: &[f32], i: usize| w.get(i).map(|v| v.to_bits());
    if weights.is_some_and(|w| bits(w, id) != bits(w, column)) {
        return Err(Failure::unsupported(
            "weights of n-grams whose columns are in another order",
            "have ngram_indexes count up from 0",
        ));
    }
    Ok(())
}

/// How often each n-gram is in each row, if a row is long enough for any.
fn counted(
    c: &mut Context<'_, '_>,
    x: TensorId,
    grams: &Grams,
    most_skipped: i64,
) -> Result<Option<TensorId>, Failure> {
    let n = c.shape(x)[1];
    // Nothing lies between the items of an n-gram that has one.
    let most_skipped = if grams.length == 1 { 0 } else { most_skipped.clamp(0, n as i64) as usize };
    let mut first: Vec<(usize, usize)> = Vec::new();
    for distance in 1..=most_skipped + 1 {
        let reach = (grams.length - 1) * distance;
        if reach >= n {
            break;
        }
        first.extend((0..n - reach).map(|i| (i, distance)));
        if first.len().saturating_mul(grams.items.len()) > MOST_COMPARED {
            return Err(Failure::unsupported("too many n-grams for the length of its input", "shorten the input"));
        }
    }
    if first.is_empty() {
        return Ok(None);
    }
    let mut all: Option<TensorId> = None;
    for item in 0..grams.length {
        let at: Vec<i64> = first.iter().map(|(i, distance)| (i + item * distance) as i64).collect();
        c.reserve(at.len() + grams.items.len(), DType::I64)?;
        let at = c.add_constant(Array::int(DType::I64, &[at.len(), 1], at));
        let wanted: Vec<i64> = grams.items.iter().map(|(gram, _)| gram[item]).collect();
        let wanted = c.add_constant(Array::i64s(&wanted));
        let here = c.gathered(x, at, 1)?;
        let same = c.binary(BinaryOp::Equal, here, wanted)?;
        all = Some(match all {
            Some(all) => c.binary(BinaryOp::And, all, same)?,
            None => same,
        });
    }
    let Some(all) = all else { return Ok(None) };
    let found = c.as_type(all, DType::F32)?;
    c.reduced(ReduceOp::Sum, found, &[1], false).map(Some)
}

//! Tables of strings.

use super::words::Words;

/// A table of strings: word 0 is their number `n`, words `1 ..= n` the byte after the end of each, then the UTF-8 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strings<'a> {
    ends: Words<'a>,
    text: &'a str,
}

impl<'a> Strings<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Strings { ends: Words::new(&[]), text: "" });
        }
        let words = Words::new(bytes);
        let n = words.get(0)? as usize;
        let ends = words.slice(1, n)?;
        let text = core::str::from_utf8(bytes.get((n + 1) * 4..)?).ok()?;
        let mut last = 0;
        for i in 0..n {
            let end = ends.get(i)? as usize;
            if end < last || !text.is_char_boundary(end) {
                return None;
            }
            last = end;
        }
        Some(Strings { ends, text })
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, i: usize) -> Option<&'a str> {
        let start = if i == 0 { 0 } else { self.ends.get(i - 1)? as usize };
        self.text.get(start..self.ends.get(i)? as usize)
    }
}

//! How a step is cut among workers.

use core::ops::Range;

/// The part of a step that one worker computes: rows of the output by columns. Columns are blocks of output channels of a
/// product; every other kind has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Output rows.
    pub rows: Range<usize>,
    /// Blocks of output channels.
    pub columns: Range<usize>,
}

impl Tile {
    /// Part `index` of `rows · columns` parts of a step, as even as they can be.
    pub fn of(size: [usize; 2], parts: [usize; 2], index: usize) -> Tile {
        let columns = parts[1].max(1);
        Tile { rows: cut(size[0], parts[0], index / columns), columns: cut(size[1], columns, index % columns) }
    }

    /// The same part so many rows further on.
    pub(crate) fn moved(self, by: usize) -> Tile {
        Tile { rows: self.rows.start + by..self.rows.end + by, ..self }
    }
}

/// Range `tile` of `tiles` nearly equal parts of `rows` rows.
pub fn cut(rows: usize, tiles: usize, tile: usize) -> Range<usize> {
    let tiles = tiles.max(1);
    let at = |t: usize| (rows as u64 * t as u64 / tiles as u64) as usize;
    at(tile)..at(tile + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_all_rows_once() {
        for rows in 0..20 {
            for tiles in 1..7 {
                let mut next = 0;
                for t in 0..tiles {
                    let r = cut(rows, tiles, t);
                    assert_eq!(r.start, next);
                    next = r.end;
                }
                assert_eq!(next, rows);
            }
        }
    }
}

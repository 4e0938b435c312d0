//! Memory whose size a file or an argument decides: that there is none is an error, not the end of the program.

/// An empty list with room for `n` elements.
pub fn room<T>(n: usize) -> Result<Vec<T>, String> {
    let mut list = Vec::new();
    reserve(&mut list, n)?;
    Ok(list)
}

/// Makes room for `n` more elements.
pub fn reserve<T>(list: &mut Vec<T>, n: usize) -> Result<(), String> {
    let bytes = n as u128 * size_of::<T>() as u128;
    list.try_reserve_exact(n).map_err(|_| format!("there is no memory for {bytes} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_an_error() {
        assert!(room::<u8>(10).is_ok_and(|list| list.capacity() >= 10));
        assert_eq!(
            room::<u64>(usize::MAX).unwrap_err(),
            format!("there is no memory for {} bytes", (u64::MAX as u128) * 8)
        );
    }
}

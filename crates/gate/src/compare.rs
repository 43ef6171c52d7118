//! memcmp(3), eight bytes at a time, for the static program. musl's compares one by one, with five instructions for each: a
//! tenth of a start went into comparing paths and keys.
//!
//! May use `unsafe`: C gives pointers.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::ffi::c_int;

/// How the first bytes that differ do.
///
/// # Safety
///
/// Both must point to `length` bytes.
#[must_use]
pub unsafe fn memcmp(one: *const u8, other: *const u8, length: usize) -> c_int {
    let mut at = 0;
    while length - at >= 8 {
        // SAFETY: these eight bytes are among the first `length`.
        let (one, other) = unsafe {
            (one.add(at).cast::<u64>().read_unaligned(), other.add(at).cast::<u64>().read_unaligned())
        };
        if one != other {
            // Of numbers that begin with their highest byte, the first byte that differs decides.
            return if one.to_be() < other.to_be() { -1 } else { 1 };
        }
        at += 8;
    }
    while at < length {
        // SAFETY: the byte is among the first `length`.
        let (one, other) = unsafe { (*one.add(at), *other.add(at)) };
        if one != other {
            return c_int::from(one) - c_int::from(other);
        }
        at += 1;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::memcmp;

    #[test]
    fn it_orders_bytes_as_slices_are_ordered() {
        let mut different = 0;
        for length in 0..24 {
            for at in 0..=length {
                for (one, other) in [(0, 1), (1, 0), (0x7f, 0x80), (0xff, 0), (7, 7)] {
                    let (mut left, mut right) = (vec![0x55; length + 1], vec![0x55; length + 1]);
                    left[at] = one;
                    right[at] = other;
                    // What lies behind counts for nothing, and neither does an opposite difference further on.
                    if at < length.saturating_sub(1) {
                        (left[length - 1], right[length - 1]) = (other, one);
                    }
                    // SAFETY: both have more bytes than that.
                    let order = unsafe { memcmp(left.as_ptr(), right.as_ptr(), length) };
                    assert_eq!(order.cmp(&0), left[..length].cmp(&right[..length]), "{left:?} {right:?}");
                    different += usize::from(order != 0);
                }
            }
        }
        assert!(different > 1000, "{different}");
    }
}

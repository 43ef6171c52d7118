//! The gate's allocator: one block of zeroed memory that the program is mapped with, then the system's.
//!
//! musl's allocator about doubles the time that parsing a config.json takes: it goes to the kernel for more
//! memory several times in a process that lives for a fifth of a millisecond, and takes a lock in a process
//! that has one thread. The hook needs a few hundred kilobytes at most and ends right after, so giving memory
//! back is work for nobody. An arena in `.bss` costs one page fault for each page that is really touched.
//!
//! The hook has the kernel make the pages that nearly every start touches in one call ([`Arena::populate`]).
//!
//! What needs more goes on with the system's allocator; nothing but speed depends on which of the two a block came from.
//!
//! May use `unsafe`: `GlobalAlloc` cannot be implemented without it.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The size that the binary uses: several times what the largest config.json seen on a node needs.
pub const SIZE: usize = 1 << 20;

/// How much of it is made at once. A start that judges a container needs 17 pages, one that is asked for nothing 11.
const POPULATED: usize = 16 * PAGE;

const PAGE: usize = 4096;

/// An allocator that cuts blocks off one arena of `N` bytes and asks the system once that is used up.
///
/// Only the last block can be given back or grown in place. That is enough for what the hook does: read a file
/// into a buffer that grows, parse it, build one string.
#[repr(C)]
pub struct Arena<const N: usize> {
    /// How much of the arena is taken. Before the arena, so that it shares the first page that is touched.
    used: AtomicUsize,
    arena: UnsafeCell<[MaybeUninit<u8>; N]>,
}

// SAFETY: the arena is only reached through blocks, and `used` hands out every byte to one owner at a time:
// it moves by compare-and-swap, so a range between its old and its new value belongs to whoever moved it.
unsafe impl<const N: usize> Sync for Arena<N> {}

impl<const N: usize> Arena<N> {
    /// A block larger than this would push everything else out of the arena.
    const LARGE: usize = N / 4;

    /// An arena of which nothing is taken yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { used: AtomicUsize::new(0), arena: UnsafeCell::new([const { MaybeUninit::uninit() }; N]) }
    }

    /// Has the kernel make the first pages now, in one call instead of one fault each, which takes twice as long.
    ///
    /// Linux before 5.14 does not know it, and one with larger pages may not take these bounds: then there are faults, no more.
    pub fn populate(&self) {
        let first = self.base().map_addr(|address| address & !(PAGE - 1));
        // SAFETY: these pages are this program's own and writable, and what is in them stays.
        unsafe { libc::madvise(first.cast(), POPULATED.min(N), libc::MADV_POPULATE_WRITE) };
    }

    fn base(&self) -> *mut u8 {
        self.arena.get().cast()
    }

    /// The offsets of a block of ours; `None` for a block of the system's.
    fn range(&self, block: *const u8, size: usize) -> Option<Range<usize>> {
        let start = block.addr().checked_sub(self.base().addr())?;
        (start < N).then(|| start..start + size)
    }

    /// Takes the next free block, or `None` if the rest of the arena is too small.
    fn take(&self, layout: Layout) -> Option<*mut u8> {
        if layout.size() > Self::LARGE {
            return None;
        }
        let base = self.base();
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let start = (base.addr() + used).checked_next_multiple_of(layout.align())? - base.addr();
            let end = start.checked_add(layout.size()).filter(|end| *end <= N)?;
            // Acquire pairs with the release in `move_end`: whoever gets a block that was given back sees
            // that its owner was done with it.
            match self.used.compare_exchange_weak(used, end, Ordering::Acquire, Ordering::Relaxed) {
                // SAFETY: start <= end <= N, so this stays inside the arena or one past its end.
                Ok(_) => return Some(unsafe { base.add(start) }),
                Err(now) => used = now,
            }
        }
    }

    /// Moves the end of the block that ends at `from`, if that is the last one and there is room.
    ///
    /// If `used` equals `from` then nothing was taken behind this block. It cannot have been moved away
    /// and back below it either, because the block itself is still taken.
    fn move_end(&self, from: usize, to: usize) -> bool {
        to <= N && self.used.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: `take` returns blocks that are aligned as asked, that lie inside the arena and that nobody else
// has; `realloc` keeps the contents up to the smaller size; whatever is not of the arena was made by `System`
// and goes back to it with the layout that its owner names. Nothing here panics or allocates.
unsafe impl<const N: usize> GlobalAlloc for Arena<N> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller vouches for the layout, which is passed on unchanged.
        self.take(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            Some(block) => {
                // A block can be second-hand, so that `.bss` is zero does not help.
                // SAFETY: the block was just taken and has this size.
                unsafe { block.write_bytes(0, layout.size()) };
                block
            }
            // SAFETY: the caller vouches for the layout, which is passed on unchanged.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.range(block, layout.size()) {
            // The last block is given back; any other stays taken until the process ends.
            Some(Range { start, end }) => _ = self.move_end(end, start),
            // SAFETY: a block that is not of the arena came from `System` with this layout.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(Range { start, end }) = self.range(block, layout.size()) else {
            // SAFETY: a block that is not of the arena came from `System` with this layout.
            return unsafe { System.realloc(block, layout, size) };
        };
        let in_place = size <= Self::LARGE && self.move_end(end, start.saturating_add(size));
        if in_place || size <= layout.size() {
            return block;
        }
        // SAFETY: the caller vouches that `size` is not zero and does not overflow when rounded up to the
        // alignment.
        let larger = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: that layout is valid, and its size is not zero.
        let moved = unsafe { self.alloc(larger) };
        if !moved.is_null() {
            // SAFETY: both blocks are at least as long as the old one and do not overlap: the old one is
            // still taken, so the new one is another.
            unsafe { ptr::copy_nonoverlapping(block, moved, layout.size()) };
            // SAFETY: the block is the caller's to give up, with the layout it was made with.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Barrier;

    const SMALL: usize = 4096;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    /// A block, filled with one byte so that an overlap shows.
    fn filled(bump: &Arena<SMALL>, size: usize, align: usize, byte: u8) -> *mut u8 {
        // SAFETY: no size of zero is asked for in these tests, and the block is written within its size.
        unsafe {
            let block = bump.alloc(layout(size, align));
            assert!(!block.is_null());
            block.write_bytes(byte, size);
            block
        }
    }

    fn holds(block: *const u8, size: usize, byte: u8) -> bool {
        // SAFETY: the tests only ask for as much of a block as they have written.
        unsafe { std::slice::from_raw_parts(block, size) }.iter().all(|b| *b == byte)
    }

    fn is_ours(bump: &Arena<SMALL>, block: *const u8) -> bool {
        bump.range(block, 1).is_some()
    }

    #[test]
    fn every_block_is_aligned_as_asked_and_overlaps_no_other() {
        let bump = Box::new(Arena::<SMALL>::new());
        let mut taken = BTreeMap::new();
        for (nth, align) in [1, 2, 64, 4, 1, 8, 16, 256, 1, 32, 128, 1, 512].into_iter().enumerate() {
            let size = 3 * nth + 1;
            let block = filled(&bump, size, align, u8::try_from(nth).unwrap());
            assert!(is_ours(&bump, block), "block {nth} of {size} bytes");
            assert_eq!(block.addr() % align, 0, "block {nth} aligned to {align}");
            taken.insert(block, (size, u8::try_from(nth).unwrap()));
        }
        for (block, (size, byte)) in &taken {
            assert!(holds(*block, *size, *byte), "block {byte} was overwritten");
        }
        let ends = taken.iter().map(|(block, (size, _))| block.addr() + size);
        assert!(ends.zip(taken.keys().skip(1)).all(|(end, next)| end <= next.addr()));
    }

    #[test]
    fn only_the_last_block_is_given_back() {
        let bump = Box::new(Arena::<SMALL>::new());
        let first = filled(&bump, 100, 1, 1);
        let second = filled(&bump, 50, 1, 2);
        // SAFETY: both blocks were made with these layouts, and neither is used after it was given back.
        unsafe {
            bump.dealloc(first, layout(100, 1));
            assert_eq!(bump.used.load(Ordering::Relaxed), 150, "a block with another behind it stays");
            bump.dealloc(second, layout(50, 1));
            assert_eq!(bump.used.load(Ordering::Relaxed), 100);
        }
        assert_eq!(filled(&bump, 10, 1, 3), second, "the room of the last block is used again");
    }

    #[test]
    fn second_hand_memory_is_zero_when_zero_is_asked_for() {
        let bump = Box::new(Arena::<SMALL>::new());
        let block = filled(&bump, 64, 8, 0xff);
        // SAFETY: the block was made with this layout and is not used again after it was given back.
        let again = unsafe {
            bump.dealloc(block, layout(64, 8));
            bump.alloc_zeroed(layout(64, 8))
        };
        assert_eq!(again, block);
        assert!(holds(again, 64, 0));
    }

    #[test]
    #[cfg_attr(miri, ignore = "it asks the kernel")]
    fn the_first_pages_are_there_before_they_are_touched_and_keep_what_they_have() {
        static FRESH: Arena<{ 1 << 20 }> = Arena::new();
        let first = FRESH.base().map_addr(|address| address & !(PAGE - 1));
        let there = || {
            let mut pages = [0; 64];
            // SAFETY: the arena has more pages than these, and there is a byte for each.
            assert_eq!(unsafe { libc::mincore(first.cast(), 64 * PAGE, pages.as_mut_ptr()) }, 0);
            pages.iter().filter(|page| **page & 1 == 1).count()
        };
        let block = FRESH.take(layout(64, 8)).unwrap();
        // SAFETY: the block has this size.
        unsafe { block.write_bytes(7, 64) };
        let before = there();
        FRESH.populate();
        let after = there();
        // All at once, where the kernel makes huge pages of their own accord.
        assert!(before == 64 || before < 4 && (16..20).contains(&after), "{before}, then {after}");
        assert!(holds(block, 64, 7));
    }

    #[test]
    fn a_block_keeps_its_contents_when_its_size_changes() {
        enum Behind {
            Nothing,
            ABlock,
        }
        use Behind::{ABlock, Nothing};
        // old size, new size, what lies behind it, stays where it is, is in the arena afterwards
        let rows = [
            (100, 200, Nothing, true, true),
            (100, 200, ABlock, false, true),
            (200, 100, Nothing, true, true),
            (200, 100, ABlock, true, true),
            (100, SMALL / 4 + 1, Nothing, false, false),
            (100, SMALL * 2, ABlock, false, false),
            (SMALL * 2, SMALL * 3, Nothing, false, false),
        ];
        for (old, new, behind, stays, ours) in rows {
            let bump = Box::new(Arena::<SMALL>::new());
            let block = filled(&bump, old, 8, 7);
            let was_ours = is_ours(&bump, block);
            if matches!(behind, ABlock) {
                filled(&bump, 1, 1, 9);
            }
            // SAFETY: the block was made with this layout; only its new address is used afterwards.
            unsafe {
                let moved = bump.realloc(block, layout(old, 8), new);
                assert_eq!(is_ours(&bump, moved), ours, "{old} to {new}");
                assert!(!was_ours || (moved == block) == stays, "{old} to {new} moved");
                assert!(holds(moved, old.min(new), 7), "{old} to {new} lost its contents");
                moved.write_bytes(8, new);
                bump.dealloc(moved, layout(new, 8));
            }
        }
    }

    #[test]
    fn growing_step_by_step_leaves_the_arena_with_all_its_bytes() {
        let bump = Box::new(Arena::<SMALL>::new());
        let mut size = 1;
        let mut block = filled(&bump, size, 1, 5);
        let mut left_at = None;
        while size < 4 * SMALL {
            let larger = size + 7;
            // SAFETY: the block has `size` bytes and is replaced by what realloc returns; of the new one the
            // part behind `size` is written before it is read.
            unsafe {
                block = bump.realloc(block, layout(size, 1), larger);
                block.add(size).write_bytes(5, larger - size);
            }
            size = larger;
            if left_at.is_none() && !is_ours(&bump, block) {
                left_at = Some(size);
            }
            assert!(holds(block, size, 5), "at {size}");
        }
        assert!(left_at.is_some_and(|at| (SMALL / 4 + 1..SMALL / 4 + 8).contains(&at)), "{left_at:?}");
        assert_eq!(bump.used.load(Ordering::Relaxed), 0, "what it left behind is free again");
        // SAFETY: the block has this layout and is not used again.
        unsafe { bump.dealloc(block, layout(size, 1)) };
    }

    #[test]
    fn a_full_arena_and_a_large_block_go_to_the_system() {
        let bump = Box::new(Arena::<SMALL>::new());
        let large = filled(&bump, SMALL / 4 + 1, 1, 1);
        assert!(!is_ours(&bump, large));
        for nth in 0..4 {
            assert!(is_ours(&bump, filled(&bump, SMALL / 4, 1, 2)), "quarter {nth}");
        }
        let late = filled(&bump, 1, 1, 3);
        assert!(!is_ours(&bump, late), "nothing is left");
        assert!(holds(late, 1, 3) && holds(large, SMALL / 4 + 1, 1));
        // SAFETY: both came from the system with these layouts and are not used again.
        unsafe {
            bump.dealloc(late, layout(1, 1));
            bump.dealloc(large, layout(SMALL / 4 + 1, 1));
        }
        assert_eq!(bump.used.load(Ordering::Relaxed), SMALL);
    }

    #[test]
    fn an_alignment_beyond_the_arena_is_no_overflow() {
        let bump = Box::new(Arena::<SMALL>::new());
        let block = filled(&bump, 16, 1 << 20, 1);
        assert_eq!(block.addr() % (1 << 20), 0);
        assert!(holds(block, 16, 1));
    }

    #[test]
    fn threads_that_take_at_the_same_time_get_different_blocks() {
        const BLOCK: usize = 16;
        for round in 0..if cfg!(miri) { 2 } else { 200 } {
            let bump = Box::new(Arena::<SMALL>::new());
            let start = Barrier::new(4);
            let take_all = || {
                start.wait();
                let blocks = std::iter::repeat_with(|| bump.take(layout(BLOCK, 1)));
                blocks.map_while(|block| block.map(<*mut u8>::addr)).collect::<Vec<_>>()
            };
            let taken: Vec<usize> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(take_all)).collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            let different: BTreeSet<_> = taken.iter().collect();
            assert_eq!(different.len(), taken.len(), "round {round}: a block was handed out twice");
            assert_eq!(taken.len(), SMALL / BLOCK, "round {round}: a block was lost");
        }
    }

    #[test]
    fn threads_that_grow_and_give_back_keep_their_bytes() {
        let rounds = if cfg!(miri) { 20 } else { 5_000 };
        let bump = Box::new(Arena::<SMALL>::new());
        std::thread::scope(|scope| {
            for id in 1..=4_u8 {
                let bump = &*bump;
                scope.spawn(move || {
                    for round in 0..rounds {
                        let (size, align) = (1 + (round * 31 + usize::from(id)) % 97, 1 << (round % 5));
                        let block = filled(bump, size, align, id);
                        // SAFETY: the layouts are those the block was made with; it is replaced by what
                        // realloc returns, and the part that is new is written before it is read.
                        unsafe {
                            let block = bump.realloc(block, layout(size, align), size + 13);
                            block.add(size).write_bytes(id, 13);
                            assert!(holds(block, size + 13, id), "thread {id}, round {round}");
                            bump.dealloc(block, layout(size + 13, align));
                        }
                    }
                });
            }
        });
    }
}

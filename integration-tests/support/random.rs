//! Ids as engines and kubelets make them, and numbers that are the same in every run.

use std::fs;
use std::io::Read as _;

/// As many random bytes as an engine's ids have, in hexadecimal.
pub(crate) fn id() -> String {
    let mut bytes = [0; 32];
    let mut source = fs::File::open("/dev/urandom").expect("/dev/urandom");
    source.read_exact(&mut bytes).expect("random bytes");
    let hexadecimal =
        |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    bytes.iter().flat_map(hexadecimal).collect()
}

/// A random id in the form of a pod's UID.
pub(crate) fn uid() -> String {
    let id = id();
    [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..32]].join("-")
}

/// The same numbers in every run (xorshift64*).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % end
    }
}

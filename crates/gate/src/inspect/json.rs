//! Reads config.json: the short way for what engines write, and serde_json for everything else.
//!
//! Most of a config.json is passed over: environment, names of system calls, copies of labels. serde_json takes 8
//! instructions for each such byte, which was half of a start. This reader compares sixteen bytes at a time, and asks for
//! nothing that a [`view`](super::spec) does not ask for.
//!
//! **It only ever says yes.** What it reads is what serde_json reads, value by value; whatever it does not know or does not
//! like is `None`, and then serde_json reads the same text from its beginning and has the last word, with line and column. So
//! it cannot become lenient by being short. Both directions are held by tests, and by the fuzz target `json`.
//!
//! May use `unsafe` in one function: SSE2 loads by a pointer.
#![allow(clippy::inline_always, reason = "the crate is compiled for size, and these are its one loop")]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::spec::Text;

/// The value that a text is, if the short way leads to its end.
pub(crate) fn read<'a, T: Read<'a>>(text: &'a str) -> Option<T> {
    let mut reader = Reader { text, at: 0 };
    let value = T::read(&mut reader)?;
    reader.peek().is_none().then_some(value)
}

/// What can be read the short way.
pub(crate) trait Read<'a>: Sized {
    /// Reads one value; `None` if it is not plainly one.
    fn read(reader: &mut Reader<'a>) -> Option<Self>;
}

/// A text, and how far it was read.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// Arrays and objects in each other beyond this are serde_json's: no engine writes so many.
const DEEPEST: u32 = u64::BITS;

impl<'a> Reader<'a> {
    /// The next byte that is no white space.
    #[inline(always)]
    fn peek(&mut self) -> Option<u8> {
        match self.text.as_bytes().get(self.at) {
            Some(byte) if *byte > b' ' => Some(*byte),
            _ => self.peek_behind_space(),
        }
    }

    /// The same, where there is some: engines write none.
    #[cold]
    fn peek_behind_space(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let length = rest.iter().position(|byte| !matches!(byte, b' ' | b'\n' | b'\t' | b'\r'))?;
        self.at += length;
        rest.get(length).copied()
    }

    /// Passes a byte, behind white space.
    #[inline(always)]
    fn pass(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Passes `true`, `false` or `null`.
    fn pass_word(&mut self, word: &str) -> Option<()> {
        self.text.as_bytes().get(self.at..)?.starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    /// Passes the beginning of an object or array; whether something is in it.
    #[inline(always)]
    fn open(&mut self, open: u8, close: u8) -> Option<bool> {
        self.pass(open)?;
        let any = self.peek()? != close;
        self.at += usize::from(!any);
        Some(any)
    }

    /// Passes what follows a value in an object or array; whether another one does.
    #[inline(always)]
    fn more(&mut self, close: u8) -> Option<bool> {
        let byte = self.peek()?;
        self.at += 1;
        (byte == b',' || byte == close).then_some(byte == b',')
    }

    /// Reads an object; `take` reads each value, by its key. Not generic: there are many kinds of objects, and this is once in
    /// the program.
    pub(crate) fn object(&mut self, take: &mut dyn FnMut(&mut Self, Text<'a>) -> Option<()>) -> Option<()> {
        let mut more = self.open(b'{', b'}')?;
        while more {
            let key = Text::read(self)?;
            self.pass(b':')?;
            take(self, key)?;
            more = self.more(b'}')?;
        }
        Some(())
    }

    /// Reads an array; `take` reads each element.
    pub(crate) fn array(&mut self, take: &mut dyn FnMut(&mut Self) -> Option<()>) -> Option<()> {
        let mut more = self.open(b'[', b']')?;
        while more {
            take(self)?;
            more = self.more(b']')?;
        }
        Some(())
    }

    /// Passes a string; whether it has escapes.
    #[inline(always)]
    fn string(&mut self) -> Option<bool> {
        self.pass(b'"')?;
        self.rest_of_string()
    }

    /// The same behind its first quote.
    #[inline(always)]
    fn rest_of_string(&mut self) -> Option<bool> {
        let mut escapes = false;
        while self.stop()? != b'"' {
            self.escape()?;
            escapes = true;
        }
        self.at += 1;
        Some(escapes)
    }

    /// Passes what is plain in a string; the byte that is not: a quote, a backslash, or one that no string has.
    #[inline(always)]
    fn stop(&mut self) -> Option<u8> {
        let mut rest = self.text.as_bytes().get(self.at..)?;
        while let Some((block, behind)) = rest.split_first_chunk::<BLOCK>() {
            let plain = plain(block);
            if let Some(stop) = block.get(plain) {
                self.at = self.text.len() - rest.len() + plain;
                return Some(*stop);
            }
            rest = behind;
        }
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        self.at = self.text.len() - rest.len() + plain;
        rest.get(plain).copied()
    }

    /// Passes strings in an array, each with its comma, as far as they have no escapes and no white space between them. What
    /// comes then, in the middle of the array, is a value again. Half of a config.json are names of system calls.
    #[inline(always)]
    fn pass_plain_strings(&mut self) {
        let mut rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        while let Some((b'"', mut inside)) = rest.split_first() {
            let mut end = BLOCK;
            while let Some((block, behind)) = inside.split_first_chunk::<BLOCK>() {
                end = plain(block);
                if end < BLOCK {
                    break;
                }
                inside = behind;
            }
            let Some([b'"', b',', behind @ ..]) = inside.get(end..) else { return };
            rest = behind;
            self.at = self.text.len() - rest.len();
        }
    }

    /// Passes an escape; `None` for a control character.
    fn escape(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes().get(self.at..)?;
        self.at += match bytes {
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'\\', b'u', digits @ ..] if digits.get(..4)?.iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return None,
        };
        Some(())
    }

    /// Passes digits, of which there must be one.
    fn digits(&mut self) -> Option<()> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.at += length;
        (length > 0).then_some(())
    }

    /// Passes one byte if it is one of these.
    fn pass_any(&mut self, bytes: &[u8]) -> bool {
        let is = self.text.as_bytes().get(self.at).is_some_and(|byte| bytes.contains(byte));
        self.at += usize::from(is);
        is
    }

    /// Passes the sign and the digits before a point.
    fn integer(&mut self) -> Option<()> {
        self.pass_any(b"-");
        if self.pass_any(b"0") { Some(()) } else { self.digits() }
    }

    /// Passes a number.
    fn number(&mut self) -> Option<()> {
        self.integer()?;
        if self.pass_any(b".") {
            self.digits()?;
        }
        if self.pass_any(b"eE") {
            self.pass_any(b"+-");
            self.digits()?;
        }
        Some(())
    }

    /// A number without point and exponent; `-0`, which is none to serde_json, is none here.
    fn whole<N: std::str::FromStr>(&mut self) -> Option<N> {
        self.peek()?;
        let from = self.at;
        self.number()?;
        let text = self.text.get(from..self.at)?;
        // Of a point or an exponent the parser of whole numbers makes nothing.
        (text != "-0").then(|| text.parse().ok()).flatten()
    }

    /// Passes a value, whatever it is, as strictly as one that is read.
    pub(crate) fn skip(&mut self) -> Option<()> {
        // What is open around the value, the innermost last: an object is a 1.
        let (mut objects, mut depth) = (0_u64, 0);
        loop {
            if depth > 0 && objects & 1 == 0 {
                self.pass_plain_strings();
            }
            let mut more = false;
            match self.peek()? {
                b'"' => _ = self.string()?,
                byte @ (b'{' | b'[') => {
                    let is_object = byte == b'{';
                    more = self.open(byte, if is_object { b'}' } else { b']' })?;
                    if more {
                        (depth < DEEPEST).then_some(())?;
                        depth += 1;
                        objects = objects << 1 | u64::from(is_object);
                    }
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.pass_word("true")?,
                b'f' => self.pass_word("false")?,
                b'n' => self.pass_word("null")?,
                _ => return None,
            }
            while !more {
                if depth == 0 {
                    return Some(());
                }
                more = self.more(if objects & 1 == 1 { b'}' } else { b']' })?;
                if !more {
                    objects >>= 1;
                    depth -= 1;
                }
            }
            if objects & 1 == 1 {
                self.string()?;
                self.pass(b':')?;
            }
        }
    }
}

/// So many bytes are compared at a time.
const BLOCK: usize = 16;

/// How many bytes of a block come before the first that ends a plain piece of a string.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(unsafe_code)]
fn plain(block: &[u8; BLOCK]) -> usize {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    // SAFETY: every x86_64 has SSE2, and a block is as long as what is read of it.
    let stops = unsafe {
        let bytes = _mm_loadu_si128(block.as_ptr().cast());
        let is_quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"'.cast_signed()));
        let is_backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\'.cast_signed()));
        let is_control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(is_quote, is_backslash), is_control))
    };
    (stops | 1 << BLOCK).trailing_zeros() as usize
}

/// The same without a register of that size.
#[cfg(not(target_arch = "x86_64"))]
fn plain(block: &[u8; BLOCK]) -> usize {
    plain_by_halves(block)
}

#[cfg(any(not(target_arch = "x86_64"), test))]
#[allow(clippy::cast_possible_truncation, reason = "a half is what is asked for")]
fn plain_by_halves(block: &[u8; BLOCK]) -> usize {
    let whole = u128::from_le_bytes(*block);
    match plain_of_eight(whole as u64) {
        8 => 8 + plain_of_eight((whole >> 64) as u64),
        found => found,
    }
}

/// Of eight bytes. Subtracting borrows from the next byte, so only the first that is found is sure.
#[cfg(any(not(target_arch = "x86_64"), test))]
fn plain_of_eight(bytes: u64) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    let below = |bytes: u64, than: u64| bytes.wrapping_sub(ONES * than) & !bytes;
    let is = |byte: u8| below(bytes ^ (ONES * u64::from(byte)), 1);
    let stops = (below(bytes, 0x20) | is(b'"') | is(b'\\')) & (ONES << 7);
    (stops.trailing_zeros() / 8) as usize
}

impl<'a> Read<'a> for Text<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        reader.pass(b'"')?;
        let from = reader.at;
        if reader.rest_of_string()? {
            return serde_json::from_str(reader.text.get(from - 1..reader.at)?).ok();
        }
        reader.text.get(from..reader.at - 1).map(|text| Text(Cow::Borrowed(text)))
    }
}

impl<'a, T: Read<'a>> Read<'a> for Option<T> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        if reader.peek()? == b'n' {
            reader.pass_word("null").map(|()| None)
        } else {
            T::read(reader).map(Some)
        }
    }
}

impl<'a, T: Read<'a>> Read<'a> for Vec<T> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let mut list = Self::new();
        reader.array(&mut |reader| T::read(reader).map(|element| list.push(element)))?;
        Some(list)
    }
}

impl<'a> Read<'a> for bool {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let is_true = reader.peek()? == b't';
        reader.pass_word(if is_true { "true" } else { "false" }).map(|()| is_true)
    }
}

impl<'a> Read<'a> for IgnoredAny {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        reader.skip().map(|()| Self)
    }
}

macro_rules! whole {
    ($($number:ty)*) => {$(
        impl<'a> Read<'a> for $number {
            fn read(reader: &mut Reader<'a>) -> Option<Self> {
                reader.whole()
            }
        }
    )*};
}

whole! { u32 i32 i64 }

/// What the short way and serde_json each make of a text.
#[cfg(fuzzing)]
#[must_use]
pub fn both_ways(
    text: &str,
) -> (Option<super::spec::Spec<'_>>, Result<super::spec::Spec<'_>, serde_json::Error>) {
    (read(text), serde_json::from_str(text))
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::fs;
    use std::path::{Path, PathBuf};

    use serde::Deserialize;
    use serde::de::IgnoredAny;

    use super::{BLOCK, DEEPEST, Read, plain, plain_by_halves, read};
    use crate::inspect::spec::{Spec, State, Text};

    /// Reads a text both ways, which must agree; whether it was read.
    fn agree<'a, T: Read<'a> + Deserialize<'a> + Debug>(text: &'a str) -> bool {
        let (short, long) = (read::<T>(text), serde_json::from_str::<T>(text));
        match (&short, &long) {
            (Some(short), Ok(long)) => assert_eq!(format!("{short:?}"), format!("{long:?}"), "{text}"),
            (None, Err(_)) => {}
            _ => panic!("{short:?}, but {long:?}: {text}"),
        }
        short.is_some()
    }

    /// Every config.json of the corpus and of the benchmark.
    fn captured() -> Vec<String> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else if path.ends_with("config.json") {
                    found.push(path);
                }
            }
        }
        let mut paths = Vec::new();
        for folder in ["../../integration-tests/corpus", "../../benches/fixtures"] {
            walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut paths);
        }
        paths.sort();
        paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn what_engines_write_is_read_the_short_way_and_as_serde_json_reads_it() {
        let captured = captured();
        assert!(captured.len() > 50, "{}", captured.len());
        for text in &captured {
            assert!(agree::<Spec<'_>>(text), "left to serde_json: {text}");
        }
    }

    #[test]
    fn what_is_changed_anywhere_is_read_alike_or_refused_alike() {
        const PIECES: [&str; 24] = [
            "\"",
            "\\",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "0",
            "-",
            ".",
            "e",
            " ",
            "\n",
            "\0",
            "\u{1f}",
            "\u{7f}",
            "é",
            "null",
            "true",
            "\\u0000",
            "\\ud800",
            "\"linux\":",
            "[[1e5]],",
        ];
        let mut seed = 1_u64;
        let mut below = |end: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % end
        };
        let (mut taken, mut refused) = (0, 0);
        let captured = captured();
        for _ in 0..if cfg!(miri) { 5 } else { 3000 } {
            let mut text = captured[below(captured.len())].clone();
            for _ in 0..=below(3) {
                let mut ends = [below(text.len()), below(text.len())];
                if below(4) > 0 {
                    ends[1] = ends[0] + below(2);
                }
                ends.sort_unstable();
                let [from, to] = ends.map(|end| text.floor_char_boundary(end));
                text.replace_range(from..to, PIECES[below(PIECES.len())]);
            }
            *(if agree::<Spec<'_>>(&text) { &mut taken } else { &mut refused }) += 1;
        }
        assert!(cfg!(miri) || taken.min(refused) > 300, "{taken} {refused}");
    }

    /// What each object has, by its keys: `s` a text, `b` a truth, `n` a number, `x` whatever, `k` an object of whatever, `a` an
    /// object of texts, another letter an object of this list; a capital letter an array of these.
    const SHAPE: &[(char, &[(&str, char)])] = &[
        (
            'o',
            &[
                ("annotations", 'a'),
                ("process", 'p'),
                ("root", 'r'),
                ("mounts", 'M'),
                ("linux", 'l'),
                ("hooks", 'h'),
                ("vm", 'x'),
                ("windows", 'x'),
                ("hostname", 'x'),
            ],
        ),
        (
            'p',
            &[
                ("user", 'u'),
                ("capabilities", 'c'),
                ("noNewPrivileges", 'b'),
                ("apparmorProfile", 's'),
                ("selinuxLabel", 's'),
                ("env", 'x'),
            ],
        ),
        ('u', &[("uid", 'n'), ("gid", 'x')]),
        ('c', &[("bounding", 'S'), ("effective", 'S'), ("ambient", 'S')]),
        ('r', &[("path", 's'), ("readonly", 'b')]),
        ('m', &[("destination", 's'), ("type", 's'), ("source", 's'), ("options", 'S')]),
        (
            'l',
            &[
                ("namespaces", 'N'),
                ("maskedPaths", 'S'),
                ("seccomp", 'f'),
                ("sysctl", 'k'),
                ("uidMappings", 'I'),
                ("cgroupsPath", 's'),
                ("devices", 'D'),
                ("resources", 'q'),
                ("rootfsPropagation", 's'),
                ("netDevices", 'k'),
            ],
        ),
        ('n', &[("type", 's'), ("path", 's')]),
        ('i', &[("containerID", 'n'), ("hostID", 'n'), ("size", 'n')]),
        ('d', &[("path", 's'), ("type", 's'), ("major", 'n'), ("minor", 'n'), ("fileMode", 'x')]),
        ('q', &[("devices", 'E'), ("memory", 'x')]),
        ('e', &[("allow", 'b'), ("type", 's'), ("major", 'n'), ("access", 's')]),
        ('f', &[("defaultAction", 's'), ("architectures", 'x'), ("syscalls", 'J')]),
        ('j', &[("action", 's'), ("names", 'x'), ("args", 'x')]),
        ('h', &[("prestart", 'K'), ("createRuntime", 'K'), ("poststop", 'K')]),
        ('t', &[("path", 's'), ("args", 'S'), ("env", 'S')]),
    ];

    /// Writes what looks like a config.json, with a mistake here and there.
    struct Writer {
        seed: u64,
        text: String,
        /// One value in so many is another than its place asks for.
        odd: usize,
    }

    impl Writer {
        fn below(&mut self, end: usize) -> usize {
            self.seed =
                self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.seed >> 33).unwrap() % end
        }

        fn is_odd(&mut self) -> bool {
            let odd = self.odd;
            self.below(odd) == 0
        }

        fn one_of(&mut self, texts: &[&str]) {
            let nth = self.below(texts.len());
            self.text += texts[nth];
        }

        fn space(&mut self) {
            if self.is_odd() {
                self.one_of(&[
                    " ",
                    "\n\t",
                    "\r",
                    "                    ",
                    "\u{b}",
                    "\u{a0}",
                    "\u{feff}",
                    "\0",
                    "/**/",
                ]);
            }
        }

        /// A text; of odd ones many are none.
        fn string(&mut self) {
            let length = self.below(40);
            let plain = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";
            self.text.push('"');
            if self.is_odd() {
                self.one_of(&[
                    "\\u0061",
                    "\\\"",
                    "\\u0000",
                    "\\ud800",
                    "\\ud83d\\ude00",
                    "\\x",
                    "\n",
                    "\u{1f}",
                    "\u{7f}",
                    "é",
                    "\\",
                ]);
            }
            self.text += &plain[..length];
            if self.is_odd() {
                self.one_of(&["\\n", "\\u00e9", "\\u12", "\\udc00", "\0", "\u{1}", "\u{10ffff}", "\\/", ""]);
            }
            self.text.push('"');
        }

        fn key(&mut self, key: &str) {
            let escaped = || format!("\\u{:04x}{}", u32::from(key.as_bytes()[0]), &key[1..]);
            let key = match self.below(self.odd * 8) {
                0 => key.to_uppercase(),
                1 | 2 => escaped(),
                3 => key.replace('s', "\u{17f}"),
                4 => format!("{key}\\u0000"),
                5 => format!("{key}s"),
                6 => format!(" {key}"),
                _ => key.to_owned(),
            };
            self.text += "\"";
            self.text += &key;
            self.text += "\"";
        }

        fn entries(
            &mut self,
            [open, close]: [char; 2],
            most: usize,
            write: &mut dyn FnMut(&mut Self, usize),
        ) {
            self.text.push(open);
            let count = self.below(most + 1);
            for nth in 0..count {
                self.space();
                write(self, nth);
                self.space();
                if nth + 1 < count || self.is_odd() && self.below(8) == 0 {
                    self.text.push(',');
                }
            }
            self.text.push(close);
        }

        fn value(&mut self, kind: char, depth: usize) {
            let kind = if self.is_odd() { char::from(b"sbnxxkaoMSNul0"[self.below(14)]) } else { kind };
            match kind {
                _ if depth > 8 => self.text += "0",
                '0' => self.text += "null",
                's' => self.string(),
                'b' => self.one_of(&["true", "false"]),
                'n' if self.is_odd() => self.one_of(&[
                    "-0",
                    "1.0",
                    "1e3",
                    "4294967296",
                    "-1",
                    "01",
                    "2147483648",
                    "9223372036854775808",
                    "1e999",
                    "+1",
                    "-",
                    "0.0",
                    "\"1\"",
                ]),
                'n' => self.one_of(&["0", "1", "1000", "65535", "4294967295"]),
                'x' => {
                    let kind = char::from(b"sbn0kSX"[self.below(7)]);
                    self.value(kind, depth + 1);
                }
                'k' | 'a' => {
                    let of = if kind == 'a' { 's' } else { 'x' };
                    let keys = [
                        "io.kubernetes.cri.sandbox-id",
                        "io.kubernetes.pod.name",
                        "run.oci.handler",
                        "mine",
                        "bundle",
                    ];
                    self.entries(['{', '}'], 4, &mut |own, _| {
                        let nth = own.below(keys.len());
                        own.key(keys[nth]);
                        own.text.push(':');
                        own.value(of, depth + 1);
                    });
                }
                'A'..='Z' => {
                    let of = if kind == 'K' { 't' } else { kind.to_ascii_lowercase() };
                    self.entries(['[', ']'], 4, &mut |own, _| own.value(of, depth + 1));
                }
                _ => {
                    let keys = SHAPE.iter().find(|(own, _)| *own == kind).map_or(&[][..], |(_, keys)| keys);
                    let from = self.below(keys.len());
                    self.entries(['{', '}'], keys.len(), &mut |own, nth| {
                        // Mostly each once.
                        let nth =
                            if own.is_odd() { own.below(keys.len()) } else { (from + nth) % keys.len() };
                        let (key, kind) = keys[nth];
                        own.key(key);
                        own.space();
                        own.text.push(':');
                        own.space();
                        own.value(kind, depth + 1);
                    });
                }
            }
        }
    }

    #[test]
    fn what_looks_like_a_config_json_is_read_alike_or_refused_alike() {
        let (mut taken, mut refused) = (0, 0);
        for nth in 0..if cfg!(miri) { 20 } else { ROUNDS } {
            let odd = [10, 40, 200, 1000][usize::try_from(nth).unwrap() % 4];
            let mut writer = Writer { seed: nth, text: String::new(), odd };
            writer.space();
            writer.value('o', 0);
            writer.space();
            let text = &writer.text;
            *(if agree::<Spec<'_>>(text) { &mut taken } else { &mut refused }) += 1;
            agree::<State<'_>>(text);
            agree::<Vec<Spec<'_>>>(&format!("[{text}]"));
        }
        assert!(cfg!(miri) || taken.min(refused) > ROUNDS / 8, "{taken} {refused}");
    }

    const ROUNDS: u64 = 3000;

    const ODD: &[&str] = &[
        "",
        " ",
        "0",
        "-0",
        "00",
        "01",
        "-",
        "1.",
        ".1",
        "1.5",
        "1e5",
        "1E+5",
        "1e",
        "-1",
        "+1",
        "2147483648",
        "4294967295",
        "4294967296",
        "9223372036854775808",
        "-9223372036854775808",
        "99999999999999999999",
        " 1\t",
        "1 2",
        "1,",
        "\u{a0}1",
        "true",
        "tru",
        "truee",
        "false",
        "nul",
        "null",
        "nulll",
        "\"",
        "\"a",
        "\"a\"",
        "\"a\"b",
        "\"\\\"\"",
        "\"\\",
        "\"\\x\"",
        "\"\\u00e9\"",
        "\"\\u00E9\"",
        "\"\\u00g9\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\ud83d\\ude00\"",
        "\"\\u0000\"",
        "\"\t\"",
        "\"\u{7f}é€😀\"",
        "\"123456789012345\"",
        "\"1234567890123456\"",
        "\"12345678901234567\"",
        "\"123456789012345\n\"",
        "[]",
        "[ ]",
        "[,]",
        "[1]",
        "[1,]",
        "[1 1]",
        "[\"a\",\"b\"]",
        "[\"a\",\"b\",]",
        "[\"a\",,\"b\"]",
        "[\"a\", \"b\"]",
        "[\"a\",1,\"b\",[\"c\",{\"d\":[\"e\",\"f\"]}]]",
        "[\"a\"",
        "[\"a\",",
        "[1}",
        "{}",
        "{\"a\":1}",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{\"a\":}",
        "{1:1}",
        "{\"a\":1]",
        "{\"a\":1 \"b\":1}",
        "{\"a\":\"b\",\"c\":\"d\"}",
        "{\"a\":[\"b\",\"c\":1]}",
        "{a:1}",
        "[null]",
        "{\"id\":null,\"pid\":-1,\"bundle\":\"/\\u002f\"}",
        "{\"id\":1}",
        "{\"ID\":\"x\"}",
        "{\"id\":\"x\",\"id\":\"x\"}",
        "// 1",
        "[1] // 1",
    ];

    #[test]
    fn odd_values_are_read_alike_or_refused_alike() {
        let mut taken = 0;
        for row in ODD {
            // The same at the end of a text and far from it: there, blocks are compared.
            for text in [(*row).to_owned(), format!("{row}{}", " ".repeat(2 * BLOCK))] {
                let kinds = [
                    agree::<IgnoredAny>(&text),
                    agree::<Option<bool>>(&text),
                    agree::<u32>(&text),
                    agree::<Option<i32>>(&text),
                    agree::<i64>(&text),
                    agree::<Option<Text<'_>>>(&text),
                    agree::<Vec<Text<'_>>>(&text),
                    agree::<Vec<Option<u32>>>(&text),
                    agree::<State<'_>>(&text),
                ];
                taken += kinds.into_iter().filter(|taken| *taken).count();
            }
        }
        assert!(taken > 150, "{taken}");
    }

    #[test]
    fn what_is_deeper_than_anybody_writes_is_left_to_serde_json() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let deepest = usize::try_from(DEEPEST).unwrap();
        assert!(agree::<IgnoredAny>(&nested(deepest)));
        // The innermost array is empty and counts for nothing.
        assert!(agree::<IgnoredAny>(&nested(deepest + 1)));
        let deeper = nested(deepest + 2);
        assert!(read::<IgnoredAny>(&deeper).is_none() && serde_json::from_str::<IgnoredAny>(&deeper).is_ok());
    }

    #[test]
    fn every_byte_that_ends_a_plain_piece_is_seen_wherever_it_is() {
        for byte in 0..=u8::MAX {
            for at in 0..BLOCK {
                for filling in [b'a', 0x80, 0xff, b'!', b'#', b']'] {
                    let mut block = [filling; BLOCK];
                    block[at] = byte;
                    // A second one behind it counts for nothing.
                    block[BLOCK - 1] = if at == BLOCK - 1 { byte } else { b'"' };
                    let first = block.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
                    assert_eq!(plain(&block), first.unwrap_or(BLOCK), "{block:?}");
                    assert_eq!(plain_by_halves(&block), first.unwrap_or(BLOCK), "{block:?}");
                }
            }
        }
    }
}

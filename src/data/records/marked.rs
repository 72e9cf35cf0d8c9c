//! Text that is UTF-8 but for some bytes, so that one bad text does not make a whole JSON array unreadable.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

/// What stands for bytes that are no UTF-8: a code point that is no character.
pub(super) const MARK: char = '\u{ffff}';

/// Reads `inner` with [`MARK`] for what is no UTF-8.
pub(super) struct Marked<R> {
    inner: R,
    /// Read and not yet passed on, from `at`.
    ready: Vec<u8>,
    at: usize,
    /// The beginning of a character whose end is still to be read.
    begun: Vec<u8>,
    /// Whether anything was marked yet.
    any: Rc<Cell<bool>>,
}

impl<R: BufRead> Marked<R> {
    /// The reader, and what tells whether anything was marked yet.
    pub(super) fn new(inner: R) -> (Self, Rc<Cell<bool>>) {
        let any = Rc::new(Cell::new(false));
        (Self { inner, ready: Vec::new(), at: 0, begun: Vec::new(), any: Rc::clone(&any) }, any)
    }

    fn fill(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.at = 0;
        let read = self.inner.fill_buf()?;
        let (n, mut bytes) = (read.len(), std::mem::take(&mut self.begun));
        bytes.extend_from_slice(read);
        self.inner.consume(n);
        let mut left = bytes.len();
        for chunk in bytes.utf8_chunks() {
            left -= chunk.valid().len() + chunk.invalid().len();
            self.ready.extend_from_slice(chunk.valid().as_bytes());
            let unfinished = std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
            if unfinished && left == 0 && n > 0 {
                self.begun = chunk.invalid().to_vec();
            } else if !chunk.invalid().is_empty() {
                self.any.set(true);
                self.ready.extend_from_slice(MARK.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        if self.ready.is_empty() && n > 0 { self.fill() } else { Ok(()) }
    }
}

impl<R: BufRead> Read for Marked<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.ready.len() {
            self.fill()?;
        }
        let n = (&self.ready[self.at..]).read(out)?;
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn only_what_is_no_utf8_is_marked() {
        for (bytes, expected) in [
            (&b"caf\xc3\xa9 \xf0\x9f\x98\x80"[..], "café 😀"),
            (b"caf\xe9 au \xff lait", "caf\u{ffff} au \u{ffff} lait"),
            (b"cut \xf0\x9f", "cut \u{ffff}"),
            (b"", ""),
        ] {
            for room in 1..8 {
                let (mut marked, any) = Marked::new(BufReader::with_capacity(room, bytes));
                let mut text = String::new();
                marked.read_to_string(&mut text).unwrap();
                assert_eq!((text.as_str(), any.get()), (expected, expected.contains(MARK)), "{room}");
            }
        }
    }
}

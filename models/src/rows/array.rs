//! A JSON array of rows as JSON lines, in flat memory.

use std::io::{self, BufRead, ErrorKind, Read};

/// The elements of the JSON array in `input`, one a line. They are cut, not checked: their reader does that.
pub(super) struct ArrayLines<R> {
    input: R,
    place: Place,
    /// The lines that are not read yet, from `start` on.
    lines: Vec<u8>,
    start: usize,
    /// The error after them.
    error: Option<io::Error>,
}

/// The place in the array.
#[derive(Clone, Copy)]
enum Place {
    /// Before its bracket.
    Outside,
    /// Before an element; the first one may be missing.
    Before { first: bool },
    /// In an element, at this depth of brackets.
    Element { depth: usize },
    /// In a string of an element, after a backslash or not.
    Text { depth: usize, escaped: bool },
    /// After the array's end.
    After,
}

impl<R: BufRead> ArrayLines<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            place: Place::Outside,
            lines: Vec::new(),
            start: 0,
            error: None,
        }
    }

    /// Reads on until there are lines, an error or the end.
    fn refill(&mut self) -> io::Result<()> {
        (self.start, _) = (0, self.lines.clear());
        while self.lines.is_empty() {
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            let chunk = match self.input.fill_buf() {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                chunk => chunk?,
            };
            if chunk.is_empty() {
                return self.place.end();
            }
            for &byte in chunk {
                match self.place.step(byte, &mut self.lines) {
                    Ok(place) => self.place = place,
                    Err(problem) => {
                        self.error = Some(problem);
                        break;
                    }
                }
            }
            let length = chunk.len();
            self.input.consume(length);
        }
        Ok(())
    }
}

impl Place {
    /// The place after `byte`, whose part in a line is appended.
    fn step(self, byte: u8, lines: &mut Vec<u8>) -> io::Result<Self> {
        let blank = byte.is_ascii_whitespace();
        Ok(match self {
            // Before the bracket are only blanks and a byte order mark, or the content were another.
            Self::Outside if byte == b'[' => Self::Before { first: true },
            Self::Outside => self,
            Self::Before { .. } | Self::After if blank => self,
            Self::Before { first: true } if byte == b']' => Self::After,
            Self::Before { .. } if b",]".contains(&byte) => return Err(unexpected("a row", byte)),
            Self::After => return Err(unexpected("nothing after the array", byte)),
            Self::Element { depth: 0 } if byte == b',' => {
                end_line(lines, Self::Before { first: false })
            }
            Self::Element { depth: 0 } if byte == b']' => end_line(lines, Self::After),
            Self::Before { .. } => within(0, byte, lines),
            Self::Element { depth } => within(depth, byte, lines),
            Self::Text { depth, escaped } => {
                lines.push(if byte == b'\n' { b'\t' } else { byte });
                match byte {
                    b'"' if !escaped => Self::Element { depth },
                    _ => Self::Text {
                        depth,
                        escaped: byte == b'\\' && !escaped,
                    },
                }
            }
        })
    }

    /// # Errors
    /// The array is not complete.
    fn end(self) -> io::Result<()> {
        match self {
            Self::After => Ok(()),
            _ => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "expected ] at the end of the array: the file is cut short",
            )),
        }
    }
}

/// The place after a byte of an element outside its strings.
fn within(depth: usize, byte: u8, lines: &mut Vec<u8>) -> Place {
    // A line break within a string stays a mistake as a tab; elsewhere both are blanks.
    lines.push(if byte == b'\n' { b'\t' } else { byte });
    match byte {
        b'"' => Place::Text {
            depth,
            escaped: false,
        },
        b'{' | b'[' => Place::Element { depth: depth + 1 },
        b'}' | b']' => Place::Element {
            depth: depth.saturating_sub(1),
        },
        _ => Place::Element { depth },
    }
}

fn end_line(lines: &mut Vec<u8>, next: Place) -> Place {
    lines.push(b'\n');
    next
}

fn unexpected(expected: &str, byte: u8) -> io::Error {
    let got = char::from(byte).escape_default();
    let problem = format!("JSON array: expected {expected}, got {got}");
    io::Error::new(ErrorKind::InvalidData, problem)
}

impl<R: BufRead> Read for ArrayLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for ArrayLines<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.lines.len() {
            self.refill()?;
        }
        Ok(&self.lines[self.start..])
    }

    fn consume(&mut self, amount: usize) {
        self.start += amount;
    }
}

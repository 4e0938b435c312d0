//! What may go to a terminal. Names come from models, archives and paths: an escape sequence in one of them would command the
//! terminal, a line break would make up a line of its own, a change of direction would let text read as another, and a name
//! of a megabyte would bury what is said about it.
//!
//! Such characters are written as JSON writes them (`\u001b`), so that one rule serves tables, errors and JSON alike, and
//! JSON keeps its names whole. Everything goes out through [`Printable`]; what stands on one line goes through [`line`] first,
//! which knows of line breaks and of length.

use std::borrow::Cow;
use std::io::{Result, Write};

/// Most characters that a text from outside takes of a line of an error or a note.
pub const LONGEST: usize = 1000;

/// Whether a terminal would do anything else with a character than show it: controls, marks of direction, separators of lines,
/// and what is not visible at all.
fn commands(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn escape(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out += &format!("\\u{unit:04x}"));
        } else {
            out.push(c);
        }
    }
    out.into()
}

/// A text on one line: no character in it commands the terminal, and of more than `most` characters the middle is left out,
/// because what it is about stands in front and the way out at the end.
pub fn line(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most || text.chars().count() <= most {
        return escape(text, commands);
    }
    let half = most / 2;
    let head: String = text.chars().take(half).collect();
    let tail = text.char_indices().rev().nth(half.saturating_sub(1)).map_or("", |(at, _)| &text[at..]);
    let (left_out, head, tail) = (text.chars().count() - 2 * half, escape(&head, commands), escape(tail, commands));
    format!("{head} … ({left_out} characters left out) … {tail}").into()
}

/// A writer to a terminal, or to whatever stands in its place. It is the last on the way out, so that nothing gets past it.
pub struct Printable<'a>(pub &'a mut dyn Write);

impl Write for Printable<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        for chunk in bytes.utf8_chunks() {
            self.0.write_all(escape(chunk.valid(), |c| c != '\n' && commands(c)).as_bytes())?;
            if !chunk.invalid().is_empty() {
                self.0.write_all("\u{fffd}".as_bytes())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_commands_the_terminal() {
        for (text, shown) in [
            ("plain é 漢 🐦", "plain é 漢 🐦"),
            ("\u{1b}[2Jx", "\\u001b[2Jx"),
            ("a\nerror: b", "a\\u000aerror: b"),
            ("\u{9b}31m\u{7f}", "\\u009b31m\\u007f"),
            ("abc\u{202e}cba", "abc\\u202ecba"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(line(text, 100), shown);
        }
    }

    #[test]
    fn long_lines_keep_both_ends() {
        let long = format!("begin{}end", "é".repeat(1 << 20));
        let short = line(&long, 10);
        assert_eq!(short, format!("begin … ({} characters left out) … ééend", (1 << 20) - 2));
        assert_eq!(line(&"é".repeat(10), 10), "é".repeat(10));
        assert!(line(&"\u{1b}".repeat(1 << 20), LONGEST).len() < 10 * LONGEST);
    }

    #[test]
    fn what_is_written_stays_valid_json() {
        let name = "\u{1b}[31m\u{9b}\u{202e}\u{7f}\n\u{e0001}\"\\";
        let mut out = Vec::new();
        write!(Printable(&mut out), "{:#}", serde_json::json!({ "name": name })).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains(|c| c != '\n' && commands(c)), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["name"], name);
        let mut out = Vec::new();
        Printable(&mut out).write_all(b"a\xffb\n").unwrap();
        assert_eq!(out, "a\u{fffd}b\n".as_bytes());
    }
}

//! Texts of strangers, made safe to show: what would be obeyed or not be seen is spelled out.

use std::fmt::Write as _;

/// `text` with every control character, invisible space and switch of writing direction in a visible form: ESC as `␛`,
/// U+202E as `⟨U+202E⟩`. Line breaks and tabs stay.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c) {
            0x09 | 0x0a => shown.push(c),
            code @ 0x00..=0x1f => shown.push(char::from_u32(0x2400 + code).unwrap_or('\u{fffd}')),
            0x7f => shown.push('␡'),
            code @ (0x80..=0x9f
            | 0x061c
            | 0x200b
            | 0x200e
            | 0x200f
            | 0x2028..=0x202e
            | 0x2060..=0x2069
            | 0xfeff
            | 0xfff9..=0xfffb) => write!(shown, "⟨U+{code:04X}⟩").expect("a string takes all that is written to it"),
            _ => shown.push(c),
        }
    }
    shown
}

/// `text` as it stands in HTML: visible, and with everything escaped that could end a text or an attribute.
pub fn escape(text: &str) -> String {
    let text = visible(text);
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_obeyed_is_spelled_out() {
        assert_eq!(visible("a\u{1b}[31mred\u{1b}[0m"), "a␛[31mred␛[0m");
        assert_eq!(visible("\u{202e}abc\u{202c}\u{200f}\u{0}\u{7f}\u{9b}"), "⟨U+202E⟩abc⟨U+202C⟩⟨U+200F⟩␀␡⟨U+009B⟩");
        assert_eq!(visible("one\n\ttwo שלום größe"), "one\n\ttwo שלום größe");
        assert_eq!(escape("</script><b a='\"'>&"), "&lt;/script&gt;&lt;b a=&#39;&quot;&#39;&gt;&amp;");
    }
}

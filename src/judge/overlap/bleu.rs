//! Sentence BLEU with the tokens of the machine-translation evaluations.

use super::{ngrams, shared};

/// The longest runs that are counted.
const ORDER: usize = 4;

/// Sentence BLEU of `text` against one reference [BLEU]: `bp * exp(mean of log p_n)` over n = 1 to 4, as far as the text has runs
/// of n tokens. A precision of zero counts as `1 / (2^k total)` at the k-th such n (exponential smoothing); a text that shares no token with the
/// reference scores 0. Tokens are those of `mteval-v13a`.
#[must_use]
pub fn bleu(text: &str, reference: &str) -> f64 {
    let (text, reference) = (tokens(text), tokens(reference));
    let (mut log_sum, mut orders, mut smoothing, mut any) = (0.0, 0, 1.0, false);
    for n in 1..=ORDER {
        let total = (text.len() + 1).saturating_sub(n);
        if total == 0 {
            break;
        }
        let right = shared(&ngrams(&text, n), &ngrams(&reference, n));
        any |= right > 0;
        if right == 0 {
            smoothing *= 2.0;
        }
        let precision = if right == 0 { 1.0 / (smoothing * total as f64) } else { right as f64 / total as f64 };
        log_sum += precision.ln();
        orders += 1;
    }
    if !any {
        return 0.0;
    }
    let (ours, theirs) = (text.len() as f64, reference.len() as f64);
    let brevity = if ours < theirs { (1.0 - theirs / ours).exp() } else { 1.0 };
    brevity * (log_sum / f64::from(orders)).exp()
}

/// Tokens as `mteval-v13a` makes them: punctuation apart, full stops and commas only where no digit touches them.
fn tokens(text: &str) -> Vec<String> {
    let plain = text.trim_end().replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let plain = plain.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let mut spaced = String::from(" ");
    for c in plain.chars() {
        match c {
            '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/' => spaced.extend([' ', c, ' ']),
            c => spaced.push(c),
        }
    }
    spaced.push(' ');
    let digit = |c: char| c.is_ascii_digit();
    let mark = |c: char| matches!(c, '.' | ',');
    let spaced = pairs(&spaced, |a, b| (!digit(a) && mark(b)).then_some([a, ' ', b, ' ']));
    let spaced = pairs(&spaced, |a, b| (mark(a) && !digit(b)).then_some([' ', a, ' ', b]));
    let spaced = pairs(&spaced, |a, b| (digit(a) && b == '-').then_some([a, ' ', b, ' ']));
    spaced.split_whitespace().map(str::to_owned).collect()
}

/// Replaces pairs of neighbouring characters from left to right, none of them twice.
fn pairs(text: &str, replacement: impl Fn(char, char) -> Option<[char; 4]>) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut out, mut i) = (String::new(), 0);
    while i < chars.len() {
        if let Some(four) = chars.get(i + 1).and_then(|&next| replacement(chars[i], next)) {
            out.extend(four);
            i += 2;
        } else {
            out.push(chars[i]);
            i += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_stands_apart_but_not_in_numbers() {
        assert_eq!(
            tokens("Pay $1,234.50, now (or 2-3 days)."),
            ["Pay", "$", "1,234.50", ",", "now", "(", "or", "2", "-", "3", "days", ")", "."]
        );
    }

    #[test]
    fn a_worked_example() {
        // Precisions 5/6, 3/5, 1/4 and 0 of 3, smoothed to 1/6; the reference is as long.
        let found = bleu("the cat sat on a mat", "the cat sat on the mat");
        let expected = ((5.0_f64 / 6.0).ln() + 0.6_f64.ln() + 0.5_f64.ln() + (1.0_f64 / 3.0).ln()) / 4.0;
        assert!((found - expected.exp()).abs() < 1e-12, "{found}");
        assert!((bleu("same text", "same text") - 1.0).abs() < 1e-12);
        assert!(bleu("", "x").abs() < 1e-12 && bleu("a b", "c d").abs() < 1e-12);
    }
}

//! ROUGE-L: the longest common subsequence of words.

/// F1 of the longest common subsequence of words of `text` and `reference` [ROUGE]. Words are runs of ASCII letters and digits, in
/// lower case.
#[must_use]
pub fn rouge_l(text: &str, reference: &str) -> f64 {
    let (text, reference) = (words(text), words(reference));
    let common = longest_common(&text, &reference) as f64;
    if common == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (common / text.len() as f64, common / reference.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The length of the longest common subsequence.
fn longest_common(one: &[String], other: &[String]) -> usize {
    let mut row = vec![0; other.len() + 1];
    for a in one {
        let mut diagonal = 0;
        for (j, b) in other.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if a == b { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_in_order_but_not_in_one_piece() {
        // "police the gunman" of 4 and 4 words.
        let found = rouge_l("Police end the gunman!", "police kill the gunman");
        assert!((found - 0.75).abs() < 1e-12, "{found}");
        // "the gunman" or "police the": two of four.
        assert!((rouge_l("the gunman kill police", "police kill the gunman") - 0.5).abs() < 1e-12);
        assert!(rouge_l("", "x").abs() < 1e-12 && rouge_l("...", "...").abs() < 1e-12);
    }
}

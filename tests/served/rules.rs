//! A judge and annotator made of rules, which stands in for a language model: it reads the prompts of `src/judge/prompts` and
//! `src/llm/prompts`, counts what it takes for faults of `datasets/restaurants.toml`, reads badly, likes the first of two, and
//! sometimes says nothing, or too much.

use std::collections::BTreeSet;

use super::{Reply, Seen};

/// Words that it takes for rude.
const RUDE: [&str; 8] = ["ugh", "stupid", "whatever", "idiot", "fool", "asking", "understand", "any"];

/// Answers whatever of the prompts was asked.
pub fn decide(seen: &Seen) -> Reply {
    let question = seen.question();
    if let Some([prompt, answer]) =
        parts(question, [("[Instruction]\n", "\n\n[Answer]"), ("[Answer]\n", "\n\n[Revised answer]")])
    {
        return Reply::Says(revise(prompt, answer));
    }
    let pair = [
        ("[User's question]\n", "\n\n["),
        ("[Start of assistant A's answer]\n", "\n[End of assistant A's answer]"),
        ("[Start of assistant B's answer]\n", "\n[End of assistant B's answer]"),
    ];
    if let Some([prompt, a, b]) = parts(question, pair) {
        let verdict = match lead(prompt, a, b) {
            None => return Reply::says("I had rather not say."),
            Some(lead) if lead > 0 => "[[A]]",
            Some(lead) if lead < 0 => "[[B]]",
            Some(_) => "[[C]]",
        };
        return Reply::Says(format!("Both were read with care. {verdict}"));
    }
    let tokens = [
        ("### Instruction\n", "\n\n### Output of m"),
        ("### Output of m\n", "\n\n### Output of M"),
        ("### Output of M\n", "\n\n### Answer"),
    ];
    if let Some([prompt, a, b]) = parts(question, tokens) {
        let sure = 1.0 / (1.0 + f64::from(-lead(prompt, a, b).unwrap_or(0)).exp());
        let mut tokens = vec![("m".to_owned(), (0.98 * sure).ln()), ("M".to_owned(), (0.98 * (1.0 - sure)).ln())];
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1));
        tokens.push(("The".to_owned(), 0.02_f64.ln()));
        return Reply::Tokens(tokens);
    }
    let quoted = [
        ("instruction = \"", "\"\n"),
        ("{\"model\": \"model_1\", \"answer\": \"", "\"},\n"),
        ("{\"model\": \"model_2\", \"answer\": \"", "\"}\n"),
    ];
    if let Some([prompt, a, b]) = parts(question, quoted) {
        let first = lead(prompt, a, b).unwrap_or(0) >= 0;
        let [better, worse] = if first { [1, 2] } else { [2, 1] };
        return Reply::Says(format!(
            "[{{'model': 'model_{better}', 'rank': 1}}, {{'model': 'model_{worse}', 'rank': 2}}]"
        ));
    }
    annotate(question).map_or_else(|| Reply::says("What is this about?"), Reply::Says)
}

/// What it answers as an annotator.
fn annotate(question: &str) -> Option<String> {
    // When it is asked again, its last reply stands below.
    let (asked, again) = question.split_once("\n\nYour last reply was:").unzip();
    let question = format!("{}\n\n", asked.unwrap_or(question).trim_end());
    let prompt = ("Question:\n", "\n\n");
    if let Some([prompt, answer]) = parts(&question, [prompt, ("Answer to edit:\n", "\n\n")]) {
        let edited = revise(prompt, answer);
        let chats = again.is_none() && blot(answer).is_multiple_of(9);
        let said = if edited == answer { "GOOD".to_owned() } else { edited };
        return Some(if chats && said != "GOOD" { format!("Here is the edited answer: {said}") } else { said });
    }
    if let Some([prompt, first, second]) = parts(&question, [prompt, ("Answer 1:\n", "\n\n"), ("Answer 2:\n", "\n\n")])
    {
        let lead = lead(prompt, first, second).or_else(|| again.map(|_| 0));
        return Some(lead.map_or("Both are fine.", |lead| if lead >= 0 { "1" } else { "2" }).to_owned());
    }
    let [prompt, answer] = parts(&question, [prompt, ("Answer:\n", "\n\nIts words:")])?;
    let asked: BTreeSet<&str> = prompt.split_whitespace().collect();
    let score = |word: &str| if RUDE.contains(&word) { 0 } else { 1 + i32::from(asked.contains(word)) };
    let lines = answer.split_whitespace().enumerate().map(|(i, word)| format!("{} {}\n", i + 1, score(word)));
    Some(format!("{}overall: {}", lines.collect::<String>(), (2 - faults(prompt, answer)).max(0)))
}

/// What stands between each two marks.
fn parts<'a, const N: usize>(text: &'a str, marks: [(&str, &str); N]) -> Option<[&'a str; N]> {
    let found = marks
        .map(|(begin, end)| text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map(|(part, _)| part));
    found.iter().all(Option::is_some).then(|| found.map(Option::unwrap_or_default))
}

/// By how many faults `a` is better than `b`; none where it says nothing.
fn lead(prompt: &str, a: &str, b: &str) -> Option<i32> {
    let lot = blot(&format!("{prompt}\n{a}\n{b}"));
    if lot.is_multiple_of(50) {
        return None;
    }
    let (ours, theirs) = (faults(prompt, a), faults(prompt, b));
    // It reads badly one time in six, and one time in six an even pair goes to the first.
    let misread = i32::from(lot % 6 == 1) - i32::from(lot % 6 == 2);
    let lead = theirs - ours + misread;
    Some(if lead == 0 && lot % 6 == 3 { 1 } else { lead })
}

fn faults(prompt: &str, answer: &str) -> i32 {
    let asked: BTreeSet<&str> = prompt.split_whitespace().filter(|word| *word != "=>").collect();
    let said: BTreeSet<&str> = answer.split_whitespace().collect();
    let omitted = asked.difference(&said).count();
    let rude = answer.split_whitespace().filter(|word| RUDE.contains(word)).count();
    let sentences: Vec<&str> = answer.split(" .").map(str::trim).filter(|sentence| !sentence.is_empty()).collect();
    let strange = sentences.iter().filter(|sentence| !sentence.split(' ').any(|word| asked.contains(word))).count();
    let repeated = sentences.len() - sentences.iter().collect::<BTreeSet<_>>().len();
    i32::try_from(omitted + rude + strange + repeated).unwrap_or(i32::MAX)
}

/// The answer without sentences that it finds rude or strange.
fn revise(prompt: &str, answer: &str) -> String {
    let asked: BTreeSet<&str> = prompt.split_whitespace().collect();
    let mut kept: Vec<&str> = Vec::new();
    for sentence in answer.split(" .").map(str::trim) {
        let fine = sentence.split(' ').any(|word| asked.contains(word))
            && !sentence.split(' ').any(|word| RUDE.contains(&word));
        if fine && !kept.contains(&sentence) {
            kept.push(sentence);
        }
    }
    if kept.is_empty() {
        // Nothing is worth keeping: what was asked, said plainly.
        return format!("{} .", prompt.trim_end_matches("=>").trim());
    }
    kept.iter().map(|sentence| format!("{sentence} .")).collect::<Vec<_>>().join(" ")
}

/// A number that depends on the text alone (FNV-1a).
fn blot(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

//! A table in LaTeX, ready to be `\input` where `booktabs` is loaded.
//!
//! What pdfLaTeX has no letter for is spelled out, so that no name of a variant stops it.

use std::fmt::Write as _;

use super::Table;

/// The `tabular` of `table`, under a comment that says what it shows.
pub fn tex(table: &Table) -> String {
    let columns: String = (0..table.head.len()).map(|i| if i < table.names { 'l' } else { 'r' }).collect();
    let line = |cells: Vec<String>| format!("{} \\\\\n", cells.join(" & "));
    let mut text = format!("% {}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n", escape(&table.caption));
    text.push_str(&line(table.head.iter().map(|head| escape(&head.title)).collect()));
    text.push_str("\\midrule\n");
    for (i, row) in table.rows.iter().enumerate() {
        if table.ruled.contains(&i) {
            text.push_str("\\addlinespace\n");
        }
        let cell = |cell: &super::Cell| {
            let number = if cell.spark.is_some() { String::new() } else { escape(&cell.text) };
            let strong = if cell.strong && !number.is_empty() { format!("\\textbf{{{number}}}") } else { number };
            let note = if cell.note.is_empty() { String::new() } else { format!(" ({})", escape(&cell.note)) };
            format!("{strong}{note}")
        };
        text.push_str(&line(row.iter().map(cell).collect()));
    }
    text.push_str("\\bottomrule\n\\end{tabular}\n");
    text
}

/// `text` as LaTeX sets it: shown as it is, on one line.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', c]),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '<' => escaped.push_str("\\textless{}"),
            '>' => escaped.push_str("\\textgreater{}"),
            '|' => escaped.push_str("\\textbar{}"),
            '–' => escaped.push_str("--"),
            '\u{202f}' => escaped.push_str("\\,"),
            c if c.is_whitespace() => escaped.push(' '),
            // Brackets would end an optional argument after a line's end.
            '[' | ']' => escaped.extend(['{', c, '}']),
            c if c.is_ascii_graphic() || is_letter(c) => escaped.push(c),
            c => {
                let code = u32::from(c);
                write!(escaped, "{{[}}U+{code:04X}{{]}}").expect("a string takes all that is written to it");
            }
        }
    }
    escaped
}

/// Letters beyond ASCII that every font of LaTeX's has.
fn is_letter(c: char) -> bool {
    ('\u{c0}'..='\u{ff}').contains(&c) && !['Ð', 'ð', 'Þ', 'þ', '×', '÷'].contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tables::Cell;

    #[test]
    fn a_table_has_rules_and_escaped_cells() {
        let table = Table::new("t", "100 % of it", 1, &[("a_b", ""), ("n", "")])
            .with([vec!["x & y".into(), Cell::from("1").strong(true)], vec!["größe ▁".into(), "–".into()]])
            .ruled_by(0);
        assert_eq!(
            tex(&table),
            "% 100 \\% of it\n\\begin{tabular}{lr}\n\\toprule\na\\_b & n \\\\\n\\midrule\nx \\& y & \\textbf{1} \\\\\n\
             \\addlinespace\ngröße {[}U+2581{]} & -- \\\\\n\\bottomrule\n\\end{tabular}\n"
        );
    }
}

//! `report.md` and `index.html` from the templates.
//!
//! The templates hold all wording and markup; whatever comes from data is escaped on its way in. Writing files is left to
//! the room's `write`.

use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};
use serde::Serialize;

use super::numbers;
use super::svg;
use super::view::View;

/// The Markdown rendering.
pub fn markdown(view: &View) -> Result<String> {
    render("report.md", view)
}

/// The page, in one file without references to others.
pub fn html(view: &View) -> Result<String> {
    render("index.html", view)
}

/// `view` through the template of that name.
pub fn render(template: &str, view: &impl Serialize) -> Result<String> {
    let environment = environment()?;
    let text = environment.get_template(template)?.render(Serde(view));
    text.with_context(|| format!("cannot render `{template}`"))
}

fn environment() -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()?;
    environment.set_syntax(syntax);
    environment.add_template("index.html", include_str!("templates/index.html"))?;
    environment.add_template("page.css", include_str!("templates/page.css"))?;
    environment.add_template("sweep.html", include_str!("templates/sweep.html"))?;
    environment.add_template("sweep.md", include_str!("templates/sweep.md"))?;
    environment.add_template("report.md", include_str!("templates/report.md"))?;
    environment.add_filter("percent", numbers::optional_percent);
    environment.add_filter("fixed", numbers::optional);
    environment.add_filter("p_value", |x: Option<f64>| x.map_or_else(|| numbers::UNKNOWN.to_owned(), numbers::p_value));
    environment
        .add_filter("count", |x: Option<usize>| x.map_or_else(|| numbers::UNKNOWN.to_owned(), |n| n.to_string()));
    environment
        .add_filter("shortest", |x: Option<f64>| x.map_or_else(|| numbers::UNKNOWN.to_owned(), numbers::shortest));
    environment
        .add_filter("duration", |x: Option<f64>| x.map_or_else(|| numbers::UNKNOWN.to_owned(), numbers::duration));
    environment.add_filter("mebibytes", |x: Option<u64>| {
        x.map_or_else(|| numbers::UNKNOWN.to_owned(), |n| format!("{} MiB", n >> 20))
    });
    environment.add_filter("plural", |n: usize, thing: &str| numbers::plural(n, thing));
    environment.add_filter("prose", |text: &str| Value::from_safe_string(prose(text)));
    environment.add_filter("cell", |text: &str| cell(text));
    environment.add_filter("fenced", |text: &str| fenced(text));
    Ok(environment)
}

/// A sentence as HTML: escaped, with what stands between backticks as code.
fn prose(text: &str) -> String {
    let parts: Vec<String> = text.split('`').map(svg::escape).collect();
    let last = parts.len() - 1;
    let part = |(at, part): (usize, &String)| match (at % 2 == 1, at == last) {
        (true, false) => format!("<code>{part}</code>"),
        // A backtick without a partner is a backtick.
        (true, true) => format!("`{part}"),
        (false, _) => part.clone(),
    };
    parts.iter().enumerate().map(part).collect()
}

/// `text` as one Markdown table cell or list item: shown as it is, on one line.
fn cell(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\n' | '\r' => escaped.push(' '),
            '\\' | '|' | '*' | '_' | '[' | ']' | '~' | '#' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

/// `text` as a Markdown code block, with a fence longer than any run of backticks in it.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}", text.trim_end_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{HOSTILE, report};
    use crate::report::view::view;

    #[test]
    fn sections_stand_in_their_order() {
        let report = report();
        let (page, text) = (html(&view(&report)).unwrap(), markdown(&view(&report)).unwrap());
        let sections = [
            "Verdict",
            "Win rates",
            "Learning curves",
            "Reward models",
            "Token rewards",
            "Sample responses",
            "Recipe",
            "Cost",
            "Data",
            "Provenance",
        ];
        let in_page = |section: &str| page.find(&format!(">{section}</h2>")).expect(section);
        let in_text = |section: &str| text.find(&format!("## {section}\n")).expect(section);
        assert!(sections.iter().map(|s| in_page(s)).is_sorted());
        assert!(sections.iter().map(|s| in_text(s)).is_sorted());
    }

    #[test]
    fn a_page_shows_hostile_text_and_runs_none_of_it() {
        let mut report = report();
        for text in [&mut report.recipe, &mut report.description, &mut report.judge, &mut report.provenance.device] {
            *text = HOSTILE.to_owned();
        }
        report.variants[0].name = HOSTILE.to_owned();
        report.curves[0].variant = HOSTILE.to_owned();
        report.heatmaps[0].tokens[0] = HOSTILE.to_owned();
        report.warnings.push(HOSTILE.to_owned());
        let page = html(&view(&report)).unwrap();
        assert!(!page.contains("<script") && !page.contains("<img"), "text became markup");
        assert!(page.contains("&lt;script&gt;alert("), "the text itself must be there");
        let names = page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count();
        assert_eq!(page.matches("://").count(), names, "the page must load nothing");
    }

    #[test]
    fn markdown_shows_hostile_text_and_keeps_its_tables() {
        let mut report = report();
        report.variants[0].name = "a|b<i>".to_owned();
        let text = markdown(&view(&report)).unwrap();
        assert!(text.contains("a\\|b&lt;i>"), "{text}");
        assert!(text.contains(&format!("````text\n{HOSTILE}\n````")), "the fence must outlast the text's backticks");
    }

    #[test]
    fn the_page_holds_the_numbers_of_the_report() {
        let report = report();
        let (page, text) = (html(&view(&report)).unwrap(), markdown(&view(&report)).unwrap());
        for v in &report.variants {
            for shown in [
                numbers::percent(v.win_rate),
                format!("{} to {}", numbers::percent(v.ci[0]), numbers::percent(v.ci[1])),
                numbers::optional(v.kl_nats, 2),
                numbers::optional(v.mean_length, 1),
                numbers::optional(v.faults, 2),
            ] {
                assert!(page.contains(&shown) && text.contains(&shown), "{shown} of `{}`", v.name);
            }
        }
        for c in &report.comparisons {
            let shown = numbers::signed(c.difference_points, 1);
            assert!(page.contains(&shown) && text.contains(&shown), "{shown}");
        }
    }

    #[test]
    fn code_in_sentences_is_marked_up_and_nothing_else() {
        assert_eq!(prose("`a<b` wins `c"), "<code>a&lt;b</code> wins `c");
        assert_eq!(prose("<i>plain</i>"), "&lt;i&gt;plain&lt;/i&gt;");
    }

    #[test]
    fn an_empty_report_still_renders() {
        let report = crate::report::Report::default();
        assert!(html(&view(&report)).unwrap().contains("<h2"));
        assert!(markdown(&view(&report)).unwrap().contains("## Verdict"));
    }
}

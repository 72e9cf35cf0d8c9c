//! Templates: the report's own, and those of users.
//!
//! The templates hold all wording and markup; whatever comes from data is made visible and escaped on its way in. Writing files
//! is left to the room's `write`.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Output, State, UndefinedBehavior, Value, escape_formatter};
use serde::Serialize;

use super::numbers;
use super::page;
use super::sentence::{plain, prose};
use super::text::{escape, visible};

/// The templates, by name.
const TEMPLATES: [(&str, &str); 20] = [
    ("base.html", include_str!("templates/base.html")),
    ("chart.css", include_str!("templates/chart.css")),
    ("macros.html", include_str!("templates/macros.html")),
    ("macros.md", include_str!("templates/macros.md")),
    ("page.css", include_str!("templates/page.css")),
    ("page.js", include_str!("templates/page.js")),
    ("report.html", include_str!("templates/report.html")),
    ("report.md", include_str!("templates/report.md")),
    ("section/verdict.html", include_str!("templates/section/verdict.html")),
    ("section/win_rates.html", include_str!("templates/section/win_rates.html")),
    ("section/curves.html", include_str!("templates/section/curves.html")),
    ("section/models.html", include_str!("templates/section/models.html")),
    ("section/tokens.html", include_str!("templates/section/tokens.html")),
    ("section/samples.html", include_str!("templates/section/samples.html")),
    ("section/recipe.html", include_str!("templates/section/recipe.html")),
    ("section/cost.html", include_str!("templates/section/cost.html")),
    ("section/data.html", include_str!("templates/section/data.html")),
    ("section/provenance.html", include_str!("templates/section/provenance.html")),
    ("sweep.html", include_str!("templates/sweep.html")),
    ("sweep.md", include_str!("templates/sweep.md")),
];

/// `view` through the report's own template of that name.
pub fn render(template: &str, view: &impl Serialize) -> Result<String> {
    let environment = environment()?;
    let text = environment.get_template(template)?.render(Serde(view));
    text.with_context(|| format!("cannot render `{template}`"))
}

/// A report, given as JSON, through the template of a user at `path`: its fields by their names, and all of it as `report`. The
/// template may include or extend others of its folder, and those of the report itself.
///
/// # Errors
/// When a template cannot be read, is none, or asks for what is not there; the message has its line.
pub fn render_own(path: &Path, report: &serde_json::Value) -> Result<String> {
    let mut environment = environment()?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let shown = path.display();
    let own = std::fs::read_to_string(path).with_context(|| format!("cannot read the template `{shown}`"))?;
    let others = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    for other in others.filter(|other| other != path && is_template(other)) {
        let other_name = other.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let Ok(text) = std::fs::read_to_string(&other) {
            // One that is broken matters only where it is used.
            let _ = environment.add_template_owned(other_name, text);
        }
    }
    let readable = |error: minijinja::Error| anyhow!("template `{shown}`: {}", described(&error));
    environment.add_template_owned(name.clone(), own).map_err(readable)?;
    let mut context = report.clone();
    if let Some(fields) = context.as_object_mut() {
        fields.insert("report".to_owned(), report.clone());
    }
    environment.get_template(&name).and_then(|template| template.render(Serde(&context))).map_err(readable)
}

fn is_template(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ["jinja", "j2", "html", "md", "tex", "css"].iter().any(|known| ending == *known))
}

/// An error with its line and its causes.
fn described(error: &minijinja::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn environment() -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()?;
    environment.set_syntax(syntax);
    environment.set_formatter(formatter);
    environment.set_auto_escape_callback(|name| {
        let plain = name.strip_suffix(".jinja").or_else(|| name.strip_suffix(".j2")).unwrap_or(name);
        let is_markup = [".html", ".htm", ".xml", ".svg"].iter().any(|ending| plain.ends_with(ending));
        if is_markup { AutoEscape::Html } else { AutoEscape::None }
    });
    for (name, text) in TEMPLATES {
        environment.add_template(name, text)?;
    }
    let known = |x: Option<String>| x.unwrap_or_else(|| numbers::UNKNOWN.to_owned());
    environment.add_filter("percent", numbers::optional_percent);
    environment.add_filter("fixed", numbers::optional);
    environment.add_filter("p_value", move |x: Option<f64>| known(x.map(numbers::p_value)));
    environment.add_filter("count", move |x: Option<usize>| known(x.map(|n| n.to_string())));
    environment.add_filter("shortest", move |x: Option<f64>| known(x.map(numbers::shortest)));
    environment.add_filter("duration", move |x: Option<f64>| known(x.map(numbers::duration)));
    environment.add_filter("mebibytes", move |x: Option<u64>| known(x.map(|n| format!("{} MiB", n >> 20))));
    environment.add_filter("plural", |n: usize, thing: &str| numbers::plural(n, thing));
    environment.add_filter("prose", |text: &str| Value::from_safe_string(prose(text)));
    environment.add_filter("plain", plain);
    environment.add_filter("island", |value: Value| page::island(&value).map(Value::from_safe_string));
    environment.add_filter("cell", |text: &str| cell(text));
    environment.add_filter("fenced", |text: &str| fenced(text));
    environment.add_function("metrics", || Value::from_safe_string(page::metrics()));
    environment.add_global("script_hash", page::SCRIPT_HASH);
    Ok(environment)
}

/// Texts are made visible before they are escaped.
fn formatter(out: &mut Output, state: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    match (value.as_str(), state.auto_escape(), value.is_safe()) {
        (Some(text), AutoEscape::Html, false) => Ok(out.write_str(&escape(text))?),
        _ => escape_formatter(out, state, value),
    }
}

/// `text` as one Markdown table cell or list item: shown as it is, on one line.
fn cell(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\n' | '\r' => escaped.push(' '),
            '\\' | '|' | '*' | '_' | '[' | ']' | '~' | '#' | '`' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

/// `text` as a Markdown code block, with a fence longer than any run of backticks in it.
fn fenced(text: &str) -> String {
    let text = visible(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}", text.trim_end_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{HOSTILE, report};
    use crate::report::view::view;

    fn rendered(report: &crate::report::Report) -> (String, String) {
        let view = view(report);
        (render("report.html", &view).unwrap(), render("report.md", &view).unwrap())
    }

    #[test]
    fn sections_stand_in_their_order() {
        let (page, text) = rendered(&report());
        let sections = [
            "Verdict",
            "Win rates",
            "Learning curves",
            "Reward against KL",
            "Reward models",
            "Token heat maps",
            "Sample responses",
            "Ablation",
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
        report.warnings[0].message = HOSTILE.to_owned();
        let (page, _) = rendered(&report);
        assert_eq!(page.matches("<script").count(), 2, "the page's own data and script");
        assert_eq!(page.matches("</script").count(), 2);
        assert!(!page.contains("<img"), "text became markup");
        assert!(page.contains("&lt;script&gt;alert("), "the text itself must be there");
        assert!(page.contains("␛[31m") && page.contains("⟨U+202E⟩"), "what cannot be seen is spelled out");
        assert!(!page.contains(['\u{1b}', '\u{202e}']));
    }

    #[test]
    fn markdown_shows_hostile_text_and_keeps_its_tables() {
        let mut report = report();
        report.variants[0].name = "a|b<i>".to_owned();
        let (_, text) = rendered(&report);
        assert!(text.contains("a\\|b&lt;i>"), "{text}");
        let fence = text.lines().find(|line| line.starts_with("````")).unwrap();
        assert!(fence.starts_with("````text"), "the fence must outlast the text's backticks");
        assert!(!text.contains(['\u{1b}', '\u{202e}']));
    }

    #[test]
    fn the_page_holds_the_numbers_of_the_report() {
        let report = report();
        let (page, text) = rendered(&report);
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
    fn every_link_in_the_page_leads_to_its_definition() {
        let (page, _) = rendered(&report());
        let targets: std::collections::BTreeSet<&str> =
            page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(targets.len() > 40, "{targets:?}");
        let missing: Vec<_> = targets.iter().filter(|target| !page.contains(&format!("id=\"{target}\""))).collect();
        assert!(missing.is_empty(), "no definition of {missing:?}");
    }

    /// What of `page` stands between `start` and `end`.
    fn section<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
        page.split(start).nth(1).and_then(|rest| rest.split(end).next()).unwrap()
    }

    /// The text of `html` without what stands in links and in code.
    fn unlinked(html: &str) -> String {
        let mut rest = String::new();
        for (at, part) in html.split(['<', '>']).enumerate() {
            let inside = at % 2 == 1;
            if inside {
                rest.push_str(if part.starts_with("a ") || part == "code" { "\u{1}" } else { "\u{2}" });
            } else if !rest.ends_with('\u{1}') {
                rest.push_str(part);
            }
        }
        rest
    }

    #[test]
    fn every_number_of_the_verdict_leads_to_its_definition() {
        let (page, _) = rendered(&report());
        let verdict = section(&page, "<div class=\"verdict\">", "</div>");
        // What the recipe asked for needs none.
        let rest = unlinked(verdict)
            .replace("&#39;", "")
            .replace("95 % interval", "")
            .replace("covers 50 %", "")
            .replace("seen 80 %", "")
            .replace("5 points would", "");
        assert!(verdict.matches("href=\"#metric-").count() > 8, "{verdict}");
        assert!(!rest.contains(|c: char| c.is_ascii_digit()), "{rest}");
    }

    #[test]
    fn every_number_of_a_warning_leads_to_its_definition() {
        let (page, text) = rendered(&report());
        let warnings = section(&page, "<strong>Warnings</strong>", "</div>");
        assert_eq!(warnings.matches("href=\"#metric-").count(), 5, "{warnings}");
        let rest = unlinked(warnings).replace("&#39;", "");
        assert!(!rest.contains(|c: char| c.is_ascii_digit()), "{rest}");
        let plain = "token at 300 annotations, KL coefficient 0.1: reward hacking suspected (seed 2, iteration 41): mean \
                     length 54.4 is 1.52 times the reference's";
        assert!(text.contains(plain), "{text}");
    }

    #[test]
    fn every_chart_names_the_definitions_of_its_axes() {
        let (page, _) = rendered(&report());
        let charts: Vec<&str> = page.split("<figure").skip(1).filter(|rest| rest.contains("class=\"chart\"")).collect();
        assert!(charts.len() > 10, "{}", charts.len());
        for chart in charts {
            let caption = section(chart, "<figcaption", "</figure>");
            assert!(caption.contains("href=\"#metric-"), "{caption}");
        }
    }

    #[test]
    fn an_empty_report_still_renders() {
        let (page, text) = rendered(&crate::report::Report::default());
        assert!(page.contains("<h2") && text.contains("## Verdict"));
    }

    #[test]
    fn a_users_template_has_the_fields_and_its_neighbours() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("mine.html.jinja");
        std::fs::write(dir.path().join("row.html.jinja"), "<td>{{ v.name }}: {{ v.win_rate|percent }}</td>\n").unwrap();
        std::fs::write(&own, "{% for v in variants[:1] %}{% include 'row.html.jinja' %}{% endfor %}{{ report.judge }}")
            .unwrap();
        let mut report = report();
        report.variants[0].name = "<b>".to_owned();
        let json = serde_json::to_value(&report).unwrap();
        let text = render_own(&own, &json).unwrap();
        assert_eq!(text, "<td>&lt;b&gt;: 65.5</td>\noracle: fewer faults win, equal counts draw");
        std::fs::write(&own, "one\n{{ nothing.here }}").unwrap();
        let error = render_own(&own, &json).unwrap_err().to_string();
        assert!(error.contains("mine.html.jinja:2") && error.contains("undefined"), "{error}");
        std::fs::write(&own, "{% if %}").unwrap();
        assert!(render_own(&own, &json).unwrap_err().to_string().contains("syntax error"));
    }
}

//! What makes a page whole: data for its script, the definitions of its numbers, and the permission to run that script alone.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use minijinja::{Error, ErrorKind, Value};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// The definitions of all numbers.
const METRICS: &str = include_str!("../../docs/METRICS.md");

/// The SHA-256 of `templates/page.js`, as a content security policy names it: the browser runs nothing else. After a change:
/// `openssl dgst -sha256 -binary src/report/templates/page.js | base64`.
pub const SCRIPT_HASH: &str = "sha256-wommJX8wcppOYUuUco69Q7zdz3H3/lBbdpsoPp1RblM=";

/// `value` as JSON that can stand in a `script` element: no text in it ends that element.
pub fn island(value: &Value) -> Result<String, Error> {
    let json =
        serde_json::to_string(value).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<'
            | '>'
            | '&'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                write!(safe, "\\u{:04x}", u32::from(c)).expect("a string takes all that is written to it");
            }
            c => safe.push(c),
        }
    }
    Ok(safe)
}

/// The definitions as HTML. Names in the first cell of a row are targets, `metric-win_rate`, each where it stands first; links
/// out of the page are texts.
pub fn metrics() -> String {
    let mut seen = BTreeSet::new();
    let (mut in_row, mut cells) = (false, 0);
    let mut events = Vec::new();
    for event in Parser::new_ext(METRICS, Options::ENABLE_TABLES) {
        match &event {
            Event::Start(Tag::TableRow) => (in_row, cells) = (true, 0),
            Event::End(TagEnd::TableRow) => in_row = false,
            Event::End(TagEnd::TableCell) => cells += 1,
            Event::Code(name) if in_row && cells == 0 && seen.insert(name.to_string()) => {
                events.push(Event::InlineHtml(
                    format!("<code id=\"metric-{name}\" tabindex=\"-1\">{name}</code>").into(),
                ));
                continue;
            }
            Event::Start(Tag::Link { .. }) | Event::End(TagEnd::Link) => continue,
            // The page has a heading of its own for them.
            Event::Start(Tag::Heading { .. }) => {
                events.push(Event::Html(CowStr::Borrowed("<h3>")));
                continue;
            }
            Event::End(TagEnd::Heading(_)) => {
                events.push(Event::Html(CowStr::Borrowed("</h3>\n")));
                continue;
            }
            _ => {}
        }
        events.push(event);
    }
    let mut page = String::new();
    html::push_html(&mut page, events.into_iter());
    let page = page
        .replace("<table>", "<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Definitions\"><table>");
    page.replace("</table>", "</table></div>").replacen("<h3>Metrics</h3>\n", "", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_island_cannot_end_its_element() {
        let value = Value::from("</script><!--\u{2028}&");
        assert_eq!(island(&value).unwrap(), "\"\\u003c/script\\u003e\\u003c!--\\u2028\\u0026\"");
    }

    #[test]
    fn every_name_in_a_first_cell_is_one_target() {
        let page = metrics();
        for name in ["win_rate", "letters", "better_prompts", "worse_prompts", "clip_fraction"] {
            assert_eq!(page.matches(&format!("id=\"metric-{name}\"")).count(), 1, "{name}");
        }
        assert!(!page.contains("href") && !page.contains("<h2"));
    }
}

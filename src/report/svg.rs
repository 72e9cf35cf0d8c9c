//! Just enough SVG for the report's charts: escaped text, lines, shapes, axes with round ticks.
//!
//! Colours are left to the classes of `templates/chart.css`, what is drawn to the charts.

use std::fmt::Write as _;

use super::text::escape;

/// Styles of all charts; stands once in the page, and in every chart that is a file of its own.
pub const STYLE: &str = include_str!("templates/chart.css");

/// A chart under construction. Coordinates are in pixels of its view box.
pub struct Svg {
    width: f64,
    height: f64,
    title: String,
    description: String,
    body: String,
}

/// Where a text is anchored.
#[derive(Clone, Copy)]
pub enum Anchor {
    /// The point is its left end.
    Start,
    /// The point is its middle.
    Middle,
    /// The point is its right end.
    End,
}

impl Svg {
    /// An empty chart; `title` and `description` are what a screen reader says.
    pub fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        Self { width, height, title: title.to_owned(), description: description.to_owned(), body: String::new() }
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) {
        self.push(format_args!(r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#));
    }

    /// A line through `points`; nothing below two of them.
    pub fn polyline(&mut self, class: &str, points: &[[f64; 2]]) {
        if points.len() > 1 {
            self.push(format_args!(r#"<polyline class="{class}" points="{}"/>"#, joined(points)));
        }
    }

    /// A filled area.
    pub fn polygon(&mut self, class: &str, points: &[[f64; 2]]) {
        if points.len() > 2 {
            self.push(format_args!(r#"<polygon class="{class}" points="{}"/>"#, joined(points)));
        }
    }

    /// A point's mark; its shape and colour follow from the series, so that colour is not needed to tell them apart.
    pub fn mark(&mut self, series: usize, [x, y]: [f64; 2], r: f64) {
        let class = format!("mark s{}", series % COLOURS);
        match series % 4 {
            0 => self.push(format_args!(r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{r:.1}"/>"#)),
            1 => self.polygon(&class, &[[x - r, y - r], [x + r, y - r], [x + r, y + r], [x - r, y + r]]),
            2 => self.polygon(&class, &[[x, y - 1.3 * r], [x + 1.2 * r, y + r], [x - 1.2 * r, y + r]]),
            _ => self.polygon(&class, &[[x, y - 1.4 * r], [x + 1.4 * r, y], [x, y + 1.4 * r], [x - 1.4 * r, y]]),
        }
    }

    /// The same mark, open.
    pub fn ring(&mut self, series: usize, [x, y]: [f64; 2], r: f64) {
        let class = format!("ring s{}", series % COLOURS);
        self.push(format_args!(r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{r:.1}"/>"#));
    }

    /// A rectangle with what a pointer on it says.
    pub fn rect(&mut self, class: &str, [x, y]: [f64; 2], [width, height]: [f64; 2], title: &str) {
        let title = escape(title);
        self.push(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"><title>{title}</title></rect>"#
        ));
    }

    /// A rectangle of a given colour.
    pub fn cell(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2], colour: &str) {
        self.push(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
        ));
    }

    /// Begins a group of elements.
    pub fn begin(&mut self, class: &str) {
        self.push(format_args!("<g class=\"{class}\">"));
    }

    /// Ends it.
    pub fn end(&mut self) {
        self.push(format_args!("</g>"));
    }

    /// A line of text, escaped.
    pub fn text(&mut self, class: &str, [x, y]: [f64; 2], anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.push(format_args!(r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#));
    }

    /// The chart as an element of a page that holds [`STYLE`].
    pub fn inline(&self) -> String {
        self.element("", "")
    }

    /// The chart as a file of its own.
    pub fn standalone(&self) -> String {
        let style = format!("<style>{STYLE}</style><rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n");
        let size = format!(r#" width="{:.0}" height="{:.0}""#, self.width, self.height);
        format!("{}\n", self.element(&size, &style))
    }

    fn element(&self, size: &str, before: &str) -> String {
        let (width, height, body) = (self.width, self.height, &self.body);
        let (title, description) = (escape(&self.title), escape(&self.description));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" aria-label=\"{title}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\"{size}>\n<title>{title}</title><desc>{description}</desc>\n\
             {before}{body}</svg>"
        )
    }

    fn push(&mut self, element: std::fmt::Arguments) {
        writeln!(self.body, "{element}").expect("a string takes any text");
    }
}

/// Series colours in `templates/chart.css`.
pub const COLOURS: usize = 8;

/// `text` cut to `limit` characters.
pub fn shortened(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

/// A linear map from data to pixels.
#[derive(Clone, Copy)]
pub struct Scale {
    data: [f64; 2],
    pixels: [f64; 2],
}

impl Scale {
    /// A scale over all of `values`, with round ends; ticks then lie on both.
    pub fn over(values: impl Iterator<Item = f64>, pixels: [f64; 2]) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let (low, high) = if high - low < 1e-9 { (low - 0.5, high + 0.5) } else { (low, high) };
        let step = round_step(high - low);
        Self { data: [(low / step).floor() * step, (high / step).ceil() * step], pixels }
    }

    /// A scale between given ends.
    pub const fn between(data: [f64; 2], pixels: [f64; 2]) -> Self {
        Self { data, pixels }
    }

    /// The pixel of `x`.
    pub fn at(&self, x: f64) -> f64 {
        let share = (x - self.data[0]) / (self.data[1] - self.data[0]);
        self.pixels[0] + share * (self.pixels[1] - self.pixels[0])
    }

    /// Whether `x` lies between the ends.
    pub fn holds(&self, x: f64) -> bool {
        (self.data[0]..=self.data[1]).contains(&x)
    }

    /// Round numbers between the ends, with the digits that tell them apart.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let step = round_step(self.data[1] - self.data[0]);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a handful of digits")]
        let digits = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
        let first = (self.data[0] / step - 1e-6).ceil();
        (0..20)
            .map(|i| (first + f64::from(i)) * step)
            .take_while(|&x| x <= self.data[1] + 1e-6 * step)
            .map(|x| (x, super::numbers::fixed(x, digits)))
            .collect()
    }
}

/// 1, 2 or 5 times a power of ten that cuts `span` into four to nine parts.
fn round_step(span: f64) -> f64 {
    let rough = span / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&step| step >= rough * 0.999).unwrap_or(10.0 * power)
}

fn joined(points: &[[f64; 2]]) -> String {
    points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_element() {
        let mut svg = Svg::new(10.0, 10.0, "a\" onload=\"x", "</desc><script>");
        svg.text("t", [0.0, 0.0], Anchor::Start, "</text><script>alert('&')</script>\u{1}");
        let found = svg.standalone();
        assert!(!found.contains("<script") && !found.contains("\" onload"), "{found}");
        assert!(found.contains("&lt;/text&gt;&lt;script&gt;alert(&#39;&amp;&#39;)"), "{found}");
    }

    #[test]
    fn ticks_are_round_and_lie_on_both_ends() {
        let labels = |low: f64, high: f64| -> Vec<String> {
            Scale::over([low, high].into_iter(), [0.0, 1.0]).ticks().into_iter().map(|(_, label)| label).collect()
        };
        assert_eq!(labels(0.47, 0.83), ["0.4", "0.5", "0.6", "0.7", "0.8", "0.9"]);
        assert_eq!(labels(0.0, 60.0), ["0", "20", "40", "60"]);
        assert_eq!(labels(-3.1, 2.0), ["-4", "-2", "0", "2"]);
        assert!(labels(5.0, 5.0).len() > 2, "one value still makes an axis");
    }

    #[test]
    fn a_scale_maps_ends_to_ends() {
        let scale = Scale::between([0.0, 50.0], [10.0, 110.0]);
        for (x, pixel) in [(0.0, 10.0), (25.0, 60.0), (50.0, 110.0)] {
            assert!((scale.at(x) - pixel).abs() < 1e-12, "{x}");
        }
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!([shortened("größer", 6), shortened("größer", 4)], ["größer", "grö…"]);
    }
}

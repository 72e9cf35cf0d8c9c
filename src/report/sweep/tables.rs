//! The tables of a sweep's report, made once for terminal, Markdown, page and LaTeX.

use super::schema::{Effect, FactorLevel, LevelPair, PointResult, Quantity, Status, SweepReport, Trend};
use crate::report::heat;
use crate::report::numbers::{UNKNOWN, fixed, optional, optional_percent, p_value, percent, plural, shortest, signed};
use crate::report::tables::{Cell, Head, Table, interval};
use crate::report::terminal::aligned;
use crate::report::verdict::Strength;

/// Rows on a terminal; where there are more, the best are shown.
const ROWS: usize = 40;

/// What a quantity is called: the variant, or `token - sequence` for its lead.
pub fn quantity(quantity: &Quantity) -> String {
    let against = quantity.against.as_ref().map_or_else(String::new, |against| format!(" - {against}"));
    format!("{}{against}", quantity.variant)
}

/// Every result of every point; columns for axes and budgets that vary.
pub fn points(report: &SweepReport) -> Table {
    table(report, report.results.iter())
}

fn table<'a>(report: &SweepReport, results: impl Iterator<Item = &'a PointResult>) -> Table {
    let level = |result: &PointResult, axis: usize| -> Option<&str> {
        report.points.iter().find(|point| point.name == result.point)?.levels.get(axis)?.as_deref()
    };
    let varies = |axis: &usize| {
        let mut levels = report.points.iter().map(|point| point.levels.get(*axis));
        let first = levels.next();
        levels.any(|level| Some(level) != first)
    };
    let axes: Vec<usize> = (0..report.axes.len()).filter(varies).collect();
    let budgets = report.results.iter().any(|result| result.budget != report.results[0].budget);
    let head = |title: &str, metric| Head { title: title.to_owned(), metric };
    let mut columns: Vec<Head> = axes.iter().map(|&axis| head(&report.axes[axis].name, "")).collect();
    columns.push(head("variant", ""));
    let names = columns.len();
    columns.extend(budgets.then(|| head("annotations", "annotations")));
    let has_curves = report.results.iter().any(|result| !result.curve.is_empty());
    let shown = if has_curves { MEASURED.len() } else { MEASURED.len() - 1 };
    columns.extend(MEASURED[..shown].iter().map(|(title, metric)| head(title, metric)));
    let curves = || report.results.iter().flat_map(|result| &result.curve).map(|[_, share]| *share);
    let scale = curves().fold([1.0, 0.0], |[low, high], share| [share.min(low), share.max(high)]);
    let rows = results.map(|result| {
        let mut row: Vec<Cell> = axes.iter().map(|&axis| level(result, axis).unwrap_or(UNKNOWN).into()).collect();
        row.push(result.variant.as_str().into());
        row.extend(budgets.then(|| result.budget.to_string().into()));
        row.extend(measured(result, scale).into_iter().take(shown));
        row
    });
    let caption = "Every result: one row a point, variant and budget".to_owned();
    Table { id: "points".to_owned(), caption, head: columns, names, rows: rows.collect(), ..Table::default() }
        .ruled_by(0)
}

/// The columns of a result's numbers; the last is a small curve.
const MEASURED: [(&str, &str); 10] = [
    ("win rate", "win_rate"),
    ("interval", "ci"),
    ("difference", "lead"),
    ("interval", "ci"),
    ("KL coef.", "kl_coef"),
    ("KL", "kl_nats"),
    ("length", "mean_length"),
    ("faults", "faults"),
    ("validation", "validation_win_rate"),
    ("while training", "win_rate"),
];

fn measured(result: &PointResult, [low, high]: [f64; 2]) -> [Cell; 10] {
    if result.status != Status::Done {
        let mut cells: [Cell; 10] = Default::default();
        cells[0] = result.status.name().into();
        return cells;
    }
    let m = &result.measures;
    let (lead, range) = result.lead.as_ref().map_or_else(Default::default, difference);
    [
        Cell { strong: true, ..optional_percent(m.win_rate).into() },
        result.ci.map_or_else(String::new, |ci| interval(ci.map(percent))).into(),
        lead,
        range,
        result.kl_coef.map_or_else(String::new, shortest).into(),
        optional(m.kl_nats, 2).into(),
        optional(m.mean_length, 1).into(),
        optional(m.faults, 2).into(),
        optional_percent(m.validation_win_rate).into(),
        Cell::spark(&result.curve.iter().map(|[_, share]| *share).collect::<Vec<_>>(), low, high),
    ]
}

/// A difference, strong where its interval leaves out zero, and its interval.
fn difference(effect: &Effect) -> (Cell, Cell) {
    let [low, high] = effect.ci.map(|x| fixed(x, 1));
    let strong = Strength::of(effect.ci, 0.0) != Strength::Nothing;
    (Cell { strong, ..signed(effect.difference_points, 1).into() }, format!("{low} to {high}").into())
}

/// What an axis does to each of `levels`, which are levels of one axis, by quantity.
pub fn factor(levels: &[&FactorLevel]) -> Table {
    let head = [
        ("quantity", ""),
        ("level", ""),
        ("mean", "mean_points"),
        ("points", "points"),
        ("difference", "effect"),
        ("interval", "ci"),
        ("p (Holm)", "p_holm"),
        ("seen from", "detectable_points"),
        ("pairs", "pairs"),
    ];
    let row = |level: &&FactorLevel| {
        let missing = if level.missing > 0 { format!("{} missing", level.missing) } else { String::new() };
        let mut row = vec![
            quantity(&level.quantity).into(),
            level.level.as_str().into(),
            mean(level.mean_points, &level.quantity).into(),
            Cell { note: missing, ..level.points.to_string().into() },
        ];
        match &level.effect {
            Some(effect) => {
                let (points, range) = difference(effect);
                let p = p_value(effect.p_holm.unwrap_or(effect.p_value));
                let seen = effect.power.as_ref().map_or(UNKNOWN.to_owned(), |power| fixed(power.detectable_points, 1));
                row.extend([points, range, p.into(), seen.into(), pairs(effect)]);
            }
            None if level.level == level.first_level => row.extend([""; 5].map(Cell::from)),
            None => row.extend(["no pair", "", "", "", "0"].map(Cell::from)),
        }
        row
    };
    let axis = levels.first().map_or("", |level| &level.axis);
    Table::new(format!("factor-{}", plain(axis)), format!("What {axis} does, level by level"), 2, &head)
        .with(levels.iter().map(row))
        .ruled_by(0)
}

/// `name` as part of a file's name.
pub fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

/// A win rate in percent, or a lead in points with its sign.
fn mean(points: Option<f64>, of: &Quantity) -> String {
    match points {
        Some(points) if of.against.is_some() => signed(points, 1),
        points => optional(points, 1),
    }
}

/// How many pairs are behind an effect, and what is special about them.
fn pairs(effect: &Effect) -> Cell {
    let notes = [(effect.partial, "in part"), (effect.unpaired, "independent")];
    let notes = notes.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}"));
    Cell { note: notes.collect::<Vec<_>>().join(", "), ..effect.pairs.to_string().into() }
}

/// How far a mean lies above an even win rate or no lead, in points.
pub fn above(cell: &LevelPair) -> Option<f64> {
    let even = if cell.quantity.against.is_some() { 0.0 } else { 50.0 };
    cell.mean_points.map(|mean| mean - even)
}

/// Means of one quantity over the levels of two factors, given in the order of rows; what lies above zero by [`above`] is
/// blue, what lies below orange, in full colour at `limit`.
pub fn level_pairs(cells: &[&LevelPair], limit: f64) -> Table {
    let mut columns: Vec<&str> = Vec::new();
    for cell in cells {
        if !columns.contains(&cell.levels[1].as_str()) {
            columns.push(&cell.levels[1]);
        }
    }
    let shown = |cell: &&LevelPair| match above(cell) {
        Some(above) => Cell {
            text: mean(cell.mean_points, &cell.quantity),
            note: match cell.missing {
                0 => plural(cell.points, "point"),
                missing => format!("{}, {missing} missing", plural(cell.points, "point")),
            },
            // Lighter than a token's: there are small letters on it.
            shade: Some(heat::colour(above, 1.4 * limit)),
            metric: "mean_points",
            ..Cell::default()
        },
        None => Cell {
            text: if cell.missing > 0 { "missing" } else { "no point" }.to_owned(),
            shade: Some("transparent".to_owned()),
            ..Cell::default()
        },
    };
    let rows = cells.chunks(columns.len().max(1)).map(|row| {
        let name = row.first().map_or("", |cell| cell.levels[0].as_str());
        std::iter::once(Cell::from(name)).chain(row.iter().map(shown)).collect()
    });
    let corner = cells.first().map_or_else(String::new, |cell| format!("{} \\ {}", cell.axes[0], cell.axes[1]));
    let of = cells.first().map_or_else(String::new, |cell| {
        format!("{}-{}-{}", plain(&cell.axes[0]), plain(&cell.axes[1]), plain(&quantity(&cell.quantity)))
    });
    let mut table = Table::new(format!("pairs-{of}"), format!("Means by {corner}"), 1, &[(&corner, "")]).with(rows);
    table.head.extend(columns.iter().map(|name| Head { title: (*name).to_owned(), metric: "" }));
    table
}

/// Rank correlations of one sampled axis.
pub fn trends(trends: &[&Trend]) -> Table {
    let head = [("quantity", ""), ("rank correlation", "spearman"), ("points", "points")];
    let row = |trend: &&Trend| {
        let missing = if trend.missing > 0 { format!("{} missing", trend.missing) } else { String::new() };
        vec![
            quantity(&trend.quantity).into(),
            optional(trend.spearman, 2).into(),
            Cell { note: missing, ..trend.values.len().to_string().into() },
        ]
    };
    let axis = trends.first().map_or("", |trend| &trend.axis);
    let caption = format!("How well the order of {axis} predicts the order of results");
    Table::new(format!("trend-{}", plain(axis)), caption, 1, &head).with(trends.iter().map(row))
}

/// The results on a terminal, with the difference to the first variant of the same point; of many the best by validation
/// win rate.
///
/// # Units
/// Win rates in percent, differences in points, KL in nats per response, lengths in tokens.
#[must_use]
pub fn terminal_table(report: &SweepReport) -> String {
    let mut shown: Vec<&PointResult> = report.results.iter().collect();
    let all = shown.len();
    if all > ROWS {
        let key = |result: &PointResult| result.measures.validation_win_rate.unwrap_or(f64::NEG_INFINITY);
        shown.sort_by(|a, b| key(b).total_cmp(&key(a)));
        shown.truncate(ROWS);
    }
    let table = table(report, shown.into_iter());
    let rows = table.rows.into_iter().map(|row| row.into_iter().map(|cell| cell.text).collect());
    let head = table.head.into_iter().map(|head| head.title).collect();
    let mut parts = vec![aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>(), table.names)];
    if all > ROWS {
        parts.push(format!("... the {ROWS} best of {all} by validation win rate; the report has all\n"));
    }
    let (confidence, first) = (fixed(100.0 * report.confidence, 0), &report.first_variant);
    parts.push(format!(
        "\nwin rate in % against the SFT reference; difference in points to `{first}` at the same point\n\
         {confidence} % intervals; KL in nats, length in tokens\n"
    ));
    let gaps = report.points.iter().filter(|point| point.status != Status::Done);
    parts.extend(gaps.map(|point| format!("{}: `{}`: {}\n", point.status.name(), point.name, reason(point))));
    parts.concat()
}

/// Why a point is not done, in one line.
pub fn reason(point: &super::PointSummary) -> String {
    match (point.errors.as_slice(), point.missing_stages.as_slice()) {
        ([error, ..], _) => error.clone(),
        ([], [first, ..]) => {
            let has = if point.missing_stages.len() == 1 { "has" } else { "have" };
            format!("{} {has} not run, first `{first}`", plural(point.missing_stages.len(), "stage"))
        }
        ([], []) => String::new(),
    }
}

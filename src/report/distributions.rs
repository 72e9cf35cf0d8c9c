//! Distributions of a reward model's scores by label class: outlines over one axis, in standard deviations.

use super::frame::{self, PLOT, SIZE};
use super::numbers::{fixed, plural, signed};
use super::svg::{COLOURS, Scale, Svg};
use super::{RewardModelResult, ScoreDistribution};

/// Where the bins of a distribution end, in standard deviations.
const END: f64 = 4.0;

/// What `models`, those of one variant at one budget, give to `of` (`tokens` or `responses`), means over seeds; none where they
/// give nothing.
pub fn chart(variant: &str, budget: usize, models: &[&RewardModelResult], of: &str) -> Option<Svg> {
    let classes = classes(models, of);
    let highest = classes.iter().flat_map(|class| &class.shares).copied().fold(0.0, f64::max);
    if classes.is_empty() || highest <= 0.0 {
        return None;
    }
    let heading = format!("{variant}: scores of {of}");
    let means = classes.iter().map(|class| format!("{} {}", class.class, signed(class.mean, 2)));
    let description = format!(
        "Shares of the scores of each class, in standard deviations from the mean of all. Means: {}.",
        means.collect::<Vec<_>>().join(", ")
    );
    let title = format!("{heading}, {}", plural(budget, "annotation"));
    let mut svg = Svg::new(SIZE[0], frame::height(classes.len()), &title, &description);
    let (x, y) = (Scale::between([-END, END], PLOT[0]), Scale::over([0.0, 100.0 * highest].into_iter(), PLOT[1]));
    frame::axes(&mut svg, &heading, "score (SD from the mean); upwards the share in %", x, y);
    for (index, class) in classes.iter().enumerate() {
        let colour = index % COLOURS;
        let outline = outline(&class.shares, x, y);
        svg.polygon(&format!("band s{colour}"), &outline);
        svg.polyline(&format!("outline s{colour}"), &outline);
        let mean = class.mean.clamp(-END, END);
        svg.mark(index, [x.at(mean), y.at(0.0)], 4.0);
    }
    let names: Vec<String> = classes.iter().map(|c| format!("{}, n = {}", c.class, c.count)).collect();
    frame::legend(&mut svg, names.iter().enumerate().map(|(index, name)| (index, name.as_str())));
    Some(svg)
}

/// The classes of all seeds, shares and means averaged, counts added.
fn classes(models: &[&RewardModelResult], of: &str) -> Vec<ScoreDistribution> {
    let mut classes: Vec<(ScoreDistribution, f64)> = Vec::new();
    for found in models.iter().flat_map(|model| &model.distributions).filter(|found| found.of == of) {
        match classes.iter_mut().find(|(known, _)| known.class == found.class) {
            Some((known, n)) => {
                known.count += found.count;
                known.mean += found.mean;
                known.shares.iter_mut().zip(&found.shares).for_each(|(sum, share)| *sum += share);
                *n += 1.0;
            }
            None => classes.push((found.clone(), 1.0)),
        }
    }
    let mean = |(mut class, n): (ScoreDistribution, f64)| {
        class.mean /= n;
        class.shares.iter_mut().for_each(|share| *share /= n);
        class
    };
    classes.into_iter().map(mean).collect()
}

/// Steps over the bins, from the axis up and back to it.
fn outline(shares: &[f64], x: Scale, y: Scale) -> Vec<[f64; 2]> {
    let width = 2.0 * END / shares.len() as f64;
    let mut points = vec![[x.at(-END), y.at(0.0)]];
    for (i, share) in shares.iter().enumerate() {
        let left = -END + width * i as f64;
        points.extend([left, left + width].map(|at| [x.at(at), y.at(100.0 * share)]));
    }
    points.push([x.at(END), y.at(0.0)]);
    points
}

/// The chart of counts of lengths, or of anything that is counted from zero; none without any.
pub fn histogram(heading: &str, unit: &str, bin_width: usize, bins: &[usize]) -> Option<Svg> {
    let all: usize = bins.iter().sum();
    if all == 0 {
        return None;
    }
    let share = |count: usize| 100.0 * count as f64 / all as f64;
    let end = (bin_width * bins.len()) as f64;
    let description = format!("{all} in {} of {bin_width} {unit}.", plural(bins.len(), "bin"));
    let mut svg = Svg::new(SIZE[0], SIZE[1], heading, &description);
    let x = Scale::between([0.0, end], PLOT[0]);
    let y = Scale::over(bins.iter().map(|count| share(*count)).chain([0.0]), PLOT[1]);
    frame::axes(&mut svg, heading, &format!("{unit}; upwards the share in %"), x, y);
    for (i, count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (from, to) = (i * bin_width, (i + 1) * bin_width);
        let (left, top) = (x.at(from as f64), y.at(share(*count)));
        let range = if bin_width == 1 { from.to_string() } else { format!("{from} to {}", to - 1) };
        let said = format!("{range} {unit}: {count} ({} %)", fixed(share(*count), 1));
        svg.rect("bar s0", [left + 0.5, top], [x.at(to as f64) - left - 1.0, y.at(0.0) - top], &said);
    }
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    #[test]
    fn seeds_are_averaged() {
        let report = report();
        let models: Vec<&RewardModelResult> = report.reward_models.iter().take(3).collect();
        let found = classes(&models, "responses");
        assert_eq!(
            found.iter().map(|c| (c.class.as_str(), c.count)).collect::<Vec<_>>(),
            [("preferred", 900), ("less preferred", 900)]
        );
        assert!((found[0].shares[18] - 0.75).abs() < 1e-12);
        assert!(chart("token", 300, &models, "responses").unwrap().inline().contains("preferred, n = 900"));
        assert!(chart("token", 300, &models, "tokens").is_none());
    }

    #[test]
    fn bars_say_what_they_count() {
        let drawn = histogram("Lengths", "tokens", 5, &[1, 0, 3]).unwrap().inline();
        assert_eq!(drawn.matches("<rect").count(), 2);
        assert!(drawn.contains("<title>10 to 14 tokens: 3 (75.0 %)</title>"), "{drawn}");
        assert!(histogram("None", "tokens", 1, &[]).is_none());
    }
}

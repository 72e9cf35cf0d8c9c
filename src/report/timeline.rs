//! The timeline of stages: when each was made, one band a kind of stage, bars that overlap on lanes of their own.
//!
//! Pauses in which nothing was made are cut short: results may come from several days.

use super::StageCost;
use super::numbers::duration;
use super::schema::Report;
use super::svg::{Anchor, COLOURS, Svg, shortened};
use super::tables::kind;

const WIDTH: f64 = 760.0;
const PLOT: [f64; 2] = [104.0, 748.0];
const LANE: f64 = 9.0;
/// Lanes of one kind at most; what does not fit lies on the last one.
const LANES: usize = 6;
/// Pauses longer than this are cut to it, in seconds; starts are known to the second only.
const PAUSE: f64 = 3.0;

/// A stage on the cut clock.
struct Bar<'a> {
    stage: &'a StageCost,
    begin: f64,
    end: f64,
    lane: usize,
}

/// The timeline of `report`; none where no times are known.
pub fn chart(report: &Report) -> Option<Svg> {
    let mut bars = bars(report);
    let end = bars.iter().map(|bar| bar.end).fold(0.0, f64::max);
    if end <= 0.0 {
        return None;
    }
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for stage in &report.stages {
        if !kinds.iter().any(|(known, _)| *known == kind(stage)) {
            kinds.push((kind(stage), 1));
        }
    }
    for (name, lanes) in &mut kinds {
        *lanes = place(bars.iter_mut().filter(|bar| kind(bar.stage) == *name).collect());
    }
    let band = |lanes: usize| LANE * lanes as f64 + 10.0;
    let height = 64.0 + kinds.iter().map(|(_, lanes)| band(*lanes)).sum::<f64>();
    let description = format!("{} stages on a clock of {} without pauses.", bars.len(), duration(end));
    let mut svg = Svg::new(WIDTH, height, "Timeline of stages", &description);
    svg.text("head", [6.0, 18.0], Anchor::Start, "When stages were made (pauses cut short)");
    let at = |time: f64| PLOT[0] + (PLOT[1] - PLOT[0]) * time / end;
    let bottom = height - 26.0;
    for i in 0..=4 {
        let time = end * f64::from(i) / 4.0;
        svg.line("grid", [at(time), 28.0], [at(time), bottom]);
        let anchor = if i == 4 { Anchor::End } else { Anchor::Middle };
        svg.text("", [at(time), bottom + 16.0], anchor, &duration(time));
    }
    let mut top = 34.0;
    for (index, (name, lanes)) in kinds.iter().enumerate() {
        svg.text("row", [PLOT[0] - 8.0, top + LANE], Anchor::End, &shortened(name, 14));
        for bar in bars.iter().filter(|bar| kind(bar.stage) == *name) {
            let width = (at(bar.end) - at(bar.begin)).max(1.0);
            let from = if bar.stage.cached { "from the store" } else { "this run" };
            let said = format!("{}: {}, {from}", bar.stage.label, duration(bar.stage.wall_seconds.unwrap_or(0.0)));
            let class = format!("bar s{}{}", index % COLOURS, if bar.stage.cached { " faint" } else { "" });
            svg.rect(&class, [at(bar.begin), top + LANE * bar.lane as f64], [width, LANE - 2.0], &said);
        }
        top += band(*lanes);
    }
    Some(svg)
}

/// Every stage whose times are known, in order of its beginning.
fn bars(report: &Report) -> Vec<Bar<'_>> {
    let known = report.stages.iter().filter_map(|stage| {
        let begin = stage.started? as f64;
        Some(Bar { stage, begin, end: begin + stage.wall_seconds?, lane: 0 })
    });
    let mut bars: Vec<Bar> = known.collect();
    bars.sort_by(|a, b| a.begin.total_cmp(&b.begin).then(a.end.total_cmp(&b.end)));
    let (mut cut, mut busy_until) = (bars.first().map_or(0.0, |bar| bar.begin), f64::NEG_INFINITY);
    for bar in &mut bars {
        if busy_until > f64::NEG_INFINITY && bar.begin - busy_until > PAUSE {
            cut += bar.begin - busy_until - PAUSE;
        }
        busy_until = busy_until.max(bar.end);
        (bar.begin, bar.end) = (bar.begin - cut, bar.end - cut);
    }
    bars
}

/// Gives bars that overlap different lanes, and says how many that are.
fn place(bars: Vec<&mut Bar>) -> usize {
    let mut free: Vec<f64> = Vec::new();
    for bar in bars {
        let lane = free.iter().position(|until| *until <= bar.begin + 1e-6);
        let lane = lane.unwrap_or_else(|| free.len().min(LANES - 1));
        if lane == free.len() {
            free.push(0.0);
        }
        free[lane] = free[lane].max(bar.end);
        bar.lane = lane;
    }
    free.len().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(started: u64, seconds: f64) -> StageCost {
        StageCost { label: "a".into(), started: Some(started), wall_seconds: Some(seconds), ..StageCost::default() }
    }

    #[test]
    fn pauses_are_cut_and_what_overlaps_lies_on_two_lanes() {
        let stages = vec![stage(1000, 10.0), stage(1005, 10.0), stage(9000, 2.0)];
        let report = Report { stages, ..Report::default() };
        let mut found = bars(&report);
        assert_eq!(
            found.iter().map(|bar| (bar.begin, bar.end)).collect::<Vec<_>>(),
            [(0.0, 10.0), (5.0, 15.0), (18.0, 20.0)]
        );
        assert_eq!(place(found.iter_mut().collect()), 2);
        assert_eq!(found.iter().map(|bar| bar.lane).collect::<Vec<_>>(), [0, 1, 0]);
        assert_eq!(chart(&report).unwrap().inline().matches("<rect").count(), 3);
        assert!(chart(&Report::default()).is_none());
    }
}

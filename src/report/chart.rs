//! Charts as SVG that stand within a page: bars and lines without scripts, fonts of their own or outside files.

use crate::base::markup::escaped;
use crate::db::probe::amount;
use std::fmt::Write;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 120.0;
/// Room for labels at the left, the top and the bottom.
const LEFT: f64 = 70.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 20.0;
/// More bars than that are nothing but a block.
const MOST_POINTS: usize = 120;

/// How the values are said.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Time,
}

/// A value at a moment; none for a run that has none.
pub struct Point {
    /// What is said below it.
    pub label: String,
    /// The value.
    pub value: Option<f64>,
    /// Whether the run was good; others have another colour.
    pub good: bool,
}

/// Bars, one for each run.
pub fn bars(title: &str, unit: Unit, points: &[Point]) -> String {
    let points = newest(points);
    let highest = highest(points);
    let mut svg = frame(title, unit, points, highest);
    let step = (WIDTH - LEFT) / points.len().max(1) as f64;
    for (at, point) in points.iter().enumerate() {
        let colour = if point.good { "#2e7d32" } else { "#c62828" };
        // A run without a value still stands there: as a stump.
        let height = point.value.map_or(3.0, |value| (value / highest * (HEIGHT - TOP - BOTTOM)).max(1.0));
        let (x, y) = (LEFT + at as f64 * step, HEIGHT - BOTTOM - height);
        let width = (step * 0.8).max(1.0);
        let _ = write!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        );
    }
    svg + "</svg>"
}

/// A line through the runs that have a value.
pub fn line(title: &str, unit: Unit, points: &[Point]) -> String {
    let points = newest(points);
    let highest = highest(points);
    let mut svg = frame(title, unit, points, highest);
    let step = (WIDTH - LEFT - 8.0) / points.len().saturating_sub(1).max(1) as f64;
    let place = |(at, point): (usize, &Point)| {
        let y = HEIGHT - BOTTOM - point.value? / highest * (HEIGHT - TOP - BOTTOM);
        Some((LEFT + 4.0 + at as f64 * step, y))
    };
    let places: Vec<(f64, f64)> = points.iter().enumerate().filter_map(place).collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ =
        write!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"#1565c0\" stroke-width=\"2\"/>", path.join(" "));
    if let Some((x, y)) = places.last() {
        let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#1565c0\"/>");
    }
    svg + "</svg>"
}

fn newest(points: &[Point]) -> &[Point] {
    &points[points.len().saturating_sub(MOST_POINTS)..]
}

fn highest(points: &[Point]) -> f64 {
    points.iter().filter_map(|point| point.value).fold(0.0, f64::max).max(1.0)
}

/// Title, axes and what stands at them.
fn frame(title: &str, unit: Unit, points: &[Point], highest: f64) -> String {
    let bottom = HEIGHT - BOTTOM;
    let said = |value: f64| match unit {
        Unit::Bytes => amount(value as u64),
        Unit::Time => crate::base::clock::span(value as u64),
    };
    let text = |x: f64, y: f64, anchor: &str, text: &str| {
        format!("<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{}</text>", escaped(text))
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{title}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"100%\" font-family=\"sans-serif\" font-size=\"10\" fill=\"#5b6675\">\
         <line x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{WIDTH}\" y2=\"{bottom}\" stroke=\"#dfe3e8\"/>\
         <line x1=\"{LEFT}\" y1=\"{TOP}\" x2=\"{WIDTH}\" y2=\"{TOP}\" stroke=\"#eef0f3\"/>"
    );
    svg.push_str(&text(LEFT - 6.0, TOP + 4.0, "end", &said(highest)));
    svg.push_str(&text(LEFT - 6.0, bottom + 3.0, "end", "0"));
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        svg.push_str(&text(LEFT, HEIGHT - 6.0, "start", &first.label));
        svg.push_str(&text(WIDTH, HEIGHT - 6.0, "end", &last.label));
    }
    svg
}

//! Exponential smoothing, by `augurs`.

use super::Curve;
use augurs_core::prelude::{Fit, Predict};
use augurs_ets::AutoETS;

/// A week, which backups and prunes have.
const WEEK: usize = 7;

/// The curve; none if no model fits or it comes to what cannot be.
pub fn curve(values: &[f64], horizon: usize, level: f64) -> Option<Curve> {
    let largest = values.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    // The same number each day needs no model, and has no spread to fit one to.
    if largest == 0.0 || values.iter().all(|value| *value == values[0]) {
        return None;
    }
    let scaled: Vec<f64> = values.iter().map(|value| value / largest).collect();
    let with_week = (values.len() >= 4 * WEEK).then(|| AutoETS::new(WEEK, "AZA").ok()).flatten();
    let model = match with_week.and_then(|auto| auto.fit(&scaled).ok()) {
        Some(model) => model,
        None => AutoETS::new(1, "AZN").ok()?.fit(&scaled).ok()?,
    };
    let guessed = model.predict(horizon, level).ok()?;
    let intervals = guessed.intervals?;
    let curve = Curve {
        likely: guessed.point.iter().map(|value| value * largest).collect(),
        least: intervals.lower.iter().map(|value| value * largest).collect(),
        most: intervals.upper.iter().map(|value| value * largest).collect(),
    };
    is_sound(&curve, horizon, largest).then_some(curve)
}

/// Whether it has all days, and none of them is absurd: a thousand times all that ever was.
fn is_sound(curve: &Curve, horizon: usize, largest: f64) -> bool {
    let all = [&curve.likely, &curve.least, &curve.most];
    let is_likely = |value: &f64| value.is_finite() && value.abs() <= 1000.0 * largest;
    all.iter().all(|values| values.len() == horizon && values.iter().all(|value| value.is_finite()))
        && curve.likely.iter().all(is_likely)
}

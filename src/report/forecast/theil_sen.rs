//! The median slope, which a third of wild days does not move.

use super::Curve;

/// The curve through the median of the newest days.
pub fn curve(values: &[f64], horizon: usize, level: f64) -> Curve {
    let slopes = slopes(values);
    let (slow, slope, fast) = interval(&slopes, values.len(), level);
    let lefts: Vec<f64> = values.iter().enumerate().map(|(day, value)| value - slope * day as f64).collect();
    let start = median(&sorted(lefts.clone()));
    let spread = sorted(lefts.iter().map(|left| left - start).collect());
    let (below, above) = (quantile(&spread, (1.0 - level) / 2.0), quantile(&spread, (1.0 + level) / 2.0));
    let today = (values.len() - 1) as f64;
    let at = |steps: usize, slope_now: f64| start + slope * today + slope_now * (steps + 1) as f64;
    Curve {
        likely: (0..horizon).map(|steps| at(steps, slope)).collect(),
        least: (0..horizon).map(|steps| at(steps, slow) + below).collect(),
        most: (0..horizon).map(|steps| at(steps, fast) + above).collect(),
    }
}

/// The slopes between all pairs of days, the smallest first.
fn slopes(values: &[f64]) -> Vec<f64> {
    let pairs = |from: usize| (from + 1..values.len()).map(move |to| (from, to));
    let slope = |(from, to): (usize, usize)| (values[to] - values[from]) / (to - from) as f64;
    sorted((0..values.len()).flat_map(pairs).map(slope).collect())
}

/// The lower end of the slope's interval, the slope and the upper end: order statistics at a distance from the median
/// that the variance of Kendall's statistic gives (Sen 1968, equations 2.6 and 3.1).
fn interval(slopes: &[f64], days: usize, level: f64) -> (f64, f64, f64) {
    let (pairs, days) = (slopes.len() as f64, days as f64);
    let deviation = (days * (days - 1.0) * (2.0 * days + 5.0) / 18.0).sqrt();
    let distance = normal_quantile((1.0 + level) / 2.0) * deviation;
    let at = |rank: f64| slopes[(rank.round().max(0.0) as usize).min(slopes.len() - 1)];
    (at((pairs - distance) / 2.0), median(slopes), at((pairs + distance) / 2.0))
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    quantile(sorted, 0.5)
}

/// The value below which a share of the sorted values lies, between two of them where it has to.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

/// The standard normal distribution's quantile, to four digits (Hastings 1955, as in Abramowitz and Stegun 26.2.23).
fn normal_quantile(share: f64) -> f64 {
    let tail = (1.0 - share).clamp(1e-9, 0.5);
    let t = (-2.0 * tail.ln()).sqrt();
    let (over, under) =
        (2.515_517 + t * (0.802_853 + t * 0.010_328), 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308)));
    t - over / under
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_the_normal_distribution_are_those_of_the_tables() {
        for (share, expected) in [(0.9, 1.2816), (0.95, 1.6449), (0.975, 1.96), (0.995, 2.5758)] {
            assert!((normal_quantile(share) - expected).abs() < 5e-4, "{share}: {}", normal_quantile(share));
        }
    }

    #[test]
    fn the_slope_of_a_line_is_found_and_wild_days_do_not_move_it() {
        let mut values: Vec<f64> = (0..60).map(|day| 1000.0 + 10.0 * f64::from(day)).collect();
        (0..60).step_by(4).for_each(|day| values[day] *= if day % 8 == 0 { 9.0 } else { 0.1 });
        let curve = curve(&values, 30, 0.8);
        assert!((curve.likely[29] - 1890.0).abs() < 60.0, "{}", curve.likely[29]);
        assert!(curve.least[29] < curve.likely[29] && curve.likely[29] < curve.most[29]);
    }
}

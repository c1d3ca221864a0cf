//! Keys of what is guessed of the future and what it costs.

use super::{PERCENT, PLAIN, key, needed, text};
use crate::config::describe::{Form, Section, Text};
use crate::config::values;

static PRICE_TEXT: Text = Text {
    number: true,
    fraction: true,
    ..text("a price such as 0.023", r"^[0-9]+(\.[0-9]+)?$", |text| values::price(text).map(drop))
};

pub(in crate::config) static FORECAST: Section = Section {
    doc: "How `predict` guesses; the options of the command count more.",
    keys: &[
        key(
            "method",
            Form::Word(&["auto", "ets", "theil-sen"]),
            "auto",
            "By exponential smoothing, by the median slope, or by whichever would have been nearer so far",
        ),
        key("level", Form::Text(&PERCENT), "80%", "The share of futures that should lie within the interval"),
        key("days", Form::Count { least: 7, most: 730 }, "90", "So many days of the past count"),
    ],
    one_of: &[],
};

pub(in crate::config) static PRICE: Section = Section {
    doc: "What storage costs.",
    keys: &[
        needed("storage", Form::Text(&PRICE_TEXT), "A gigabyte (10^9 bytes) for a month"),
        key("currency", Form::Text(&PLAIN), "USD", "In which currency"),
    ],
    one_of: &[],
};

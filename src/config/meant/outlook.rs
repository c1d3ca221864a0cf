//! What is guessed of the future and what it costs, as it is meant.

use crate::config::read::Reader;
use crate::config::values;
use crate::report::forecast::{Method, Options};
use std::collections::BTreeMap;

/// How the future is guessed.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    /// By which method, with which interval.
    pub options: Options,
    /// So many days of the past count.
    pub days: u16,
}

/// What storage costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// A gigabyte (10^9 bytes) for a month.
    pub storage: f64,
    /// In which currency.
    pub currency: String,
}

impl Outlook {
    pub(in crate::config) fn read(read: Reader<'_>) -> Outlook {
        let method = |word: &str| match word {
            "ets" => Ok::<_, ()>(Method::Ets),
            "theil-sen" => Ok(Method::TheilSen),
            _ => Ok(Method::Auto),
        };
        let level = read.value("level", values::percent).unwrap_or_default() / 100.0;
        let outlook = Outlook {
            options: Options { method: read.value("method", method).unwrap_or(Method::Auto), level },
            days: super::small(&read, "days").unwrap_or_default(),
        };
        read.finish();
        outlook
    }
}

impl Price {
    pub(in crate::config) fn read_all(read: &Reader<'_>) -> BTreeMap<String, Price> {
        let one = |(name, read): (String, Reader<'_>)| {
            let price = Price {
                storage: read.value("storage", values::price).unwrap_or_default(),
                currency: read.text("currency").unwrap_or_default(),
            };
            read.finish();
            (name, price)
        };
        read.named("prices").into_iter().map(one).collect()
    }
}

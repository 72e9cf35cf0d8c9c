//! Numbers with a range, and what is written like them: a value that exists is a value that makes sense.
//!
//! Every type here deserialises through its check, so that a recipe with `gamma = 1.5` is an error with a caret and not
//! a run that diverges. What a number *means* is left to the room that uses it.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident, $what:literal, $schema:meta, |$x:ident| $ok:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "f64", into = "f64")]
        #[schemars(with = "f64", $schema)]
        pub struct $name(f64);

        impl $name {
            /// The bare number.
            #[must_use]
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = String;

            fn try_from($x: f64) -> Result<Self, String> {
                if $x.is_finite() && $ok { Ok(Self($x)) } else { Err(format!(concat!("expected ", $what, ", found {}"), $x)) }
            }
        }

        impl From<$name> for f64 {
            fn from(x: $name) -> Self {
                x.0
            }
        }
    };
}

ranged!(
    /// A share or probability in `[0, 1]`.
    Fraction, "a number between 0 and 1", description = "a number between 0 and 1", |x| (0.0..=1.0).contains(&x)
);
ranged!(
    /// A finite number above zero.
    Positive, "a number above 0", description = "a number above 0", |x| x > 0.0
);
ranged!(
    /// A finite number of at least zero.
    NonNegative, "a number of at least 0", description = "a number of at least 0", |x| x >= 0.0
);

/// A count of at least one, and no more than tensors have places for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "i64", into = "i64")]
#[schemars(with = "u64", description = "a whole number of at least 1")]
pub struct Count(usize);

impl Count {
    /// The greatest there is: ids and indices are `i32`. More would only overflow later, in a product of two.
    const MOST: i64 = i32::MAX as i64;

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }
}

impl TryFrom<i64> for Count {
    type Error = String;

    fn try_from(n: i64) -> Result<Self, String> {
        if n > Self::MOST {
            return Err(format!("expected a whole number of at most {}, found {n}", Self::MOST));
        }
        usize::try_from(n)
            .ok()
            .filter(|&n| n > 0)
            .map(Self)
            .ok_or_else(|| format!("expected a whole number of at least 1, found {n}"))
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: i64 = text.parse().map_err(|_| format!("expected a whole number of at least 1, found `{text}`"))?;
        Self::try_from(number)
    }
}

impl From<Count> for i64 {
    fn from(n: Count) -> Self {
        i64::try_from(n.0).unwrap_or(i64::MAX)
    }
}

macro_rules! written {
    ($(#[$doc:meta])* $name:ident($inner:ty), $what:literal, $schema:meta, $read:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
        #[serde(try_from = "String")]
        #[schemars(with = "String", $schema)]
        pub struct $name($inner);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let read: fn(&str) -> Option<$inner> = $read;
                read(&text).map(Self).ok_or_else(|| format!(concat!("expected ", $what, ", found `{}`"), text))
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::try_from(text.to_owned())
            }
        }
    };
}

written!(
    /// An amount of memory in whole mebibytes.
    Memory(u64), "a size such as `512M` or `4G`", description = "a size such as `512M` or `4G`", |text| {
        quantity(text, &[("M", 1), ("G", 1 << 10), ("T", 1 << 20)])
    }
);
written!(
    /// A span of wall time in whole minutes.
    Time(u64), "a time such as `90m` or `2h`", description = "a time such as `90m` or `2h`", |text| {
        quantity(text, &[("m", 1), ("h", 60), ("d", 24 * 60)])
    }
);
written!(
    /// A text without line breaks.
    Line(String), "a line of text", description = "a line of text", |text| {
        (!text.contains(char::is_control)).then(|| text.to_owned())
    }
);

impl Serialize for Memory {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}M", self.0))
    }
}

impl Memory {
    /// Mebibytes.
    #[must_use]
    pub const fn mebibytes(&self) -> u64 {
        self.0
    }
}

impl Time {
    /// Minutes.
    #[must_use]
    pub const fn minutes(&self) -> u64 {
        self.0
    }
}

impl Line {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Seconds as a person says them.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = std::time::Duration::try_from_secs_f64(seconds.round()).map_or(0, |duration| duration.as_secs());
    match whole {
        0..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A whole number above zero with one of `units`, in the smallest of them.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, size) = units.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)))?;
    let number: u64 = number.trim_end().parse().ok()?;
    number.checked_mul(*size).filter(|&product| product > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_two_ends() {
        let read = |text: &str| text.parse::<Count>().map(Count::get);
        assert_eq!([read("1"), read("2147483647")], [Ok(1), Ok(2_147_483_647)]);
        assert_eq!(read("0"), Err("expected a whole number of at least 1, found 0".to_owned()));
        assert_eq!(
            read("2147483648"),
            Err("expected a whole number of at most 2147483647, found 2147483648".to_owned())
        );
    }

    #[test]
    fn sizes_and_times_have_units() {
        let memory = |text: &str| text.parse::<Memory>().map(|memory| memory.mebibytes());
        assert_eq!([memory("512M"), memory("4G"), memory("1T")], [Ok(512), Ok(4096), Ok(1 << 20)]);
        let time = |text: &str| text.parse::<Time>().map(|time| time.minutes());
        assert_eq!([time("90m"), time("2h"), time("1d")], [Ok(90), Ok(120), Ok(1440)]);
        for text in ["", "4", "G", "0G", "-1G", "1.5G", "4GB", "99999999999999999T"] {
            assert_eq!(memory(text), Err(format!("expected a size such as `512M` or `4G`, found `{text}`")));
        }
        assert!("a\nb".parse::<Line>().is_err());
    }

    #[test]
    fn durations_have_the_unit_that_fits() {
        let said: Vec<_> = [0.04, 9.96, 59.96, 61.2, 3599.6, 7260.0].into_iter().map(duration).collect();
        assert_eq!(said, ["0.0 s", "10.0 s", "1 min 00 s", "1 min 01 s", "1 h 00 min", "2 h 01 min"]);
    }
}

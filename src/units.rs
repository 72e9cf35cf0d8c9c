//! Numbers with a range: a value that exists is a value that makes sense.
//!
//! Every type here deserialises through its check, so that a recipe with `gamma = 1.5` is an error with a caret and not
//! a run that diverges. What a number *means* is left to the room that uses it.

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

/// A count of at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "i64", into = "i64")]
#[schemars(with = "u64", description = "a whole number of at least 1")]
pub struct Count(usize);

impl Count {
    /// The bare number.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }
}

impl TryFrom<i64> for Count {
    type Error = String;

    fn try_from(n: i64) -> Result<Self, String> {
        usize::try_from(n)
            .ok()
            .filter(|&n| n > 0)
            .map(Self)
            .ok_or_else(|| format!("expected a whole number of at least 1, found {n}"))
    }
}

impl From<Count> for i64 {
    fn from(n: Count) -> Self {
        i64::try_from(n.0).unwrap_or(i64::MAX)
    }
}

//! How many replicas share a gradient step.

use std::fmt::{self, Display, Formatter};

use schemars::JsonSchema;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::Count;

/// More than any machine has cores for.
pub const MOST_REPLICAS: usize = 1024;

/// How many of a step's shards are worked on at once: on a CPU by threads, elsewhere by devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(with = "Count", description = "`auto`, or a whole number of at least 1")]
pub enum Replicas {
    /// As many as there are devices; on one device as many as the machine has cores.
    #[default]
    Auto,
    /// This many.
    Of(Count),
}

impl Replicas {
    /// The number, for a stage whose steps have `shards`: more would have nothing to do.
    #[must_use]
    pub fn count(self, shards: usize, devices: usize) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = match self {
            Self::Auto if devices > 1 => devices,
            Self::Auto => cores(),
            Self::Of(count) => count.get(),
        };
        count.min(shards).max(1)
    }

    /// Whether it is the default, so that it need not be written.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl Display for Replicas {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Of(count) => write!(f, "{}", count.get()),
        }
    }
}

impl Serialize for Replicas {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Of(count) => count.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Replicas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl Visitor<'_> for Words {
            type Value = Replicas;

            fn expecting(&self, f: &mut Formatter) -> fmt::Result {
                f.write_str("`auto` or a whole number of at least 1")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Replicas, E> {
                let wrong = || E::invalid_value(Unexpected::Str(text), &self);
                if text == "auto" { Ok(Replicas::Auto) } else { Err(wrong()) }
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Replicas, E> {
                Count::try_from(number).map(Replicas::Of).map_err(E::custom)
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Replicas, E> {
                self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
            }
        }
        deserializer.deserialize_any(Words)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replicas_are_auto_or_a_number() {
        let read = |value| serde_json::from_value::<Replicas>(value);
        assert_eq!(read(json!("auto")).unwrap(), Replicas::Auto);
        assert_eq!(read(json!(3)).unwrap().count(8, 1), 3);
        assert_eq!(read(json!(3)).unwrap().count(2, 1), 2, "no more than shards");
        assert_eq!(Replicas::Auto.count(8, 4), 4, "one a device");
        assert!(Replicas::Auto.count(1000, 1) >= 1);
        for wrong in [json!(0), json!(-1), json!("all"), json!(1.5), json!(null)] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
        assert_eq!(serde_json::to_value(Replicas::Auto).unwrap(), json!("auto"));
    }
}

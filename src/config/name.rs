//! The name of a management cluster, parsed once where it comes in: folders, containers and filters are built from it. Must not know what for.

use std::{fmt, ops::Deref, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{
    forms::{NAME, NAME_MAX},
    hint,
    problem::shown,
};
use crate::error::{Error, Kind, Result};

/// A name that is safe in paths, container names, labels and host names: a DNS label of at most [`NAME_MAX`] characters.
/// The longest name made from it is the temporary cluster's machine, `mctl-<name>-<8 digits>-control-plane`:
/// host names have at most 63 characters, so 35 are left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ClusterName(String);

impl ClusterName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let long = text.chars().count() > usize::try_from(NAME_MAX).unwrap_or(usize::MAX);
        if !long && hint::fits(NAME.pattern(), text) {
            return Ok(Self(text.to_owned()));
        }
        let error = Error::new(
            Kind::Usage,
            format!("{} cannot be the name of a cluster", shown(text)),
        )
        .at("the name of the cluster")
        .state("nothing was changed");
        Err(if text.is_empty() {
            error
                .because("it is empty; an unset variable in a script does this")
                .fix("give the name: `mctl status` lists the clusters that this host knows")
        } else if long {
            error
                .because(format!(
                    "it has {} characters, at most {NAME_MAX} are allowed: the names of machines are built from it",
                    text.chars().count()
                ))
                .fix(format!("use a name of at most {NAME_MAX} characters"))
        } else {
            error
                .because(format!("a name is {}", NAME.says()))
                .fix("`mctl status` lists the clusters that this host knows")
        })
    }
}

impl Deref for ClusterName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ClusterName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl PartialEq<str> for ClusterName {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for ClusterName {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

impl<'de> Deserialize<'de> for ClusterName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|e: Error| de::Error::custom(e.line()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_are_refused_with_state_and_fix() {
        let long = "a".repeat(64);
        for text in [
            "", ".", "..", "../x", "a.*", "A", "-a", "a-", "a/b", &long, "a b", "a\0b", "a\n",
            "1a", "ä", "a_b",
        ] {
            let error = ClusterName::from_str(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text:?}");
            let said = error.to_string();
            for part in ["where:", "why:", "state: nothing was changed", "fix:"] {
                assert!(said.contains(part), "{text:?}: {said}");
            }
        }
        for text in ["a", "golem", "a1", "a-b", &long[..35]] {
            assert_eq!(ClusterName::from_str(text).unwrap(), text);
        }
        assert!(ClusterName::from_str(&long[..36]).is_err());
    }

    #[test]
    fn the_longest_name_built_from_it_is_a_host_name() {
        let name = "a".repeat(usize::try_from(NAME_MAX).unwrap());
        // Eight digits of hexadecimal seconds last until 2106.
        assert_eq!(format!("mctl-{name}-00000000-control-plane").len(), 63);
    }

    #[test]
    fn it_is_checked_when_it_is_read_too() {
        assert!(serde_json::from_str::<ClusterName>("\"golem\"").is_ok());
        assert!(serde_json::from_str::<ClusterName>("\"../x\"").is_err());
    }
}

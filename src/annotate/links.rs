//! The addresses of the page: a port of this machine, and a random token for everybody or one for each annotator.
//!
//! They are kept beside the annotations, for their owner's eyes only, so that a page that was open finds its server again
//! after a restart. Whoever deletes the file gets new ones.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};

/// Characters of an annotator's name at most.
const LONGEST: usize = 60;

/// Port and tokens.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Links {
    /// The port of the last time; 0 before the first.
    pub port: u16,
    /// The token of the page on which everybody says their name.
    pub token: String,
    /// The tokens of annotators who were named, by name: these pages are theirs alone.
    #[serde(default)]
    pub annotators: BTreeMap<String, String>,
}

/// A random token in hex.
///
/// # Errors
/// When the system has no random numbers.
pub fn token() -> Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// A name as it is kept: without blanks around it.
///
/// # Errors
/// When it is empty, too long, or has a character that is none.
pub fn name(text: &str) -> Result<String> {
    let name = text.trim();
    let length = name.chars().count();
    ensure!((1..=LONGEST).contains(&length), "expected a name of 1 to {LONGEST} characters, found {length}");
    ensure!(!name.contains(char::is_control), "expected a name of one line");
    Ok(name.to_owned())
}

impl Links {
    /// Where the links of the annotations at `out` are kept.
    #[must_use]
    pub fn path(out: &Path) -> PathBuf {
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(".address");
        out.with_file_name(name)
    }

    /// The links of the annotations at `out`, new where there are none, with one for each of `annotators`.
    ///
    /// # Errors
    /// When the file cannot be read, or a name is none.
    pub fn open(out: &Path, annotators: &[String]) -> Result<Self> {
        let path = Self::path(out);
        let mut links = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).with_context(|| format!("`{}`: expected addresses", path.display()))?
            }
            Err(_) => Self { token: token()?, ..Self::default() },
        };
        let mut named = BTreeMap::new();
        for annotator in annotators {
            let annotator = name(annotator)?;
            let known = links.annotators.remove(&annotator);
            named.insert(annotator, known.map_or_else(token, Ok)?);
        }
        links.annotators = named;
        Ok(links)
    }

    /// Writes them down, readable by their owner alone.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, out: &Path) -> Result<()> {
        let path = Self::path(out);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(&path).and_then(|mut file| file.write_all(serde_json::to_string(self)?.as_bytes()));
        written.with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Whose page has the token `token`: none for a token that is none, a name or nobody in particular for one that is.
    #[must_use]
    pub fn whose(&self, token: &str) -> Option<Option<&str>> {
        // Hashes are compared, so that the time it takes says nothing about a token.
        let is = |known: &str| blake3::hash(known.as_bytes()) == blake3::hash(token.as_bytes());
        if self.annotators.is_empty() {
            return is(&self.token).then_some(None);
        }
        self.annotators.iter().find(|(_, known)| is(known)).map(|(name, _)| Some(name.as_str()))
    }

    /// The addresses, with the names of those whom they are for; without names one for all.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Option<&str>, String)> {
        let address = |token: &str| format!("http://127.0.0.1:{}/{token}/", self.port);
        if self.annotators.is_empty() {
            return vec![(None, address(&self.token))];
        }
        self.annotators.iter().map(|(name, token)| (Some(name.as_str()), address(token))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_outlive_a_restart_and_are_nobody_elses_matter() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("edits.jsonl");
        let mut links = Links::open(&out, &[]).unwrap();
        links.port = 4000;
        links.save(&out).unwrap();
        let again = Links::open(&out, &[]).unwrap();
        assert_eq!((again.port, &again.token), (4000, &links.token));
        assert_eq!((again.whose(&links.token), again.whose("x"), again.whose("")), (Some(None), None, None));
        let named = Links::open(&out, &["ann".into(), " ben ".into()]).unwrap();
        assert_eq!(named.whose(&named.annotators["ben"]), Some(Some("ben")));
        assert_eq!(named.whose(&links.token), None, "who was named has a page of their own");
        assert!(Links::open(&out, &["a\nb".into()]).is_err());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(Links::path(&out)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{mode:o}");
        }
    }
}

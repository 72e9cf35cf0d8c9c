//! Repositories of the Hugging Face hub, by the hub's usual cache: what it has is not fetched again.
//!
//! The environment is that of the hub's other clients: `HF_HUB_CACHE` or `HF_HOME` say where the cache is, `HF_ENDPOINT` where
//! the hub is, `HF_TOKEN` who asks, and `HF_HUB_OFFLINE=1` that nobody shall be asked.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Repo, RepoType};

/// A repository.
#[derive(Clone, Debug)]
pub struct Repository {
    repo: Repo,
    name: String,
}

/// The value of an environment variable that is set to something.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The folder of the cache.
fn cache() -> Result<PathBuf> {
    if let Some(folder) = set("HF_HUB_CACHE") {
        return Ok(folder.into());
    }
    let home = set("HF_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cache/huggingface")));
    Ok(home.context("expected `HF_HOME` or a home folder for the hub's cache, found neither")?.join("hub"))
}

fn offline() -> bool {
    set("HF_HUB_OFFLINE").is_some_and(|value| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str()))
}

fn endpoint() -> String {
    set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned())
}

impl Repository {
    /// A repository of models, or of datasets; at a branch, tag or commit, or at what is newest.
    #[must_use]
    pub fn new(name: &str, kind: RepoType, revision: Option<&str>) -> Self {
        let repo = match revision {
            Some(revision) => Repo::with_revision(name.to_owned(), kind, revision.to_owned()),
            None => Repo::new(name.to_owned(), kind),
        };
        Self { repo, name: name.to_owned() }
    }

    /// The folder of the cache's copy, whatever is in it: of a branch or tag what it last was, of a commit that.
    ///
    /// # Errors
    /// When nobody knows where the cache is.
    pub fn snapshot(&self) -> Result<Option<PathBuf>> {
        let folder = cache()?.join(self.repo.folder_name());
        let commit = std::fs::read_to_string(folder.join("refs").join(self.repo.revision()));
        let commit = commit.map_or_else(|_| self.repo.revision().to_owned(), |text| text.trim().to_owned());
        Ok(Some(folder.join("snapshots").join(commit)).filter(|path| path.is_dir()))
    }

    /// A way to the hub.
    ///
    /// # Errors
    /// When there shall be none.
    pub fn api(&self) -> Result<ApiRepo> {
        if offline() {
            bail!("`HF_HUB_OFFLINE` is set, so that it was not asked for");
        }
        let mut builder =
            ApiBuilder::from_env().with_progress(false).with_cache_dir(cache()?).with_endpoint(endpoint());
        if let Some(token) = set("HF_TOKEN") {
            builder = builder.with_token(Some(token));
        }
        Ok(builder.build()?.repo(self.repo.clone()))
    }

    /// The folder with all files that are `wanted`, those that the cache lacks fetched; without a network what the cache has.
    ///
    /// # Errors
    /// When there is neither.
    pub fn files(&self, wanted: impl Fn(&Path) -> bool) -> Result<PathBuf> {
        let listed = self.api().and_then(|api| Ok((api.info()?.siblings, api)));
        let (listed, api) = match listed {
            Ok(found) => found,
            Err(error) => return self.snapshot()?.map_or_else(|| Err(self.unavailable(&error, None)), Ok),
        };
        let mut folder = None;
        for file in listed.iter().map(|file| file.rfilename.as_str()).filter(|file| wanted(Path::new(file))) {
            let local = api.get(file).map_err(|error| self.unavailable(&error.into(), Some(file)))?;
            folder = local.ancestors().nth(Path::new(file).components().count()).map(Path::to_owned);
        }
        ensure!(folder.is_some(), "expected files of rows in the repository, found none that is wanted");
        folder.context("a file in no folder")
    }

    /// What there is to say when the cache lacks something (`missing`, or all of it) that the hub did not give.
    #[must_use]
    pub fn unavailable(&self, error: &Error, missing: Option<&str>) -> Error {
        let revision = self.repo.revision();
        let folder = self.repo.folder_name();
        let place = cache().map_or_else(|error| format!("{error:#}"), |cache| format!("`{}`", cache.display()));
        let cached = match (self.snapshot(), missing) {
            (Ok(Some(snapshot)), Some(missing)) => format!("{missing} is missing in its copy `{}`", snapshot.display()),
            _ => format!("there is no `{folder}/refs/{revision}` or `{folder}/snapshots/{revision}` in it"),
        };
        let what = if folder.starts_with("datasets") { " --repo-type dataset" } else { "" };
        anyhow!(
            "tried the cache {place}: {cached}\n\
             tried the hub `{}`: {error:#}\n\
             without a network: `hf download {}{what} --revision {revision}` where there is one, then copy the folder `{folder}` \
             into the cache (`HF_HUB_CACHE` or `HF_HOME` say where it is); or give a folder of this machine as `path`, \
             without `hub`",
            endpoint(),
            self.name,
        )
    }
}

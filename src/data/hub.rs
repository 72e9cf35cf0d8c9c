//! Repositories of the Hugging Face hub, by the hub's usual cache: what it has is not fetched again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

/// What to say where there is neither cache nor network.
const OFFLINE: &str = "it is not in the cache, and there is no way to the hub: fetch it where there is a network (`HF_HOME` says \
                       where the cache is), or give what lies on this machine as `path`";

/// A repository.
#[derive(Clone, Debug)]
pub struct Repository {
    repo: Repo,
}

impl Repository {
    /// A repository of models, or of datasets; at a branch, tag or commit, or at what is newest.
    #[must_use]
    pub fn new(name: &str, kind: RepoType, revision: Option<&str>) -> Self {
        let repo = match revision {
            Some(revision) => Repo::with_revision(name.to_owned(), kind, revision.to_owned()),
            None => Repo::new(name.to_owned(), kind),
        };
        Self { repo }
    }

    /// The cached copy of `file`.
    #[must_use]
    pub fn cached(&self, file: &str) -> Option<PathBuf> {
        Cache::from_env().repo(self.repo.clone()).get(file)
    }

    /// A way to the hub.
    ///
    /// # Errors
    /// When there is none.
    pub fn api(&self) -> Result<ApiRepo> {
        Ok(ApiBuilder::from_env().with_progress(false).build().context(OFFLINE)?.repo(self.repo.clone()))
    }

    /// The folder of the cache's copy, whatever is in it.
    fn folder(&self) -> Option<PathBuf> {
        let folder = Cache::from_env().path().join(self.repo.folder_name());
        let commit = std::fs::read_to_string(folder.join("refs").join(self.repo.revision()));
        let commit = commit.map_or_else(|_| self.repo.revision().to_owned(), |text| text.trim().to_owned());
        Some(folder.join("snapshots").join(commit)).filter(|path| path.is_dir())
    }

    /// The folder with all files that are `wanted`, those that the cache lacks fetched; without a network what the cache has.
    ///
    /// # Errors
    /// When there is neither.
    pub fn files(&self, wanted: impl Fn(&Path) -> bool) -> Result<PathBuf> {
        let api = self.api()?;
        let listed = match api.info() {
            Ok(info) => info.siblings,
            Err(error) => return self.folder().ok_or(error).context(OFFLINE),
        };
        let mut folder = None;
        for file in listed.iter().map(|file| file.rfilename.as_str()).filter(|file| wanted(Path::new(file))) {
            let local = api.get(file).with_context(|| format!("`{file}`"))?;
            folder = local.ancestors().nth(Path::new(file).components().count()).map(Path::to_owned);
        }
        ensure!(folder.is_some(), "expected files of rows in the repository, found none that is wanted");
        folder.context("a file in no folder")
    }
}

/// What there is to say of a file that could be had from neither.
#[must_use]
pub const fn offline() -> &'static str {
    OFFLINE
}

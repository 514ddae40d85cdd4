//! Every `bad_configs/NN-what.toml` is refused with exactly the words of `NN-what.expected`, in
//! which `CONFIG` stands for the file's path, `DIR` for a directory made for it, and `OTHER` for a
//! directory on another filesystem (`/dev/shm`; where that is none, those files are passed over).
//!
//! `BLESS=1 cargo test --test bad_configs` writes the words anew, to be read before they are
//! committed.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use codeb_signup::config;
use codeb_signup::disk::RealDisk;
use codeb_signup::premises;

/// A directory with what the files speak of: `state`, `pickup`, `file`, and `link` to `state`.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Self {
        let dir = parent.join(format!("codeb-bad-configs-{}", std::process::id()));
        for name in ["state", "pickup", "staging"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::write(dir.join("file"), "").unwrap();
        symlink("state", dir.join("link")).unwrap();
        Self(dir)
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `check` would say about the file at `path`.
fn refusal(path: &Path) -> String {
    let checked = config::load(path).and_then(|config| premises::check(&config, &RealDisk));
    checked.map_or_else(|error| error.to_string(), |()| "accepted".to_owned())
}

#[test]
fn every_bad_config_is_refused_in_the_words_that_stand_beside_it() {
    let here = Scratch::new(&std::env::temp_dir());
    let shm = Path::new("/dev/shm");
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let is_other = device(shm).is_some() && device(shm) != device(&here.0);
    let other = is_other.then(|| Scratch::new(shm));

    let folder = harness::repository("tests/cli/bad_configs");
    let mut files: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 25, "only {} bad configs in {}", files.len(), folder.display());

    let languages = format!("{:?}", codeb_signup::lang::TAGS).replace(['[', ']'], "");
    let mut wrong = Vec::new();
    for file in files {
        let mut bytes = fs::read(&file).unwrap();
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let mut text = text.replace("DIR/", &format!("{}/", here.text()));
            match &other {
                Some(other) => text = text.replace("OTHER/", &format!("{}/", other.text())),
                None if text.contains("OTHER/") => continue,
                None => {}
            }
            bytes = text.into_bytes();
        }
        let path = here.0.join("config.toml");
        fs::write(&path, bytes).unwrap();
        let mut said = refusal(&path).replace(path.to_str().unwrap(), "CONFIG");
        said = said.replace(here.text(), "DIR");
        // Adding a language is adding its file alone.
        said = said.replace(&languages, "LANGUAGES");
        if let Some(other) = &other {
            said = said.replace(other.text(), "OTHER");
        }
        if std::env::var_os("BLESS").is_some() {
            fs::write(file.with_extension("expected"), format!("{said}\n")).unwrap();
        }
        let expected = fs::read_to_string(file.with_extension("expected")).unwrap_or_default();
        if said != expected.trim_end() {
            wrong.push(format!("{}\n  expected: {expected}\n  said: {said}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_config_that_cannot_be_read_is_refused_by_name() {
    let missing = refusal(Path::new("/nonexistent/config.toml"));
    assert!(missing.starts_with("/nonexistent/config.toml: cannot be read:"), "{missing}");
    let directory = refusal(Path::new("/"));
    assert!(directory.starts_with("/: cannot be read:"), "{directory}");
}

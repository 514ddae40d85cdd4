//! What a stranger looks for first in a repository: the license, how to contribute, how to report a hole.

use std::fs;
use std::path::Path;

use harness::repository;

fn read(path: &str) -> String {
    let path = repository(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_license_is_the_one_that_cargo_toml_names() {
    let license = read("LICENSE");
    assert!(license.starts_with("MIT License\n"), "{license}");
    assert!(license.contains(" codeb-signup contributors\n"), "{license}");
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let package = manifest["package"].as_table().unwrap();
    assert_eq!(package["license"].as_str(), Some("MIT"));
    for key in ["description", "readme", "keywords", "categories"] {
        assert!(package.contains_key(key), "{key}");
    }
}

/// Links between papers, relative to where each lies.
#[test]
fn every_paper_that_is_linked_is_there() {
    for (paper, linked) in [
        ("README.md", ["LICENSE", ".github/CONTRIBUTING.md", ".github/SECURITY.md"].as_slice()),
        (".github/CONTRIBUTING.md", &["SECURITY.md", "../LICENSE"]),
        (".github/SECURITY.md", &["../README.md"]),
    ] {
        let text = read(paper);
        let folder = Path::new(paper).parent().unwrap();
        for link in linked {
            assert!(text.contains(&format!("]({link})")), "{paper} links {link}");
            read(folder.join(link).to_str().unwrap());
        }
    }
}

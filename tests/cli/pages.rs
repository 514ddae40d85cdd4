//! `pages`: the static pages with a tenant's name in them; and what `check` says of pages that nobody
//! has finished.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::site::{Site, code, err, program};

/// A site whose `html` directory has one page and one other file.
fn site_with_pages() -> Site {
    let site = Site::new();
    fs::create_dir_all(site.path("html/lang")).unwrap();
    let page = "<!-- [not this] -->\n<p>[Name of\n the operator]</p><span id=\"site\"></span>";
    fs::write(site.path("html/privacy.html"), page).unwrap();
    fs::write(site.path("html/lang/en.json"), "{\"x\": \"<span id=\\\"site\\\">\"}").unwrap();
    site.write(&format!("html = {:?}\nsite_name = \"A & B\"\n", site.path("html")));
    site
}

#[test]
fn pages_are_written_with_the_tenants_name_for_everybody_to_read() {
    let site = site_with_pages();
    let run = |to: &str| {
        let mut command = program();
        command.arg("--config").arg(site.config()).args(["pages", "--tenant", "localhost", "--to"]);
        command.arg(site.path(to)).output().unwrap()
    };
    for _ in 0..2 {
        let output = run("www/below");
        assert_eq!(code(&output), 0, "{}", err(&output));
    }
    let page = site.path("www/below/privacy.html");
    assert!(fs::read_to_string(&page).unwrap().contains("<span id=\"site\">A &amp; B</span>"));
    assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o644);
    let folder = fs::metadata(site.path("www/below/lang")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o755);
    let other = fs::read(site.path("www/below/lang/en.json")).unwrap();
    assert_eq!(other, fs::read(site.path("html/lang/en.json")).unwrap());

    for inside in ["html", "html/out"] {
        let output = run(inside);
        assert_eq!(code(&output), 64, "{inside}");
        assert!(err(&output).contains("name a directory outside it"), "{}", err(&output));
    }
    fs::remove_dir_all(site.path("html")).unwrap();
    let output = run("www");
    assert_eq!(code(&output), 74);
    assert!(err(&output).contains("cannot read the pages in"), "{}", err(&output));
}

#[test]
fn check_finds_what_nobody_filled_in() {
    let site = site_with_pages();
    let warnings = err(&site.check());
    let page = site.path("html/privacy.html");
    let wanted = format!("html: has [Name of the operator] in {}, line 2 (replace", page.display());
    assert!(warnings.contains(&wanted), "{warnings}");
    assert!(!warnings.contains("not this"), "{warnings}");
    fs::write(&page, "<p>Alice</p>").unwrap();
    assert!(!err(&site.check()).contains("html:"));
    fs::remove_dir_all(site.path("html")).unwrap();
    assert!(err(&site.check()).contains("which cannot be read"));
}

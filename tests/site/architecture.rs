//! The house: imports go down the floors of `src/lib.rs`'s table only, and no file is longer than
//! a person reads in one go.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use harness::repository;

/// The longest file, in lines.
const LINES_MAX: usize = 500;

/// Where a module stands: its floor, and its group on that floor.
type Place = (u32, usize);

/// The floors as `src/lib.rs` tells them: `| 1 | [`disk`] · [`http`] |`, where `·` parts groups.
fn floors(lib: &str) -> HashMap<String, Place> {
    let mut places = HashMap::new();
    for line in lib.lines() {
        let Some(row) = line.strip_prefix("//! | ") else { continue };
        let Some((floor, modules)) = row.split_once(" | ") else { continue };
        let Ok(floor) = floor.trim().parse() else { continue };
        for (group, names) in modules.split('·').enumerate() {
            for name in names.split('`').skip(1).step_by(2) {
                places.insert(name.to_owned(), (floor, group));
            }
        }
    }
    places
}

/// The code without comments and without what stands in strings.
fn code_of(source: &str) -> String {
    let mut code = String::new();
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|c| *c != '\n').is_some() {},
            '/' if chars.peek() == Some(&'*') => {
                let mut last = ' ';
                for c in chars.by_ref() {
                    if (last, c) == ('*', '/') {
                        break;
                    }
                    last = c;
                }
            }
            '"' => {
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => drop(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                code.push_str("\"\"");
            }
            // A quote as a character, not the beginning of a string.
            '\'' if chars.peek() == Some(&'"') => drop(chars.next()),
            _ => code.push(c),
        }
    }
    code
}

/// The top-level modules that a file names: behind `crate::`, behind the library's name, and behind
/// as many `super::` as lead to the crate's root. `depth` is how deep the file's module stands.
fn imports(code: &str, depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    let up = "super::".repeat(depth);
    for root in ["crate::", "codeb_signup::", up.as_str()] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            found.extend(first_names(&code[at + root.len()..]));
        }
    }
    found
}

/// The first segments of a path's rest: one name, or those of a group in braces.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let (mut names, mut level, mut fresh) = (Vec::new(), 0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => level += 1,
            '}' if level == 0 => break,
            '}' => level -= 1,
            ',' if level == 0 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                names.push(name(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

/// What is wrong with the imports of one file of the top-level module `own`.
fn violations(
    places: &HashMap<String, Place>,
    own: &str,
    depth: usize,
    source: &str,
) -> Vec<String> {
    let Some(&(floor, group)) = places.get(own) else {
        return vec![format!("{own} has no floor in src/lib.rs")];
    };
    let mut wrong = Vec::new();
    for target in imports(&code_of(source), depth) {
        let Some(&(to, to_group)) = places.get(&target) else { continue };
        if target != own && (to > floor || (to == floor && to_group != group)) {
            wrong.push(format!("{own} (floor {floor}) imports {target} (floor {to})"));
        }
    }
    wrong
}

/// Every file below a directory of the repository.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return all };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

#[test]
fn imports_go_down_only() {
    let places = floors(&fs::read_to_string(repository("src/lib.rs")).unwrap());
    assert!(places.len() >= 15, "the table of floors was read");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in files(&repository("src")) {
        let inside = file.strip_prefix(repository("src")).unwrap().with_extension("");
        let mut segments: Vec<&str> = inside.iter().map(|s| s.to_str().unwrap()).collect();
        // The build script is no module: it runs before there is a crate.
        let is_module = segments != ["lib"] && segments != ["build"];
        if file.extension().is_none_or(|e| e != "rs") || !is_module {
            continue;
        }
        if segments.last() == Some(&"mod") {
            segments.pop();
        }
        let source = fs::read_to_string(&file).unwrap();
        wrong.extend(violations(&places, segments[0], segments.len(), &source));
        seen += 1;
    }
    assert!(seen > 20, "{seen} files were read");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_checker_sees_planted_violations() {
    let table = "//! | 2 | [`store`] · `other` |\n//! | 1 | [`disk`] · [`http`] |\n//! | 0 | [`a`], [`b`] |";
    let places = floors(table);
    assert_eq!(places.len(), 6);
    let check = |own: &str, depth, source: &str| violations(&places, own, depth, source).len();
    for (own, depth, planted) in [
        ("disk", 1, "use crate::store::Mail;"),
        ("disk", 2, "fn f() { crate::store::mail::send() }"),
        ("disk", 1, "use crate::http::Request;"),
        ("store", 1, "use crate::other::X;"),
        ("a", 1, "use crate::{b::B, disk::{self, Disk}};"),
        ("disk", 2, "use super::super::store::Mail;"),
        ("disk", 1, "use super::store::Mail;"),
        ("disk", 1, "use codeb_signup::store::Mail;"),
        ("disk", 1, "/* \" */ use crate::store::Mail;"),
        ("nowhere", 1, ""),
    ] {
        assert!(check(own, depth, planted) > 0, "{own}: {planted}");
    }
    for (own, depth, fine) in [
        ("store", 1, "use crate::{a::A, disk::{self, Disk}};"),
        ("a", 1, "use crate::b::B;"),
        ("disk", 2, "use crate::disk::real::X; use super::store;"),
        ("disk", 1, "// use crate::store::Mail;\nconst T: &str = \"crate::store::\\\"Mail\";"),
        ("disk", 1, "use othercrate::store::Mail;"),
    ] {
        assert_eq!(check(own, depth, fine), 0, "{own}: {fine}");
    }
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let kinds =
        ["rs", "sh", "conf", "in", "html", "css", "js", "mjs", "md", "toml", "service", "socket"];
    let mut long = Vec::new();
    let mut seen = 0;
    for dir in ["src", "tests", "nginx", "deploy"] {
        for file in files(&repository(dir)) {
            let kind = file.extension().and_then(|e| e.to_str()).unwrap_or("");
            if file.components().any(|c| c.as_os_str() == "node_modules") || !kinds.contains(&kind)
            {
                continue;
            }
            seen += 1;
            let lines = fs::read(&file).unwrap().split(|b| *b == b'\n').count();
            if lines > LINES_MAX {
                long.push(format!("{}: {lines} lines", file.display()));
            }
        }
    }
    assert!(seen > 40, "{seen} files were counted");
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn nobody_says_unsafe_or_leaves_a_note_for_later() {
    for file in files(&repository("src")) {
        let source = fs::read_to_string(&file).unwrap();
        let code = code_of(&source);
        assert!(!code.contains("unsafe "), "{}", file.display());
        for mark in ["TODO", "FIXME", "XXX"] {
            assert!(!source.contains(mark), "{}: {mark}", file.display());
        }
    }
}

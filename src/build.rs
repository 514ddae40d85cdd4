//! Lists the language files of mails and activation pages, so that adding a language is adding one file.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

const FOLDER: &str = "src/templates/lang";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={FOLDER}");
    println!("cargo:rerun-if-changed=src/build.rs");
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join(FOLDER);
    let mut tags = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let name = entry?.file_name().into_string().map_err(|_| "a file name outside UTF-8")?;
        tags.extend(name.strip_suffix(".json").map(str::to_owned));
    }
    tags.sort();
    let mut files = String::new();
    for tag in &tags {
        let path = folder.join(format!("{tag}.json"));
        writeln!(files, "({tag:?}, include_str!({:?})),", path.to_string_lossy())?;
    }
    let source = format!(
        "/// The tags of all languages, sorted.\npub const TAGS: &[&str] = &{tags:?};\n\
         const FILES: &[(&str, &str)] = &[\n{files}];\n"
    );
    fs::write(Path::new(&env::var("OUT_DIR")?).join("languages.rs"), source)?;
    Ok(())
}

//! A directory as values: names, and files as sparse pages, so that a state costs what it holds.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const PAGE: u64 = 4096;

/// A file, whatever its name is by now; what the program sees as its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// The bytes of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    pub len: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE as usize]>>,
}

impl Content {
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        self.len = self.len.max(offset + data.len() as u64);
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let part = (PAGE as usize - within).min(data.len() - done);
            let page = self.pages.entry(at / PAGE).or_insert_with(|| Arc::new([0; PAGE as usize]));
            Arc::make_mut(page)[within..within + part].copy_from_slice(&data[done..done + part]);
            done += part;
        }
    }

    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.retain(|&page, _| page * PAGE < len);
            if let Some(last) = self.pages.get_mut(&(len / PAGE)) {
                Arc::make_mut(last)[(len % PAGE) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    /// All of it, for files that are small.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        for (number, page) in &self.pages {
            let at = (number * PAGE) as usize;
            let end = bytes.len().min(at + PAGE as usize);
            bytes[at..end].copy_from_slice(&page[..end - at]);
        }
        bytes
    }

    fn read_from(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let len = file.metadata().unwrap().len();
        let mut content = Self { len, pages: BTreeMap::new() };
        let mut page = [0; PAGE as usize];
        for number in 0..len.div_ceil(PAGE) {
            page.fill(0);
            let want = (len - number * PAGE).min(PAGE) as usize;
            file.read_exact_at(&mut page[..want], number * PAGE).unwrap();
            if page.iter().any(|&b| b != 0) {
                content.pages.insert(number, Arc::new(page));
            }
        }
        content
    }

    fn write_to(&self, file: &File) {
        for (number, page) in &self.pages {
            let want = self.len.saturating_sub(number * PAGE).min(PAGE) as usize;
            file.write_all_at(&page[..want], number * PAGE).unwrap();
        }
        file.set_len(self.len).unwrap();
    }
}

/// A file's content and its permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub content: Content,
    pub mode: u32,
}

/// A directory with everything in it; paths are relative to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    pub dirs: BTreeMap<PathBuf, u32>,
    pub names: BTreeMap<PathBuf, FileId>,
    pub files: BTreeMap<FileId, Node>,
}

impl Tree {
    /// What stands in `root`.
    pub fn load(root: &Path) -> Self {
        let mut tree = Self::default();
        tree.load_below(root, Path::new(""));
        tree
    }

    fn load_below(&mut self, root: &Path, dir: &Path) {
        let mut entries: Vec<_> =
            fs::read_dir(root.join(dir)).unwrap().map(|e| e.unwrap()).collect();
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let path = dir.join(entry.file_name());
            let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
            if entry.file_type().unwrap().is_dir() {
                self.dirs.insert(path.clone(), mode);
                self.load_below(root, &path);
                continue;
            }
            let id = FileId(self.files.len() as u64 + 1);
            let content = Content::read_from(&entry.path());
            self.names.insert(path, id);
            self.files.insert(id, Node { content, mode });
        }
    }

    /// Makes `root` this tree and nothing else.
    pub fn materialise(&self, root: &Path) {
        let _ = fs::remove_dir_all(root);
        fs::create_dir_all(root).unwrap();
        // A parent's path is less than its children's.
        for (path, &mode) in &self.dirs {
            fs::DirBuilder::new().mode(mode).create(root.join(path)).unwrap();
        }
        for (path, id) in &self.names {
            let node = &self.files[id];
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).mode(node.mode);
            node.content.write_to(&file.open(root.join(path)).unwrap());
        }
    }
}

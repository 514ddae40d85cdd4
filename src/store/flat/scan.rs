//! Reading lines from a file, however long it is.

use std::io;

use crate::disk::Handle;

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

/// Calls `visit` with the offset and the bytes of every line from `from` on that ends with LF (the
/// LF is not among the bytes); returns where the last one ended. `visit` says whether to go on.
pub fn lines(
    handle: &dyn Handle,
    from: u64,
    visit: impl FnMut(u64, &[u8]) -> io::Result<bool>,
) -> io::Result<u64> {
    lines_before(handle, from, u64::MAX, visit)
}

/// The same for the lines that end at or before `len`, which spares a look at what follows.
pub fn lines_before(
    handle: &dyn Handle,
    from: u64,
    len: u64,
    mut visit: impl FnMut(u64, &[u8]) -> io::Result<bool>,
) -> io::Result<u64> {
    // A short read first: most of the time little is new.
    let mut buffer = vec![0; 4096.min(usize::try_from(len - from).unwrap_or(usize::MAX))];
    let (mut start, mut filled) = (from, 0);
    loop {
        let left = usize::try_from(len - start).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left) - filled;
        let read = handle.read_at(&mut buffer[filled..filled + wanted], start + filled as u64)?;
        filled += read;
        let at_end = read < wanted || filled == left;
        let mut done = 0;
        while let Some(length) = memchr::memchr(b'\n', &buffer[done..filled]) {
            let line = &buffer[done..done + length];
            if !visit(start + done as u64, line)? {
                return Ok(start + done as u64);
            }
            done += length + 1;
        }
        start += done as u64;
        if at_end {
            return Ok(start);
        }
        buffer.copy_within(done..filled, 0);
        filled -= done;
        if filled * 2 > buffer.len() || buffer.len() < CHUNK {
            let larger = (buffer.len() * 2).max(CHUNK);
            buffer.resize(larger, 0);
        }
    }
}

/// The line that begins at `offset`, without its LF, or `None` where no line begins there or it is
/// longer than `max`.
pub fn line_at(handle: &dyn Handle, offset: u64, max: usize) -> io::Result<Option<Vec<u8>>> {
    // The byte before must end another line: an old hint may point into the middle of a new one.
    let lead = usize::from(offset > 0);
    for size in [1024.min(max), max] {
        let mut buffer = vec![0; lead + size];
        let read = handle.read_at(&mut buffer, offset - lead as u64)?;
        buffer.truncate(read);
        if lead == 1 && buffer.first() != Some(&b'\n') {
            return Ok(None);
        }
        buffer.drain(..lead);
        if let Some(length) = memchr::memchr(b'\n', &buffer) {
            buffer.truncate(length);
            return Ok(Some(buffer));
        }
    }
    Ok(None)
}

/// Where the last line that ends with LF ends, at or before `len`.
pub fn whole_lines_end(handle: &dyn Handle, len: u64) -> io::Result<u64> {
    let mut end = len;
    let mut buffer = vec![0; 4096];
    while end > 0 {
        let size = (end as usize).min(buffer.len());
        let from = end - size as u64;
        let part = &mut buffer[..size];
        let read = handle.read_at(part, from)?;
        if let Some(at) = memchr::memrchr(b'\n', &part[..read]) {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

//! CGI (RFC 3875): one process a request; its parameters are the environment, its body standard
//! input, its answer standard output. Arguments mean nothing: a web server makes them of a query
//! without `=` (§4.4), so a client writes them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::sys::stat::{SFlag, fstat};
use signal_hook::consts::SIGTERM;

use super::{Handler, guard};
use crate::http::{BODY_MAX, Params};
use crate::log;

/// The most of a body that is read over when it is too large, in bytes: enough that the web server
/// is not cut off in the middle of any form.
const READ_OVER_MAX: u64 = 1024 * 1024;

/// How long the work behind the answer may take. What it has not done by then, the sweep settles, as
/// after a kill. Apache kills after three seconds.
const WORK_TIME: Duration = Duration::from_secs(64);

/// How long the end of standard error waits for a log that hangs.
const LOG_WAIT: Duration = Duration::from_secs(1);

/// Whether a web server started this process to answer one request.
pub fn is_wanted() -> bool {
    std::env::var_os("GATEWAY_INTERFACE").is_some_and(|value| !value.is_empty())
}

/// Answers the one request; an error where the answer could not be written.
pub fn run(handler: &dyn Handler) -> io::Result<()> {
    // Apache sends it as soon as the answer is out or the client is gone, while there may be a mail
    // to finish. It is a safeguard alone: any kill leaves a state that the next process mends.
    let _ = signal_hook::flag::register(SIGTERM, Arc::new(AtomicBool::new(false)));
    let params: Params =
        std::env::vars_os().map(|(name, value)| (name.into_vec(), value.into_vec())).collect();
    let body = read_body(&params, &mut io::stdin().lock());
    // Every request is a process, whose number the web server limits: there is no bulkhead.
    let request = guard::request(params, true, body);
    let mut response = guard::answer(|| handler.handle(request));
    let mut bytes = Vec::new();
    response.write_cgi(&mut bytes);
    let written = write_out(&bytes);
    if let Some(after) = response.take_after() {
        let_go_of_stderr();
        guard::run_after(Some(after));
        handler.finish(Instant::now() + WORK_TIME);
    }
    written
}

/// The body, no longer than announced, and at most a byte longer than [`BODY_MAX`]. None is
/// announced means none is there (§4.2); what cannot be read is missing and is found truncated.
fn read_body(params: &Params, input: &mut dyn Read) -> Vec<u8> {
    let announced = guard::content_length(params).ok().flatten().unwrap_or(0);
    let mut body = Vec::new();
    let kept = announced.min(BODY_MAX as u64 + 1);
    let _ = (&mut *input).take(kept).read_to_end(&mut body);
    // Apache's mod_cgid loses the answer of a program that leaves something unread, and hands over a
    // chunked body without a length (and with an end). Such a body is none (§4.2).
    let chunked = params.present("HTTP_TRANSFER_ENCODING").is_some();
    if announced > kept || chunked {
        let rest = if chunked { READ_OVER_MAX } else { (announced - kept).min(READ_OVER_MAX) };
        let _ = io::copy(&mut input.take(rest), &mut io::sink());
    }
    body
}

/// Writes the answer and lets go of standard output: the web server waits for its end, and must
/// not wait for the work behind the answer. Of standard input as well, since Apache's mod_cgid makes
/// one socket of both.
fn write_out(bytes: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(bytes)?;
    output.flush()?;
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&nowhere)?;
    nix::unistd::dup2_stdout(&nowhere)?;
    Ok(())
}

/// Lets go of standard error where it is a pipe: Apache's mod_cgi gives the answer to the client when
/// that has ended. What is logged about the work then needs a file as the log.
fn let_go_of_stderr() {
    let is_pipe = fstat(io::stderr()).is_ok_and(|stat| {
        SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO
    });
    if is_pipe && let Ok(nowhere) = File::options().write(true).open("/dev/null") {
        log::flush(LOG_WAIT);
        // Where it fails the answer waits for the work.
        let _ = nix::unistd::dup2_stderr(&nowhere);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Body;

    fn read(announced: &str, sent: usize) -> Body {
        let length = (b"CONTENT_LENGTH".to_vec(), announced.as_bytes().to_vec());
        let params: Params = [length].into_iter().collect();
        let body = read_body(&params, &mut io::repeat(b'x').take(sent as u64));
        guard::request(params, true, body).body
    }

    #[test]
    fn no_more_than_the_announced_length_is_read() {
        assert!(matches!(read("3", 10), Body::Whole(body) if body == b"xxx"));
        assert!(matches!(read("", 10), Body::Whole(body) if body.is_empty()));
        assert!(matches!(read("11", 10), Body::Truncated));
        assert!(matches!(read("16384", 16384), Body::Whole(body) if body.len() == 16384));
        assert!(matches!(read("16385", 16385), Body::TooLarge));
        assert!(matches!(read("2000000", 2_000_000), Body::TooLarge));
    }
}

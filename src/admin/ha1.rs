//! `ha1 USER REALM`: the credential of a password, for an account made by hand. The password comes
//! from a prompt or from standard input, never from an argument, which every user of the machine
//! could read.

use std::io::{self, IsTerminal, Read, Write};

use zeroize::Zeroizing;

use super::{Failure, exit};
use crate::account::{Realm, Username};
use crate::secret::Ha1;

/// The longest password, in bytes: no form's limit, only a bound on what is read.
const PASSWORD_MAX: u64 = 4096;

/// Prints the HA1 of a password that it asks for.
pub fn ha1(user: &str, realm: &str) -> Result<(), Failure> {
    let usage = |what: &str, why| Failure::new(exit::USAGE, format!("{what} {why}"));
    let user = Username::parse(user).map_err(|why| usage("USER", why))?;
    let realm = Realm::parse(realm).map_err(|why| usage("REALM", why))?;
    let stdin = io::stdin();
    let password = if stdin.is_terminal() { prompt()? } else { read(stdin.lock())? };
    let ha1 = Ha1::compute(user.as_str(), realm.as_str(), &password);
    writeln!(io::stdout(), "{}", ha1.reveal())
        .map_err(|error| Failure::new(exit::IO, format!("cannot print the HA1: {error}")))
}

fn prompt() -> Result<Zeroizing<String>, Failure> {
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|error| {
            Failure::new(exit::IO, format!("cannot read the password from the terminal: {error}"))
        })
    };
    let password = usable(ask("Password: ")?)?;
    if *ask("Again: ")? != *password {
        return Err(Failure::new(exit::DATA, "the two passwords differ (run it again)"));
    }
    Ok(password)
}

/// One line; the end of the line is not part of the password.
fn read(input: impl Read) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(PASSWORD_MAX as usize + 1));
    input.take(PASSWORD_MAX + 1).read_to_string(&mut text).map_err(|error| {
        let code = match error.kind() {
            io::ErrorKind::InvalidData => exit::DATA,
            _ => exit::IO,
        };
        Failure::new(code, format!("cannot read the password from standard input: {error}"))
    })?;
    let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    usable(Zeroizing::new(line.unwrap_or(&text).to_owned()))
}

fn usable(password: Zeroizing<String>) -> Result<Zeroizing<String>, Failure> {
    let wrong = |why| Err(Failure::new(exit::DATA, why));
    match password.as_str() {
        "" => wrong("the password is empty (write it on standard input, as one line)"),
        text if text.len() as u64 > PASSWORD_MAX => wrong("the password is over 4096 bytes long"),
        text if text.contains(['\n', '\r', '\0']) => wrong("the password is more than one line"),
        _ => Ok(password),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_without_its_end() {
        for line in ["secret", "secret\n", "secret\r\n"] {
            assert_eq!(read(line.as_bytes()).unwrap().as_str(), "secret");
        }
        assert_eq!(read(" a:b \n".as_bytes()).unwrap().as_str(), " a:b ");
        for bad in ["", "\n", "a\nb\n", "a\0", &"x".repeat(5000)] {
            assert!(read(bad.as_bytes()).is_err());
        }
        assert!(read(&b"\xff\n"[..]).is_err());
    }
}

//! The command line.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use super::exit;
use super::upkeep::Setting;
use crate::config::Listen;
use crate::lang;

const EXAMPLES: &str = "\
Examples:
  codeb-signup check                                     is all well? show the effective configuration
  codeb-signup serve --listen unix:/run/codeb-signup/fcgi.sock
                                                         serve a web server over FastCGI
  codeb-signup ha1 joe a.example                         asks for the password, prints the HA1
  codeb-signup resend joe                                sends the activation mail again
  codeb-signup preview mail --lang de --to mail.html     shows what visitors get
  codeb-signup pages --to /var/www/signup                writes the pages with the site's name and logo
  codeb-signup user disable joe                          joe may not sign in any more
  codeb-signup sweep                                     decide on what killed requests left
  codeb-signup compact                                   rewrite the accounts without dead space

Started by a web server as a CGI program (GATEWAY_INTERFACE is set), it answers that one request and
ignores every argument. Started with a listening socket as standard input (spawn-fcgi, systemd) and
no verb, it serves.

Exit codes (sysexits.h): 0 done, 64 usage, 65 unusable input, 67 no such user, 69 address taken, 71 system,
73 cannot create, 74 I/O, 75 try again, 77 permission, 78 configuration.";

/// What the command line says.
#[derive(Debug, Parser)]
#[command(name = "codeb-signup", version, about = "Account sign-up behind a web server")]
#[command(after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Cli {
    /// The configuration file [else $CODEB_SIGNUP_CONFIG, else /etc/codeb-signup/config.toml]
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// What to do; without one, a socket that was handed over is served.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Answer requests over FastCGI until SIGTERM
    #[command(after_help = "\
The address is unix:PATH or IP:PORT. A listening socket as standard input or by LISTEN_FDS outranks
--listen, which outranks the configuration's listen.

Example:
  codeb-signup serve --listen 127.0.0.1:9000")]
    Serve {
        /// Where to listen: unix:PATH or IP:PORT
        #[arg(long, value_name = "ADDRESS", value_parser = listen)]
        listen: Option<Listen>,
    },
    /// Check the configuration and its directories; print what is in effect
    #[command(after_help = "\
Prints the configuration with every default filled in on standard output, warnings on standard error.
As root it looks with the eyes of the state directories' owner.

Example:
  codeb-signup check --config ./config.toml")]
    Check,
    /// Compute the HA1 of a password: MD5(USER:REALM:PASSWORD)
    #[command(after_help = "\
Asks for the password twice, without showing it; or takes one line from standard input where that is
no terminal. The HA1 is as good as the password within its realm: keep it from others.

Example:
  codeb-signup ha1 joe a.example")]
    Ha1 {
        /// The user name, as it signs in
        user: String,
        /// The tenant's realm
        realm: String,
    },
    /// Change the account of a user: let in, shut out, remove
    #[command(after_help = "\
A disabled account keeps its name; a removed one leaves nothing, and its name is free. The change is
durable, and the views have it, when the program ends. With several tenants, --tenant says whose.

Example:
  codeb-signup user disable joe --tenant a.example")]
    User {
        /// What to do
        #[command(subcommand)]
        verb: UserVerb,
        /// The tenant's host or alias; needed where there are several
        #[arg(long, global = true, value_name = "HOST")]
        tenant: Option<String>,
    },
    /// Send a pending account's activation mail again
    #[command(after_help = "\
The mail goes to the account's address, in its language; the links of its last two mails work. Unlike a
visitor's wish it does not wait for five minutes, and it needs no resend = true.

Example:
  codeb-signup resend joe")]
    Resend {
        /// The user name
        user: String,
        /// The tenant's host or alias; needed where there are several
        #[arg(long, value_name = "HOST")]
        tenant: Option<String>,
    },
    /// Write a mail or a page as visitors would get it, from the tenant's templates
    #[command(after_help = "\
A mail to FILE.html or FILE.txt is that part alone, to any other name the whole message. Nothing is
sent, and the link in it does not work.

Example:
  codeb-signup preview mail --lang de --to mail.html")]
    Preview {
        /// What to write
        what: Preview,
        /// Its language [else the tenant's]
        #[arg(long, value_name = "XX", value_parser = language)]
        lang: Option<String>,
        /// Where to write it; an older file is replaced
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// The tenant's host or alias; needed where there are several
        #[arg(long, value_name = "HOST")]
        tenant: Option<String>,
    },
    /// Write the static pages, with the tenant's site_name and logo in them, for the web server
    #[command(after_help = "\
Takes them from the tenant's html directory. Files in DIR that have the same name are replaced, others
stay. Everybody may read what it writes. To be run again when the configuration or the pages change.

Example:
  codeb-signup pages --tenant a.example --to /var/www/a.example")]
    Pages {
        /// Where to write them; made where it is missing
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// The tenant's host or alias; needed where there are several
        #[arg(long, value_name = "HOST")]
        tenant: Option<String>,
    },
    /// Decide on what killed requests left; remove accounts that were not activated in time
    #[command(after_help = "\
Staged mails are sent where their account stands, else deleted; pending accounts past their time are
removed; spool files are emptied where nothing in them counts any more; views are made anew where they
are not what the accounts say. `serve` does the same at its start and every ten minutes. Safe to run
at any time.

Example:
  codeb-signup sweep --config ./config.toml")]
    Sweep,
    /// Rewrite the accounts and the views without dead space, while requests go on
    #[command(after_help = "\
Drops lines of # alone, which removed accounts leave; every other comment stays. Says how long the lock
was held: sign-ups and activations wait for that time. Safe to run at any time.

Example:
  codeb-signup compact")]
    Compact,
}

/// What to do to a user's account.
#[derive(Debug, Clone, Subcommand)]
pub enum UserVerb {
    /// Let the account in, activated or not
    #[command(after_help = "Example:\n  codeb-signup user enable joe")]
    Enable {
        /// The user name
        user: String,
    },
    /// Shut the account out; it keeps its name
    #[command(after_help = "Example:\n  codeb-signup user disable joe")]
    Disable {
        /// The user name
        user: String,
    },
    /// Remove the account; its name is free
    #[command(after_help = "Example:\n  codeb-signup user remove joe")]
    Remove {
        /// The user name
        user: String,
    },
}

impl UserVerb {
    /// The user, and what becomes of the account.
    pub fn parts(&self) -> (&str, Setting) {
        match self {
            Self::Enable { user } => (user, Setting::Enabled),
            Self::Disable { user } => (user, Setting::Disabled),
            Self::Remove { user } => (user, Setting::Removed),
        }
    }
}

/// What can be looked at before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preview {
    /// The activation mail
    Mail,
    /// The page of an account that was just activated
    Page,
    /// The page with the button of activation = "click"
    ClickPage,
    /// The page of a link that does not work
    RefusedPage,
    /// The page of an activation that failed
    FailedPage,
}

fn language(text: &str) -> Result<String, String> {
    let known = lang::TAGS.contains(&text);
    known.then(|| text.to_owned()).ok_or_else(|| format!("one of {}", lang::TAGS.join(", ")))
}

fn listen(text: &str) -> Result<Listen, String> {
    // Unlike in a file, it is clear here what a relative path is relative to; the rules for its
    // length are the same.
    let relative =
        text.strip_prefix("unix:").filter(|path| !path.is_empty() && !path.starts_with('/'));
    if let Some(path) = relative {
        let checked = Listen::parse(&format!("unix:/{path}"));
        return checked.map(|_| Listen::Unix(path.into())).map_err(|wrong| wrong.to_string());
    }
    Listen::parse(text).map_err(|wrong| wrong.to_string())
}

impl Cli {
    /// Reads the command line. Help and version are printed here, on standard output and with exit
    /// code 0 where they were asked for; what cannot be understood ends with code 64. `socket` tells
    /// whether a listening socket was handed over, which makes a verb dispensable.
    pub fn read(args: impl IntoIterator<Item = OsString>, socket: bool) -> Result<Self, ExitCode> {
        let cli = Self::try_parse_from(args).map_err(|error| {
            // Where the message cannot be printed, the code still says it.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS }
        })?;
        if cli.verb.is_none() && !socket {
            let _ = writeln!(io::stderr(), "{}", Self::command().render_help());
            return Err(ExitCode::from(exit::USAGE));
        }
        Ok(cli)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_its_help_teaches_each_verb() {
        Cli::command().debug_assert();
        let help = Cli::command().render_help().to_string();
        for verb in Cli::command().get_subcommands_mut() {
            assert!(help.contains(&format!("codeb-signup {}", verb.get_name())));
            assert!(verb.render_help().to_string().contains("Example:"));
        }
    }
}

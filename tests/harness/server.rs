//! The web servers that tests put in front of the program, each with a configuration of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::http::Ask;
use crate::process::Process;
use crate::{repository, wait_for};

/// The user that a web server runs as which refuses to be root.
const UNPRIVILEGED: &str = "www-data";

/// A running web server.
#[derive(Debug)]
pub struct Server {
    pub process: Process,
    pub address: SocketAddrV4,
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The group of the web server that is not root, where the tests run as root.
pub fn foreign_group() -> Option<&'static str> {
    is_root().then_some(UNPRIVILEGED)
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Starts a server on a free port. Another program may take the port first: then a new one is
/// tried. `/.ready` answers with the name of the test's directory, so that no other server is
/// taken for ours.
pub fn start(name: &str, dir: &Path, command: impl Fn(SocketAddrV4) -> Command) -> Server {
    let log = dir.join(format!("{name}.log"));
    for _ in 0..5 {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free_port());
        let mut process = Process::start(name, command(address), &log);
        let ready =
            wait_for(&format!("{name} in {}", dir.display()), Duration::from_secs(20), || {
                let ask = Ask::new(address, Ipv4Addr::LOCALHOST, "GET", "/.ready", "localhost");
                match ask.try_send() {
                    Ok(reply) if reply.body == marker(dir).as_bytes() => Some(true),
                    _ if !process.runs() => Some(false),
                    _ => None,
                }
            });
        if ready {
            return Server { process, address };
        }
    }
    panic!("{name} does not start: {}", fs::read_to_string(&log).unwrap_or_default());
}

/// What `/.ready` answers.
pub fn marker(dir: &Path) -> String {
    dir.file_name().unwrap().to_string_lossy().into_owned()
}

/// nginx with the configuration that the repository ships, in front of FastCGI sockets.
pub fn nginx(dir: &Path, sockets: &[PathBuf], keepalive: &str, http: &str, server: &str) -> Server {
    let file = dir.join("nginx.conf");
    let upstream: String =
        sockets.iter().map(|s| format!("server unix:{} max_fails=0;\n", s.display())).collect();
    let single: String = (sockets.iter().enumerate())
        .map(|(i, s)| format!("upstream process_{i} {{ server unix:{}; }}\n", s.display()))
        .collect();
    start("nginx", dir, |address| {
        let text = include_str!("nginx.conf.in")
            .replace("@USER@", if is_root() { "user root;" } else { "" })
            .replace("@DIR@", &dir.to_string_lossy())
            .replace("@UPSTREAM@", &upstream)
            .replace("@SINGLE@", &single)
            .replace("@KEEPALIVE@", keepalive)
            .replace("@HTTP@", http)
            .replace("@SERVER@", server)
            .replace("@ADDRESS@", &address.to_string())
            .replace("@MARKER@", &marker(dir))
            .replace("@REPOSITORY@", &repository("").to_string_lossy());
        fs::write(&file, text).unwrap();
        let mut command = Command::new(program("nginx"));
        command.arg("-p").arg(dir).arg("-c").arg(&file).args(["-e", "nginx-error.log"]);
        command
    })
}

/// lighttpd that runs the program as CGI.
pub fn lighttpd(dir: &Path, program_copy: &Path, config: &Path) -> Server {
    let file = dir.join("lighttpd.conf");
    let html = document_root(dir);
    start("lighttpd", dir, |address| {
        let text = format!(
            "server.modules = (\"mod_cgi\", \"mod_setenv\")\n\
             server.document-root = \"{html}\"\n\
             server.bind = \"127.0.0.1\"\nserver.port = {port}\n\
             server.errorlog = \"{dir}/lighttpd-error.log\"\n\
             server.upload-dirs = (\"{dir}\")\n\
             server.force-lowercase-filenames = \"enable\"\n\
             setenv.set-environment = (\"CODEB_SIGNUP_CONFIG\" => \"{config}\")\n\
             cgi.assign = (\".ashx\" => \"{program}\")\n",
            html = html.display(),
            port = address.port(),
            dir = dir.display(),
            config = config.display(),
            program = program_copy.display(),
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new(program("lighttpd"));
        command.arg("-D").arg("-f").arg(&file);
        command
    })
}

/// Apache with `directives` in its main server; as root it runs as another user.
pub fn apache(dir: &Path, modules: &[&str], directives: &str) -> Server {
    let file = dir.join("apache.conf");
    let html = document_root(dir);
    let run = dir.join("apache");
    fs::create_dir_all(&run).unwrap();
    if is_root() {
        give(&run, UNPRIVILEGED);
    }
    let always = ["mpm_event", "authz_core", "authn_core"];
    let modules: String = (always.iter().chain(modules))
        .map(|m| format!("LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n"))
        .collect();
    start("apache2", dir, |address| {
        let text = format!(
            "ServerRoot {run}\nServerName localhost\nListen {address}\n{modules}\
             DefaultRuntimeDir {run}\nPidFile {run}/pid\nMutex file:{run}\n\
             ErrorLog {run}/error.log\nDocumentRoot {html}\n{directives}\n",
            run = run.display(),
            html = html.display(),
        );
        fs::write(&file, text).unwrap();
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", UNPRIVILEGED, "--regid", UNPRIVILEGED, "--clear-groups"]);
            command.arg(program("apache2"));
            command
        } else {
            Command::new(program("apache2"))
        };
        command.arg("-D").arg("FOREGROUND").arg("-f").arg(&file);
        command
    })
}

/// Gives a file or directory to the user and group of this name.
pub fn give(path: &Path, user: &str) {
    let user = nix::unistd::User::from_name(user).unwrap().expect("the distribution's user");
    nix::unistd::chown(path, Some(user.uid), Some(user.gid)).unwrap();
}

/// A server program by its path: not every user has `/usr/sbin` in the search path.
pub fn program(name: &str) -> PathBuf {
    let sbin = Path::new("/usr/sbin").join(name);
    if sbin.exists() { sbin } else { PathBuf::from(name) }
}

/// A directory of documents with the scripts' names in it, which lighttpd asks for.
fn document_root(dir: &Path) -> PathBuf {
    let html = dir.join("html");
    fs::create_dir_all(&html).unwrap();
    fs::write(html.join(".ready"), marker(dir)).unwrap();
    for script in ["captcha.ashx", "signup.ashx", "activate.ashx", "resend.ashx", "nope.ashx"] {
        fs::write(html.join(script), "").unwrap();
    }
    html
}

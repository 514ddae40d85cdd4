//! The tenants of one process: which of them serve, which are out, and why.
//!
//! A tenant is out while its directories or files cannot be used, and while they are being opened: it
//! answers 500, the others go on. What is wrong with one keeps a start from going on only where none
//! is left, and where two have one state directory, which no later look would mend.
//!
//! | process | opens a tenant |
//! |---|---|
//! | `serve` | in the tenant's own thread ([`crate::maintenance`]), again and again until it can |
//! | an operator's verb | when it needs it, once |
//! | CGI | when it is asked for, making its directories and files where they are missing |

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use crate::config::{Config, ConfigError, TenantConfig};
use crate::disk::Disk;
use crate::error::Fault;
use crate::lang::Languages;
use crate::premises;
use crate::template::Templates;
use crate::tenant::Tenant;

/// How soon after a look at what is wrong with a tenant a request for it may cause the next one.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// See the module's head.
#[derive(Debug)]
pub struct Service {
    tenancies: Vec<Arc<Tenancy>>,
    by_host: HashMap<String, Arc<Tenancy>>,
    default: Option<Arc<Tenancy>>,
    /// The templates that come with the program, for the pages of tenants that are out.
    pub built_in: Arc<Templates>,
}

/// One tenant of the configuration, whether it is open or out.
#[derive(Debug)]
pub struct Tenancy {
    /// Its number among the tenants.
    pub number: usize,
    /// What it is configured to be.
    pub config: TenantConfig,
    common: Arc<Common>,
    state: RwLock<State>,
    /// Whether another look was asked for by a request.
    asked: Mutex<bool>,
    asking: Condvar,
}

/// What the tenants of a process have in common.
#[derive(Debug)]
struct Common {
    config: Config,
    disk: Arc<dyn Disk>,
    languages: Arc<Languages>,
    /// Whether this process answers one request, which opens its tenant.
    is_cgi: bool,
    /// The state directories of open tenants: filesystem and file, and the tenant's number.
    in_use: Mutex<HashMap<(u64, u64), usize>>,
}

#[derive(Debug)]
enum State {
    /// Nobody has tried yet, or somebody is trying for the first time.
    Unopened,
    Out(Fault),
    Open(Arc<Tenant>),
}

/// Why a tenant is out.
#[derive(Debug)]
pub enum Out {
    /// Its directories cannot be used.
    Premises(ConfigError),
    /// Its state directory is another tenant's too.
    Shared(ConfigError),
    /// Its files cannot be used.
    Fault(Fault),
}

impl Out {
    /// The same for somebody else.
    #[must_use]
    pub fn share(&self) -> Self {
        match self {
            Self::Premises(error) => Self::Premises(error.clone()),
            Self::Shared(error) => Self::Shared(error.clone()),
            Self::Fault(fault) => Self::Fault(fault.share()),
        }
    }
}

impl From<ConfigError> for Out {
    fn from(error: ConfigError) -> Self {
        Self::Premises(error)
    }
}

impl From<Fault> for Out {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Premises(error) | Self::Shared(error) => error.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

impl Service {
    /// The tenants of the configuration, none of them open yet; looks at none of their files.
    pub fn new(config: &Config, disk: &Arc<dyn Disk>) -> Result<Self, Fault> {
        Self::build(config, disk, false)
    }

    /// The same for a process that answers one request, which opens the tenant that it asks for.
    pub fn for_one_request(config: &Config, disk: &Arc<dyn Disk>) -> Result<Self, Fault> {
        Self::build(config, disk, true)
    }

    fn build(config: &Config, disk: &Arc<dyn Disk>, is_cgi: bool) -> Result<Self, Fault> {
        let languages = Languages::built_in()
            .map_err(|broken| Fault::pathless("read the languages", io::Error::other(broken)))?;
        let languages = Arc::new(languages);
        let common = Arc::new(Common {
            config: config.clone(),
            disk: disk.clone(),
            languages: languages.clone(),
            is_cgi,
            in_use: Mutex::default(),
        });
        let tenancy = |(number, config): (usize, &TenantConfig)| {
            Arc::new(Tenancy {
                number,
                config: config.clone(),
                common: common.clone(),
                state: RwLock::new(State::Unopened),
                asked: Mutex::new(false),
                asking: Condvar::new(),
            })
        };
        let tenancies: Vec<_> = config.tenants.iter().enumerate().map(tenancy).collect();
        let mut by_host = HashMap::new();
        for tenancy in &tenancies {
            for host in std::iter::once(&tenancy.config.host).chain(&tenancy.config.aliases) {
                by_host.insert(host.clone(), tenancy.clone());
            }
        }
        let default = config.default_tenant.as_ref().and_then(|host| by_host.get(host).cloned());
        let built_in = Arc::new(Templates::new(languages, None)?);
        Ok(Self { tenancies, by_host, default, built_in })
    }

    /// Every tenant, in the order of their hosts.
    pub fn tenancies(&self) -> &[Arc<Tenancy>] {
        &self.tenancies
    }

    /// The tenant that serves `host` (folded, without port).
    pub fn for_host(&self, host: &str) -> Option<&Arc<Tenancy>> {
        self.by_host.get(host).or(self.default.as_ref())
    }

    /// Waits for the work behind the answers of every open tenant, but not longer than until
    /// `deadline`.
    pub fn finish(&self, deadline: Instant) {
        for tenancy in &self.tenancies {
            if let State::Open(tenant) = &*tenancy.state() {
                tenant.finish(deadline);
            }
        }
    }

    /// Whether any tenant lets mails be asked for again.
    pub fn any_resends(&self) -> bool {
        self.tenancies.iter().any(|tenancy| tenancy.config.resend)
    }
}

impl Tenancy {
    /// The tenant, where it is open; otherwise why it is out, and a look whether that is mended will
    /// be soon. Waits for no disk, except where a request opens it.
    pub fn tenant(&self) -> Result<Arc<Tenant>, Fault> {
        match &*self.state() {
            State::Open(tenant) => return Ok(tenant.clone()),
            State::Unopened if self.common.is_cgi => {}
            State::Unopened => return Err(self.late_fault()),
            State::Out(fault) => {
                let mut asked = self.asked();
                if !*asked {
                    *asked = true;
                    self.asking.notify_all();
                }
                return Err(fault.share());
            }
        }
        let tenant = self.open()?;
        tenant.create_if_missing()?;
        Ok(tenant)
    }

    /// Whether it is open: then requests for it may wait for its disk.
    pub fn is_open(&self) -> bool {
        matches!(&*self.state(), State::Open(_))
    }

    /// Whether a captcha can be issued without a look at the disk.
    pub fn has_captcha_key(&self) -> bool {
        matches!(&*self.state(), State::Open(tenant) if tenant.captcha.has_key())
    }

    /// Opens the tenant's stores, which reads nothing but templates yet.
    pub fn open(&self) -> Result<Arc<Tenant>, Fault> {
        let tenant = self.build()?;
        self.set(State::Open(tenant.clone()));
        Ok(tenant)
    }

    /// Opens it where its directories can be used, and are no other tenant's.
    pub fn check_and_open(&self) -> Result<Arc<Tenant>, Out> {
        self.check()?;
        self.use_alone()?;
        Ok(self.open()?)
    }

    /// The same, with all in memory that requests need, and what a crash left put right: it is open
    /// for requests only then. Waits for a lock as long as that takes.
    pub fn warm_up(&self) -> Result<Arc<Tenant>, Out> {
        let warmed = self.check_and_warm_up();
        self.set(match &warmed {
            Ok(tenant) => State::Open(tenant.clone()),
            Err(out) => State::Out(self.out_fault(out)),
        });
        warmed
    }

    fn check_and_warm_up(&self) -> Result<Arc<Tenant>, Out> {
        self.check()?;
        let tenant = self.build()?;
        tenant.warm_up()?;
        self.use_alone()?;
        Ok(tenant)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let Common { config, disk, .. } = &*self.common;
        premises::check_directories(&config.file, &self.config, disk.as_ref())
    }

    fn build(&self) -> Result<Arc<Tenant>, Fault> {
        let Common { config, disk, languages, .. } = &*self.common;
        let tenant = Tenant::new(&self.config, config, disk.clone(), languages.clone())?;
        tenant.make_directories()?;
        Ok(Arc::new(tenant))
    }

    /// Notes whose the state directory is, where it is no other open tenant's.
    fn use_alone(&self) -> Result<(), Out> {
        let Common { config, disk, in_use, .. } = &*self.common;
        let stat = premises::stat_directory(disk.as_ref(), &self.config.state);
        let stat = stat.map_err(|cause| Fault::new("look at", &self.config.state, cause))?;
        let mut in_use = in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = *in_use.entry((stat.dev, stat.ino)).or_insert(self.number);
        match config.tenants.get(owner).filter(|_| owner != self.number) {
            Some(other) => {
                Err(Out::Shared(premises::shared(&config.file, &self.config, &other.host).into()))
            }
            None => Ok(()),
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// What the log says of each request for a tenant that is out.
    fn out_fault(&self, out: &Out) -> Fault {
        match out {
            Out::Fault(fault) => fault.share(),
            Out::Premises(error) | Out::Shared(error) => {
                let cause = io::Error::other(error.to_string().replace('\n', "; "));
                Fault::new("serve the tenant of", &self.config.state, cause)
                    .way_out("it is back by itself once that is mended")
            }
        }
    }

    /// The fault of a tenant whose opening goes on.
    pub fn late_fault(&self) -> Fault {
        let cause = io::ErrorKind::TimedOut.into();
        Fault::new("open the tenant's files in time, in", &self.config.state, cause).way_out(
            "look for a hung disk or a lock that nobody gives back; it serves as soon as that is over",
        )
    }

    /// Waits until it is time for another look at what is wrong: after `pause`, or before that where
    /// a request has asked.
    pub fn wait_for_next_look(&self, pause: Duration) {
        let looked = Instant::now();
        let mut asked = self.asked();
        *asked = false;
        loop {
            let wait = if *asked { LOOK_PAUSE.min(pause) } else { pause };
            let left = wait.saturating_sub(looked.elapsed());
            if left.is_zero() {
                return;
            }
            let woken = self.asking.wait_timeout(asked, left);
            asked = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn asked(&self) -> MutexGuard<'_, bool> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

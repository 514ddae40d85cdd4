//! A tenant with its stores.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::account::Username;
use crate::background::Background;
use crate::config::{Config, Signups, TenantConfig, View};
use crate::disk::Disk;
use crate::error::Fault;
use crate::lang::Languages;
use crate::log::{self, Level};
use crate::store::accounts::Accounts;
use crate::store::captcha::Captcha;
use crate::store::claims::Claims;
use crate::store::flat::{FlatAccounts, FlatClaims};
use crate::store::mail::Composer;
use crate::store::outbox::Outbox;
use crate::template::Templates;

/// Mode of the directories below the state directory.
const PRIVATE: u32 = 0o700;

/// One tenant: what it is configured to be, and its stores.
#[derive(Debug)]
pub struct Tenant {
    /// The configuration.
    pub config: TenantConfig,
    /// Where its files are.
    pub disk: Arc<dyn Disk>,
    /// Captcha tokens.
    pub captcha: Captcha,
    /// What is counted.
    pub claims: Arc<dyn Claims>,
    /// The accounts.
    pub accounts: Box<dyn Accounts>,
    /// Mails on their way.
    pub outbox: Arc<Outbox>,
    /// What mails say.
    pub composer: Composer,
    /// What pages say, and in which languages.
    pub templates: Arc<Templates>,
    /// Work for after an answer, in a thread of the tenant's own: what one tenant's disk takes is
    /// not the others' time.
    pub background: Background,
}

impl Tenant {
    /// The stores of a tenant; looks at none of their files yet.
    pub fn new(
        config: &TenantConfig,
        whole: &Config,
        disk: Arc<dyn Disk>,
        languages: Arc<Languages>,
    ) -> Result<Self, Fault> {
        let state = config.state.as_path();
        let spool = state.join("spool");
        let templates = Arc::new(Templates::new(languages, config.templates.as_deref())?);
        let views: Vec<&str> = config.views.iter().map(|View::Htdigest| "htdigest").collect();
        let wait = whole.lock_wait;
        let staging = config.staging.as_path();
        let claims = Arc::new(FlatClaims::new(
            &disk,
            &spool,
            config.captcha_ttl,
            config.signups_per_hour,
            wait,
        ));
        let group = config.view_group;
        let accounts = FlatAccounts::new(disk.clone(), state, &views, group, claims.clone(), wait);
        let (pickup, pickup_group) = (config.pickup.as_path(), config.pickup_group);
        Ok(Self {
            captcha: Captcha::new(disk.clone(), &spool, config.captcha_ttl, wait),
            claims,
            accounts: Box::new(accounts),
            outbox: Arc::new(Outbox::new(disk.clone(), staging, pickup, pickup_group)),
            composer: Composer::new(
                templates.clone(),
                &config.mail_from,
                &config.base_url,
                &config.site_name,
            )?,
            templates,
            config: config.clone(),
            disk,
            background: Background::default(),
        })
    }

    /// Makes the directories that are its own, where they are missing.
    pub fn make_directories(&self) -> Result<(), Fault> {
        let make = |path: &Path| {
            let made = self.disk.make_dir(path, PRIVATE);
            made.map_err(|cause| Fault::new("make the directory", path, cause))
        };
        make(&self.config.state.join("spool"))?;
        make(&self.config.staging)
    }

    /// Makes whatever a new state directory lacks, and reads nothing else.
    pub fn create_if_missing(&self) -> Result<(), Fault> {
        self.accounts.create_if_missing()
    }

    /// Waits for the mails that were asked for again, but not longer than until `deadline`.
    pub fn finish(&self, deadline: Instant) {
        let left = self.background.finish(deadline);
        if left > 0 {
            log::event(Level::Warn, "resend_mail")
                .field("tenant", &self.config.host)
                .field("outcome", "unfinished")
                .field("mails", left)
                .emit();
        }
    }

    /// Reads the accounts and the captcha key, and finishes what a crash left, so that no request
    /// waits for it.
    pub fn warm_up(&self) -> Result<(), Fault> {
        self.accounts.open()?;
        if self.config.signups == Signups::Open {
            // Without a key its captchas are answered 503, and everything else goes on.
            let _ = self.captcha.load_key();
        }
        Ok(())
    }

    /// Whether nobody may sign up under this name here.
    pub fn is_reserved(&self, user: &Username) -> bool {
        user.is_reserved() || self.config.reserved.iter().any(|name| name == user.as_str())
    }
}

//! What changes with the number of accounts: throughput, memory, the start of a process.

use std::fs;
use std::time::{Duration, Instant};

use crate::cgi;
use crate::contest::{Contest, Turn};
use crate::plot::{self, Line};
use crate::report::Goal::{self, AtLeast, AtMost};
use crate::report::Spread;
use crate::site::{Backend, Site, php_fpm};

impl Contest<'_> {
    /// The same with more and more accounts.
    pub fn sizes(&mut self) {
        let mut sites = Vec::new();
        let mut empty_kib = 0.0;
        for &accounts in self.effort.sizes {
            let started = Instant::now();
            let site = self.site(&format!("n{accounts}"), Backend::Program(1, "own"), accounts);
            let label = label(accounts);
            let first = site.first_answer.as_secs_f64();
            let made = started.elapsed().as_secs_f64() - first;
            self.report.figure(
                format!("{label}: accounts written in"),
                "s",
                &[made],
                AtMost(120.0),
            );
            let kib = site.resident_kib() as f64;
            if accounts == 0 {
                empty_kib = kib;
                self.report.figure("empty: first answer", "s", &[first], Goal::None);
                self.report.figure("empty: resident", "MiB", &[kib / 1024.0], AtMost(12.0));
            } else {
                let millions = accounts as f64 / 1e6;
                self.report.figure(
                    format!("{label}: first answer"),
                    "s",
                    &[first],
                    if accounts < 1_000_000 { Goal::None } else { AtMost(millions) },
                );
                let bytes = (kib - empty_kib) * 1024.0 / accounts as f64;
                let goal = if accounts < 1_000_000 { Goal::None } else { AtMost(24.0) };
                self.report.figure(
                    format!("{label}: resident above empty"),
                    "bytes/account",
                    &[bytes],
                    goal,
                );
            }
            sites.push(site);
        }
        // Before the load, which leaves accounts everywhere.
        self.cgi();
        let turn = self.effort.turn;
        let seconds = self.seconds();
        let mut lines = Vec::new();
        type Measure<'a> = Box<dyn Fn(&Site) -> f64 + 'a>;
        let measures: [(&str, &'static str, Measure<'_>); 4] = [
            ("sign-up, C=8", "flows/s", Box::new(|site| site.sign_ups(8, turn).per_second)),
            (
                "activation, C=8",
                "activations/s",
                Box::new(|site| {
                    // Each round needs links that nobody has opened, and enough of them: what is
                    // over after half a second differs by a quarter from time to time.
                    site.sign_ups(32, 2 * turn);
                    site.activations(8, turn).per_second
                }),
            ),
            ("conflict, C=8", "flows/s", Box::new(|site| site.conflicts(8, turn).per_second)),
            ("captcha, C=8", "captchas/s", Box::new(|site| site.captchas(8, seconds))),
        ];
        for (what, unit, measure) in &measures {
            let mut turns: Vec<Turn<'_>> =
                sites.iter().map(|site| Box::new(|| measure(site)) as Turn<'_>).collect();
            let results = self.rounds(&mut turns);
            let mut points = vec![(0.0, Spread::of(&results[0]).median)];
            for (at, &accounts) in self.effort.sizes.iter().enumerate().skip(1) {
                let empty = ("empty", &results[0][..]);
                let name = format!("{}: {what}", label(accounts));
                self.report.ratio(name, unit, &results[at], empty, AtLeast(0.9));
                points.push((accounts as f64, Spread::of(&results[at]).median));
            }
            lines.push(Line { name: what.split(',').next().unwrap_or_default().into(), points });
        }
        for (site, &accounts) in sites.iter().zip(self.effort.sizes) {
            let kib = site.resident_kib() as f64 / 1024.0;
            self.report.figure(
                format!("{}: resident after the load", label(accounts)),
                "MiB",
                &[kib],
                Goal::None,
            );
        }
        let title = "requests in a second over the number of accounts, eight clients";
        fs::write(self.dir.join("plot.svg"), plot::svg(title, &lines)).unwrap();
    }

    /// Beside the PHP program, which looks through its whole file.
    pub fn php_with_accounts(&mut self) {
        if php_fpm().is_none() {
            return self.report.note("PHP-FPM is not installed: not compared with");
        }
        let accounts = if self.effort.is_full { 100_000 } else { 10_000 };
        let php = self.site("php-many", Backend::Php, accounts);
        let own = self.site("own-many", Backend::Program(1, "own"), accounts);
        let turn = self.effort.turn;
        for &clients in self.effort.clients {
            let results = self.rounds(&mut [
                Box::new(|| own.sign_ups(clients, turn).per_second),
                Box::new(|| php.sign_ups(clients, turn).per_second),
            ]);
            let goal = if self.effort.is_full { AtLeast(50.0) } else { Goal::None };
            let what = format!("{} accounts: sign-up, C={clients}", label(accounts));
            self.report.ratio(what, "flows/s", &results[0], ("PHP flat file", &results[1]), goal);
        }
    }

    /// A process for each request.
    fn cgi(&mut self) {
        for &accounts in self.effort.sizes {
            let dir = self.place(&format!("n{accounts}"));
            let took: Vec<_> = (0..self.effort.cgi_runs).map(|n| cgi::once(&dir, n)).collect();
            let millis = |times: Vec<Duration>| -> Vec<f64> {
                times.into_iter().map(|time| time.as_secs_f64() * 1e3).collect()
            };
            let (captcha, sign_up) = took.into_iter().unzip();
            let goal = if accounts == 0 { AtMost(5.0) } else { Goal::None };
            let label = label(accounts);
            self.report.figure(format!("{label}: captcha by CGI"), "ms", &millis(captcha), goal);
            self.report.figure(
                format!("{label}: sign-up by CGI"),
                "ms",
                &millis(sign_up),
                Goal::None,
            );
        }
    }
}

fn label(accounts: u64) -> String {
    match accounts {
        0 => "empty".into(),
        n if n >= 1_000_000 => format!("{}M", n / 1_000_000),
        n => format!("{}k", n / 1000),
    }
}

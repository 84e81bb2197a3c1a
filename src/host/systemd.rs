//! A lab's boot server as an instance of `virtlab@.service`, which systemd starts with the host: for root
//! a unit of the system, for anybody else one of their own, which runs with nobody logged in if the user
//! lingers. <https://www.freedesktop.org/software/systemd/man/latest/loginctl.html>

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use etcetera::BaseStrategy;
use fs_err as fs;
use uuid::Uuid;

use crate::lab::{Lab, LabName};

/// The unit of a lab's boot server.
#[derive(Clone, Debug)]
pub struct BootUnit {
    /// Both parts of the instance's name are letters, digits and hyphens, which need no escape.
    name: String,
    owner: Owner,
}

/// Whose unit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    System,
    User,
}

/// Why systemd does not start boot servers with the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// No systemd answers.
    Systemd,
    /// The unit is not installed.
    Unit,
    /// The user's units run only as long as they are logged in.
    Linger,
}

impl Lack {
    /// The reason, as the end of a sentence.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Systemd => "no systemd answers here",
            Self::Unit => "systemd has no unit `virtlab@.service`, which `make install` brings",
            Self::Linger => "your systemd units start when you log in, and end when you log out",
        }
    }

    /// The command that mends it, if there is one.
    pub fn command(self) -> Option<&'static str> {
        match self {
            Self::Systemd | Self::Unit => None,
            Self::Linger => Some("loginctl enable-linger"),
        }
    }
}

impl BootUnit {
    /// The unit of this lab's boot server.
    pub fn of(lab: &Lab) -> Self {
        Self::named(&lab.name, lab.uuid)
    }

    /// The unit of the boot server of the lab with this name and UUID.
    pub fn named(name: &LabName, uuid: Uuid) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let owner = if is_root { Owner::System } else { Owner::User };
        Self { name: format!("virtlab@{name}.{uuid}.service"), owner }
    }

    /// The name of the unit.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether systemd starts it with the host. systemd's own mark is asked, since it is there without a
    /// systemd that answers.
    pub fn is_enabled(&self) -> bool {
        self.link().is_some_and(|link| link.is_symlink())
    }

    /// What is missing for that.
    pub fn lack(&self) -> Option<Lack> {
        let show = self.systemctl(&["show", "--property=LoadState", &self.name]);
        let Some(state) = show.ok().filter(|output| output.status.success()) else {
            return Some(Lack::Systemd);
        };
        if text(&state.stdout) != "LoadState=loaded" {
            return Some(Lack::Unit);
        }
        (self.owner == Owner::User && !lingers()).then_some(Lack::Linger)
    }

    /// Makes systemd start it with the host.
    ///
    /// # Errors
    /// If systemd cannot.
    pub fn enable(&self) -> Result<()> {
        self.run("enable")
    }

    /// Makes systemd start it with the host no more, and forget it. Without a systemd that answers its mark is
    /// removed.
    ///
    /// # Errors
    /// If the mark is still there afterwards.
    pub fn disable(&self) -> Result<()> {
        let asked = self.run("disable");
        if let Some(link) = self.link().filter(|link| link.is_symlink()) {
            tracing::debug!("removing the link itself: {asked:?}");
            fs::remove_file(link).with_context(|| format!("disabling unit `{}`", self.name))?;
        }
        // It may have failed and be kept in mind for that; most often there is nothing to forget.
        let _ = self.systemctl(&["reset-failed", &self.name]);
        Ok(())
    }

    /// Starts it.
    ///
    /// # Errors
    /// If systemd cannot.
    pub fn start(&self) -> Result<()> {
        // One that failed too often is started no more before.
        let _ = self.systemctl(&["reset-failed", &self.name]);
        self.run("start")
    }

    /// Stops it, or keeps it from being started again in a moment.
    ///
    /// # Errors
    /// If systemd cannot. Where none answers, none starts it again.
    pub fn stop(&self) -> Result<()> {
        if self.lack() == Some(Lack::Systemd) { Ok(()) } else { self.run("stop") }
    }

    fn run(&self, verb: &str) -> Result<()> {
        let doing = || format!("running `systemctl {verb} {}`", self.name);
        let output = self.systemctl(&["--quiet", verb, &self.name]).with_context(doing)?;
        if !output.status.success() {
            bail!("{}: {}", doing(), text(&output.stderr));
        }
        Ok(())
    }

    fn systemctl(&self, args: &[&str]) -> std::io::Result<Output> {
        let mut command = Command::new("systemctl");
        if self.owner == Owner::User {
            command.arg("--user");
            // A shell of sudo or su does not name it, and it is there.
            if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
                command.env("XDG_RUNTIME_DIR", runtime_dir());
            }
        }
        command.args(args).env("LC_ALL", "C").output()
    }

    /// The link by which systemd knows that it is to be started.
    fn link(&self) -> Option<PathBuf> {
        let folder = match self.owner {
            Owner::System => PathBuf::from("/etc/systemd/system/multi-user.target.wants"),
            Owner::User => {
                let strategy = etcetera::choose_base_strategy().ok()?;
                strategy.config_dir().join("systemd/user/default.target.wants")
            }
        };
        Some(folder.join(&self.name))
    }
}

/// Whether this user's systemd is started with the host.
pub fn lingers() -> bool {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let mut command = Command::new("loginctl");
    command.args(["show-user", &uid, "--property=Linger", "--value"]).env("LC_ALL", "C");
    command.output().is_ok_and(|output| text(&output.stdout) == "yes")
}

fn runtime_dir() -> OsString {
    let uid = rustix::process::geteuid().as_raw().to_string();
    Path::new("/run/user").join(uid).into_os_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

//! Why KSM could not be read or set, and what to type then.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::ksm::Knob;

/// Why KSM could not be read or set.
#[derive(Debug, Error)]
pub enum KsmError {
    /// The kernel was built without `CONFIG_KSM`.
    #[error("this kernel has no kernel samepage merging: there is no `{}`", root.display())]
    NotInKernel {
        /// The directory that is missing.
        root: PathBuf,
    },
    /// Only root may write the file.
    #[error("writing `{}`: no permission", path.display())]
    NoPermission {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: u64,
    },
    /// The file is in a read-only file system, as in most containers.
    #[error("writing `{}`: the file system is read-only here", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The kernel does not take the number.
    #[error("writing `{value}` to `{}`: the kernel refuses it", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: u64,
    },
    /// The file holds something else than expected.
    #[error("reading `{}`: cannot understand `{value}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What it holds.
        value: String,
    },
    /// Any other failure; the message names the file.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl KsmError {
    /// What to type next.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::NotInKernel { .. } => vec![
                "virtlab works without it; a kernel with CONFIG_KSM=y has it, as those of all \
                 large distributions do"
                    .to_owned(),
            ],
            Self::NoPermission { path, value } => {
                vec![format!("echo {value} | sudo tee {}", path.display())]
            }
            Self::ReadOnly { .. } => {
                vec!["in a container, set it on the host: virtlab ksm on".to_owned()]
            }
            Self::Refused { path, .. } if path.ends_with(Knob::PagesToScan.file_name()) => {
                let advisor = path.with_file_name("advisor_mode");
                vec![format!(
                    "if KSM's advisor chooses the speed, switch it off first: \
                     echo none | sudo tee {}",
                    advisor.display()
                )]
            }
            Self::Refused { .. } | Self::Unreadable { .. } | Self::Io(_) => Vec::new(),
        }
    }
}

//! Which KVM this computer has.

use std::path::Path;

/// Why this computer's KVM runs no guests with a kernel of their own choice, if it does not: PVM needs no virtualization by the
/// processor, and so is found inside of virtual machines; other kernels than those that are made for it start and hang, or stop at an
/// instruction that it does not know. <https://lwn.net/Articles/963718/>
pub(crate) fn lack() -> Option<&'static str> {
    lack_of(Path::new("/sys/module"))
}

fn lack_of(modules: &Path) -> Option<&'static str> {
    let has = |name: &str| modules.join(name).is_dir();
    let is_pvm = has("kvm_pvm") && !has("kvm_intel") && !has("kvm_amd");
    is_pvm.then_some("this host's KVM is PVM (`kvm_pvm`), which runs no ordinary kernels")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pvm_alone_runs_no_ordinary_kernels() {
        for (loaded, lacks) in [
            (&["kvm"][..], false),
            (&["kvm", "kvm_intel"], false),
            (&["kvm", "kvm_pvm"], true),
            (&["kvm", "kvm_pvm", "kvm_amd"], false),
        ] {
            let modules = tempfile::tempdir().unwrap();
            for name in loaded {
                fs_err::create_dir(modules.path().join(name)).unwrap();
            }
            assert_eq!(lack_of(modules.path()).is_some(), lacks, "{loaded:?}");
        }
    }
}

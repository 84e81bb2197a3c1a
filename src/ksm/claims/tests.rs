use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tempfile::TempDir;

use super::*;
use crate::ksm::Run;
use crate::ksm::tests::{file, recorded_tree};

const URI: &str = "qemu:///system";
const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);

thread_local! {
    static STEPS_TO_LIVE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Ends the thread if its time has come, as a SIGKILL would end the process.
pub(crate) fn kill_point() {
    STEPS_TO_LIVE.with(|steps| match steps.get() {
        Some(0) => std::panic::resume_unwind(Box::new("killed")),
        Some(left) => steps.set(Some(left - 1)),
        None => {}
    });
}

/// Runs `operation` and kills it before its effect number `steps`; whether it was killed.
fn killed_after(steps: u32, operation: impl FnOnce()) -> bool {
    STEPS_TO_LIVE.with(|left| left.set(Some(steps)));
    let outcome = catch_unwind(AssertUnwindSafe(operation));
    STEPS_TO_LIVE.with(|left| left.set(None));
    outcome.is_err()
}

/// A host on which the processes that make claims are already dead.
struct Host {
    ksm: TempDir,
    run: TempDir,
    proc: TempDir,
    claims: Claims,
}

impl Host {
    fn new() -> Self {
        let (ksm, run, proc) =
            (recorded_tree(&[]), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let claims = Claims::at(
            &run.path().join("virtlab"),
            Ksm::at(ksm.path()),
            Processes::at(proc.path()),
        );
        Self { ksm, run, proc, claims }
    }

    fn settings(&self) -> [String; 3] {
        ["run", "pages_to_scan", "sleep_millisecs"].map(|name| file(&self.ksm, name))
    }

    fn somebody_sets(&self, name: &str, value: &str) {
        fs::write(self.ksm.path().join(name), value).unwrap();
    }

    fn claim(&self, lab: Uuid) -> Claimed {
        self.claims.claim(lab, URI, faster()).unwrap()
    }

    fn is_forgotten(&self) -> bool {
        !self.run.path().join("virtlab/ksm.json").exists()
    }
}

fn faster() -> Settings {
    Settings { run: Some(Run::Running), pages_to_scan: Some(5000), ..Settings::default() }
}

fn restored() -> Released {
    Released::Restored { foreign: vec![] }
}

const BEFORE: [&str; 3] = ["0", "100", "20"];
const CLAIMED: [&str; 3] = ["1", "5000", "20"];

#[test]
fn the_last_lab_puts_back_what_the_first_found() {
    let host = Host::new();
    assert_eq!(host.claim(A), Claimed::SwitchedOn);
    assert_eq!(host.claim(B), Claimed::AlreadyOn);
    assert_eq!(host.settings(), CLAIMED);
    assert_eq!(host.claims.labs().unwrap(), [A, B]);

    assert_eq!(host.claims.release(A).unwrap(), Released::StillClaimed { labs: 1 });
    assert_eq!(host.settings(), CLAIMED, "the other lab still wants it");
    assert_eq!(host.claims.release(A).unwrap(), Released::Nothing, "released twice");

    assert_eq!(host.claims.release(B).unwrap(), restored());
    assert_eq!(host.settings(), BEFORE);
    assert!(host.is_forgotten());
}

#[test]
fn a_host_that_had_it_on_keeps_it_on() {
    let host = Host::new();
    host.somebody_sets("run", "1");
    host.somebody_sets("pages_to_scan", "5000");
    assert_eq!(host.claim(A), Claimed::AlreadyOn);
    assert_eq!(host.claims.release(A).unwrap(), restored());
    assert_eq!(host.settings(), CLAIMED);
}

#[test]
fn the_claim_of_a_lab_that_is_gone_is_dropped() {
    let host = Host::new();
    host.claim(A);
    host.claim(B);
    assert_eq!(host.claims.repair(URI, |_| true).unwrap(), Released::Nothing);
    let only_b = |lab| lab == B;
    assert_eq!(host.claims.repair(URI, only_b).unwrap(), Released::StillClaimed { labs: 1 });
    assert_eq!(host.settings(), CLAIMED);
    assert_eq!(host.claims.repair(URI, |_| false).unwrap(), restored());
    assert_eq!(host.settings(), BEFORE);
    assert_eq!(host.claims.repair(URI, |_| false).unwrap(), Released::Nothing);
}

#[test]
fn a_lab_that_is_still_being_made_keeps_its_claim() {
    let host = Host::new();
    let process = host.proc.path().join(std::process::id().to_string());
    let stat =
        |start: u32| format!("1 (virtlab) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 {start} 1 1");
    fs::create_dir(&process).unwrap();
    fs::write(process.join("stat"), stat(77)).unwrap();
    host.claim(A);
    assert_eq!(host.claims.repair(URI, |_| false).unwrap(), Released::Nothing);
    assert_eq!(host.settings(), CLAIMED);
    // Another process has the number now.
    fs::write(process.join("stat"), stat(99)).unwrap();
    assert_eq!(host.claims.repair(URI, |_| false).unwrap(), restored());
    assert_eq!(host.settings(), BEFORE);
}

#[test]
fn labs_of_another_connection_are_not_judged() {
    let host = Host::new();
    host.claims.claim(A, "qemu:///session", Settings::on()).unwrap();
    assert_eq!(host.claims.repair(URI, |_| false).unwrap(), Released::Nothing);
    assert_eq!(host.claims.repair("qemu:///session", |_| false).unwrap(), restored());
}

#[test]
fn what_somebody_else_set_meanwhile_is_left_and_said() {
    let host = Host::new();
    host.claim(A);
    host.somebody_sets("pages_to_scan", "777");
    let Released::Restored { foreign } = host.claims.release(A).unwrap() else {
        panic!("it was the last one")
    };
    let expected = "leaving KSM's `pages_to_scan` at 777: virtlab had set 5000, so somebody else \
                    changed it (before the first lab it was 100)";
    assert_eq!(foreign.iter().map(Foreign::to_string).collect::<Vec<_>>(), [expected]);
    assert_eq!(host.settings(), ["0", "777", "20"]);
    assert!(host.is_forgotten());
}

#[test]
fn a_setting_changed_by_somebody_between_two_claims_is_what_is_put_back() {
    let host = Host::new();
    host.claim(A);
    host.somebody_sets("pages_to_scan", "777");
    assert_eq!(host.claim(B), Claimed::SwitchedOn);
    host.claims.release(A).unwrap();
    assert_eq!(host.claims.release(B).unwrap(), restored());
    assert_eq!(host.settings(), ["0", "777", "20"]);
}

#[test]
fn what_the_user_sets_for_good_outlives_the_labs() {
    let host = Host::new();
    host.claim(A);
    host.claims.set_for_good(Settings::on()).unwrap();
    assert_eq!(host.claims.release(A).unwrap(), restored());
    assert_eq!(host.settings(), ["1", "100", "20"], "on for good, the speed of before");

    let host = Host::new();
    host.claim(A);
    let off = Settings { run: Some(Run::Stopped), ..Settings::default() };
    host.claims.set_for_good(off).unwrap();
    assert_eq!(host.settings(), ["0", "5000", "20"]);
    assert_eq!(host.claims.release(A).unwrap(), restored());
    assert_eq!(host.settings(), BEFORE);

    let host = Host::new();
    host.claims.set_for_good(faster()).unwrap();
    assert_eq!(host.settings(), CLAIMED);
    assert!(host.is_forgotten(), "nobody claims it");
}

#[test]
fn a_kill_at_any_moment_of_a_claim_is_repaired() {
    let mut moments = 0;
    loop {
        let host = Host::new();
        let killed = killed_after(moments, || {
            host.claim(A);
        });
        host.claims.repair(URI, |_| false).unwrap();
        assert_eq!(host.settings(), BEFORE, "killed at moment {moments}");
        assert!(host.is_forgotten(), "killed at moment {moments}");
        if !killed {
            break;
        }
        moments += 1;
    }
    assert_eq!(moments, 4, "two of the file, two settings");
}

#[test]
fn a_kill_at_any_moment_of_a_release_is_repaired() {
    let mut moments = 0;
    loop {
        let host = Host::new();
        host.claim(A);
        let killed = killed_after(moments, || {
            host.claims.release(A).unwrap();
        });
        let repaired = host.claims.repair(URI, |_| false).unwrap();
        assert_eq!(repaired, if killed { restored() } else { Released::Nothing });
        assert_eq!(host.settings(), BEFORE, "killed at moment {moments}");
        assert!(host.is_forgotten(), "killed at moment {moments}");
        if !killed {
            break;
        }
        moments += 1;
    }
    assert_eq!(moments, 3, "two settings, the file");
}

#[test]
fn a_kill_at_any_moment_leaves_the_other_lab_its_merging() {
    for claiming in [true, false] {
        for moment in 0.. {
            let host = Host::new();
            host.claim(A);
            if !claiming {
                host.claim(B);
            }
            let killed = killed_after(moment, || {
                if claiming {
                    host.claim(B);
                } else {
                    host.claims.release(B).unwrap();
                }
            });
            host.claims.repair(URI, |lab| lab == A).unwrap();
            assert_eq!(host.settings(), CLAIMED, "killed at moment {moment}");
            assert_eq!(host.claims.labs().unwrap(), [A], "killed at moment {moment}");
            assert_eq!(host.claims.release(A).unwrap(), restored());
            assert_eq!(host.settings(), BEFORE);
            if !killed {
                assert!(moment > 0, "nothing was killed");
                break;
            }
        }
    }
}

#[test]
fn a_claim_that_cannot_be_set_is_not_recorded() {
    let host = Host::new();
    let run = host.ksm.path().join("run");
    fs::remove_file(&run).unwrap();
    std::os::unix::fs::symlink("/sys/kernel/uevent_seqnum", &run).unwrap();
    let error = host.claims.claim(A, URI, faster()).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(KsmError::NoPermission { .. })), "{error:#}");
    assert_eq!(host.settings()[1..], BEFORE[1..]);
    assert!(host.is_forgotten());
}

// Sysfs refuses new files to root as well.
#[test]
fn without_permission_for_the_file_an_unchanged_host_will_do_and_others_get_the_command() {
    let mut host = Host::new();
    host.claims.dir = "/sys/kernel".into();
    let error = host.claims.claim(A, URI, Settings::on()).unwrap_err();
    let error = error.downcast_ref::<KsmError>().unwrap();
    let run = host.ksm.path().join("run");
    assert_eq!(error.hints(), [format!("echo 1 | sudo tee {}", run.display())]);
    assert_eq!(host.settings(), BEFORE);

    host.somebody_sets("run", "1");
    let claimed = host.claims.claim(A, URI, Settings::on()).unwrap();
    assert_eq!(claimed, Claimed::AlreadyOnUnrecorded);
    assert_eq!(host.claims.repair(URI, |_| false).unwrap(), Released::Nothing);
}

#[test]
fn two_processes_claim_one_after_the_other() {
    let host = Host::new();
    let labs: Vec<Uuid> = (1..=16).map(Uuid::from_u128).collect();
    std::thread::scope(|scope| {
        for &lab in &labs {
            let claims = host.claims.clone();
            scope.spawn(move || claims.claim(lab, URI, faster()).unwrap());
        }
    });
    assert_eq!(host.claims.labs().unwrap(), labs);
    std::thread::scope(|scope| {
        for &lab in &labs {
            let claims = host.claims.clone();
            scope.spawn(move || claims.release(lab).unwrap());
        }
    });
    assert_eq!(host.settings(), BEFORE);
    assert!(host.is_forgotten());
}

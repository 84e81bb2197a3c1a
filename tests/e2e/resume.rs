//! Killed, interrupted, and failed runs: the next one goes on or clears up.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{
    LabGuard, everything_there, run, state_folder, virsh, virtlab, virtlab_command, wait_until,
};

const ARGS: [&str; 7] = ["create", "killed", "--nodes", "3", "--memory", "512MiB", "--no-wait"];

#[test]
fn create_killed_at_any_moment_is_completed_by_the_next_and_destroyed_without_a_rest() {
    let before = everything_there();
    let _guard = LabGuard("killed");
    let started = Instant::now();
    virtlab(&ARGS).ok();
    let whole = started.elapsed();
    virtlab(&["destroy", "killed"]).ok();
    assert_eq!(everything_there(), before);

    // Ten moments that cover the whole run, shifted by where the clock happens to be.
    let shift = whole.mul_f64(f64::from(started.elapsed().subsec_nanos() % 1000) / 10_000.0);
    for moment in 0..10 {
        let after = whole.mul_f64(f64::from(moment) / 10.0) + shift;
        let mut child = virtlab_command(&ARGS).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
        if moment % 3 == 2 {
            // Straight to destroy: of any subset nothing is left.
            let said = virtlab(&["destroy", "killed"]);
            let nothing = said.stderr.contains("there is no lab");
            assert!(said.code == Some(0) || nothing, "killed after {after:?}: {}", said.stderr);
        } else {
            let said = virtlab(&ARGS);
            assert_eq!(said.code, Some(0), "killed after {after:?}: {}", said.stderr);
            let states = virsh(&["list", "--state-running", "--name"]);
            for node in ["killed-1", "killed-2", "killed-3"] {
                assert!(states.contains(node), "killed after {after:?}: {states}");
            }
            let again = virtlab(&ARGS);
            assert!(
                again.stderr.contains("nothing to do"),
                "killed after {after:?}: {}",
                again.stderr
            );
            virtlab(&["destroy", "killed"]).ok();
        }
        assert_eq!(everything_there(), before, "killed after {after:?}");
        assert!(!state_folder("killed").exists(), "killed after {after:?}");
    }
}

#[test]
fn ctrl_c_undoes_what_the_run_made() {
    let before = everything_there();
    let _guard = LabGuard("stopped");
    let args = ["create", "stopped", "--nodes", "2", "--memory", "512MiB"];
    let child = virtlab_command(&args).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("a running node", Duration::from_secs(60), || {
        virsh(&["list", "--state-running", "--name"]).contains("stopped-2")
    });
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("undoing what was made of lab `stopped`"), "{stderr}");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(2), "{stderr}");
    assert_eq!(everything_there(), before);
}

#[test]
fn parts_that_went_missing_come_back_and_foreign_objects_stay() {
    let _guard = LabGuard("parts");
    let args = ["create", "parts", "--nodes", "2", "--memory", "512MiB", "--no-wait"];
    // A stranger with a name that the lab needs: a clear error, and nothing is made.
    let stranger = "/tmp/virtlab-e2e-stranger.xml";
    let xml = "<domain type='qemu'><name>parts-2</name><memory unit='MiB'>32</memory><os><type>hvm</type></os></domain>";
    std::fs::write(stranger, xml).unwrap();
    virsh(&["define", stranger]);
    let refused = virtlab(&args);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("domain `parts-2` exists already and is not virtlab's"),
        "{}",
        refused.stderr
    );
    assert!(!virsh(&["net-list", "--all", "--name"]).contains("parts"));
    assert!(virsh(&["list", "--all", "--name"]).contains("parts-2"));
    virsh(&["undefine", "parts-2"]);
    std::fs::remove_file(stranger).unwrap();

    virtlab(&args).ok();
    virsh(&["destroy", "parts-1"]);
    virsh(&["undefine", "parts-1"]);
    virsh(&["suspend", "parts-2"]);
    run("pkill", &["-f", "virtlab.* serve parts"]).ok();
    let status = virtlab(&["status", "parts"]);
    assert!(status.stderr.contains("does not answer"), "{}", status.stderr);
    virtlab(&args).ok();
    let running = virsh(&["list", "--state-running", "--name"]);
    assert!(running.contains("parts-1") && running.contains("parts-2"), "{running}");
    let status = virtlab(&["status", "parts", "-o", "json"]).json();
    assert_eq!(status["boot_server"]["running"], true);

    // The folder is not what the lab is known by.
    std::fs::remove_dir_all(state_folder("parts")).unwrap();
    wait_until("the boot server to end itself", Duration::from_secs(10), || {
        run("pgrep", &["-f", "virtlab.* serve parts"]).code == Some(1)
    });
    virtlab(&args).ok();
    virtlab(&["destroy", "parts"]).ok();
    assert!(!virsh(&["list", "--all", "--name"]).contains("parts"));
}

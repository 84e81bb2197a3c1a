#!/usr/bin/env bash
# virtlab on real hosts: what a new user does there, as that user. A line for each case with its
# seconds; what a case printed is shown where it fails, and the exit status is 1 then.
#
#   scripts/hosts.sh [SUITE[:CASE,…]]…      for example: bookworm trixie:demo,firewalld
#
# All cases of all suites (bookworm, trixie) if nothing is named. Each suite has one host, made new
# and removed at the end; KEEP=1 leaves it, as `scripts/host.sh hosts-SUITE`. The cases are run in
# their order here, `demo` always first: it installs what the others need.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly cases="demo lifecycle faults reboot outsider firewalld ufw doctor"
readonly create="create demo --nodes 3 --memory 512MiB"
failed=0

on_host() { scripts/host.sh "$host" "$@"; }
user() { on_host user "$1" </dev/null; }
root() { on_host root "$1" </dev/null; }

fail() {
    echo "FAILED: $*"
    return 1
}

# The command must fail with this status, and its output must hold each of the texts.
says() {
    local status=$1 command=$2 output got=0 text
    shift 2
    output=$(user "$command" 2>&1) || got=$?
    printf '$ %s\n%s\n' "$command" "$output"
    [ "$got" = "$status" ] || fail "\`$command\`: exit status $got instead of $status"
    for text; do
        grep -qF -- "$text" <<<"$output" || fail "\`$command\` does not say: $text"
    done
}

does() {
    printf '$ %s\n' "$1"
    user "$1" || fail "\`$1\`: exit status $?"
}

# All that a lab makes on a host. What libvirt itself makes when it is first used is there before.
# A lock's file stays, since who removed it could take it from somebody who waits. libvirt leaves the folders of domains that
# ran when the power was cut.
traces() {
    root "for what in list net-list pool-list nwfilter-list; do
            echo \"\$what:\"; virsh -q \$what \$([ \$what = nwfilter-list ] || echo --all)
        done
        echo links:; ip -o link | cut -d: -f2 | cut -d@ -f1
        echo processes:; ps -e -o comm= | grep -E 'qemu|dnsmasq|virtlab' | sort
        echo qdiscs:; tc qdisc | cut -d' ' -f2,4,5
        echo tables:; nft list tables netdev
        echo files:; find /var/lib/libvirt /home/user/.local/state \( -name '*demo*' -o -name '*back*' \) \\
                ! -path '*/.locks/*' ! -path '/var/lib/libvirt/qemu/*domain-[0-9]*'" 2>&1
}

leaves_nothing() {
    local after
    after=$(traces)
    diff <(echo "$before") <(echo "$after") || fail "something is left of a lab: see above (> is new)"
}

# --- cases ----------------------------------------------------------------------

# The README's first command, in a fresh clone.
demo() {
    does 'cd virtlab && make demo'
    [ "$(root 'virsh -q list --name' | grep -c '^demo-[123]$')" = 3 ] || fail "the demo left no lab on the host's libvirtd"
    root 'install -m 755 /var/cache/cargo-target/debug/virtlab /usr/local/bin/virtlab'
    does 'virtlab destroy demo'
    before=$(traces)
}

# With the host's own libvirtd, no -c and no environment.
lifecycle() {
    does 'sudo apt-get install -q -y --no-install-recommends dropbear-bin openssh-client >/dev/null'
    does "mkdir -p -m 700 .ssh; [ -e .ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N \"\" -f .ssh/id_ed25519"
    does 'VIRTLAB_CLONE=~/virtlab virtlab image build ~/virtlab/scripts/hosts/micro-ssh.toml'
    does "virtlab $create --image ~/virtlab/scripts/hosts/micro-ssh.toml"
    does 'virtlab status demo'
    does 'virtlab verify demo'
    does '[ "$(virtlab ssh demo-2 hostname)" = demo-2 ]'
    on_host reboot
    says 0 'virtlab status demo' "demo-3" "off" "\`virtlab create demo\` brings it back"
    does "virtlab $create --image ~/virtlab/scripts/hosts/micro-ssh.toml"
    does 'virtlab verify demo'
    does 'virtlab destroy demo'
    leaves_nothing
}

# What is broken without root, by a user of group libvirt, and healed again; and what `sudo -n` is asked for.
faults() {
    local kept fault starve="starve demo-2 --cpu 50%" loss="loss demo-2 --percent 100%"
    does "virtlab $create"
    kept=$(definitions)
    # A host in a container may have no controller that limits processors: then it is refused, and nothing is changed.
    user "virtlab fault $starve --dry-run" >/dev/null || {
        says 1 "virtlab fault $starve" "cannot limit processors" "cgroup controller \`cpu\`"
        starve=
    }
    for fault in "cut demo-2" "pause demo-2" "kill demo-2" "isolate demo-1" "partition demo demo-1,demo-3 demo-2" \
        "squeeze demo-2 --memory 400MiB" "clock demo-2 --offset -1h" "$loss" "$starve"; do
        [ "$fault" ] || continue
        says 0 "virtlab fault $fault" "demo-2"
        says 0 'virtlab status demo' "by a fault since" "\`virtlab heal demo\` undoes it"
        case $fault in
        isolate* | partition* | starve* | squeeze* | clock*) does "$(reaches demo-2)" ;;
        *) does "! $(reaches demo-2)" ;;
        esac
        does 'virtlab heal demo && virtlab wait demo --for etcd --timeout 2m'
        diff <(echo "$kept") <(definitions) || fail "something is left of \`$fault\`: see above (> is new)"
    done
    says 0 'virtlab fault kill demo leader --verdict --within 1m' "new leader demo-" "0 of "
    # Who breaks nothing without `ebtables` says so before anything is changed.
    root 'mv /usr/sbin/ebtables /usr/sbin/ebtables.away'
    says 1 'virtlab fault isolate demo-1' "ebtables" "iptables"
    root 'mv /usr/sbin/ebtables.away /usr/sbin/ebtables'
    says 0 'virtlab fault list' "no node has a fault"
    # The kernel of this machine may have no netem.
    user 'virtlab fault delay demo-2 --by 100ms --dry-run' >/dev/null ||
        says 1 'virtlab fault delay demo-2 --by 100ms' "has no netem" "sch_netem"
    root 'mv /etc/sudoers.d/user /root/'
    says 1 "virtlab fault $loss" "takes root, and \`sudo -n\` is refused" "| sudo nft -f -"
    root 'mv /root/user /etc/sudoers.d/'
    says 0 'virtlab fault list' "no node has a fault"
    # What is broken goes with its lab.
    does 'virtlab fault isolate demo-1 && virtlab fault loss demo-3 && virtlab fault kill demo-2 --for 10m'
    does 'virtlab destroy demo'
    leaves_nothing
}

# What libvirt keeps of a lab's nodes and their filters, without what changes with each start.
definitions() {
    root 'for node in demo-1 demo-2 demo-3; do virsh dumpxml --inactive $node; done; virsh -q nwfilter-list; nft list tables netdev; tc qdisc | cut -d" " -f2,4'
}

# The command that succeeds if the host reaches the etcd of a node.
reaches() {
    user "virtlab status demo" | awk -v node="$1" '$1 == node { print "timeout 3 bash -c \"</dev/tcp/" $2 "/2379\"" }'
}

# Two labs of an ordinary user, one of which is to come back with the host, which is switched off in order
# and then by its plug.
reboot() {
    local small="--memory 512MiB"
    root 'make -C /home/user/virtlab install-units'
    # The user's units do not run with nobody logged in; libvirt's part is done all the same.
    says 0 "virtlab create back --nodes 2 $small --autostart --no-wait" "does not come back by itself" "loginctl enable-linger"
    says 0 'virtlab doctor; true' "warning  autostart" "loginctl enable-linger"
    does 'loginctl enable-linger'
    does 'virtlab autostart back on'
    says 0 'virtlab autostart back on' "nothing to do"
    does "virtlab create demo --nodes 1 $small"
    does 'virtlab create back'
    for how in reboot cut; do
        on_host $how
        [ $how = reboot ] || on_host start
        comes_back
        says 0 'virtlab status demo' "off"
        does 'virtlab create demo && virtlab verify demo'
    done
    # Who serves now is systemd's.
    does 'systemctl --user is-active "virtlab@back.*"'
    does 'virtlab destroy demo && virtlab destroy back'
    says 0 'systemctl --user list-units --all "virtlab@*"' "0 loaded units"
    [ -z "$(user 'find .config -name "virtlab@*"')" ] || fail "systemd still has a unit of a lab"
    does 'loginctl disable-linger'
    root 'make -C /home/user/virtlab uninstall'
    root 'install -m 755 /var/cache/cargo-target/debug/virtlab /usr/local/bin/virtlab'
    leaves_nothing
}

# Nobody touches it, and nobody is logged in.
comes_back() {
    local start=$SECONDS
    until [ "$(user 'virtlab status back -o json 2>/dev/null | grep -c "\"ready\": true"')" = 2 ]; do
        [ $((SECONDS - start)) -lt 120 ] || {
            user 'virtlab status back; journalctl --user -u "virtlab@*" -b --no-pager | tail -n 20' || true
            fail "lab back is not ready after 120 s"
        }
        sleep 2
    done
    echo "lab back is ready $((SECONDS - start)) s after the host"
    user 'journalctl --user -u "virtlab@*" -b --no-pager -o short-monotonic | tail -n 20; virtlab verify back'
}

# A libvirtd runs, but this user may not use it.
outsider() {
    root 'gpasswd -d user libvirt'
    says 1 "virtlab $create" 'group' 'sudo usermod -aG libvirt'
    says 2 'cd virtlab && make demo' 'a libvirtd runs here, and you may not use it' 'sudo usermod -aG libvirt user'
    root 'usermod -aG libvirt user'
    does 'virtlab list'
}

# Root may ask the firewall, so that nothing is made; an ordinary user may not, so that the wait has
# to tell. What it says to type opens the firewall, and the same nodes go on.
opens() {
    local firewall=$1 program=$2
    before=$(traces)
    says 1 "sudo virtlab $create" "this host's firewall ($firewall" "sudo $program"
    leaves_nothing
    does "virtlab $create >create.log 2>&1 &
        trap 'cat create.log' EXIT
        until grep -qF \"this host's firewall ($firewall\" create.log; do
            kill -0 %1 || exit
            sleep 0.5
        done
        command=\$(grep -o '\`sudo $program [^\`]*' create.log | head -n 1 | tr -d '\`')
        echo \"\$ \$command\"
        bash -c \"\$command\" && wait %1"
    does 'virtlab status demo | tee status.log; [ "$(grep -c ready status.log)" = 3 ]'
    does 'virtlab destroy demo'
    leaves_nothing
}

firewalld() {
    does 'sudo apt-get install -q -y --no-install-recommends firewalld >/dev/null && sudo systemctl restart libvirtd'
    [ "$(root 'firewall-cmd --state')" = running ] || fail "firewalld does not run"
    opens firewalld firewall-cmd
    does 'sudo systemctl disable --now firewalld && sudo systemctl restart libvirtd'
}

ufw() {
    does 'sudo apt-get install -q -y --no-install-recommends ufw >/dev/null && sudo ufw --force enable'
    root 'ufw status' | grep -q '^Status: active' || fail "ufw does not run"
    opens ufw ufw
    does 'sudo ufw --force disable'
}

# One thing broken at a time is found, and mended by the command that is printed.
doctor() {
    root '/home/user/virtlab/scripts/hosts/doctor'
}

# --- all of them ------------------------------------------------------------------

# In a shell of its own for each case, so that the first failure ends it (`set -e` means nothing
# where a shell's status is asked for at once); `before` goes by a file.
run_case() {
    local case=$1 log=$logs/$host-$1.log start=$SECONDS status
    set +e
    (
        set -e
        before=$(cat "$logs/$host-before" 2>/dev/null || true)
        "$case"
        echo "$before" >"$logs/$host-before"
    ) >"$log" 2>&1
    status=$?
    set -e
    if [ "$status" = 0 ]; then
        printf '%-9s %-10s ok      %4d s\n' "$suite" "$case" $((SECONDS - start))
        return
    fi
    failed=1
    printf '%-9s %-10s FAILED  %4d s: the end of what it printed\n' "$suite" "$case" $((SECONDS - start))
    tail -n 40 "$log" | sed 's/^/    /'
    # The next case has a host without a lab and a firewall.
    user 'virtlab destroy demo; virtlab destroy back; sudo systemctl disable --now firewalld; sudo ufw --force disable' >/dev/null 2>&1 || true
}

run_suite() {
    local wanted=$2 case start=$SECONDS
    suite=$1
    host=hosts-$suite
    scripts/host.sh "$host" remove
    scripts/host.sh "$host" create "$suite"
    printf '%-9s %-10s ok      %4d s\n' "$suite" host $((SECONDS - start))
    for case in $cases; do
        case ",demo,$wanted," in *",$case,"* | *,all,*) ;; *) continue ;; esac
        run_case "$case"
        [ "$failed" = 0 ] || [ "$case" != demo ] || break
    done
    [ "${KEEP-}" ] || scripts/host.sh "$host" remove
}

# Bash reads a script as it goes; in here all of it has been read, and the script may change.
main() {
    scripts/setup.sh hosts
    [ $# -gt 0 ] || set -- bookworm trixie
    for suite; do
        for case in $(tr , ' ' <<<"${suite#"${suite%%:*}"}" | tr -d :); do
            case " $cases " in *" $case "*) ;; *)
                echo "hosts: unknown case '$case' ($cases)" >&2
                exit 2
                ;;
            esac
        done
    done
    logs=$(mktemp -d)
    trap 'rm -rf "$logs"' EXIT
    for argument; do
        case $argument in
        *:*) run_suite "${argument%%:*}" "${argument#*:}" ;;
        *) run_suite "$argument" all ;;
        esac
    done
    exit "$failed"
}

main "$@"; exit

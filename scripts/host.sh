#!/usr/bin/env bash
# A real host to try things on: a plain Debian with systemd as PID 1, an ordinary user and
# sudo, in a container whose network is its own. Any number may run at once.
#
#   scripts/host.sh NAME create SUITE        build and boot one (bookworm, trixie)
#   scripts/host.sh NAME user COMMAND        run a command there as the ordinary user `user`,
#                                            in a login session of its own
#   scripts/host.sh NAME root COMMAND        the same as root
#   scripts/host.sh NAME reboot              shut it down in order and boot it again
#   scripts/host.sh NAME cut                 cut its power (`start` boots it again)
#   scripts/host.sh NAME start
#   scripts/host.sh NAME remove              nothing of it is left
#
# For example: scripts/host.sh try create bookworm
#              scripts/host.sh try user 'cd virtlab && make demo'
#              scripts/host.sh try root 'adduser user libvirt'
#              scripts/host.sh try user 'virsh -c qemu:///system list; id'
#              scripts/host.sh try remove
#
# `user` may call sudo without a password. In their home is a fresh clone of the last commit
# here, `virtlab`. Rust is there (this machine's, read-only), the crates that Cargo.lock names,
# and a cargo target folder that all hosts of a suite share (CARGO_TARGET_DIR). No network leads
# out: packages come over a socket from a cache that runs here, which asks this machine's mirror.
# A COMMAND is one shell command, its exit status is passed on; 125: the host itself failed.
#
# VIRTLAB_HOSTS is the folder of hosts and caches (/var/tmp/virtlab-hosts). Not to be told from
# a real machine but for: no kernel, AppArmor, SELinux or KVM of its own.
set -eEuo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
readonly repository
readonly hosts=${VIRTLAB_HOSTS:-/var/tmp/virtlab-hosts}
readonly cache=$hosts/cache
readonly boot_deadline=120 # seconds
# systemd waits two minutes for what does not end, such as a user's services where cgroup v1 tells it of no end.
readonly down_deadline=240 # seconds
readonly apt_port=3142
# What Debian's installer puts on every machine is `important`; the rest is what somebody has
# who clones a repository and types `make`.
readonly variant=important
readonly packages=systemd-sysv,dbus,libpam-systemd,sudo,ca-certificates,git,make,curl

die() {
    echo "host: $*" >&2
    exit 125
}

check_tools() {
    local program
    for program in systemd-nspawn:systemd-container mmdebstrap:mmdebstrap nginx:nginx-light; do
        command -v "${program%:*}" >/dev/null ||
            die "\`${program%:*}\` is missing (package ${program#*:}): scripts/setup.sh hosts"
    done
    command -v cargo >/dev/null || die "\`cargo\` is missing: hosts share this machine's"
}

# --- packages -------------------------------------------------------------------

# The folders of this machine's mirror, as `NAME URI`; one that has none (Ubuntu) asks Debian's own.
mirrors() {
    local kind name entry
    for kind in main security; do
        name=debian
        [ $kind = main ] || name=debian-$kind
        entry=$("$repository/images/debian/apt-mirror" $kind any) || entry="URIs: http://deb.debian.org/$name/"
        sed -n "s/^URIs:/$name/p" <<<"$entry"
    done
}

# The lines of sources.list for a suite, from this machine's mirror or from BASE.
sources() {
    local suite=$1 base=${2-} name uri
    while read -r name uri; do
        [ -z "$base" ] || uri=$base/$name
        case $name in
        debian) printf "deb $uri %s main\n" "$suite" "$suite-updates" ;;
        debian-security) echo "deb $uri $suite-security main" ;;
        esac
    done < <(mirrors)
}

# Packages never change and are kept; what tells about them is asked for each time.
write_nginx_conf() {
    local name uri site path
    cat <<CONF
user root;
worker_processes 1;
pid $host/nginx.pid;
events {}
http {
    access_log off;
    proxy_temp_path $cache/apt/temp;
    client_body_temp_path $cache/apt/temp;
    fastcgi_temp_path $cache/apt/temp;
    uwsgi_temp_path $cache/apt/temp;
    scgi_temp_path $cache/apt/temp;
    proxy_http_version 1.1;
    proxy_ssl_server_name on;
    root $cache/apt;
    server {
        listen unix:$host/share/packages.sock;
CONF
    while read -r name uri; do
        site=$(cut -d/ -f1-3 <<<"$uri")
        path=${uri#"$site"}
        cat <<CONF
        location /$name/ {
            rewrite ^/$name/(.*)\$ $path\$1 break;
            proxy_pass $site;
        }
        location ~ ^/$name/(.*\.deb|.*/by-hash/.*)\$ { try_files \$uri @$name; }
        location @$name {
            set \$kept \$uri;
            rewrite ^/$name/(.*)\$ $path\$1 break;
            proxy_pass $site;
            proxy_store $cache/apt\$kept;
        }
CONF
    done < <(mirrors)
    printf '    }\n}\n'
}

serve_packages() {
    if pid_of nginx >/dev/null; then return; fi
    mkdir -p "$cache/apt/temp" "$host/share"
    rm -f "$host/share/packages.sock"
    write_nginx_conf >"$host/nginx.conf"
    nginx -p "$host" -e "$host/nginx.log" -c "$host/nginx.conf" || die "serving packages: see \`$host/nginx.log\`"
}

stop_packages() {
    local pid
    if pid=$(pid_of nginx); then kill -QUIT "$pid"; fi
    rm -f "$host/nginx.pid" "$host/share/packages.sock"
}

# The process that a host has of this program; a file of before a reboot may name another.
pid_of() {
    local program=$1 pid
    pid=$(cat "$host/${program#systemd-}.pid" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$program" ] &&
        echo "$pid"
}

# --- the file system ------------------------------------------------------------

# A suite is unpacked once a day from packages; a host starts from a copy.
base() {
    local suite=$1 tar=$cache/$1-$(date +%F).tar
    if [ ! -e "$tar" ]; then
        rm -f "$cache/$suite"-*.tar
        echo "host: unpacking $suite" >&2
        sources "$suite" | mmdebstrap --quiet --variant=$variant --include="$packages" \
            --aptopt='APT::Install-Recommends "false"' "$suite" "$tar.part.tar" - || die "mmdebstrap failed"
        mv "$tar.part.tar" "$tar"
    fi
    mkdir "$host/root"
    tar -C "$host/root" --numeric-owner -xf "$tar"
}

# What makes a host of the unpacked files; all of it is what an administrator would set, but for
# the last two, which this kind of machine needs.
prepare() {
    local suite=$1 root=$host/root
    sources "$suite" "http://127.0.0.1:$apt_port" >"$root/etc/apt/sources.list"
    echo "$name" >"$root/etc/hostname"
    # Else everything that asks for its own name waits for DNS.
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost\n' "$name" >"$root/etc/hosts"
    : >"$root/etc/resolv.conf"
    chroot "$root" useradd --create-home --shell /bin/bash --groups sudo user
    echo 'user ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/user"
    printf '%s\n' 'export PATH=/opt/rust/bin:$PATH CARGO_NET_OFFLINE=true' \
        'export CARGO_TARGET_DIR=/var/cache/cargo-target' >"$root/etc/profile.d/rust.sh"
    # What apt downloads is kept outside.
    echo 'Binary::apt::APT::Keep-Downloaded-Packages "false";' >"$root/etc/apt/apt.conf.d/90keep"

    cat >"$root/etc/systemd/system/packages.socket" <<UNIT
[Socket]
ListenStream=127.0.0.1:$apt_port
[Install]
WantedBy=sockets.target
UNIT
    cat >"$root/etc/systemd/system/packages.service" <<'UNIT'
[Service]
ExecStart=/usr/lib/systemd/systemd-socket-proxyd /opt/share/packages.sock
UNIT
    mkdir -p "$root/etc/systemd/system/sockets.target.wants"
    ln -s ../packages.socket "$root/etc/systemd/system/sockets.target.wants/"
    allow_libvirt
}

# Where cgroups are read-only libvirt starts no guest unless it is told to use none.
allow_libvirt() {
    local root=$host/root
    cat >"$root/usr/local/sbin/libvirt-without-cgroups" <<'SCRIPT'
#!/bin/sh
conf=/etc/libvirt/qemu.conf
[ -e $conf ] && ! grep -q '^cgroup_controllers' $conf || exit 0
echo 'cgroup_controllers = [ ]' >>$conf
systemctl try-restart libvirtd.service
SCRIPT
    chmod 755 "$root/usr/local/sbin/libvirt-without-cgroups"
    echo 'DPkg::Post-Invoke { "/usr/local/sbin/libvirt-without-cgroups"; };' \
        >"$root/etc/apt/apt.conf.d/90libvirt-without-cgroups"
}

# The last commit, in a folder that is the user's: git clones nothing of somebody else's.
share_clone() {
    local tree=$host/share/virtlab home=$host/root/home/user
    mkdir -p "$tree"
    git -C "$repository" -c safe.directory="$repository" archive HEAD | tar -C "$tree" -xf -
    git -C "$tree" init --quiet --initial-branch main
    git -C "$tree" add --all
    git -C "$tree" -c user.name=host -c user.email=host@localhost commit --quiet -m "As it is at the last commit"
    mkdir -p "$home/.cargo"
    (cd "$repository" && cargo fetch --locked --quiet)
    cp -a "${CARGO_HOME:-$HOME/.cargo}/registry" "$home/.cargo/"
    chown -R "$(uid):$(uid)" "$host/share" "$home/.cargo"
    mkdir -p "$(cargo_target)" && chown "$(uid):$(uid)" "$(cargo_target)"
}

uid() { awk -F: '$1 == "user" { print $3 }' "$host/root/etc/passwd"; }

# shellcheck source=/dev/null
cargo_target() { echo "$cache/cargo-$(. "$host/root/etc/os-release" && echo "$VERSION_CODENAME")"; }

# --- power ----------------------------------------------------------------------

start() {
    if pid_of systemd-nspawn >/dev/null; then die "\`$name\` runs"; fi
    serve_packages
    setsid unshare --mount "$BASH" "$0" "$name" --power </dev/null >>"$host/console.log" 2>&1 &
    disown
    wait_for_boot
}

# Ends when the host is switched off.
power() {
    local keep=() status=133
    # What nspawn would leave in there goes with it.
    mkdir -p /run/systemd/nspawn
    mount -n -t tmpfs tmpfs /run/systemd/nspawn
    # Where systemd is PID 1 it makes a scope for the host; elsewhere nobody is there to ask, and
    # nspawn ends with 133 for a reboot.
    [ -d /run/systemd/system ] || keep=(--keep-unit)
    while [ "$status" = 133 ]; do
        status=0
        SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes SYSTEMD_SECCOMP=0 systemd-nspawn --quiet --boot --register=no "${keep[@]}" \
            --directory "$host/root" --machine="$name" --hostname="$name" --capability=all --private-network \
            --bind=/dev/net/tun --bind="$host/share:/opt/share" --bind-ro="$(rustc --print sysroot):/opt/rust" \
            --bind="$(cargo_target):/var/cache/cargo-target" --resolv-conf=off --timezone=off --link-journal=no &
        echo $! >"$host/nspawn.pid"
        wait $! || status=$?
    done
    rm -f "$host/nspawn.pid"
}

# The PID of its systemd, seen from here.
leader() {
    local pid
    pid=$(pid_of systemd-nspawn) && pgrep -P "$pid"
}

inside() {
    local pid
    pid=$(leader) || die "\`$name\` does not run"
    nsenter --target "$pid" --all "$@"
}

wait_for_boot() {
    SECONDS=0
    until inside systemctl is-system-running --wait 2>/dev/null | grep -qE 'running|degraded'; do
        [ "$SECONDS" -lt "$boot_deadline" ] || {
            tail -n 30 "$host/console.log" >&2
            die "\`$name\` has not booted after $SECONDS s, its console is above"
        }
        sleep 0.2
    done
}

# A session with PAM, started by the host's own systemd, so nothing of ours is handed on.
run_as() {
    local login=$1 command=$2 terminal=--pipe
    [ -t 0 ] && [ -t 1 ] && terminal=--pty
    inside systemd-run --quiet --wait --collect $terminal --property=PAMName=login \
        --property=User="$login" --property=WorkingDirectory='~' \
        --setenv=TERM="${TERM:-dumb}" /bin/bash -lc "$command"
}

reboot_in_order() {
    local before
    before=$(leader) || die "\`$name\` does not run"
    # It may be gone before it has answered.
    inside systemctl reboot || true
    SECONDS=0
    while [ "$(leader || true)" = "$before" ] || ! leader >/dev/null; do
        [ "$SECONDS" -lt "$down_deadline" ] || die "\`$name\` has not gone down after $SECONDS s"
        sleep 0.2
    done
    wait_for_boot
}

cut_power() {
    local pid
    if pid=$(pid_of systemd-nspawn); then
        # shellcheck disable=SC2046 # none or one
        kill -KILL "$pid" $(leader) 2>/dev/null || true
        while [ -e "$host/nspawn.pid" ]; do sleep 0.1; done
    fi
    rm -f "$host/nspawn.pid"
}

create() {
    local suite=$1
    check_tools
    [ ! -e "$host" ] || die "\`$name\` is there: scripts/host.sh $name remove"
    mkdir -p "$host" "$cache"
    base "$suite"
    prepare "$suite"
    share_clone
    start
    run_as user 'git clone --quiet /opt/share/virtlab virtlab'
}

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

# Bash reads a script as it goes; in here all of it has been read.
main() {
    case ${1-} in
    -h | --help)
        usage
        exit
        ;;
    esac
    [ $# -ge 2 ] || {
        usage >&2
        exit 2
    }
    if [ "$(id -u)" != 0 ]; then
        exec sudo env "PATH=$PATH" "HOME=$HOME" "VIRTLAB_HOSTS=$hosts" "$BASH" "$0" "$@"
    fi
    PATH=$PATH:/usr/sbin:/sbin
    name=$1
    host=$hosts/$name
    case $2 in
    create) create "${3:?a suite}" ;;
    start) start ;;
    --power) power ;;
    user | root) run_as "$2" "${3:?a command}" ;;
    reboot) reboot_in_order ;;
    cut) cut_power ;;
    remove)
        cut_power
        stop_packages
        rm -rf --one-file-system "$host"
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
}

main "$@"; exit

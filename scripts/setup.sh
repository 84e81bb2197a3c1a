#!/usr/bin/env bash
# Installs what is missing, and only that. Says what it installs.
#
#   scripts/setup.sh GROUP…      groups: build, run, images, test, hosts, page
#
# Debian and Ubuntu: by apt. Fedora and Arch: prints the one command to type.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
readonly here

packages() {
    case $1 in
    build) echo gcc libc6-dev make pkg-config libvirt-dev ;;
    # `libvirt-clients` brings virsh, `ipxe` the EFI boot loader, `pxelinux` and
    # `syslinux-common` the classic one.
    run) echo libvirt-daemon-system libvirt-clients qemu-system-x86 qemu-utils dnsmasq-base iproute2 \
        iptables ipxe ipxe-qemu ovmf pxelinux syslinux-common ;;
    # The kernel, busybox, etcd and ignition of the micro image are only
    # unpacked into it by its recipe, so they are not in this list.
    images) echo cpio gzip lz4 xz-utils zstd kmod busybox-static curl mmdebstrap squashfs-tools ;;
    test) echo libxml2-utils gpg gpg-agent gpgv openssl nginx-light etcd-server etcd-client etcd-discovery \
        ignition openssh-client ansible-core dropbear-bin openssh-sftp-server jq zsh fish "$(installer)" \
        isc-dhcp-server kea-dhcp4-server tftpd-hpa nftables ;;
    # What scripts/host.sh makes plain Debian hosts with.
    hosts) echo systemd-container mmdebstrap nginx-light git procps ;;
    # The browser of `make e2e-full`, and what drives it, from wherever it is.
    page)
        echo chromium
        command -v npm >/dev/null || echo nodejs npm
        ;;
    *)
        echo "setup: unknown group '$1' (build, run, images, test, hosts, page)" >&2
        exit 2
        ;;
    esac
}

fedora_packages="gcc make pkgconf-pkg-config libvirt-devel libvirt-daemon-kvm libvirt-client qemu-kvm dnsmasq \
iproute ipxe-bootimgs-x86 edk2-ovmf syslinux-tftpboot cpio lz4 xz zstd kmod busybox curl squashfs-tools libxml2 gnupg2 \
openssl nginx etcd ignition jq"
arch_packages="gcc make pkgconf libvirt qemu-base dnsmasq iproute2 iptables-nft ipxe edk2-ovmf syslinux cpio lz4 xz zstd kmod \
busybox curl squashfs-tools libxml2 gnupg openssl nginx jq"

# Each release of Debian has its own installer, some have that of the one before as well.
installer() {
    local release=12
    # shellcheck source=/dev/null
    if [ -r /etc/os-release ]; then release=$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_ID-}") || true; fi
    echo "debian-installer-${release:-12}-netboot-amd64"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# A machine that already has a QEMU or libvirt package from backports cannot
# take their siblings from the plain suite: the versions must agree.
backports_suite() {
    local versions
    # A pattern that matches no package makes dpkg-query fail; it still lists the others.
    versions=$(dpkg-query -W -f '${Version}\n' 'qemu*' 'libvirt*' 2>/dev/null || true)
    case $versions in
    *~bpo*)
        # shellcheck source=/dev/null
        (. /etc/os-release && echo "$VERSION_CODENAME-backports")
        ;;
    esac
}

enable_suite() {
    local suite=$1 list=/etc/apt/sources.list.d/virtlab-backports.sources
    apt-cache policy | grep -q "n=$suite" && return
    "$here/../images/debian/apt-mirror" main "$suite" >/dev/null || {
        echo "setup: QEMU or libvirt is here from backports, and apt knows no mirror of Debian: add the suite $suite" >&2
        exit 1
    }
    echo "setup: adding the suite $suite in $list"
    "$here/../images/debian/apt-mirror" main "$suite" | as_root tee "$list" >/dev/null
    as_root apt-get update -q
}

# `--no-remove`: rather stop than take a package away that somebody uses.
apt_install() {
    local target=() suite
    suite=$(backports_suite)
    as_root apt-get update -q
    if [ -n "$suite" ]; then
        enable_suite "$suite"
        target=(-t "$suite")
    fi
    echo "setup: installing $*"
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-remove --no-install-recommends "${target[@]}" "$@"
}

missing_of() {
    local package
    for package in $(packages "$1"); do
        is_installed "$package" || echo "$package"
    done
}

# The tests run nginx, etcd, DHCP and TFTP servers themselves: their packages are not to start them here
# (policy-rc.d is Debian's way to say so).
without_services() {
    local policy=/usr/sbin/policy-rc.d
    if [ -e $policy ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod +x $policy
    trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    "$@"
    as_root rm -f $policy
}

# Nor at the next start of the computer: a TFTP server on all addresses keeps libvirt's networks from
# theirs, and no DHCP server runs unasked. Only those that were installed just now.
disable_services() {
    local package
    for package; do
        case $package in isc-dhcp-server | kea-dhcp4-server | tftpd-hpa) ;; *) continue ;; esac
        # It is for systemd too, and complains of packages that have no unit there.
        as_root update-rc.d "$package" disable 2>/dev/null ||
            echo "setup: warning: $package will start with the computer"
    done
}

# Who has just installed a libvirtd is to use it, and may at once: polkit asks for the group's list,
# not for what this login has. Where one was before, that is its administrator's to decide.
join_libvirt() {
    local user
    user=$(id -un)
    if [ "$user" = root ] || id -nG "$user" | grep -qw libvirt; then return; fi
    echo "setup: libvirt is new here: adding you to its group (to undo: sudo gpasswd -d $user libvirt)"
    as_root usermod -aG libvirt "$user"
}

check_rust() {
    command -v cargo >/dev/null && return
    cat >&2 <<'TEXT'
setup: virtlab is built with Rust 1.89 or newer, and there is no `cargo` here.
setup: install it with rustup (https://rustup.rs), then run the command again.
TEXT
    exit 1
}

main() {
    local group
    for group; do packages "$group" >/dev/null; done
    [ $# -gt 0 ] || set -- build run images test
    case " $* " in *" build "*) check_rust ;; esac

    if ! command -v apt-get >/dev/null; then
        echo "setup: this machine has no apt; these packages are needed:" >&2
        if command -v dnf >/dev/null; then
            echo "  sudo dnf install $fedora_packages" >&2
        elif command -v pacman >/dev/null; then
            echo "  sudo pacman -S $arch_packages" >&2
        else
            echo "  (by their Debian names) $(for group; do packages "$group"; done | xargs)" >&2
        fi
        echo "setup: going on in the hope that they are installed" >&2
        return
    fi

    local missing=()
    for group in build run images; do
        case " $* " in *" $group "*) mapfile -t -O ${#missing[@]} missing < <(missing_of "$group") ;; esac
    done
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
    case " ${missing[*]-} " in *" libvirt-daemon-system "*) join_libvirt ;; esac
    local for_tests=()
    for group in test hosts page; do
        case " $* " in *" $group "*) mapfile -t -O ${#for_tests[@]} for_tests < <(missing_of "$group") ;; esac
    done
    if [ ${#for_tests[@]} != 0 ]; then
        without_services apt_install "${for_tests[@]}"
        disable_services "${for_tests[@]}"
    fi
    [ $((${#missing[@]} + ${#for_tests[@]})) != 0 ] || echo "setup: nothing is missing"
}

main "$@"

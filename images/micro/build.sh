#!/usr/bin/env bash
# Makes the image `micro` (a kernel and an initrd with busybox, Ignition and
# etcd) from Debian or Ubuntu packages, in a temporary folder and without root.
#
#   images/micro/build.sh OUTPUT_DIR      writes vmlinuz and initrd.img
#
# The same packages give the same bytes. SOURCE_DATE_EPOCH sets the files' time.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
readonly here
# What the guests that libvirt makes need: a network card, entropy, the balloon
# that gives back memory nobody uses, and the power button with what lets acpid
# read it. Dependencies are added to these.
readonly modules="virtio_pci virtio_net virtio_rng virtio_balloon button evdev"
# Guests may be emulated: unpacking costs them more than loading over the local network.
readonly compress=${MICRO_COMPRESS:-lz4 -q -l -9}
readonly packages="busybox-static etcd-server ignition libc6 libblkid1"

die() {
    echo "micro: $*" >&2
    exit 1
}

# As PROGRAM:PACKAGE.
check_tools() {
    local tool
    for tool; do
        command -v "${tool%:*}" >/dev/null ||
            die "\`${tool%:*}\` is missing (package ${tool#*:}): scripts/setup.sh images"
    done
}

# The real packages behind the one that always means the newest kernel for
# virtual machines; Ubuntu keeps the modules in a package of their own.
kernel_packages() {
    local meta
    for meta in linux-image-cloud-amd64 linux-image-virtual; do
        apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
            --no-enhances "$meta" 2>/dev/null | grep -E '^linux-(image|modules)-[0-9]' | sort -u | grep . && return
    done
    die "neither linux-image-cloud-amd64 (Debian) nor linux-image-virtual (Ubuntu) is known to apt: apt-get update"
}

unpack() {
    local package
    mkdir "$work/debs" "$work/tree"
    chmod 755 "$work" "$work/debs"
    # shellcheck disable=SC2046,SC2086 # several words
    (cd "$work/debs" && apt-get -qq download $packages $(kernel_packages)) 2>"$work/apt.log" ||
        die "downloading packages: $(cat "$work/apt.log")"
    for package in "$work"/debs/*.deb; do dpkg-deb -x "$package" "$work/tree"; done
}

file_in_tree() {
    local found
    found=$(find "$work/tree" -path "*/$1" -not -type d | sort | head -n 1)
    [ "$found" ] || die "no \`$1\` in the packages"
    echo "$found"
}

# The program and, by the packages' own loader, the libraries that it needs.
add_program() {
    local source=$1 loader library
    install -D -m 755 "$source" "$root/usr/bin/$(basename "$source")"
    loader=$(file_in_tree 'ld-linux-x86-64.so.2')
    install -D -m 755 "$(readlink -f "$loader")" "$root/lib64/ld-linux-x86-64.so.2"
    "$loader" --library-path "$(dirname "$(file_in_tree libc.so.6)"):$(dirname "$(file_in_tree libblkid.so.1)")" \
        --list "$source" >"$work/libraries"
    if grep 'not found' "$work/libraries"; then die "\`$source\` needs a library that is in no package"; fi
    while read -r library; do
        install -D -m 755 "$library" "$root/usr/lib/$(basename "$library")"
    done < <(sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' "$work/libraries" | grep -v /ld-linux)
}

add_busybox() {
    local applet
    install -D -m 755 "$(file_in_tree bin/busybox)" "$root/bin/busybox"
    "$root/bin/busybox" --list-full | while read -r applet; do
        mkdir -p "$root/$(dirname "$applet")"
        [ -e "$root/$applet" ] || ln -s /bin/busybox "$root/$applet"
    done
}

# The loader of a busybox has no decompressor for modules, so they are stored plain.
add_modules() {
    local release=$1 module path target
    if [ -d "$work/tree/usr/lib/modules" ] && [ ! -e "$work/tree/lib" ]; then ln -s usr/lib "$work/tree/lib"; fi
    depmod -b "$work/tree" "$release"
    for module in $modules; do
        # Modules that are part of the kernel are named `builtin`.
        modprobe -d "$work/tree" -S "$release" --show-depends "$module" 2>"$work/modprobe.log" ||
            die "resolving module \`$module\`: $(cat "$work/modprobe.log")"
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u >"$work/modules"
    # The kernel's packages of Debian 13 and later have them so.
    if grep -q '\.xz$' "$work/modules"; then check_tools xz:xz-utils; fi
    while read -r path; do
        target=$root/lib/modules/$release/$(basename "${path%.ko*}").ko
        mkdir -p "$(dirname "$target")"
        case $path in
        *.ko.zst) zstd -qdc "$path" >"$target" ;;
        *.ko.xz) xz -dc "$path" >"$target" ;;
        *) cp "$path" "$target" ;;
        esac
    done <"$work/modules"
    cp "$work/tree/lib/modules/$release/modules.builtin" "$root/lib/modules/$release/"
    : >"$root/lib/modules/$release/modules.order"
    # It misses descriptions that nobody reads here.
    depmod -b "$root" "$release" 2>/dev/null
    # Only busybox reads them, and it reads text.
    rm "$root/lib/modules/$release"/modules.{*.bin,symbols,devname}
}

add_settings() {
    mkdir -p "$root"/{dev,proc,sys,run,tmp,root,var/log,var/lib/etcd,etc/acpi/PWRF}
    chmod 1777 "$root/tmp"
    chmod 700 "$root/var/lib/etcd"
    install -m 755 "$here/init" "$root/init"
    echo "$modules" >"$root/etc/modules"
    echo 'root::0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    echo 'root:x:0:' >"$root/etc/group"
    printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
    echo 'ID=micro' >"$root/etc/os-release"
    # Debian's Ignition always ends with labelling its files for SELinux, and
    # fails where there is no policy.
    mkdir "$root/etc/selinux"
    printf 'SELINUX=disabled\nSELINUXTYPE=none\n' >"$root/etc/selinux/config"
    printf '#!/bin/sh\n# No SELinux here; Ignition insists on this.\ncat >/dev/null\n' >"$root/usr/sbin/setfiles"
    chmod 755 "$root/usr/sbin/setfiles"
    cat >"$root/etc/inittab" <<'END'
::once:/init boot
::respawn:/sbin/acpid -f -l /var/log/acpid.log
ttyS0::askfirst:-/bin/sh
::ctrlaltdel:/sbin/reboot
::shutdown:/init stop
END
    printf '%s\n' 'export PATH=/usr/bin:/usr/sbin:/bin:/sbin HOME=/root' \
        "PS1='root@\$(hostname):\\w# '" >"$root/etc/profile"
    printf '#!/bin/sh\nexec /sbin/poweroff\n' >"$root/etc/acpi/PWRF/00000080"
    chmod 755 "$root/etc/acpi/PWRF/00000080"
}

pack() {
    find "$root" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
    # shellcheck disable=SC2086 # several words
    (cd "$root" && find . | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R +0:+0) |
        $compress >"$output/initrd.img.part"
    mv "$output/initrd.img.part" "$output/initrd.img"
}

[ $# = 1 ] || {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
PATH=$PATH:/sbin:/usr/sbin
umask 022
output=$1
check_tools apt-get:apt dpkg-deb:dpkg cpio:cpio depmod:kmod "${compress%% *}:${compress%% *}"
mkdir -p "$output"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
unpack
kernel=$(file_in_tree 'boot/vmlinuz-*')
add_busybox
add_program "$(file_in_tree bin/etcd)"
add_program "$work/tree/usr/lib/dracut/modules.d/30ignition/ignition"
add_modules "${kernel##*/vmlinuz-}"
add_settings
install -m 644 "$kernel" "$output/vmlinuz"
pack
(cd "$output" && sha256sum vmlinuz initrd.img)

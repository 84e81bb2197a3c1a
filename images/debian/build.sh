#!/usr/bin/env bash
# Makes the image `debian`: a whole Debian that runs in RAM by live-boot, with
# systemd, cloud-init, sshd and etcd. Nothing of it is special to virtlab.
#
#   images/debian/build.sh OUTPUT_DIR     writes vmlinuz, initrd.img, filesystem.squashfs
#
# DEBIAN_SUITE and DEBIAN_MIRROR choose another release or mirror than the one that apt
# uses; SOURCE_DATE_EPOCH sets the files' time. As root, or as anybody where user namespaces are allowed.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
readonly here
readonly suite=${DEBIAN_SUITE:-bookworm}
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg
readonly packages="systemd-sysv systemd-resolved dbus udev netbase iproute2 login sudo linux-image-cloud-amd64 live-boot \
live-boot-initramfs-tools initramfs-tools busybox lz4 cloud-init openssh-server etcd-server etcd-client curl"

die() {
    echo "debian: $*" >&2
    exit 1
}

check_tools() {
    local tool
    for tool in mmdebstrap:mmdebstrap mksquashfs:squashfs-tools; do
        command -v "${tool%:*}" >/dev/null ||
            die "\`${tool%:*}\` is missing (package ${tool#*:}): scripts/setup.sh images"
    done
    [ -r "$keyring" ] || die "\`$keyring\` is missing (package debian-archive-keyring)"
    # mmdebstrap says so too, but not what to do.
    if [ "$(id -u)" != 0 ] && ! unshare --user --map-root-user true 2>/dev/null; then
        die "you are not root, and this system allows no user namespaces:" \
            "run \`virtlab image build debian\` as root once"
    fi
}

# The mirrors of the computer that builds; one that has none (Ubuntu) asks Debian's own.
sources() {
    local suites="$suite $suite-updates" known
    if [ "${DEBIAN_MIRROR-}" ]; then
        entry "$DEBIAN_MIRROR" "$suites"
    elif known=$("$here/apt-mirror" main "$suites"); then
        signed "$known"
        if known=$("$here/apt-mirror" security "$suite-security"); then signed "$known"; fi
    else
        entry http://deb.debian.org/debian "$suites"
        entry http://deb.debian.org/debian-security "$suite-security"
    fi
}

entry() { signed "$(printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main' "$1" "$2")"; }

# What says nothing of a key is signed by Debian.
signed() {
    echo "$1"
    grep -qE '^(Signed-By|Trusted):' <<<"$1" || echo "Signed-By: $keyring"
    echo
}

bootstrap() {
    # What nobody reads in a node that lives for an hour is left out.
    local exclude=() path
    for path in '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/info/*' '/usr/share/locale/*' \
        '/usr/share/i18n/*' '/usr/share/lintian/*' '/usr/share/bash-completion/*'; do
        exclude+=(--dpkgopt="path-exclude=$path")
    done
    exclude+=(--dpkgopt='path-include=/usr/share/doc/*/copyright')
    # shellcheck disable=SC2016 # the hooks' own shell expands
    sources | mmdebstrap --quiet --variant=apt --architectures=amd64 --include="$packages" "${exclude[@]}" \
        --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
        --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/etc/initramfs-tools/hooks"' \
        --essential-hook="copy-in $here/initramfs.conf /etc/initramfs-tools/conf.d" \
        --essential-hook="copy-in $here/initramfs-hook /etc/initramfs-tools/hooks" \
        --customize-hook="copy-in $here/customize /tmp" \
        --customize-hook='chroot "$1" sh /tmp/customize' \
        --customize-hook="download /boot/vmlinuz $work/vmlinuz" \
        --customize-hook="download /boot/initrd.img $work/initrd.img" \
        --customize-hook='rm -rf "$1"/boot/* "$1/tmp/customize" "$1"/vmlinuz* "$1"/initrd.img*' \
        "$suite" "$work/root.tar" - || die "mmdebstrap failed"
}

[ $# = 1 ] || {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
PATH=$PATH:/sbin:/usr/sbin
umask 022
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
export SOURCE_DATE_EPOCH
output=$1
check_tools
mkdir -p "$output"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# In a user namespace somebody else's number writes there.
chmod 755 "$work"
bootstrap
# Guests may be emulated: unpacking costs them more than loading over the local network.
mksquashfs - "$work/filesystem.squashfs" -tar -noappend -root-mode 0755 -quiet -no-progress -comp zstd -Xcompression-level 15 -b 256K \
    <"$work/root.tar"
for file in vmlinuz initrd.img filesystem.squashfs; do
    install -m 644 "$work/$file" "$output/$file.part"
    mv "$output/$file.part" "$output/$file"
done
(cd "$output" && sha256sum vmlinuz initrd.img filesystem.squashfs)

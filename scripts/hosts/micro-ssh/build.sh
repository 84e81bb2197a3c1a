#!/usr/bin/env bash
# The image `micro`, and a second initrd with dropbear (package dropbear-bin) and the builder's key.
set -euo pipefail
output=$1
"$VIRTLAB_CLONE/images/micro/build.sh" "$output"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{etc/dropbear,root/.ssh,usr/sbin,usr/lib}
cp /usr/sbin/dropbear "$work/usr/sbin/"
ldd /usr/sbin/dropbear | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | xargs cp -L -t "$work/usr/lib"
cp ~/.ssh/id_ed25519.pub "$work/root/.ssh/authorized_keys"
chmod -R go= "$work/root"
echo 'dropbear -R' >"$work/etc/rc.local"
(cd "$work" && find . | cpio --quiet -o -H newc -R +0:+0) | gzip >"$output/ssh.img"

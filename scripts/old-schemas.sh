#!/usr/bin/env bash
# Unpacks the XML schemas of Debian 12's libvirt (9.0) from its package; nothing is installed.
#
#   scripts/old-schemas.sh FOLDER      where domain.rng, network.rng and the others are put
#
# Needs no root. The package comes from the mirror that apt uses on this machine.
set -euo pipefail
readonly suite=bookworm package=libvirt0

folder=${1:?a folder is needed}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$(dirname "$folder")"
# One run at a time: two tests may want them.
exec 9>"$folder.lock"
flock 9
[ ! -e "$folder/domain.rng" ] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{sources,state/lists/partial,cache/archives/partial,files}
"$here/../images/debian/apt-mirror" main "$suite" >"$work/sources/debian.sources"
apt() {
    apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/sources" \
        -o Dir::Etc::PreferencesParts=/dev/null -o Dir::State="$work/state" -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User="$(id -un)" "$@"
}
apt update
(cd "$work" && apt download "$package/$suite")
dpkg-deb -x "$work"/"$package"_*.deb "$work/files"
rm -rf "$folder"
mv "$work/files/usr/share/libvirt/schemas" "$folder"

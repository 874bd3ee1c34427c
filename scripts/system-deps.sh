#!/bin/sh
# Sees to the system libraries that the tests with a display need. On Debian and its relatives, as root, it
# installs those that are missing; as another user it says what to install. Elsewhere it does nothing:
# macOS has a display and OpenGL of its own.
set -eu

[ -f /etc/debian_version ] || exit 0

installed=$(dpkg-query -W -f '${db:Status-Abbrev} ,${Package}, ${Provides},\n' | sed -n 's/^ii//p')
missing=
for package in $(sed 's/#.*//' "$(dirname "$0")/apt-packages.txt"); do
    case $installed in
        # a package may also be provided by one of another name (Debian 13 renamed several)
        *,"$package",* | *" $package"[,\ ]*) ;;
        *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    apt-get update -q
    # shellcheck disable=SC2086  # a list of words on purpose
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
else
    echo "The tests need system packages that are missing; install them with: sudo apt-get install$missing" >&2
    exit 1
fi

#!/usr/bin/env bash
# Install the Debian packages that are missing, and start no daemon that comes with them.
# usage: debian.sh PACKAGE ...
set -eu

if ! command -v dpkg-query >/dev/null; then
    echo "This is not Debian: going on without looking for what Debian calls $*."
    exit 0
fi

missing=()
for package in "$@"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "Not root: going on without installing what is missing: apt-get install ${missing[*]}"
    exit 0
fi

# invoke-rc.d(8) asks this program whether a daemon may be started; 101 is no.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi

export DEBIAN_FRONTEND=noninteractive
for package in "${missing[@]}"; do
    case $package in
    postfix) debconf-set-selections <<<'postfix postfix/main_mailer_type select No configuration' ;;
    esac
done
echo "Installing Debian packages: ${missing[*]}"
apt-get -qq update
apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install "${missing[@]}" >/dev/null

# Nor shall they be started when the machine starts: they are here for tests and demonstrations.
if [ -d /run/systemd/system ]; then
    for package in "${missing[@]}"; do
        case $package in
        postfix | prometheus | redis-* | postgresql* | slapd | postgrey | sqlgrey | nsd | unbound) systemctl --quiet disable "$package.service" || true ;;
        esac
    done
fi

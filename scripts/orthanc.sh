#!/usr/bin/env bash
# Install what the tests of gnsm rank --dicomweb talk to: Orthanc and its DICOMweb plug-in, from Debian's packages.
#
#     ./scripts/orthanc.sh
#
# Needs root and apt. The server is not started as a service; the tests start one of their own, on the loopback
# interface. Where it cannot be had, this says why and succeeds: those tests are then skipped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"

plugin=/usr/share/orthanc/plugins/libOrthancDicomWeb.so

without() {
    say "no Orthanc, its tests will be skipped: $*"
    exit 0
}

[[ -x /usr/sbin/Orthanc && -f "$plugin" ]] && { say "Orthanc is installed already"; exit 0; }
command -v apt-get >/dev/null || without "there is no apt-get"
[[ "$(id -u)" == 0 ]] || without "apt-get needs root"
say "installing Orthanc and its DICOMweb plug-in"
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # no service is started in run level 1
apt-get update -qq >/dev/null || without "apt-get update failed"
apt-get install -y -qq --no-install-recommends orthanc orthanc-dicomweb >/dev/null || without "apt-get install failed"

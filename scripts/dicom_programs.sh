#!/usr/bin/env bash
# Install the programs that the DICOM tests need, from Debian's packages: Orthanc with its DICOMweb plug-in, which
# gnsm rank --dicomweb talks to, and plastimatch, which reads structure sets (RTSTRUCT).
#
#     ./scripts/dicom_programs.sh
#
# Needs root and apt. The server is not started as a service; the tests start one of their own, on the loopback
# interface. Where a program cannot be had, this says why and succeeds: its tests are then skipped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"

without() {
    say "the tests of missing DICOM programs will be skipped: $*"
    exit 0
}

packages=()
[[ -x /usr/sbin/Orthanc && -f /usr/share/orthanc/plugins/libOrthancDicomWeb.so ]] || packages+=(orthanc orthanc-dicomweb)
command -v plastimatch >/dev/null || packages+=(plastimatch)
[[ ${#packages[@]} -gt 0 ]] || { say "Orthanc and plastimatch are installed already"; exit 0; }
command -v apt-get >/dev/null || without "there is no apt-get"
[[ "$(id -u)" == 0 ]] || without "apt-get needs root"
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # no service is started in run level 1
apt-get update -qq >/dev/null || without "apt-get update failed"
for package in "${packages[@]}"; do
    say "installing $package"
    apt-get install -y -qq --no-install-recommends "$package" >/dev/null || say "no $package, its tests will be skipped"
done

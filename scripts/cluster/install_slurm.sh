#!/usr/bin/env bash
# The Slurm that `make test-slurm` tests with: Debian's packages, whose services stay off.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
refuse() { echo "make test-slurm: $1" >&2; exit 1; }
[[ $(id -u) == 0 ]] || refuse "Slurm's daemons need root: run it as root, in a container for instance"
installed=yes
for program in munged slurmctld slurmd sbatch; do
    command -v $program >/dev/null || installed=no
done
[[ $installed == no ]] || exit 0
command -v apt-get >/dev/null ||
    refuse "no apt-get here: install slurmctld, slurmd, Slurm's clients and munge yourself"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Nothing is to start by itself: the tests bring their own configuration.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    trap 'rm -f $policy' EXIT
fi
apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null

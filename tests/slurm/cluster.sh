#!/usr/bin/env bash
# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# usage: cluster.sh start FOLDER | stop FOLDER
# A Slurm of two nodes, n1 and n2, on this machine, on the loopback interface
# alone, with everything it writes in FOLDER (a short path: it holds a socket).
# Needs root and Debian's packages munge, slurmctld, slurmd and slurm-client.
# Leaves with 77 and the reason where it cannot start. Clients set
# SLURM_CONF=FOLDER/slurm.conf.
set -euo pipefail
action=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)

cannot() {
    echo "$1"
    exit 77
}

stop() {
    local name pid
    export SLURM_CONF=$folder/slurm.conf
    if [ -s "$folder/slurmctld.pid" ]; then # jobs outlive the daemons
        timeout 10 scancel --partition=test && sleep 5 || true
        timeout 10 scancel --partition=test --signal=KILL && sleep 1 || true
    fi
    for name in slurmd-n1 slurmd-n2 slurmctld munged; do
        [ -s "$folder/$name.pid" ] || continue
        pid=$(cat "$folder/$name.pid")
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.2
        done
        kill -9 "$pid" 2>/dev/null || true
    done
}

start() {
    local program
    [ "$(id -u)" = 0 ] || cannot "Slurm's daemons need root here"
    for program in munged slurmctld slurmd sbatch; do
        command -v "$program" >/dev/null || cannot \
            "$program is not installed: apt-get install munge slurmctld slurmd slurm-client"
    done
    chmod 755 "$folder"
    mkdir -p "$folder"/{state,spool-n1,spool-n2}
    dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
    chmod 600 "$folder/munge.key"
    munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
        --seed-file="$folder/munge.seed" || cannot "munged does not start: $folder/munged.log"
    write_config
    export SLURM_CONF=$folder/slurm.conf
    slurmctld || cannot "slurmctld does not start: $folder/slurmctld.log"
    slurmd -N n1 && slurmd -N n2 || cannot "slurmd does not start: $folder/slurmd-n1.log"
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --format=%D --states=idle 2>/dev/null)" != 2 ] || return 0
        sleep 0.3
    done
    cannot "the nodes do not come up: $folder/slurmctld.log"
}

write_config() {
    cat >"$folder/slurm.conf" <<TEXT
ClusterName=test
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=17810
SlurmUser=root
# Loopback only; a requeued job need not wait two minutes for its credential.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdSpoolDir=$folder/spool-%n
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmdLogFile=$folder/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
ReturnToService=2
MpiDefault=none
SchedulerParameters=bf_interval=5
KillWait=30
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=17811 CPUs=2 Gres=gpu:2
NodeName=n2 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=17812 CPUs=2 Gres=gpu:2
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=INFINITE
TEXT
    # A GPU must have a device file; nobody opens these.
    printf 'NodeName=n[1-2] Name=gpu File=/dev/%s\n' zero full >"$folder/gres.conf"
}

case $action in
start) start ;;
stop) stop ;;
*) echo "usage: $0 start|stop FOLDER" >&2; exit 2 ;;
esac

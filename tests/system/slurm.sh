#!/bin/sh
# A Slurm cluster of two nodes, both this machine, on loopback, for tests: `slurm.sh start` (may be repeated), `slurm.sh stop`.
# Needs root and Debian's slurm-wlm and munge. Writes /etc/slurm/slurm.conf; refuses to replace another's.
set -eu

CONF=/etc/slurm/slurm.conf
MARK="# written by ema-lab's tests/system/slurm.sh"
STATE=/var/lib/ema-lab-slurm
MUNGE_PID=/run/munge/munged.pid
NODES="ema-1 ema-2"

alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

write_conf() {
    if [ -e "$CONF" ] && ! head -n 1 "$CONF" | grep -qF "$MARK"; then
        echo "slurm.sh: $CONF is another cluster's; it is left alone" >&2
        exit 2
    fi
    name=$(hostname -s)
    cpus=$(getconf _NPROCESSORS_ONLN)
    memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.8)}' /proc/meminfo)
    mkdir -p /etc/slurm "$STATE/ctld"
    for node in $NODES; do mkdir -p "$STATE/$node"; done
    cat >"$CONF" <<END
$MARK
ClusterName=ema-lab
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1
KillWait=10
ReturnToService=2
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/%n
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/%n.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/%n.log
NodeName=ema-1 NodeHostname=$name NodeAddr=127.0.0.1 Port=6818 CPUs=$cpus RealMemory=$memory State=UNKNOWN
NodeName=ema-2 NodeHostname=$name NodeAddr=127.0.0.1 Port=6828 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=test Nodes=ema-1,ema-2 Default=YES MaxTime=INFINITE State=UP
END
}

start() {
    write_conf
    if ! alive "$MUNGE_PID"; then
        [ -s /etc/munge/munge.key ] || dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 2>/dev/null
        mkdir -p /run/munge /var/lib/munge /var/log/munge
        chown munge: /etc/munge/munge.key /run/munge /var/lib/munge /var/log/munge
        chmod 400 /etc/munge/munge.key
        chmod 755 /run/munge
        runuser -u munge -- /usr/sbin/munged
    fi
    alive "$STATE/slurmctld.pid" || slurmctld
    for node in $NODES; do alive "$STATE/$node.pid" || slurmd -N "$node"; done
    for _ in $(seq 60); do
        up=$(sinfo --noheader --Node --format=%T 2>/dev/null | grep -cE '^(idle|mixed|allocated|completing)$') || true
        [ "$up" = 2 ] && exit 0
        sleep 0.5
    done
    echo "slurm.sh: the nodes did not come up; see $STATE/*.log" >&2
    exit 1
}

stop() {
    for file in "$STATE/ema-1.pid" "$STATE/ema-2.pid" "$STATE/slurmctld.pid" "$MUNGE_PID"; do
        alive "$file" || continue
        pid=$(cat "$file")
        kill "$pid"
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    done
}

case "${1:-}" in
    start) start ;;
    stop) stop ;;
    *) echo "usage: slurm.sh start|stop" >&2; exit 2 ;;
esac

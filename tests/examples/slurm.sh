#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# examples/slurm for real: a Slurm of one machine in a root file system of its own
# (tests/examples/root), the job array of eight guests, one of which panics, and behind it the job
# that collects. What has to come out of it is known: how many primes there are. Called by
# tests/check.sh; status 77: cannot be done here.
#
#   tests/examples/slurm.sh           as seen from outside
#   tests/examples/slurm.sh inside    as the first process in there
set -eu

cd "$(dirname "$0")/../.."

fail() {
	echo "error: $*"
	exit 1
}

tell() {
	[ $? = 0 ] || tail -n 20 /var/log/slurm/ctld.log -n 20 /var/log/slurm/d.log
}

# wait_for SECONDS COMMAND...
wait_for() {
	until=$(($(date +%s) + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$until" ] || fail "in vain: $*"
		sleep 0.5
	done
}

# A node that is this machine, with two processors, whatever it has; no cgroups, no accounting
# daemon.
configure() {
	mkdir -p /etc/slurm /var/log/slurm /var/lib/slurm/ctld /var/lib/slurm/d
	cat >/etc/slurm/slurm.conf <<-'END_OF_CONF'
		ClusterName=examples
		SlurmctldHost=examples(127.0.0.1)
		SlurmUser=root
		AuthType=auth/munge
		CredType=cred/munge
		StateSaveLocation=/var/lib/slurm/ctld
		SlurmdSpoolDir=/var/lib/slurm/d
		SlurmctldLogFile=/var/log/slurm/ctld.log
		SlurmdLogFile=/var/log/slurm/d.log
		SlurmctldPidFile=/run/slurmctld.pid
		SlurmdPidFile=/run/slurmd.pid
		MpiDefault=none
		ProctrackType=proctrack/linuxproc
		TaskPlugin=task/none
		JobAcctGatherType=jobacct_gather/none
		AccountingStorageType=accounting_storage/none
		JobCompType=jobcomp/filetxt
		JobCompLoc=/var/log/slurm/completed
		SelectType=select/cons_tres
		SelectTypeParameters=CR_CPU_Memory
		SlurmdParameters=config_overrides
		SchedulerParameters=sched_interval=5
		ReturnToService=2
		KillWait=40
		MailProg=/bin/true
		NodeName=examples NodeAddr=127.0.0.1 CPUs=2 RealMemory=1024 State=UNKNOWN
		PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
	END_OF_CONF
	# It wants to know which kind, although nothing here uses any.
	echo CgroupPlugin=cgroup/v1 >/etc/slurm/cgroup.conf
	touch /var/log/slurm/completed
	chown -R munge: /etc/munge /var/lib/munge /var/log/munge
	[ -e /etc/munge/munge.key ] || setpriv --reuid=munge --regid=munge --clear-groups mungekey
	mkdir -p /run/munge
	chown munge: /run/munge
	chmod 755 /run/munge
}

start() {
	setpriv --reuid=munge --regid=munge --clear-groups munged
	slurmctld
	slurmd
	wait_for 30 scontrol ping
	wait_for 60 sh -c 'sinfo -h -o %T | grep -qx idle'
}

# As README.md there says.
submit() {
	mkdir /root/jobs
	cd /root/jobs
	cp /lguest/examples/slurm/* .
	cp /guest/cloud/vmlinuz .
	cp /lguest/build/examples/task.img .
	array=$(sbatch --parsable guests.sbatch)
	sbatch --dependency="afterany:$array" collect.sbatch
	wait_for 20 sh -c 'squeue -h -t R -o %i | grep -q .'
	together=0
	until=$(($(date +%s) + 600))
	while [ -n "$(squeue -h -o %i)" ]; do
		running=$(squeue -h -n guests -t R -o %i | wc -l)
		[ "$running" -le "$together" ] || together=$running
		[ "$(date +%s)" -lt "$until" ] || fail "the jobs are not done: $(squeue)"
		sleep 1
	done
}

# expect TASK STATUS WORDS: of the guest, of Slurm, and of the console.
expect() {
	[ "$(cat "guest-$1.status")" = "$2" ] || fail "guest $1: status $(cat "guest-$1.status"), not $2"
	tr -d '\r' <"guest-$1.log" | grep -qF "$3" || fail "guest $1 did not say: $3"
	scontrol show job "${array}_$1" | grep -q "ExitCode=$2:0" ||
		fail "guest $1: Slurm has another status: $(scontrol show job "${array}_$1" | grep ExitCode)"
}

check() {
	cat summary
	grep -qx 'guest-4: status 3: Kernel panic - not syncing: sysrq triggered crash' summary ||
		fail "not told: what became of guest 4"
	expect 0 0 'thousand 0: 168 primes'
	expect 1 0 'thousand 1: 135 primes'
	expect 2 0 'thousand 2: 127 primes'
	expect 3 0 'thousand 3: 120 primes'
	expect 4 3 'Kernel panic'
	expect 5 0 'thousand 5: 114 primes'
	expect 6 0 'thousand 6: 117 primes'
	expect 7 0 'thousand 7: 107 primes'
	grep -qx '8 guests, 1 failed' summary || fail "the summary is not what it should be"
	[ "$together" = 2 ] || fail "at most $together guests ran together, not 2"
	# Slurm's own list: seven guests and the one that collects; and the one that panicked.
	[ "$(grep -c 'JobState=COMPLETED' /var/log/slurm/completed)" = 8 ] &&
		[ "$(grep -c 'JobState=FAILED' /var/log/slurm/completed)" = 1 ] ||
		fail "Slurm has it otherwise: $(cat /var/log/slurm/completed)"
}

if [ "${1-}" != inside ]; then
	tests/examples/root make
	examples/task/pack build/guest/cloud/initrd.img >build/examples/task.img
	exec tests/examples/root run /lguest/tests/examples/slurm.sh inside
fi
trap tell EXIT
configure
start
submit
check

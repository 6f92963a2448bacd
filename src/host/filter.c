/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each kind of thread may ask of the kernel: see filter.h.
 *
 * One table, a line for each call, and who may make it. What a line does not say is
 * denied: files are opened, programs run, sockets and processes made before the
 * door shuts. libseccomp turns the lines into programs for the kernel, which
 * remembers what needs no look at the arguments: a call of that kind costs
 * next to nothing, in however many filters it is allowed.
 *
 * Nobody maps anything executable: what runs afterwards is what was there before.
 *
 * Tour 7.40
 */
#include "host/filter.h"

#include <asm/prctl.h>
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Who may. What vCPUs and queues may, the main thread may: see enum sandbox_thread. */
enum {
	SLIRP = 1 << FILTER_SLIRP | 1 << FILTER_SLIRP_READS,
	SWITCH = 1 << FILTER_SWITCH,
	MAIN = 1 << FILTER_MAIN,
	VCPU = 1 << FILTER_VCPU | MAIN,
	QUEUE = 1 << FILTER_QUEUE | MAIN,
	THREADS = VCPU | QUEUE,
	HELPERS = SLIRP | SWITCH,
	ALL = THREADS | HELPERS,
};

struct call {
	int number;
	unsigned who;
	bool myself; /* the first argument is our process */
	unsigned count;
	struct scmp_arg_cmp args[2];
};

/* clang-format off */
#define CALL(name, who)		    {SCMP_SYS(name), who, false, 0, {}}
#define CALL_IF(name, who, a)	    {SCMP_SYS(name), who, false, 1, {a}}
#define CALL_IF_BOTH(name, who, a, b) {SCMP_SYS(name), who, false, 2, {a, b}}
#define CALL_MYSELF(name, who)	    {SCMP_SYS(name), who, true, 0, {}}

#define EQUALS(n, value)	    {n, SCMP_CMP_EQ, value, 0}
#define ISNT(n, value)		    {n, SCMP_CMP_NE, value, 0}
#define BITS(n, mask, value)	    {n, SCMP_CMP_MASKED_EQ, mask, value}
/* clang-format on */

/* The arguments that are looked at, by their number. */
enum {
	PRCTL_OPTION = 0,
	ARCH_PRCTL_CODE = 0,
	SECCOMP_OPERATION = 0,
	SIGACTION_SIGNAL = 0,
	CLONE_FLAGS = 0,
	OPENAT_FLAGS = 2,
	IOCTL_REQUEST = 1,
	MAP_PROTECTION = 2, /* of mprotect(), too */
	MAP_FLAGS = 3,
	MREMAP_FLAGS = 3,
	STATAT_FLAGS = 3,
};

#define NOT_EXECUTABLE BITS(MAP_PROTECTION, PROT_EXEC, 0)

/*
 * One line a call, and who may make it. It goes on like this for a while. It is a list of what
 * is allowed, so what a kernel of next year brings is denied already.
 *
 * Tour 7.41, 20 lines: The list of system calls
 */
static const struct call calls[] = {
	/* Those that are made all day come first. */
	CALL(read, ALL),
	CALL(write, ALL),
	CALL(futex, ALL),
	CALL(poll, ALL),
	CALL(ppoll, ALL),
	CALL(rt_sigreturn, ALL),
	CALL(timer_settime, VCPU),
	CALL(io_uring_enter, QUEUE),
	CALL(readv, QUEUE | SLIRP | SWITCH),
	CALL(writev, ALL), /* so says the C library what is wrong with a heap or a stack */
	CALL(recvmsg, QUEUE | SLIRP | SWITCH),
	CALL(sendmsg, QUEUE | SLIRP | SWITCH),
	CALL(recvfrom, QUEUE | SLIRP | SWITCH),
	CALL(sendto, QUEUE | SLIRP | SWITCH),
	CALL(recvmmsg, QUEUE | SWITCH),
	CALL(sendmmsg, QUEUE | SWITCH),
	CALL(clock_gettime, ALL),

	/* A disk where io_uring is refused; and entropy. */
	CALL(pread64, QUEUE),
	CALL(pwrite64, QUEUE),
	CALL(preadv, QUEUE),
	CALL(preadv2, QUEUE),
	CALL(pwritev, QUEUE),
	CALL(pwritev2, QUEUE),
	CALL(fdatasync, QUEUE),
	CALL(fallocate, QUEUE),
	CALL(getrandom, QUEUE | SLIRP),

	/* Memory, where malloc() and thread stacks come from. */
	CALL(brk, ALL),
	CALL(munmap, ALL),
	CALL(madvise, ALL),
	CALL_IF_BOTH(mmap, ALL, NOT_EXECUTABLE, BITS(MAP_FLAGS, MAP_ANONYMOUS, MAP_ANONYMOUS)),
	CALL_IF(mprotect, ALL, NOT_EXECUTABLE),
	CALL_IF(mremap, ALL, EQUALS(MREMAP_FLAGS, MREMAP_MAYMOVE)),
	/* The kernel's file at a reboot, and a new vCPU's shared page. */
	CALL_IF(mmap, MAIN, NOT_EXECUTABLE),

	/* Time, and a thread's own affairs. */
	CALL(clock_nanosleep, ALL),
	CALL(nanosleep, ALL),
	CALL(gettimeofday, ALL),
	CALL(time, ALL),
	CALL(restart_syscall, ALL),
	CALL(rt_sigprocmask, ALL),
	/* Not what is done about a denied call: a thread that is no longer ours could try on. */
	CALL(rt_sigaction, MAIN),
	CALL_IF(rt_sigaction, ALL, ISNT(SIGACTION_SIGNAL, SIGSYS)),
	CALL(sched_yield, ALL),
	CALL(getpid, ALL),
	CALL(gettid, ALL),
	CALL(getpgrp, THREADS),
	CALL(exit, ALL),
	CALL(exit_group, ALL),
	CALL(close, ALL),
	CALL_MYSELF(tgkill, ALL),
	CALL_IF(prctl, ALL, EQUALS(PRCTL_OPTION, PR_GET_NAME)),
	CALL_IF(prctl, THREADS, EQUALS(PRCTL_OPTION, PR_SET_NAME)),

	/* The soft engine's vCPU. */
	CALL(timer_create, VCPU),
	CALL(timer_delete, VCPU),
	CALL_IF(arch_prctl, VCPU, EQUALS(ARCH_PRCTL_CODE, ARCH_SET_GS)),

	/* A new thread; and what sandbox_thread() takes from one. */
	CALL_IF(clone, MAIN, BITS(CLONE_FLAGS, CLONE_THREAD, CLONE_THREAD)),
	CALL(set_robust_list, MAIN),
	CALL(rseq, MAIN),
	CALL(landlock_restrict_self, MAIN),
	CALL(capset, MAIN),
	CALL_IF(seccomp, MAIN, EQUALS(SECCOMP_OPERATION, SECCOMP_SET_MODE_FILTER)),

	/*
	 * Signals; children that end; files at a reboot. The last would tell of any file, if it
	 * were asked: what is asked is about descriptors.
	 */
	CALL_MYSELF(kill, MAIN),
	CALL(signalfd4, MAIN),
	CALL(wait4, MAIN),
	CALL(waitid, MAIN),
	CALL(fstat, MAIN | HELPERS),
	CALL_IF(newfstatat, MAIN | HELPERS, EQUALS(STATAT_FLAGS, AT_EMPTY_PATH)),

	/* The helpers; and who comes to debug. */
	CALL(accept4, HELPERS | MAIN),
	CALL(accept, HELPERS),
	CALL(shutdown, HELPERS),
	CALL(fcntl, HELPERS),
	CALL(getsockopt, HELPERS),
	CALL(setsockopt, HELPERS),
	CALL(getsockname, HELPERS),
	CALL(getpeername, HELPERS),
	CALL(epoll_wait, HELPERS),
	CALL(epoll_pwait, HELPERS),
	CALL(epoll_ctl, HELPERS),
	/* Whoever is last takes its socket away: one folder, as far as Landlock can tell. */
	CALL(flock, SWITCH),
	CALL(unlinkat, SWITCH),
	CALL(socket, SLIRP),
	CALL(bind, SLIRP),
	CALL(connect, SLIRP),
	CALL(listen, SLIRP),
	CALL(stat, SLIRP),
	CALL(newfstatat, SLIRP),
#if FILTER_SANITIZED
	/*
	 * A sanitiser that has found something reads maps and programs for its report, and the one
	 * for leaks has a process of its own stop all threads and look at them.
	 */
	CALL(open, ALL),
	CALL(openat, ALL),
	CALL(readlink, ALL),
	CALL(readlinkat, ALL),
	CALL(stat, ALL),
	CALL(fstat, ALL),
	CALL(newfstatat, ALL),
	CALL(lseek, ALL),
	CALL(access, ALL),
	CALL_IF(mmap, ALL, NOT_EXECUTABLE),
	CALL(clone, ALL),
	CALL(ptrace, ALL),
	CALL(wait4, ALL),
	CALL(prctl, ALL),
	CALL(sigaltstack, ALL),
	CALL(getppid, ALL),
	CALL(getrlimit, ALL),
	CALL(prlimit64, ALL),
	CALL(getdents, ALL),
	CALL(getdents64, ALL),
	CALL(sched_getaffinity, ALL),
	CALL(process_vm_readv, ALL),
#endif
};

/* Of ioctl(), those that are known: by the request, whatever it is asked of. */
static const struct {
	unsigned long request;
	unsigned who;
} requests[] = {
	{KVM_RUN, VCPU},
	{SECCOMP_IOCTL_NOTIF_RECV, VCPU},
	{SECCOMP_IOCTL_NOTIF_SEND, VCPU},
	{KVM_SIGNAL_MSI, THREADS},
	{KVM_IOEVENTFD, VCPU},
	{KVM_SET_GSI_ROUTING, VCPU},
	{KVM_GET_REGS, VCPU},
	{KVM_GET_SREGS, VCPU},
	/* A guest that is debugged: what has to be given back to it, and what is looked at. */
	{KVM_SET_GUEST_DEBUG, VCPU},
	{KVM_GET_DEBUGREGS, VCPU},
	{KVM_SET_DEBUGREGS, VCPU},
	{KVM_GET_MP_STATE, VCPU},
	{KVM_GET_XSAVE, MAIN},
	{KVM_SET_XSAVE, MAIN},

	/* A new virtual machine, at a reboot. */
	{KVM_CREATE_VM, MAIN},
	{KVM_CHECK_EXTENSION, MAIN},
	{KVM_ENABLE_CAP, MAIN},
	{KVM_SET_IDENTITY_MAP_ADDR, MAIN},
	{KVM_SET_TSS_ADDR, MAIN},
	{KVM_SET_USER_MEMORY_REGION, MAIN},
	{KVM_CREATE_VCPU, MAIN},
	{KVM_GET_SUPPORTED_CPUID, MAIN},
	{KVM_SET_CPUID2, MAIN},
	{KVM_SET_REGS, MAIN},
	{KVM_SET_SREGS, MAIN},
	{KVM_GET_MSRS, MAIN},
	{KVM_SET_MSRS, MAIN},

	/* The driver has accepted features, or is gone; and a disk's discarded sectors. */
	{TUNSETOFFLOAD, VCPU},
	{BLKDISCARD, QUEUE},

	/* The terminal: any thread that dies leaves it as it was. glibc 2.42 says it with a 2. */
	{TCGETS, THREADS},
	{TCSETS, THREADS},
	{TCGETS2, THREADS},
	{TCSETS2, THREADS},
	{TIOCGPGRP, THREADS},
	{TIOCGWINSZ, THREADS},

	{FIONREAD, HELPERS},
	{FIONBIO, HELPERS},
};

int filter_check(struct problem *why)
{
	const u32 action = SECCOMP_RET_TRAP;

	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action))
		return problem(why, errno,
			       "this kernel has no filter of system calls for us (seccomp: %s); "
			       "--no-sandbox runs without",
			       strerror(errno));
	return 0;
}

static int add_call(scmp_filter_ctx filter, const struct call *call)
{
	const struct scmp_arg_cmp myself = EQUALS(0, getpid());

	if (call->myself)
		return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call->number, 1, &myself);
	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call->number, call->count,
				      call->args);
}

static int add_ioctls(scmp_filter_ctx filter, unsigned who)
{
	int err = 0;

	for (size_t i = 0; !err && i < ARRAY_SIZE(requests); i++)
		if (requests[i].who & who)
			err = seccomp_rule_add(
				filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				SCMP_CMP(IOCTL_REQUEST, SCMP_CMP_EQ, requests[i].request, 0));
	return err;
}

/*
 * libslirp looks every now and then whether the host has other nameservers. It may read; what it
 * may read, only Landlock can say, and where there is none it is told that it may not.
 */
static int add_nameservers(scmp_filter_ctx filter, enum filter_kind kind)
{
	if (kind == FILTER_SLIRP)
		return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0);
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
				SCMP_CMP(OPENAT_FLAGS, SCMP_CMP_MASKED_EQ,
					 O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
}

/*
 * libseccomp makes a program of it, which the kernel runs before every call. ioctl() comes
 * first, because a vCPU under KVM makes nothing else; the others are in the order of the
 * table.
 *
 * Tour 7.42: From a list to a program
 */
static int fill(scmp_filter_ctx filter, enum filter_kind kind)
{
	const unsigned who = 1u << kind;
	unsigned hot = UINT8_MAX;
	/* The kernel's memory does not help here, and a vCPU makes one for each exit. */
	int err = seccomp_syscall_priority(filter, SCMP_SYS(ioctl), hot--);

	for (size_t i = 0; !err && i < ARRAY_SIZE(calls); i++) {
		if (!(calls[i].who & who))
			continue;
		err = add_call(filter, &calls[i]);
		/* Before Linux 5.11 no call is remembered: in the order of the table. */
		if (!err && hot)
			err = seccomp_syscall_priority(filter, calls[i].number, hot--);
	}
	if (!err)
		err = add_ioctls(filter, who);
	if (!err && who & SLIRP)
		err = add_nameservers(filter, kind);
	/* A C library that may not use it uses clone(), whose flags can be seen. */
	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return err;
}

/* libseccomp gives its programs away through a descriptor. */
static int take_program(scmp_filter_ctx filter, struct sock_fprog *program)
{
	int fd = memfd_create("lguest-filter", MFD_CLOEXEC), err;
	struct stat status;

	if (fd < 0)
		return -errno;
	err = seccomp_export_bpf(filter, fd);
	if (!err && fstat(fd, &status))
		err = -errno;
	if (!err) {
		program->filter = malloc(status.st_size);
		program->len = status.st_size / sizeof(program->filter[0]);
		if (!program->filter)
			err = -ENOMEM;
		else if (pread(fd, program->filter, status.st_size, 0) != status.st_size)
			err = -EIO;
	}
	close(fd);
	return err;
}

int filter_make(struct sock_fprog *program, enum filter_kind kind, struct problem *why)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	int err = filter ? 0 : -ENOMEM;

	*program = (struct sock_fprog){0};
	/* Calls of 32-bit programs, and x32's: nobody here is one. */
	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!err)
		err = fill(filter, kind);
	if (!err)
		err = take_program(filter, program);
	if (filter)
		seccomp_release(filter);
	if (!err)
		return 0;
	filter_free(program);
	return problem(why, -err, "cannot make a filter of system calls: %s", strerror(-err));
}

void filter_free(struct sock_fprog *program)
{
	free(program->filter);
	*program = (struct sock_fprog){0};
}

int filter_install(const struct sock_fprog *program, bool every_thread)
{
	unsigned flags = every_thread ? SECCOMP_FILTER_FLAG_TSYNC : 0;
	long thread = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program);

	if (thread < 0)
		return -errno;
	/* A thread that has a filter of its own already, and cannot have ours. */
	return thread ? -EBUSY : 0;
}

void filter_names(char names[FILTER_NAMES][FILTER_NAME_MAX])
{
	for (int i = 0; i < FILTER_NAMES; i++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, i);

		snprintf(names[i], FILTER_NAME_MAX, "%s", name ? name : "");
		free(name);
	}
}

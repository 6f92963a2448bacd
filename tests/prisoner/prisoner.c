/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lguest with a traitor in it: the whole program, but its entropy device does
 * something that no device may, as soon as it is first used. It is what lguest would be
 * once a guest had broken into it. The sandbox has to notice.
 *
 *   prisoner --try=THREAD:CALL <arguments of lguest>
 *
 * THREAD is `queue`, the device's own, or `vcpu`, the one that a driver is talking from. Two of
 * lguest's functions are wrapped by the linker (see the Makefile), and nothing else of
 * it is different. If the call is let through, that is said, and the guest goes on.
 */
#include "host/log.h"
#include "host/types.h"
#include "virtio/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

int __wrap_main(int argc, char **argv);
int __real_main(int argc, char **argv);
int __wrap_rng_init(struct rng *rng, struct pci_bus *pci, unsigned slot, struct machine *machine,
		    const struct memory *memory, struct problem *problem);
int __real_rng_init(struct rng *rng, struct pci_bus *pci, unsigned slot, struct machine *machine,
		    const struct memory *memory, struct problem *problem);

static char page[4096] __attribute__((aligned(4096)));

static long try_open(void)
{
	return syscall(SYS_open, "/dev/null", O_RDONLY);
}

static long try_openat(void)
{
	return syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY);
}

static long try_creat(void)
{
	return syscall(SYS_creat, "/tmp/lguest-prisoner", 0600);
}

static long try_unlink(void)
{
	return syscall(SYS_unlink, "/tmp/lguest-prisoner");
}

static long try_execve(void)
{
	char *const arguments[] = {"true", NULL};

	return syscall(SYS_execve, "/bin/true", arguments, arguments + 1);
}

static long try_socket(void)
{
	return syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

static long try_ptrace(void)
{
	return syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
}

static long try_fork(void)
{
	return syscall(SYS_fork);
}

static long try_clone(void)
{
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static long try_mmap(void)
{
	return syscall(SYS_mmap, 0, sizeof(page), PROT_READ | PROT_EXEC,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static long try_mprotect(void)
{
	return syscall(SYS_mprotect, page, sizeof(page), PROT_READ | PROT_EXEC);
}

static long try_pkey_mprotect(void)
{
	return syscall(SYS_pkey_mprotect, page, sizeof(page), PROT_READ | PROT_EXEC, -1);
}

static long try_memfd_create(void)
{
	return syscall(SYS_memfd_create, "prisoner", 0);
}

static long try_personality(void)
{
	return syscall(SYS_personality, 0xffffffff);
}

/* Nobody's process, and never the one that runs the tests. */
static long try_kill(void)
{
	return syscall(SYS_kill, 1, 0);
}

static long try_tgkill(void)
{
	return syscall(SYS_tgkill, 1, 1, 0);
}

static long try_process_vm_readv(void)
{
	struct iovec iov = {page, 1};

	return syscall(SYS_process_vm_readv, getpid(), &iov, 1, &iov, 1, 0);
}

static long try_bpf(void)
{
	union bpf_attr attributes = {0};

	return syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof(attributes));
}

static long try_io_uring_setup(void)
{
	struct io_uring_params parameters = {0};

	return syscall(SYS_io_uring_setup, 1, &parameters);
}

static long try_unshare(void)
{
	return syscall(SYS_unshare, CLONE_NEWUSER);
}

static long try_mount(void)
{
	return syscall(SYS_mount, "none", "/mnt", "tmpfs", 0, NULL);
}

static long try_setresuid(void)
{
	return syscall(SYS_setresuid, 0, 0, 0);
}

static long try_prctl(void)
{
	return syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
}

/* As if the user had typed it. */
static long try_ioctl(void)
{
	return syscall(SYS_ioctl, STDIN_FILENO, TIOCSTI, "\n");
}

/* A thread that has its list cannot have another. */
static long try_seccomp(void)
{
	return syscall(SYS_seccomp, 0, 0, NULL);
}

static const struct {
	const char *name;
	long (*call)(void);
} attempts[] = {
	{"open", try_open},
	{"openat", try_openat},
	{"creat", try_creat},
	{"unlink", try_unlink},
	{"execve", try_execve},
	{"socket", try_socket},
	{"ptrace", try_ptrace},
	{"fork", try_fork},
	{"clone", try_clone},
	{"mmap", try_mmap},
	{"mprotect", try_mprotect},
	{"pkey_mprotect", try_pkey_mprotect},
	{"memfd_create", try_memfd_create},
	{"personality", try_personality},
	{"kill", try_kill},
	{"tgkill", try_tgkill},
	{"process_vm_readv", try_process_vm_readv},
	{"bpf", try_bpf},
	{"io_uring_setup", try_io_uring_setup},
	{"unshare", try_unshare},
	{"mount", try_mount},
	{"setresuid", try_setresuid},
	{"prctl", try_prctl},
	{"ioctl", try_ioctl},
	{"seccomp", try_seccomp},
};

static const char *thread = "", *call = "";

static void betray(const char *who)
{
	if (strcmp(who, thread))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(attempts); i++) {
		long result;

		if (strcmp(attempts[i].name, call))
			continue;
		result = attempts[i].call();
		log_line("%s was let through: %ld (%s)", call, result,
			 result < 0 ? strerror(errno) : "it worked");
	}
}

static unsigned (*real_serve)(struct virtio_device *device, unsigned queue);

static unsigned serve(struct virtio_device *device, unsigned queue)
{
	betray("queue");
	return real_serve(device, queue);
}

static void driver_ok(struct virtio_device *device, u64 features)
{
	(void)device, (void)features;
	betray("vcpu");
}

int __wrap_rng_init(struct rng *rng, struct pci_bus *pci, unsigned slot, struct machine *machine,
		    const struct memory *memory, struct problem *why)
{
	static struct virtio_ops ops;
	int err = __real_rng_init(rng, pci, slot, machine, memory, why);

	if (err)
		return err;
	ops = *rng->virtio.ops;
	real_serve = ops.serve;
	ops.serve = serve;
	ops.driver_ok = driver_ok;
	rng->virtio.ops = &ops;
	return 0;
}

int __wrap_main(int argc, char **argv)
{
	static const char option[] = "--try=";
	char *colon;
	int kept = 0;

	for (int i = 0; i < argc; i++) {
		if (strncmp(argv[i], option, strlen(option))) {
			argv[kept++] = argv[i];
			continue;
		}
		thread = argv[i] + strlen(option);
		colon = strchr(thread, ':');
		if (!colon)
			return EXIT_FAILURE;
		*colon = '\0';
		call = colon + 1;
	}
	argv[kept] = NULL;
	return __real_main(kept, argv);
}

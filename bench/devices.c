/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast a guest's disk and network are, beside qemu's on the same kind of engine.
 *
 * One freestanding guest (load.c) is the driver for both, so what differs is behind
 * the virtio device. Each row of the table is a job for it. Disks are the same image,
 * through the page cache, with io_uring and, at qemu's, an I/O thread. Networks are a
 * tap device each; what the guest sends goes to nobody, what it receives comes from a
 * packet socket here. The host's clock is read when the guest says that it begins and
 * that it is done.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define RAM_MIB	   "256"
#define IMAGE_SIZE (64ll << 20)
#define LAUNCHERS  2
#define PEER	   (LAUNCHERS - 1)
/* What a guest leaves with when all was well. */
#define ALL_WELL 33
/* lguest names its taps itself, qemu is told. */
#define QEMU_TAP   "lgbench"
#define HOST_SIDE  "198.51.100.1/30"
#define FRAME_SIZE 60 /* bytes: the least that Ethernet has */

struct job {
	const char *name, *unit;
	bool network, receives;
	const char *arguments; /* of the guest, beside count= */
	unsigned count;	       /* of requests, at scale 1 */
	double scale;	       /* requests per second to the unit */
};

static const struct job jobs[] = {
	{"read 4 KiB, depth 1", "IOPS", false, false, "job=read size=4096 depth=1", 10000, 1},
	{"read 4 KiB, depth 32", "IOPS", false, false, "job=read size=4096 depth=32", 100000, 1},
	{"write 4 KiB, depth 1", "IOPS", false, false, "job=write size=4096 depth=1", 10000, 1},
	{"write 4 KiB, depth 32", "IOPS", false, false, "job=write size=4096 depth=32", 100000, 1},
	{"read 1 MiB, in order", "MB/s", false, false, "job=read size=1048576 depth=4", 1000,
	 1048576 / 1e6},
	{"write 1 MiB, in order", "MB/s", false, false, "job=write size=1048576 depth=4", 500,
	 1048576 / 1e6},
	{"send 60 bytes", "packets/s", true, false, "job=send size=60", 1000000, 1},
	{"send 64 KiB, TSO", "Gbit/s", true, false, "job=send size=65000 gso=1", 50000,
	 65000 * 8 / 1e9},
	{"receive 60 bytes", "packets/s", true, true, "job=receive", 200000, 1},
};
#define JOBS (sizeof(jobs) / sizeof(jobs[0]))

/* What a launcher is called with. */
struct setup {
	const struct choices *choices;
	const struct job *job;
	char guest[PATH_MAX], image[PATH_MAX];
	char command_line[256];
};

/* Of one job. */
struct figures {
	double rate[MAX_ROUNDS];
	double kicks[MAX_ROUNDS], interrupts[MAX_ROUNDS]; /* of a request */
};

static void become_lguest(const struct launcher *launcher, const void *guest)
{
	const struct setup *setup = guest;
	char engine[32], device[PATH_MAX + 16];

	snprintf(engine, sizeof(engine), "--engine=%s", setup->choices->engine);
	if (setup->job->network)
		snprintf(device, sizeof(device), "--tunnet=%s", HOST_SIDE);
	else
		snprintf(device, sizeof(device), "--block=%s", setup->image);
	execl(launcher->path, "lguest", engine, device, "--debug-exit", RAM_MIB, setup->guest,
	      setup->command_line, (char *)NULL);
}

static void become_qemu(const struct launcher *launcher, const void *guest)
{
	const struct setup *setup = guest;
	const bool kvm = !strcmp(setup->choices->engine, "kvm");
	char backend[PATH_MAX + 128];

	if (setup->job->network)
		snprintf(backend, sizeof(backend),
			 "tap,id=back,ifname=" QEMU_TAP ",script=no,downscript=no,vhost=off");
	else
		snprintf(backend, sizeof(backend),
			 "file=%s,if=none,id=back,format=raw,cache=writeback,aio=io_uring",
			 setup->image);
	execlp(launcher->path, "qemu-system-x86_64", "-M", "q35", "-accel", kvm ? "kvm" : "tcg",
	       "-cpu", "max", "-m", RAM_MIB, "-nodefaults", "-no-user-config", "-display", "none",
	       "-serial", "stdio", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=1",
	       "-object", "iothread,id=worker", setup->job->network ? "-netdev" : "-drive", backend,
	       "-device",
	       setup->job->network
		       ? "virtio-net-pci,netdev=back,disable-legacy=on,romfile="
		       : "virtio-blk-pci,drive=back,disable-legacy=on,num-queues=1,iothread=worker",
	       "-kernel", setup->guest, "-append", setup->command_line, (char *)NULL);
}

/* Taps */

/* Where there are no other taps, and what the guests send gets nowhere. */
static void leave_network(void)
{
	if (unshare(CLONE_NEWNET))
		fail("cannot have a network namespace of my own: %s", strerror(errno));
}

/* The one that this launcher has made, brought up. Its index. */
static int bring_up(const struct launcher *launcher, const struct process *process)
{
	static const char *const names[] = {"lguest0", QEMU_TAP};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request;

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		memset(&request, 0, sizeof(request));
		strcpy(request.ifr_name, names[i]);
		if (ioctl(fd, SIOCGIFFLAGS, &request))
			continue;
		request.ifr_flags |= IFF_UP;
		if (ioctl(fd, SIOCSIFFLAGS, &request))
			fail("%s: %s", names[i], strerror(errno));
		close(fd);
		return (int)if_nametoindex(names[i]);
	}
	fail_launcher(launcher, process, "made no tap device");
}

static int packet_socket(int interface)
{
	const struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_ifindex = interface,
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)))
		fail("packet socket: %s", strerror(errno));
	return fd;
}

/* As fast as the queue takes them, until the guest has something to say. */
static void flood(int interface, const struct process *process)
{
	enum { BATCH = 64 };
	static unsigned char frame[FRAME_SIZE] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,
						  0,	0,    0,    0,	  1,	0x88, 0xb5};
	struct iovec iov = {frame, sizeof(frame)};
	struct mmsghdr messages[BATCH];
	struct pollfd output = {.fd = process->output, .events = POLLIN};
	int fd = packet_socket(interface);

	memset(messages, 0, sizeof(messages));
	for (unsigned i = 0; i < BATCH; i++)
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1};
	while (!poll(&output, 1, 0))
		sendmmsg(fd, messages, BATCH, 0);
	close(fd);
}

/* Running jobs */

static void run_job(const struct launcher *launcher, struct setup *setup, struct figures *figures,
		    unsigned round)
{
	struct process process = start(launcher, setup);
	uint64_t requests, kicks, interrupts;
	double began, took;
	char line[128];
	int interface = 0;

	wait_for(launcher, &process, "load: ready\n");
	if (setup->job->network)
		interface = bring_up(launcher, &process);
	if (write(process.input, "!", 1) != 1)
		fail_launcher(launcher, &process, "does not listen");
	wait_for(launcher, &process, "load: begin\n");
	began = now_ms();
	if (setup->job->receives)
		flood(interface, &process);
	wait_for(launcher, &process, "load: end ");
	took = now_ms() - began;
	read_line(launcher, &process, line, sizeof(line));
	if (sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNu64, &requests, &kicks, &interrupts) != 3)
		fail_launcher(launcher, &process, "the guest does not say what it did");
	check_status(launcher, &process, wait_for_end(&process));
	close(process.errors);
	figures->rate[round] = requests / (took / 1e3) * setup->job->scale;
	figures->kicks[round] = (double)kicks / requests;
	figures->interrupts[round] = (double)interrupts / requests;
}

/* Every byte of it is there, so that no read finds a hole. */
static void make_image(const char *path)
{
	static char chunk[1 << 20];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		fail("%s: %s", path, strerror(errno));
	memset(chunk, 'x', sizeof(chunk));
	for (long long at = 0; at < IMAGE_SIZE; at += sizeof(chunk))
		if (pwrite(fd, chunk, sizeof(chunk), at) != sizeof(chunk))
			fail("%s: %s", path, strerror(errno));
	fsync(fd);
	close(fd);
}

static void print_head(const struct launcher *launchers)
{
	printf("%-22s %-10s", "", "");
	for (unsigned i = 0; i < LAUNCHERS; i++)
		printf(" %36s", launchers[i].label);
	printf("\n%-22s %-10s", "", "");
	for (unsigned i = 0; i < LAUNCHERS; i++)
		printf(" %12s %11s %11s", "", "kicks", "interrupts");
	printf("\n");
}

static void print_row(const struct job *job, struct figures *figures, unsigned rounds)
{
	double rate[LAUNCHERS];

	printf("%-22s %-10s", job->name, job->unit);
	for (unsigned i = 0; i < LAUNCHERS; i++) {
		rate[i] = median(figures[i].rate, rounds);
		printf(" %12.*f %11.3f %11.3f", rate[i] < 1000 ? 2 : 0, rate[i],
		       median(figures[i].kicks, rounds), median(figures[i].interrupts, rounds));
	}
	printf(" (%.2f)\n", rate[0] / rate[PEER]);
	fflush(stdout);
}

void bench_devices(const struct choices *choices)
{
	const bool kvm = !strcmp(choices->engine, "kvm");
	const struct launcher both[LAUNCHERS] = {
		{.label = kvm ? "lguest --engine=kvm" : "lguest --engine=soft",
		 .path = choices->lguest,
		 .become = become_lguest,
		 .status = ALL_WELL},
		{.label = kvm ? "qemu -accel kvm" : "qemu -accel tcg",
		 .path = choices->qemu,
		 .become = become_qemu,
		 .status = ALL_WELL},
	};
	struct figures *figures = calloc(LAUNCHERS, sizeof(*figures));
	struct setup setup = {.choices = choices};

	if (!figures)
		fail("out of memory");
	snprintf(setup.guest, sizeof(setup.guest), "%s/load", choices->folder);
	snprintf(setup.image, sizeof(setup.image), "%s/load.img", choices->folder);
	make_image(setup.image);
	leave_network();
	print_head(both);
	for (setup.job = jobs; setup.job < jobs + JOBS; setup.job++) {
		snprintf(setup.command_line, sizeof(setup.command_line), "%s span=%lld count=%u",
			 setup.job->arguments, IMAGE_SIZE,
			 (unsigned)(setup.job->count * choices->scale) + 1);
		for (unsigned round = 0; round < choices->rounds; round++)
			for (unsigned i = 0; i < LAUNCHERS; i++)
				run_job(&both[i], &setup, &figures[i], round);
		print_row(setup.job, figures, choices->rounds);
	}
	unlink(setup.image);
	printf("medians of %u rounds, in turns; kicks and interrupts of a request; in brackets: "
	       "how many times the peer's rate\n",
	       choices->rounds);
	free(figures);
}

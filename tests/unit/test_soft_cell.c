/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cell with a few instructions in it: what it tells when it stops, what it may map, and what it
 * may not do. What a guest does in one is a matter for guests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/soft/cell.h"
#include "host/landlock.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CODE 0x400000ull
#define DATA 0x7f0000000000ull

/* As of a processor with AVX and no more. */
#define FRAME_VECTORS 832

struct fixture {
	struct cell *cell;
	u8 *ram;
	int fd;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct problem why = {"?"};

	f->fd = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->fd, 16 * PAGE_SIZE), 0);
	f->ram = mmap(NULL, 16 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	f->cell = cell_new(f->fd, FRAME_VECTORS, &why);
	if (!f->cell)
		fail_msg("%s", why.text);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	cell_free(f->cell);
	munmap(f->ram, 16 * PAGE_SIZE);
	close(f->fd);
	free(f);
	return 0;
}

static greg_t *regs(struct fixture *f)
{
	return f->cell->context->uc_mcontext.gregs;
}

/* The frame is made anew: what we put there comes along. */
static void prepare(struct fixture *f, u64 rip)
{
	gregset_t keep;

	memcpy(keep, regs(f), sizeof(keep));
	keep[REG_RIP] = rip;
	assert_true(cell_prepare(f->cell));
	memcpy(regs(f), keep, sizeof(keep));
}

static void run(struct fixture *f, u64 rip)
{
	prepare(f, rip);
	assert_true(cell_run(f->cell, 0x1000, 0x2000));
}

static void put_code(struct fixture *f, const void *code, size_t length)
{
	memcpy(f->ram, code, length);
	cell_map(f->cell, CODE, PAGE_SIZE, 0, PROT_READ | PROT_EXEC);
}

static void test_fault(void **state)
{
	static const u8 code[] = {0x48, 0x8b, 0x03, 0x48, 0xff, 0xc0}; /* mov (%rbx),%rax; inc */
	struct fixture *f = *state;

	put_code(f, code, sizeof(code));
	regs(f)[REG_RBX] = DATA;
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGSEGV);
	assert_true((u64)f->cell->info->si_addr == DATA);
	assert_true(regs(f)[REG_RIP] == CODE);
	assert_true(cell_fs(f->cell) == 0x1000 && cell_gs(f->cell) == 0x2000);
	cell_map(f->cell, DATA, PAGE_SIZE, PAGE_SIZE, PROT_READ);
	f->ram[PAGE_SIZE] = 41;
	run(f, CODE);
	/* Behind the code there is nothing but zeros: add %al,(%rax). */
	assert_int_equal(f->cell->signal, SIGSEGV);
	assert_true(regs(f)[REG_RAX] == 42);
	assert_true((u64)f->cell->info->si_addr == 42);
}

static void test_system_call(void **state)
{
	static const u8 code[] = {0x0f, 0x05, 0x90, 0xcd, 0x80};
	struct fixture *f = *state;

	put_code(f, code, sizeof(code));
	regs(f)[REG_RAX] = 60;
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGSYS);
	assert_true(regs(f)[REG_RAX] == 60);
	assert_true(regs(f)[REG_RIP] == CODE + 2);
	run(f, CODE + 3);
	assert_true(f->cell->signal == SIGSYS || f->cell->signal == SIGSEGV);
}

static void test_denied_instructions(void **state)
{
	static const u8 code[] = {0x0f, 0x31, 0x0f, 0xa2}; /* rdtsc; cpuid */
	struct fixture *f = *state;

	put_code(f, code, sizeof(code));
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGSEGV);
	assert_true(regs(f)[REG_RIP] == CODE);
	run(f, CODE + 2);
	assert_int_equal(f->cell->signal, SIGSEGV);
	if (f->cell->cpuid_faults)
		assert_true(regs(f)[REG_RIP] == CODE + 2);
}

static void test_empty(void **state)
{
	static const u8 code[] = {0x0f, 0x0b};
	struct fixture *f = *state;

	put_code(f, code, sizeof(code));
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGILL);
	cell_empty(f->cell);
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGSEGV);
	assert_true((u64)f->cell->info->si_addr == CODE);
}

/* A loop, and somebody who wants it back. */
static void *kick(void *cell)
{
	usleep(20000);
	cell_kick(cell);
	return NULL;
}

static void test_kick(void **state)
{
	static const u8 code[] = {0xeb, 0xfe};
	struct fixture *f = *state;
	pthread_t thread;

	put_code(f, code, sizeof(code));
	for (int i = 0; i < 3; i++) {
		pthread_create(&thread, NULL, kick, f->cell);
		run(f, CODE);
		pthread_join(thread, NULL);
		assert_int_equal(f->cell->signal, SIGURG);
		assert_true(regs(f)[REG_RIP] == CODE);
		assert_true(f->cell->spent > 0);
	}
}

/* One that comes while it is stopped is not lost. */
static void test_early_kick(void **state)
{
	static const u8 code[] = {0xeb, 0xfe};
	struct fixture *f = *state;

	put_code(f, code, sizeof(code));
	cell_kick(f->cell);
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGURG);
}

static void expect_lost(struct fixture *f)
{
	prepare(f, CODE);
	assert_false(cell_run(f->cell, 0, 0));
	assert_true(f->cell->lost);
	/* And it stays so. */
	assert_false(cell_prepare(f->cell));
	assert_false(cell_run(f->cell, 0, 0));
}

/* mov $number, %eax; jmp *%rbx */
static void put_jump(struct fixture *f, u8 number)
{
	const u8 code[] = {0xb8, number, 0, 0, 0, 0xff, 0xe3};

	put_code(f, code, sizeof(code));
}

/* The stub's own stop, made by the guest, with a frame of its own making. */
static void test_forged_stop(void **state)
{
	struct fixture *f = *state;

	put_jump(f, CELL_STOP_CALL);
	regs(f)[REG_RBX] = CELL_STOP_IP - 2;
	regs(f)[REG_RDI] = SIGSEGV;
	regs(f)[REG_RSI] = CELL_STACK;
	regs(f)[REG_RDX] = CELL_STACK + 256;
	expect_lost(f);
}

/* movl $signal, (%rsi); mov $CELL_STOP_CALL, %eax; jmp *%rbx: with the right frame. */
static void put_own_stop(struct fixture *f, u8 signal)
{
	const u8 code[] = {
		0xc7, 0x06, signal, 0, 0, 0, 0xb8, CELL_STOP_CALL, 0, 0, 0, 0xff, 0xe3,
	};

	put_code(f, code, sizeof(code));
	regs(f)[REG_RBX] = CELL_STOP_IP - 2;
	regs(f)[REG_RDI] = SIGILL;
	regs(f)[REG_RSI] = f->cell->home_info;
	regs(f)[REG_RDX] = f->cell->home;
}

/* Then it says whatever the guest likes, of the guest. */
static void test_own_stop(void **state)
{
	struct fixture *f = *state;

	put_own_stop(f, SIGILL);
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGILL);
	run(f, CODE);
}

/* Or that it has not run at all. That is not believed for ever. */
static void test_own_break(void **state)
{
	struct fixture *f = *state;

	put_own_stop(f, 0);
	expect_lost(f);
}

/* A call of the stub's from another place than its own; and a place for another call. */
static void test_gate(void **state)
{
	static const u8 code[] = {0xb8, 15, 0, 0, 0, 0x0f, 0x05};
	struct fixture *f = *state;

	put_code(f, code, sizeof(code));
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGSYS);
	put_jump(f, 57);
	regs(f)[REG_RBX] = CELL_RETURN_IP - 2;
	expect_lost(f);
}

/* When it goes on it makes itself deaf, by a signal's return, and stays in a loop. */
static void put_deaf(struct fixture *f)
{
	ucontext_t *frame = (ucontext_t *)(f->ram + PAGE_SIZE);

	put_jump(f, 15);
	f->ram[PAGE_SIZE / 2] = 0xeb;
	f->ram[PAGE_SIZE / 2 + 1] = 0xfe;
	cell_map(f->cell, DATA, PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE);
	memcpy(frame, f->cell->pattern, offsetof(ucontext_t, __fpregs_mem));
	frame->uc_mcontext.fpregs = NULL;
	frame->uc_mcontext.gregs[REG_RIP] = CODE + PAGE_SIZE / 2;
	memset(&frame->uc_sigmask, 0xff, 8);
	regs(f)[REG_RBX] = CELL_RETURN_IP - 2;
	regs(f)[REG_RSP] = DATA;
}

/* It is not waited for, and leaves nothing. */
static void test_deaf(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;

	put_deaf(f);
	pthread_create(&thread, NULL, kick, f->cell);
	expect_lost(f);
	pthread_join(thread, NULL);
}

/*
 * Is the launcher's thread signalled, just when it asks for the cell's stops and the cell is making
 * one? The kernel says so in three ways; here, of each question, every other time.
 */
enum question { QUESTION_POLL, QUESTION_RECV, QUESTION_SEND, QUESTIONS };
static bool signalled;
static unsigned asked[QUESTIONS];

int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __real_ioctl(int fd, unsigned long request, void *argument);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_ioctl(int fd, unsigned long request, void *argument);

static bool refused(enum question question)
{
	return signalled && asked[question]++ % 2 == 0;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	/* The listener, and the process. */
	if (count != 2 || !refused(QUESTION_POLL))
		return __real_poll(fds, count, timeout);
	fds[0].revents = POLLERR;
	fds[1].revents = 0;
	return 1;
}

int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	if ((request == SECCOMP_IOCTL_NOTIF_RECV && refused(QUESTION_RECV)) ||
	    (request == SECCOMP_IOCTL_NOTIF_SEND && refused(QUESTION_SEND))) {
		errno = EINTR;
		return -1;
	}
	return __real_ioctl(fd, request, argument);
}

static void test_launcher_signalled(void **state)
{
	static const u8 code[] = {0x0f, 0x0b};
	struct fixture *f = *state;

	put_code(f, code, sizeof(code));
	prepare(f, CODE);
	signalled = true;
	for (int i = 0; i < 3 && cell_works(f->cell); i++)
		cell_run(f->cell, 0, 0);
	signalled = false;
	assert_true(cell_works(f->cell));
	assert_int_equal(f->cell->signal, SIGILL);
	for (unsigned i = 0; i < QUESTIONS; i++)
		assert_true(asked[i] >= 6);
}

static char state_of_process(pid_t pid)
{
	char path[64], line[512], *end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_non_null(fgets(line, sizeof(line), file));
	fclose(file);
	end = strrchr(line, ')');
	assert_non_null(end);
	return end[2];
}

static void halt(struct fixture *f)
{
	kill(f->cell->pid, SIGSTOP);
	while (state_of_process(f->cell->pid) != 'T')
		usleep(1000);
}

static void *continue_later(void *cell)
{
	usleep(20000);
	kill(((struct cell *)cell)->pid, SIGCONT);
	return NULL;
}

/* What halts all processes breaks off the stop that the kernel holds. Nothing comes of that. */
static void test_halted(void **state)
{
	/* syscall; ud2 */
	static const u8 code[] = {0x0f, 0x05, 0x0f, 0x0b};
	struct fixture *f = *state;
	pthread_t thread;

	put_code(f, code, sizeof(code));
	for (int i = 0; i < 3; i++) {
		run(f, CODE);
		assert_int_equal(f->cell->signal, SIGSYS);
		/* The answer comes while it is halted... */
		halt(f);
		pthread_create(&thread, NULL, continue_later, f->cell);
		run(f, CODE + 2);
		pthread_join(thread, NULL);
		assert_int_equal(f->cell->signal, SIGILL);
		assert_true(regs(f)[REG_RIP] == CODE + 2);
		/* ... and when it goes on already. */
		halt(f);
		kill(f->cell->pid, SIGCONT);
		run(f, CODE);
		assert_int_equal(f->cell->signal, SIGSYS);
		assert_true(regs(f)[REG_RIP] == CODE + 2);
	}
}

/* An order that cannot be carried out takes those behind it along; the next ones are well. */
static void test_map_refused(void **state)
{
	static const u8 code[] = {0x0f, 0x0b};
	struct fixture *f = *state;

	cell_map(f->cell, CODE + 1, PAGE_SIZE, 0, PROT_READ);
	put_code(f, code, sizeof(code));
	assert_false(cell_prepare(f->cell));
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGSEGV);
	/* The same among more than fit into one batch. */
	cell_map(f->cell, CODE + 1, PAGE_SIZE, 0, PROT_READ);
	for (int i = 0; i < 2 * CELL_ORDERS; i++)
		put_code(f, code, sizeof(code));
	assert_false(cell_prepare(f->cell));
	put_code(f, code, sizeof(code));
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGILL);
}

/* What containers forbid to those who have no capabilities, of what looks like debugging. */
static bool forbid_debugging(void)
{
	static const int calls[] = {SCMP_SYS(pidfd_getfd), SCMP_SYS(ptrace), SCMP_SYS(kcmp),
				    SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev)};
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int err = 0;

	for (size_t i = 0; !err && i < ARRAY_SIZE(calls); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), calls[i], 0);
	return !err && !seccomp_load(filter) && pidfd_getfd(-1, -1, 0) < 0 && errno == EPERM;
}

/* A cell takes no right that a container's first process has not. */
static void test_in_a_container(void **state)
{
	static const u8 code[] = {0x0f, 0x0b};
	struct fixture *f = *state;
	struct problem why = {"?"};
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		if (!forbid_debugging())
			_exit(1);
		f->cell = cell_new(f->fd, FRAME_VECTORS, &why);
		if (!f->cell) {
			fprintf(stderr, "%s\n", why.text);
			_exit(2);
		}
		put_code(f, code, sizeof(code));
		_exit(cell_prepare(f->cell) && (regs(f)[REG_RIP] = CODE) &&
				      cell_run(f->cell, 0, 0) && f->cell->signal == SIGILL
			      ? 0
			      : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/*
 * The launcher of a deaf one. Where Landlock confines signals, the kernel's at a parent's death
 * does not reach it.
 */
static void __attribute__((noreturn)) be_launcher(struct fixture *f, int to)
{
	struct problem why;
	int rules;

	f->cell = cell_new(f->fd, FRAME_VECTORS, &why);
	rules = landlock_rules(LANDLOCK_NO_NETWORK, NULL, -1);
	if (!f->cell || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    (rules >= 0 && landlock_enter(rules)))
		_exit(1);
	put_deaf(f);
	prepare(f, CODE);
	if (write(to, &f->cell->pid, sizeof(f->cell->pid)) > 0)
		cell_run(f->cell, 0, 0);
	_exit(2);
}

/* Its launcher is gone, it hears no signal, and it makes no call: it ends all the same. */
static void test_orphan(void **state)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	struct timespec used = {0};
	struct pollfd end = {.events = POLLIN};
	clockid_t clock;
	pid_t launcher, cell;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	launcher = fork();
	if (!launcher)
		be_launcher(*state, ends[1]);
	assert_int_equal(read(ends[0], &cell, sizeof(cell)), sizeof(cell));
	end.fd = pidfd_open(cell, 0);
	assert_true(end.fd >= 0);
	assert_int_equal(clock_getcpuclockid(cell, &clock), 0);
	/* In its loop. */
	while (!clock_gettime(clock, &used) && !used.tv_sec && used.tv_nsec < 50000000)
		nanosleep(&pause, NULL);
	kill(launcher, SIGKILL);
	waitpid(launcher, NULL, 0);
	assert_int_equal(poll(&end, 1, 30000), 1);
	close(end.fd);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fault, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_system_call, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_denied_instructions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_empty, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_kick, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_early_kick, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_forged_stop, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_own_stop, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_own_break, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_gate, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_deaf, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_launcher_signalled, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_halted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_map_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_in_a_container, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_orphan, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

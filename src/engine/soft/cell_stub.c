/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The program in a cell: see cell.h. It is linked by itself, freestanding, at CELL_BASE, and
 * embedded in lguest, which starts it from memory.
 *
 * It empties its address space, locks itself in and stops. When it goes on, it is as whatever
 * guest the launcher put into the frame of that first signal; and whatever happens to that guest
 * (a fault, a system call, a kick) is a signal again, whose handler stops. The guest's registers
 * are in the frame on the signal stack, where the launcher reads and writes them.
 *
 * Tour 6.1040: The program in the cell
 */
#define CELL_STUB
#include "engine/soft/cell.h"

#include <asm/errno.h>
#include <asm/prctl.h>
#include <asm/sigcontext.h>
#include <asm/unistd.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/signal.h>
#include <stddef.h>

#define control ((const volatile struct cell_control *)CELL_CONTROL)
#define state	((volatile struct cell_state *)CELL_STATE)

static inline long call(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	register u64 r10 asm("r10") = d;
	register u64 r8 asm("r8") = e;
	register u64 r9 asm("r9") = f;
	long result;

	asm volatile("syscall"
		     : "=a"(result)
		     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return result;
}

#define CALL(name, a, b, c, d, e, f)                                                               \
	call(__NR_##name, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), (u64)(f))

/* The launcher hears of it: our standard output is hung up. */
static void must(long result)
{
	while (result < 0)
		CALL(exit, -result, 0, 0, 0, 0, 0);
}

/* ------------------------------------------------------------------ the guest's thread */

_Static_assert(offsetof(struct cell_control, fs) == CELL_CONTROL_FS &&
		       offsetof(struct cell_control, gs) == CELL_CONTROL_GS &&
		       offsetof(struct cell_control, frame) == CELL_CONTROL_FRAME,
	       "the gate");

/*
 * The stop is one system call that returns when the launcher lets it: who made it cannot be doing
 * anything else, which is what the launcher relies on when it takes pages away. The guest may jump
 * here with whatever it likes in its registers. So behind the call none of them counts: where to go
 * on is in the page that only the launcher writes, and what a frame does not have (selectors, and
 * flags that rt_sigreturn leaves alone) begins at 0 for everybody.
 */
#define STRING_OF(x) #x
#define STRING(x)    STRING_OF(x)
#define NOPS	     ", 0x90\n\t"
/* clang-format off */
asm(".section .gate, \"ax\"\n"
    "gate:\n\t"
    "mov $" STRING(CELL_STOP_CALL) ", %eax\n\t"
    ".org gate + 0xe" NOPS
    "syscall\n\t"
    "test %eax, %eax\n\t"
    "jnz 9f\n\t"
    "mov %eax, %ds\n\t"
    "mov %eax, %es\n\t"
    "mov %eax, %fs\n\t"
    "mov %eax, %gs\n\t"
    "movabs " STRING(CELL_CONTROL) " + " STRING(CELL_CONTROL_FS) ", %rax\n\t"
    "wrfsbase %rax\n\t"
    "movabs " STRING(CELL_CONTROL) " + " STRING(CELL_CONTROL_GS) ", %rax\n\t"
    "wrgsbase %rax\n\t"
    "movabs " STRING(CELL_CONTROL) " + " STRING(CELL_CONTROL_FRAME) ", %rax\n\t"
    "mov %rax, %rsp\n\t"
    "push $2\n\t"
    "popf\n\t"
    "mov $" STRING(__NR_rt_sigreturn) ", %eax\n\t"
    ".org gate + 0x5e" NOPS
    "syscall\n"
    "9:\tmov $" STRING(__NR_exit_group) ", %eax\n\t"
    "mov $1, %edi\n\t"
    ".org gate + 0x7e" NOPS
    "syscall\n\t"
    "ud2\n\t"
    ".previous");
/* clang-format on */

/*
 * Every signal ends here.
 *
 * Tour 6.1041
 */
static void on_signal(int number, void *info, void *context)
{
	u64 fs, gs;

	asm volatile("rdfsbase %0\n\trdgsbase %1" : "=r"(fs), "=r"(gs));
	state->fs = fs;
	state->gs = gs;
	asm volatile("jmp gate" ::"D"(number), "S"(info), "d"(context) : "memory");
	__builtin_unreachable();
}

/* As the kernel wants it, which the C library hides. */
struct action {
	void (*handler)(int number, void *info, void *context);
	u64 flags;
	void (*restorer)(void);
	u64 mask;
};

static void catch_signals(void)
{
	static const u8 numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGURG};
	const stack_t stack = {.ss_sp = (void *)CELL_STACK, .ss_size = CELL_END - CELL_STACK};
	const struct action action = {
		.handler = on_signal,
		.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER,
		.mask = ~0ull,
	};

	must(CALL(sigaltstack, &stack, 0, 0, 0, 0, 0));
	for (unsigned i = 0; i < sizeof(numbers); i++)
		must(CALL(rt_sigaction, numbers[i], &action, 0, sizeof(action.mask), 0, 0));
}

/* What in it is shown to the guest differs from what is here: faults, and we see to it. */
static void deny_instructions(void)
{
	must(CALL(prctl, PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0, 0));
	state->cpuid_faults = !CALL(arch_prctl, ARCH_SET_CPUID, 0, 0, 0, 0, 0);
}

#define LOAD(field)		   BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF(value, then, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, then, otherwise)
#define END(action)		   BPF_STMT(BPF_RET | BPF_K, action)

#define LOW(address) ((u32)(address))

/*
 * Three calls, each from one place. All else is a signal: the guest's system calls, too.
 *
 * Tour 6.1042: Three calls, each from one place
 */
static long lock_guest_in(void)
{
	static const struct sock_filter filter[] = {
		LOAD(arch),
		IF(AUDIT_ARCH_X86_64, 0, 12),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, instruction_pointer) + 4),
		IF(CELL_BASE >> 32, 0, 10),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, instruction_pointer)),
		IF(LOW(CELL_STOP_IP), 2, 0),
		IF(LOW(CELL_RETURN_IP), 3, 0),
		IF(LOW(CELL_EXIT_IP), 4, 6),
		LOAD(nr),
		IF(CELL_STOP_CALL, 5, 4),
		LOAD(nr),
		IF(__NR_rt_sigreturn, 4, 2),
		LOAD(nr),
		IF(__NR_exit_group, 2, 0),
		END(SECCOMP_RET_TRAP),
		END(SECCOMP_RET_USER_NOTIF),
		END(SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), (void *)filter};

	return CALL(seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program, 0,
		    0, 0);
}

/* ------------------------------------------------------------------ the mapper's */

/*
 * Pages, and a word to wait at. No programs, no files but those that are open: the guest's RAM. It
 * sends one message, and the socket for that is closed before there is a guest.
 */
static const struct sock_filter mapper_filter[] = {
	LOAD(arch),
	IF(AUDIT_ARCH_X86_64, 0, 10),
	LOAD(nr),
	IF(__NR_futex, 7, 0),
	IF(__NR_restart_syscall, 6, 0), /* of a wait that was halted */
	IF(__NR_getppid, 5, 0),
	IF(__NR_mmap, 4, 0),
	IF(__NR_munmap, 3, 0),
	IF(__NR_close, 2, 0),
	IF(__NR_sendmsg, 1, 0),
	IF(__NR_exit_group, 0, 1),
	END(SECCOMP_RET_ALLOW),
	END(SECCOMP_RET_KILL_PROCESS),
};

static const struct sock_fprog mapper_program __attribute__((used)) = {
	sizeof(mapper_filter) / sizeof(mapper_filter[0]), (void *)mapper_filter};

/* How long it may take to notice that the launcher is gone. */
static const u64 mapper_patience[2] __attribute__((used)) = {2, 0};

#define SHARES_ALL                                                                                 \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

/*
 * All of it is in registers: a stack could only be where the guest may write. It executes the
 * orders in turn, up to one that fails, says which batch is done, and waits for the next. Every now
 * and then it looks whether there still is somebody to give some.
 */
static void start_mapper(void)
{
	register u64 unused4 asm("r10") = 0;
	register u64 unused5 asm("r8") = 0;
	long result;

	asm volatile(
		"syscall\n\t"
		"test %%rax, %%rax\n\t"
		"jnz 9f\n\t"
		"mov %[seccomp], %%eax\n\t"
		"mov %[set_filter], %%edi\n\t"
		"xor %%esi, %%esi\n\t"
		"lea mapper_program(%%rip), %%rdx\n\t"
		"syscall\n\t"
		"test %%rax, %%rax\n\t"
		"jnz 8f\n\t"
		"movabs %[orders], %%r12\n\t"
		"movabs %[answers], %%r13\n\t"
		"xor %%r14d, %%r14d\n"
		"1:\tmov %c[go](%%r12), %%ebx\n\t"
		"cmp %%r14d, %%ebx\n\t"
		"jne 2f\n\t"
		"mov %[futex], %%eax\n\t"
		"lea %c[go](%%r12), %%rdi\n\t"
		"mov %[wait], %%esi\n\t"
		"mov %%r14d, %%edx\n\t"
		"lea mapper_patience(%%rip), %%r10\n\t"
		"syscall\n\t"
		"cmp %[timeout], %%rax\n\t"
		"jne 1b\n\t"
		"mov %[getppid], %%eax\n\t"
		"syscall\n\t"
		"cmp %c[parent](%%r12), %%eax\n\t"
		"je 1b\n\t"
		"jmp 8f\n"
		"2:\tmov %c[count](%%r12), %%ebp\n\t"
		"lea %c[order](%%r12), %%r15\n"
		"3:\tsub $1, %%ebp\n\t"
		"jc 4f\n\t"
		"mov (%%r15), %%rax\n\t"
		"mov 8(%%r15), %%rdi\n\t"
		"mov 16(%%r15), %%rsi\n\t"
		"mov 24(%%r15), %%rdx\n\t"
		"mov 32(%%r15), %%r10\n\t"
		"mov 40(%%r15), %%r8\n\t"
		"mov 48(%%r15), %%r9\n\t"
		"syscall\n\t"
		"add %[size], %%r15\n\t"
		"cmp $-4095, %%rax\n\t"
		"jb 3b\n\t"
		"mov %%rax, %c[failed](%%r13)\n"
		"4:\tmov %%ebx, %%r14d\n\t"
		"mov %%ebx, %c[done](%%r13)\n\t"
		"mov %[futex], %%eax\n\t"
		"lea %c[done](%%r13), %%rdi\n\t"
		"mov %[wake], %%esi\n\t"
		"mov $1, %%edx\n\t"
		"syscall\n\t"
		"jmp 1b\n"
		"8:\tmov %[exit_group], %%eax\n\t"
		"mov $1, %%edi\n\t"
		"syscall\n"
		"9:"
		: "=a"(result)
		: "a"(__NR_clone), "D"(SHARES_ALL), "S"(0), "d"(0), "r"(unused4), "r"(unused5),
		  [seccomp] "i"(__NR_seccomp), [set_filter] "i"(SECCOMP_SET_MODE_FILTER),
		  [orders] "i"(CELL_CONTROL), [answers] "i"(CELL_STATE),
		  [go] "i"(offsetof(struct cell_control, go)), [timeout] "i"(-ETIMEDOUT),
		  [getppid] "i"(__NR_getppid), [parent] "i"(offsetof(struct cell_control, parent)),
		  [count] "i"(offsetof(struct cell_control, count)),
		  [order] "i"(offsetof(struct cell_control, order)),
		  [size] "i"(sizeof(struct cell_order)),
		  [failed] "i"(offsetof(struct cell_state, failed)),
		  [done] "i"(offsetof(struct cell_state, done)), [futex] "i"(__NR_futex),
		  [wait] "i"(FUTEX_WAIT), [wake] "i"(FUTEX_WAKE), [exit_group] "i"(__NR_exit_group)
		: "rcx", "r11", "memory");
	must(result);
}

/* ------------------------------------------------------------------ the beginning */

/*
 * begin() calls settle() on the stack that signals will use from then on, for the one that the
 * kernel gave us is about to go, with all else. Then a mapper, the lock, and a trap: and from
 * the frame of that signal the launcher makes a guest.
 *
 * Tour 6.1043, 2 items: The whole life of the stub
 */
static void __attribute__((used, noreturn)) settle(void)
{
	static const u64 none;
	long listener;

	must(CALL(munmap, 0, CELL_BASE, 0, 0, 0, 0));
	must(CALL(munmap, CELL_END, CELL_USER_END - CELL_END, 0, 0, 0, 0));
	start_mapper();
	must(CALL(rt_sigprocmask, SIG_SETMASK, &none, 0, sizeof(none), 0, 0));
	must(CALL(write, 1, "", 1, 0, 0, 0));
	listener = lock_guest_in();
	state->listener = listener;
	/* The first signal: from its frame the launcher sets out. */
	__builtin_trap();
}

static void __attribute__((used, noreturn)) begin(void)
{
	static const u64 all = ~0ull;

	must(CALL(mmap, CELL_CONTROL, CELL_STATE - CELL_CONTROL, PROT_READ, MAP_SHARED | MAP_FIXED,
		  CELL_SHARED_FD, 0));
	must(CALL(mmap, CELL_STATE, CELL_END - CELL_STATE, PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_FIXED, CELL_SHARED_FD, CELL_STATE - CELL_CONTROL));
	/* The mapper is to have none. */
	must(CALL(rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof(all), 0, 0));
	catch_signals();
	deny_instructions();
	must(CALL(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0));
	asm volatile("mov %0, %%rsp\n\tcall settle" ::"r"((u64)CELL_END) : "memory");
	__builtin_unreachable();
}

asm(".globl _start\n_start:\n\tand $-16, %rsp\n\tcall begin");

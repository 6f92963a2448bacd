/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bare CPU's side. A signal's frame holds all that a program can see of a CPU,
 * and returning from the handler loads it: so there is no assembly here. The tester
 * traps on purpose, the handler puts the sequence's registers into the frame, and
 * the sequence runs; it ends with an exception, the handler takes the registers out
 * and puts the tester's back.
 *
 * The process that does this is given up to it (main.c forks one): a sequence that
 * goes astray may run into anything. System calls from low addresses, where only the
 * sequence's code is, are refused by seccomp.
 */
#include "diff.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <asm/processor-flags.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/ucontext.h>
#include <unistd.h>

#define TICK_US		 50000 /* a sequence takes a few microseconds */
#define SIGNAL_STACK	 KiB(64)
#define FXSAVE_SIZE	 464 /* what follows in a signal frame is the kernel's */
#define OFFSET_XSTATE_BV 512
#define COMPONENTS_AVX	 0xe4ull /* and AVX-512's */
/* Linux's selectors for 32-bit code, and for data. */
#define CODE_32	  0x23
#define DATA_FLAT 0x2b
#define FLAGS_OURS                                                                                 \
	(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | X86_EFLAGS_SF |           \
	 X86_EFLAGS_OF | X86_EFLAGS_DF)

/* A signal handler gets no pointer of ours, so this one has to lie where it finds it. */
static struct {
	enum { OUTSIDE, ENTERING, INSIDE } phase;
	const struct sequence *sequence;
	struct outcome *outcome;
	u64 fs_base, gs_base;
	unsigned ticks; /* since this sequence began */
	u8 *memory;	/* the pages, where they can be written */
	struct layout layout;

	/* The tester's own. */
	gregset_t registers;
	u8 fxsave[FXSAVE_SIZE];
	u64 components;
} native;

/* The order of the architecture, by the kernel's names. */
static const u8 gpr_index[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				 REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
				 REG_R12, REG_R13, REG_R14, REG_R15};

static u64 read_fs_base(void)
{
	u64 base;

	asm volatile("rdfsbase %0" : "=r"(base));
	return base;
}

static u64 read_gs_base(void)
{
	u64 base;

	asm volatile("rdgsbase %0" : "=r"(base));
	return base;
}

static void write_fs_base(u64 base)
{
	asm volatile("wrfsbase %0" : : "r"(base) : "memory");
}

static void write_gs_base(u64 base)
{
	asm volatile("wrgsbase %0" : : "r"(base) : "memory");
}

/* Handlers inherit AC, and are not written for it; NT and ID would stay for those that follow. */
static void clear_sticky_flags(void)
{
	asm volatile("lea -256(%%rsp), %%rsp\n\t"
		     "pushfq\n\t"
		     "andl %0, (%%rsp)\n\t"
		     "popfq\n\t"
		     "lea 256(%%rsp), %%rsp"
		     :
		     : "i"(~(X86_EFLAGS_AC | X86_EFLAGS_NT | X86_EFLAGS_ID))
		     : "memory", "cc");
}

static void set_selectors(greg_t *registers, u64 cs, u64 ss)
{
	const u64 kept = 0x0000ffffffff0000;

	registers[REG_CSGSFS] = (registers[REG_CSGSFS] & kept) | cs | ss << 48;
}

/* The other two go by no frame. */
static void load_data(u16 ds, u16 es)
{
	asm volatile("mov %0, %%ds\n\t"
		     "mov %1, %%es"
		     :
		     : "r"(ds), "r"(es));
}

static __attribute__((noinline)) void enter(ucontext_t *context)
{
	const struct state *state = &native.sequence->initial;
	greg_t *registers = context->uc_mcontext.gregs;
	u8 *image = (u8 *)context->uc_mcontext.fpregs;

	memcpy(native.registers, registers, sizeof(native.registers));
	memcpy(native.fxsave, image, FXSAVE_SIZE);
	memcpy(&native.components, image + OFFSET_XSTATE_BV, 8);
	for (unsigned i = 0; i < 16; i++)
		registers[gpr_index[i]] = state->gpr[i];
	registers[REG_RIP] = state->rip;
	if (native.sequence->segmented)
		set_selectors(registers, LOCAL_SELECTOR(LOCAL_CS), LOCAL_SELECTOR(LOCAL_SS));
	else if (native.sequence->compat)
		set_selectors(registers, CODE_32, DATA_FLAT);
	registers[REG_EFL] = (registers[REG_EFL] & ~FLAGS_OURS) | (state->rflags & FLAGS_OURS);
	vectors_to_xsave(&native.layout, &state->vectors, image);
	native.ticks = 0;
	native.phase = INSIDE;
}

static __attribute__((noinline)) void leave(ucontext_t *context, unsigned vector)
{
	struct outcome *outcome = native.outcome;
	greg_t *registers = context->uc_mcontext.gregs;
	u8 *image = (u8 *)context->uc_mcontext.fpregs;
	u64 components = native.components & ~COMPONENTS_AVX;

	for (unsigned i = 0; i < 16; i++)
		outcome->state.gpr[i] = registers[gpr_index[i]];
	outcome->state.rip = registers[REG_RIP];
	outcome->state.rflags = registers[REG_EFL];
	vectors_from_xsave(&native.layout, &outcome->state.vectors, image);
	outcome->vector = vector;
	outcome->error = registers[REG_ERR];
	outcome->cr2 = registers[REG_CR2];

	memcpy(registers, native.registers, sizeof(native.registers));
	registers[REG_RIP] += 2; /* over the ud2 that brought us here */
	memcpy(image, native.fxsave, FXSAVE_SIZE);
	memcpy(image + OFFSET_XSTATE_BV, &components, 8);
	native.phase = OUTSIDE;
}

/* Until FS has its base back, the compiler must not look for a canary through it. */
static __attribute__((no_stack_protector)) void on_fault(int number, siginfo_t *info, void *opaque)
{
	ucontext_t *context = opaque;

	(void)info;
	clear_sticky_flags();
	if (native.phase == INSIDE) {
		u64 fs_base = read_fs_base();

		write_fs_base(native.fs_base);
		native.outcome->state.fs_base = fs_base;
		native.outcome->state.gs_base = read_gs_base();
		write_gs_base(native.gs_base);
		if (native.sequence->segmented)
			load_data(DATA_FLAT, DATA_FLAT);
		leave(context,
		      number == SIGSYS ? END_SYSCALL : context->uc_mcontext.gregs[REG_TRAPNO]);
	} else if (native.phase == ENTERING) {
		u64 fs_base = native.sequence->initial.fs_base;

		enter(context);
		if (native.sequence->segmented)
			load_data(LOCAL_SELECTOR(LOCAL_DS), LOCAL_SELECTOR(LOCAL_ES));
		write_gs_base(native.sequence->initial.gs_base);
		write_fs_base(fs_base);
	} else {
		signal(number,
		       SIG_DFL); /* an error of the tester's own: happens again, and kills */
	}
}

static __attribute__((no_stack_protector)) void on_tick(int number, siginfo_t *info, void *opaque)
{
	(void)number, (void)info;
	if (native.phase != INSIDE || ++native.ticks < 3)
		return;
	clear_sticky_flags();
	write_fs_base(native.fs_base);
	write_gs_base(native.gs_base);
	if (native.sequence->segmented)
		load_data(DATA_FLAT, DATA_FLAT);
	leave(opaque, END_ENDLESS);
}

static void fail(const char *what)
{
	fprintf(stderr, "diff: native side: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void handle_signals(void)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
	struct itimerval tick = {{0, TICK_US}, {0, TICK_US}};
	stack_t stack = {.ss_size = SIGNAL_STACK};
	struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK};

	stack.ss_sp = mmap(NULL, SIGNAL_STACK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL))
		fail("signal stack");
	sigfillset(&action.sa_mask);
	action.sa_sigaction = on_fault;
	for (unsigned i = 0; i < ARRAY_SIZE(faults); i++)
		if (sigaction(faults[i], &action, NULL))
			fail("sigaction");
	action.sa_sigaction = on_tick;
	action.sa_flags |= SA_RESTART;
	if (sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &tick, NULL))
		fail("timer");
}

/* One memory file, mapped twice: as the sequence sees it, and to be filled. */
static void map_pages(void)
{
	int fd = memfd_create("diff", 0);

	if (fd < 0 || ftruncate(fd, ALL_PAGES * PAGE_SIZE))
		fail("memfd_create");
	native.memory = mmap(NULL, ALL_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_POPULATE, fd, 0);
	if (native.memory == MAP_FAILED)
		fail("mmap");
	for (unsigned i = 0; i < ALL_PAGES; i++) {
		int protection = PROT_READ | (pages[i].writable ? PROT_WRITE : 0) |
				 (pages[i].executable ? PROT_EXEC : 0);

		if (mmap((void *)pages[i].address, PAGE_SIZE, protection,
			 MAP_SHARED | MAP_POPULATE | MAP_FIXED_NOREPLACE, fd,
			 i * PAGE_SIZE) == MAP_FAILED)
			fail("mmap of a page for the sequence");
	}
	close(fd);
	mlock(native.memory, ALL_PAGES * PAGE_SIZE);
}

static void refuse_system_calls(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, instruction_pointer) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {ARRAY_SIZE(filter), filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		fail("seccomp");
}

/* 64-bit code does without; 32-bit code accesses nothing through a null selector. */
static __attribute__((no_stack_protector)) void load_data_segments(void)
{
	asm volatile("mov %0, %%ds\n\t"
		     "mov %0, %%es\n\t"
		     "mov %0, %%fs\n\t"
		     "mov %0, %%gs"
		     :
		     : "r"(DATA_FLAT));
	write_fs_base(native.fs_base);
	write_gs_base(native.gs_base);
}

void native_init(bool compat)
{
	native.fs_base = read_fs_base();
	native.gs_base = read_gs_base();
	native.layout = layout_of_cpu();
	if (compat)
		load_data_segments();
	map_pages();
	handle_signals();
	refuse_system_calls();
}

/* Into the local descriptor table: Linux, modify_ldt(2). */
static void write_segments(const struct sequence *sequence)
{
	const int write = 1;

	for (unsigned i = 0; i < LOCALS; i++) {
		const struct local *local = &sequence->local[i];
		bool in_pages = local->limit >> 20;
		struct user_desc entry = {
			.entry_number = LOCAL_SELECTOR(i) >> 3,
			.base_addr = local->base,
			.limit = in_pages ? local->limit >> 12 : local->limit,
			.limit_in_pages = in_pages,
			.seg_32bit = local->big,
			.contents = local->code	  ? MODIFY_LDT_CONTENTS_CODE
				    : local->down ? MODIFY_LDT_CONTENTS_STACK
						  : MODIFY_LDT_CONTENTS_DATA,
			.read_exec_only = local->fixed,
		};

		if (syscall(SYS_modify_ldt, write, &entry, sizeof(entry)))
			fail("modify_ldt");
	}
}

void native_run(const struct sequence *sequence, struct outcome *outcome)
{
	u8 *data = native.memory + CODE_PAGES * PAGE_SIZE;

	if (sequence->segmented)
		write_segments(sequence);
	sequence_code(sequence, native.memory);
	memcpy(data, sequence->memory, sizeof(sequence->memory));
	native.sequence = sequence;
	native.outcome = outcome;
	native.phase = ENTERING;
	/* What the C compiler thinks is lost: vector registers; the handler keeps the rest. */
	asm volatile("ud2"
		     :
		     :
		     : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
		       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
		       "xmm15");
	memcpy(outcome->memory, data, sizeof(outcome->memory));
}

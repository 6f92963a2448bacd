/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A signal between any two host instructions. Timers and other threads call a vCPU's thread by
 * ENGINE_SIGNAL, and do not ask what it is doing: it may be in a probe of the TLB, between a probe
 * and its store, in front of a jump whose target it has just looked up, with half of a string
 * moved, with the guest's flags in the host's. Nothing of the guest's state may change by that, and
 * what the signal is about may not wait longer than to the next jump.
 *
 * So small guest programs (soft_signals.S) run here, a few instructions each, once for every host
 * instruction that they come to; in run number n the signal comes before the n-th. At the end, all
 * that the guest has left has to be as it is without a signal. Twice: the signal finds that nobody
 * wants anything, and it finds an NMI, whose handler tells the guest's round in which it came.
 *
 * What there is to come by is noted in a first run, in which this thread steps through itself: TF
 * in the host's flags makes each instruction end in SIGTRAP. In the others a breakpoint is put into
 * translated code, when the last event (a call of C) before the instruction in question is over;
 * so all is as it was at full speed. Both are this thread's own affair: no tracer is needed, and
 * nothing can forbid it. Of enter.S, the way to C and back, which is the same for each event, only
 * one program's first two events are taken.
 */
#include "soft_vcpu.h"

#include "engine/soft/fpu.h"
#include "soft_signals.h"

#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <Zydis/Zydis.h>

#define ROUNDS	      2
#define POINTS_MIN    90 /* the smallest program has more */
#define POINTS_MAX    4096
#define BORDER_EVENTS 2 /* whose ways through enter.S are taken, too */
#define INT3	      0xcc

#define IDT	      0xb000u
#define IDT_LENGTH    512u
#define TSS_LENGTH    104u
#define PTE_KERNEL    3u    /* present, writable */
#define PTE_USED      0x60u /* accessed and dirty: nobody has to say so any more */
#define COMPARED_SIZE NMI_AT
#define PRISTINE_SIZE NMI_STACK

#define KERNEL_CODE 0x08u
#define KERNEL_SS   0x10u
#define USER_CODE32 0x1bu
#define USER_SS	    0x23u
#define USER_CODE   0x2bu
#define TASK_STATE  0x40u

/* Not where the page begins: what returns to there is not found in a return cache (jump.c). */
#define STACK_USED 0x100u

#define FLAGS_INITIAL (X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_CF | X86_EFLAGS_SF)
#define SYSCALL_MASK                                                                               \
	(FLAGS_ARITH | X86_EFLAGS_IF | X86_EFLAGS_DF | X86_EFLAGS_AC | X86_EFLAGS_TF |             \
	 X86_EFLAGS_NT)

/* ------------------------------------------------------------------ the programs */

enum who { KERNEL, USER, USER_32 };
static const char *const who_names[] = {"kernel", "user", "user, 32 bits"};

struct program {
	const char *name;
	enum who who;
	const u8 *begin, *end;
};

#define PROGRAMS                                                                                   \
	PROGRAM(accesses, KERNEL)                                                                  \
	PROGRAM(accesses, USER)                                                                    \
	PROGRAM(flags, KERNEL)                                                                     \
	PROGRAM(flags, USER)                                                                       \
	PROGRAM(groups, KERNEL)                                                                    \
	PROGRAM(groups, USER)                                                                      \
	PROGRAM(calls, KERNEL)                                                                     \
	PROGRAM(calls, USER)                                                                       \
	PROGRAM(returns, KERNEL)                                                                   \
	PROGRAM(returns, USER)                                                                     \
	PROGRAM(jumps, KERNEL)                                                                     \
	PROGRAM(jumps, USER)                                                                       \
	PROGRAM(entry_0, KERNEL)                                                                   \
	PROGRAM(entry_0, USER)                                                                     \
	PROGRAM(loops, KERNEL)                                                                     \
	PROGRAM(strings, KERNEL)                                                                   \
	PROGRAM(strings, USER)                                                                     \
	PROGRAM(locked, USER)                                                                      \
	PROGRAM(vectors, KERNEL)                                                                   \
	PROGRAM(vectors, USER)                                                                     \
	PROGRAM(code, KERNEL)                                                                      \
	PROGRAM(traps, KERNEL)                                                                     \
	PROGRAM(traps, USER)                                                                       \
	PROGRAM(system, KERNEL)                                                                    \
	PROGRAM(syscalls, USER)                                                                    \
	PROGRAM(narrow, USER_32)

#define PROGRAM(id, who)                                                                           \
	extern const u8 program_##id[] __attribute__((visibility("hidden"))),                      \
		program_##id##_end[] __attribute__((visibility("hidden")));
PROGRAMS
#undef PROGRAM

static const struct program programs[] = {
#define PROGRAM(id, who) {#id, who, program_##id, program_##id##_end},
	PROGRAMS
#undef PROGRAM
};

/* ------------------------------------------------------------------ stepping */

/* A place between two instructions: the n-th behind an event. */
struct point {
	u32 event, step;
	u64 pc;
	unsigned hits; /* that often it comes there before, since the event */
	bool border;   /* in enter.S; else in translated code */
};

/* What a signal's handler can find. */
static struct stepper {
	struct vcpu *vcpu;
	bool note;		  /* all points that there are */
	bool border;		  /* those of enter.S, too */
	const struct point *kick; /* that is where; NULL: nowhere */
	bool nmi;
	u32 event, step;
	bool awaited, ended; /* awaited: no jump follows any more */
	/* The breakpoint, as it is written. */
	u8 *byte, saved;
	unsigned hits;
	/* The kick was there. */
	bool kicked, kicked_awaited, kicked_in_room;
	u64 kicked_pc;
	s64 kicked_rounds;
	struct point *points;
	unsigned count;
} stepper;

static bool is_in(u64 pc, const void *begin, const void *end)
{
	return pc >= (u64)begin && pc < (u64)end;
}

static bool is_translated(u64 pc)
{
	const struct cache *cache = stepper.vcpu->cache;

	return is_in(pc, cache->run, cache->run + cache->size);
}

/* Is the stack here where translated code has it, with room for what the kernel puts there? */
static bool has_room(void)
{
	const struct address_space *space = stepper.vcpu->current_space;

	return is_in((u64)__builtin_frame_address(0), space->stack, (&space->stack)[1]);
}

static void kick(const greg_t *regs)
{
	stepper.kicked = true;
	stepper.kicked_pc = regs[REG_RIP];
	stepper.kicked_rounds = regs[REG_R14];
	stepper.kicked_awaited = stepper.awaited;
	stepper.kicked_in_room = has_room();
	if (stepper.nmi)
		stepper.vcpu->nmi_pending = true;
	/* It comes when this handler returns. */
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), ENGINE_SIGNAL);
}

static void note_point(u64 pc)
{
	struct point *point = &stepper.points[stepper.count];

	if (!is_translated(pc) && (!stepper.border || stepper.event > BORDER_EVENTS))
		return;
	if (stepper.count++ >= POINTS_MAX)
		return;
	*point = (struct point){stepper.event, stepper.step, pc, 0, !is_translated(pc)};
	for (const struct point *other = stepper.points; other < point; other++)
		point->hits += other->event == point->event && other->pc == pc;
}

static void set_breakpoint(bool set)
{
	*stepper.byte = set ? INT3 : stepper.saved;
}

/* Behind an instruction. */
static void on_step(greg_t *regs)
{
	u64 pc = regs[REG_RIP];

	if (pc == (u64)__wrap_soft_event) {
		regs[REG_EFL] &= ~(greg_t)X86_EFLAGS_TF;
		return;
	}
	if (is_in(pc, (const void *)__wrap_soft_event, wrap_end))
		return;
	if (stepper.note) {
		note_point(pc);
	} else if (stepper.byte) {
		set_breakpoint(true);
		regs[REG_EFL] &= ~(greg_t)X86_EFLAGS_TF;
	} else if (stepper.step == stepper.kick->step) {
		kick(regs);
		regs[REG_EFL] &= ~(greg_t)X86_EFLAGS_TF;
	}
	stepper.step++;
}

/* Before the instruction that is there. */
static void on_breakpoint(greg_t *regs)
{
	set_breakpoint(false);
	regs[REG_RIP]--;
	if (stepper.hits-- == 0)
		kick(regs);
	else
		regs[REG_EFL] |= X86_EFLAGS_TF;
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)signal, (void)info;
	if (regs[REG_TRAPNO] == VECTOR_BP)
		on_breakpoint(regs);
	else
		on_step(regs);
}

/* What comes now is exactly as it was noted: no C is in between that could change it. */
const void *event_served(const void *code)
{
	const struct point *point = stepper.kick;
	const struct cache *cache = stepper.vcpu->cache;
	bool here;

	stepper.event++;
	stepper.step = 0;
	here = point && stepper.event == point->event;
	step_from_here = !stepper.ended && (stepper.note || (here && point->border));
	if (here && !point->border) {
		stepper.byte = cache->write + (point->pc - (u64)cache->run);
		stepper.saved = *stepper.byte;
		stepper.hits = point->hits;
		set_breakpoint(true);
	}
	return code;
}

static u64 on_in(void *opaque, u64 offset, unsigned len)
{
	(void)opaque, (void)len;
	stepper.awaited = offset == PORT_AWAIT - PORT_START;
	return 0;
}

static void on_out(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct fixture *f = opaque;

	(void)offset, (void)len, (void)value;
	stepper.ended = true;
	machine_stop(&f->machine, EXIT_POWERED_OFF, NULL);
}

static const struct region_ops port_ops = {.read = on_in, .write = on_out};

/* ------------------------------------------------------------------ the guest */

struct outcome {
	struct cpu_state state;
	u64 polls;
};

struct test {
	struct fixture *f;
	const struct program *program;
	struct region ports;
	struct cpu_state initial;
	u8 pristine[PRISTINE_SIZE];
	struct outcome without, with;
	u8 memory[COMPARED_SIZE]; /* without */
	struct point points[POINTS_MAX];
	char where[256]; /* what is being tried */
};

static void put_gate(struct fixture *f, unsigned vector, const u8 *entry, unsigned stack)
{
	u64 at = KERNEL_AT + (entry - kernel_begin);

	/* Intel SDM 3A, "64-Bit IDT Gate Descriptors": present, DPL 3, an interrupt gate. */
	put64(f, IDT + 16 * vector,
	      (at & 0xffff) | KERNEL_CODE << 16 | (u64)stack << 32 | 0xeeull << 40 |
		      (at >> 16 & 0xffff) << 48);
	put64(f, IDT + 16 * vector + 8, at >> 32);
}

static void put_tables(struct fixture *f)
{
	/* Intel SDM 3A, "Segment Descriptors". */
	put64(f, GDT + KERNEL_CODE, 0x00af9b000000ffff);
	put64(f, GDT + KERNEL_SS, 0x00cf93000000ffff);
	put64(f, GDT + (USER_CODE32 & SELECTOR_INDEX), 0x00cffb000000ffff);
	put64(f, GDT + (USER_SS & SELECTOR_INDEX), 0x00cff3000000ffff);
	put64(f, GDT + (USER_CODE & SELECTOR_INDEX), 0x00affb000000ffff);
	put64(f, TSS + 4, KERNEL_STACK); /* RSP0 */
	put64(f, TSS + 36, NMI_STACK);	 /* IST1 */
	put_gate(f, VECTOR_DE, kernel_divide, 0);
	put_gate(f, VECTOR_NMI, kernel_nmi, 1);
	put_gate(f, VECTOR_UD, kernel_undefined, 0);
	put_gate(f, VECTOR_PF, kernel_page_fault, 0);
	put64(f, KERNEL_DATA + 8, KERNEL_STACK); /* see kernel_syscall */
}

/* What programs touch is theirs, and untouched; the rest is the kernel's. */
static void map_pages(struct fixture *f, bool user)
{
	for (u64 page = 0; page < RAM_SIZE; page += PAGE_SIZE) {
		bool code = page >= CODE_AT && page < KERNEL_AT;
		bool data = (page >= DATA_AT && page < NMI_AT) || page == STACK - PAGE_SIZE;
		u64 bits = (user && (code || data)) || page == USER_DATA ? PTE_USER : PTE_KERNEL;

		if (page != ABSENT)
			put64(f, PT + page / PAGE_SIZE * 8, page | bits | (data ? 0 : PTE_USED));
	}
	for (u64 table = PML4; table <= PD; table += PAGE_SIZE)
		put64(f, table, get64(f, table) | PTE_USED);
}

static struct segment segment_of(u16 selector, bool code, bool l)
{
	return (struct segment){
		.selector = selector,
		.limit = ~0u,
		.type = code ? TYPE_CODE | TYPE_READABLE | TYPE_ACCESSED
			     : TYPE_WRITABLE | TYPE_ACCESSED,
		.s = true,
		.present = true,
		.l = l,
		.db = !l,
		.g = true,
		.dpl = selector & SELECTOR_RPL,
	};
}

static struct cpu_state initial_state(enum who who)
{
	const u16 code[] = {KERNEL_CODE, USER_CODE, USER_CODE32};
	struct segment data = segment_of(who == KERNEL ? KERNEL_SS : USER_SS, false, false);
	struct cpu_state state = {
		.rip = CODE_AT,
		.rflags = FLAGS_INITIAL | (who == KERNEL ? 0 : X86_EFLAGS_IOPL),
		.cs = segment_of(code[who], true, who != USER_32),
		.ds = data,
		.es = data,
		.fs = data,
		.gs = data,
		.ss = data,
		.tr = {.base = TSS,
		       .limit = TSS_LENGTH - 1,
		       .selector = TASK_STATE,
		       .type = SYSTEM_TSS_BUSY,
		       .present = true},
		.gdt = {.base = GDT, .limit = TASK_STATE + 15},
		.idt = {.base = IDT, .limit = IDT_LENGTH - 1},
		.cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG,
		.cr3 = PML4,
		.cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE |
		       X86_CR4_FSGSBASE | X86_CR4_SMAP,
		.efer = EFER_SCE | EFER_LME | EFER_LMA,
		.kernel_gs_base = KERNEL_DATA,
	};

	for (unsigned i = 0; i < 16; i++)
		state.gpr[i] = 0x0123456789abcdefull * (2 * i + 1);
	state.gpr[RBX] = DATA_AT;
	state.gpr[RSP] = STACK - STACK_USED;
	state.gpr[RBP] = DATA_AT + 2 * PAGE_SIZE;
	state.gpr[9] = DATA_AT + 3 * PAGE_SIZE;
	state.gpr[10] = 8;
	state.gpr[12] = ABSENT;
	state.gpr[14] = ROUNDS;
	state.fs.base = DATA_AT + 3 * PAGE_SIZE + 0x100;
	state.gs.base = DATA_AT + 3 * PAGE_SIZE + 0x200;
	return state;
}

static void set_up_guest(struct test *t)
{
	struct fixture *f = t->f;
	struct vcpu *vcpu = f->vcpu;
	const struct program *program = t->program;

	put_tables(f);
	map_pages(f, program->who != KERNEL);
	for (unsigned i = 0; i < 8 * PAGE_SIZE; i += 8)
		put64(f, DATA_AT + i, (i + 1) * 0x9e3779b97f4a7c15ull);
	memcpy(f->ram + KERNEL_AT, kernel_begin, kernel_end - kernel_begin);
	memcpy(f->ram + CODE_AT, program->begin, program->end - program->begin);
	memcpy(t->pristine, f->ram, sizeof(t->pristine));
	t->initial = initial_state(program->who);
	vcpu->star = (u64)(USER_CODE32 & SELECTOR_INDEX) << 48 | (u64)KERNEL_CODE << 32;
	vcpu->lstar = KERNEL_AT + (kernel_syscall - kernel_begin);
	vcpu->sfmask = SYSCALL_MASK;
	vcpu->xcr0 = COMPONENTS_ALWAYS;
	vcpu->waiting = false;
}

/* As if nothing had ever run. */
static void forget(struct test *t)
{
	struct vcpu *vcpu = t->f->vcpu;

	memcpy(t->f->ram, t->pristine, sizeof(t->pristine));
	vcpu_set_state(vcpu, &t->initial);
	vcpu->nmi_pending = vcpu->nmi_blocked = vcpu->interrupt_waiting = false;
	vcpu->vectors_saved = true;
	fpu_reset(vcpu);
	cache_flush(vcpu);
	tlb_flush(vcpu, true);
	vcpu->stats.polls = 0;
	atomic_store(&t->f->machine.state, MACHINE_RUNNING);
}

/* Once. What is to be done meanwhile is in `how`. */
static void run_once(struct test *t, struct stepper how, struct outcome *outcome)
{
	struct vcpu *vcpu = t->f->vcpu;

	forget(t);
	stepper = how;
	stepper.vcpu = vcpu;
	soft_vcpu_run(vcpu);
	memset(&outcome->state, 0, sizeof(outcome->state));
	vcpu_get_state(vcpu, &outcome->state);
	outcome->polls = vcpu->stats.polls;
	if (!stepper.ended)
		fail_msg("%s: it did not come to its end: %s", t->where, t->f->machine.why);
}

/* ------------------------------------------------------------------ what may be told of it */

static void describe_point(struct test *t, const struct point *point, bool nmi)
{
	char insn[96] = "?";
	ZydisDisassembledInstruction decoded;

	if (!ZYAN_FAILED(ZydisDisassembleATT(ZYDIS_MACHINE_MODE_LONG_64, point->pc,
					     (const void *)point->pc, 15, &decoded)))
		snprintf(insn, sizeof(insn), "%s", decoded.text);
	snprintf(t->where, sizeof(t->where),
		 "a signal%s before host instruction %u behind event %u%s, %s",
		 nmi ? " and an NMI" : "", point->step, point->event,
		 point->border ? " (enter.S)" : "", insn);
}

static void compare(const struct test *t)
{
	const struct cpu_state *a = &t->without.state, *b = &t->with.state;
	const u8 *x = t->memory, *y = t->f->ram;

	for (unsigned i = 0; i < 16; i++)
		if (a->gpr[i] != b->gpr[i])
			fail_msg("%s: register %u is %#llx, not %#llx", t->where, i,
				 (unsigned long long)b->gpr[i], (unsigned long long)a->gpr[i]);
	if (a->rflags != b->rflags)
		fail_msg("%s: rflags are %#llx, not %#llx", t->where, (unsigned long long)b->rflags,
			 (unsigned long long)a->rflags);
	if (memcmp(a, b, sizeof(*a)))
		fail_msg("%s: rip (%#llx, %#llx), segments or control registers changed", t->where,
			 (unsigned long long)b->rip, (unsigned long long)a->rip);
	if (!memcmp(x, y, COMPARED_SIZE))
		return;
	for (unsigned i = 0; i < COMPARED_SIZE; i++)
		if (x[i] != y[i])
			fail_msg("%s: the byte at %#x is %#x, not %#x", t->where, i, y[i], x[i]);
}

/* Was it heard? Before the round after the one in which it came was over, unless that was the last.
 */
static void check_heard(const struct test *t, const struct point *point)
{
	u64 count = get64(t->f, NMI_COUNT);
	s64 rounds = get64(t->f, NMI_ROUNDS);

	if (!stepper.nmi) {
		if (t->with.polls != t->without.polls + 1)
			fail_msg("%s: %llu polls, not %llu", t->where,
				 (unsigned long long)t->with.polls,
				 (unsigned long long)t->without.polls + 1);
		return;
	}
	if (t->with.polls <= t->without.polls)
		fail_msg("%s: nobody looked", t->where);
	if (count != 1 && !(stepper.kicked_awaited && !count))
		fail_msg("%s: %llu NMIs came", t->where, (unsigned long long)count);
	if (count && !point->border && rounds < stepper.kicked_rounds - 1)
		fail_msg("%s: it came in round %lld, not %lld", t->where, (long long)rounds,
			 (long long)stepper.kicked_rounds);
}

static void try_point(struct test *t, const struct point *point, bool nmi)
{
	describe_point(t, point, nmi);
	run_once(t, (struct stepper){.kick = point, .nmi = nmi}, &t->with);
	if (!stepper.kicked || stepper.kicked_pc != point->pc)
		fail_msg("%s: the run was not the same twice", t->where);
	if (!point->border && !stepper.kicked_in_room)
		fail_msg("%s: the signal's frame is not where there is room for it", t->where);
	compare(t);
	check_heard(t, point);
}

static void test_program(void **state)
{
	struct test *t = *state;
	unsigned count;

	strcpy(t->where, "no signal");
	run_once(t, (struct stepper){0}, &t->without);
	memcpy(t->memory, t->f->ram, sizeof(t->memory));
	assert_int_equal(get64(t->f, NMI_COUNT), 0);
	strcpy(t->where, "stepped, but no signal");
	run_once(t,
		 (struct stepper){.note = true,
				  .border = t->program->begin == program_accesses,
				  .points = t->points},
		 &t->with);
	compare(t);
	count = stepper.count;
	assert_in_range(count, POINTS_MIN, POINTS_MAX);
	for (unsigned i = 0; i < count; i++) {
		try_point(t, &t->points[i], false);
		try_point(t, &t->points[i], true);
	}
	for (unsigned i = PRISTINE_SIZE; i < RAM_SIZE; i++)
		assert_int_equal(t->f->ram[i], 0);
}

static int set_up(void **state)
{
	struct test *t = calloc(1, sizeof(*t));
	struct sigaction step = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
	void *fixture;

	if (!t || setup(&fixture)) {
		free(t);
		return -1;
	}
	t->f = fixture;
	t->program = *state;
	t->ports = (struct region){PORT_START, PORT_COUNT, &port_ops, t->f, "how far it is"};
	bus_add(t->f->board.bus, PORT, &t->ports);
	set_up_guest(t);
	sigaction(SIGTRAP, &step, NULL);
	*state = t;
	return 0;
}

static int tear_down(void **state)
{
	struct test *t = *state;
	void *fixture = t->f;

	signal(SIGTRAP, SIG_DFL);
	teardown(&fixture);
	free(t);
	return 0;
}

int main(void)
{
	struct CMUnitTest tests[ARRAY_SIZE(programs)];
	char names[ARRAY_SIZE(programs)][48];

	for (unsigned i = 0; i < ARRAY_SIZE(programs); i++) {
		snprintf(names[i], sizeof(names[i]), "%s (%s)", programs[i].name,
			 who_names[programs[i].who]);
		tests[i] = (struct CMUnitTest){
			.name = names[i],
			.test_func = test_program,
			.setup_func = set_up,
			.teardown_func = tear_down,
			.initial_state = (void *)&programs[i],
		};
	}
	return cmocka_run_group_tests_name("soft_signals", tests, NULL, NULL);
}
